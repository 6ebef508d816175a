"""regsync's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigurationError
from bridge.sync import select
from bridge.sync.config import load
from bridge.sync.model import (
    Config,
    Hooks,
    Host,
    Kind,
    Names,
    Place,
    RateLimitReserve,
    ReferrerFilter,
    Referrers,
    Schedule,
)

# In the shape of the examples that regsync documents, and then every key that it has.
DOCUMENTED = """
version: 1
creds:
  - registry: localhost:5000
    tls: disabled
  - registry: docker.io
    user: "{{env \\"SYNC_TEST_USER\\"}}"
    pass: "{{file \\"%s/token\\"}}"
defaults:
  ratelimit:
    min: 100
    retry: 15m
  parallel: 2
  interval: 60m
  backup: "bkup-{{.Ref.Tag}}"
  cacheCount: 500
  cacheTime: "5m"
x-hub: &hub
  target: localhost:5000/hub/{{ .Sync.Source }}
  type: image
x-gcr: &gcr
  target: localhost:5000/gcr/{{ index (split .Sync.Source "gcr.io/") 1 }}
sync:
  - source: busybox:latest
    target: localhost:5000/library/busybox:latest
    type: image
    schedule: "15 3 * * *"
  - <<: *hub
    source: alpine
    type: repository
    tags:
      allow:
      - latest
      - 3
      - 3.9
      - "3.\\\\d+"
  - <<: *gcr
    source: gcr.io/example/repo
    type: repository
    mediaTypes:
      - application/vnd.oci.image.index.v1+json
    ratelimit:
      retry: 1m
  - <<: *hub
    source: ghcr.io/regclient/regctl:v1
    interval: 12h
"""
ALL_KEYS = """
version: 1
creds:
  - registry: https://r.local/
    hostname: r.internal:5000
    user: me
    pass: geheim
    tls: Insecure
    regcert: |
      PEM
    clientCert: cert
    clientKey: key
    pathPrefix: /proxy/
    mirrors: [m.local, n.local]
    repoAuth: true
    api: hub
    apiOpts: {disableHead: "true"}
    blobChunk: 1048576
    blobMax: -1
    reqPerSec: 2.5
    reqConcurrent: 2
    scheme: http
  - registry: m.local
    priority: 5
    credHelper: docker-credential-ecr-login
    credExpire: 1h
    credHost: ecr.example
  - registry: n.local
    token: t0ken
defaults:
  backup: old-{{.Ref.Tag}}
  schedule: "@daily"
  ratelimit: {min: 10}
  parallel: 0
  digestTags: true
  referrers: true
  referrerFilters:
    - artifactType: a/b
      annotations: {k: v, any: ""}
    - annotations: {x: y}
  referrerSource: r.local/refs
  referrerTarget: t.local/refs
  referrerSlow: true
  fastCheck: true
  forceRecursive: true
  includeExternal: true
  mediaTypes: [a/b]
  hooks: {pre: {type: exec, params: [x]}}
  blobLimit: 1000
  cacheCount: 1
  cacheTime: 1m
  skipDockerConfig: true
  userAgent: agent/1
sync:
  - source: r.local
    target: t.local/mirror
    type: registry
    repos: {allow: [os/.*], deny: [".*-dev"]}
    tags: {allow: ["v?4.*"], deny: [".*-rc"], semverRange: [">=4.0 <5.0"]}
    tagSets:
      - semverRange: ["^1.2", ""]
      - allow: [latest]
    platform: linux/amd64
  - source: r.local/a
    target: ocidir://mirror/a
    type: repository
    platforms: [linux/amd64, linux/arm64]
    digestTags: false
    referrers: false
    fastCheck: false
    interval: 90s
    backup: ""
"""


def read(directory: Path, text: str, **options: bool) -> Config:
    path = directory / "regsync.yml"
    path.write_text(text)
    return load(str(path), **options)  # type: ignore[arg-type]


def test_the_shape_of_the_documented_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("geheim\n")
    monkeypatch.setenv("SYNC_TEST_USER", "me")
    config = read(tmp_path, DOCUMENTED.replace("%s", str(tmp_path)))
    busybox, alpine, gcr, regctl = config.jobs
    assert [str(job.source) for job in config.jobs] == [
        "docker.io/library/busybox:latest",
        "docker.io/library/alpine",
        "gcr.io/example/repo",
        "ghcr.io/regclient/regctl:v1",
    ]
    assert [str(job.target) for job in config.jobs] == [
        "localhost:5000/library/busybox:latest",
        "localhost:5000/hub/alpine",
        "localhost:5000/gcr/example/repo",
        "localhost:5000/hub/ghcr.io/regclient/regctl:v1",
    ]
    assert [job.schedule for job in config.jobs] == [
        Schedule("15 3 * * *"),
        Schedule(None, 3600.0),
        Schedule(None, 3600.0),
        Schedule(None, 43200.0),
    ]
    tags = ["latest", "3", "3.9", "3.10", "3x9", "13", "edge"]
    assert select.wanted(tags, alpine.tags) == ["latest", "3", "3.9", "3.10", "3x9"]
    assert select.wanted(tags, gcr.tags) == tags
    assert gcr.media_types == ("application/vnd.oci.image.index.v1+json",)
    assert len(busybox.media_types) == 4
    assert busybox.reserve == regctl.reserve == RateLimitReserve(100, 900.0)
    assert gcr.reserve == RateLimitReserve(100, 300.0)
    assert (busybox.referrers, busybox.digest_tags) == (None, False)
    assert busybox.backup == "bkup-{{.Ref.Tag}}"
    assert (
        busybox.name == "docker.io/library/busybox:latest to localhost:5000/library/busybox:latest"
    )
    assert config.parallel == 2
    assert config.hosts == (
        Host("localhost:5000", tls_verify=False, plain_http=True),
        Host("docker.io", username="me", password="geheim"),
    )
    assert "geheim" not in repr(config)


def test_every_key(tmp_path: Path) -> None:
    config = read(tmp_path, ALL_KEYS)
    registry, repository = config.jobs
    assert registry.source == Place(Kind.REGISTRY, "r.local")
    assert registry.target == Place(Kind.REGISTRY, "t.local/mirror")
    assert select.repositories(["os/a", "os/a-dev", "xos/b"], registry.repositories) == ["os/a"]
    tags = ["v4.1", "4.2-rc", "4.2-rc1", "5.0", "1.2", "1.3", "2.0", "latest", "sha256-" + "0" * 64]
    assert select.wanted(tags, registry.tags) == ["v4.1", "4.2-rc1", "1.2", "1.3", "latest"]
    assert (registry.platforms, registry.sparse) == (("linux/amd64",), False)
    assert (repository.platforms, repository.sparse) == (("linux/amd64", "linux/arm64"), True)
    assert registry.referrers == Referrers(
        (
            ReferrerFilter("a/b", (("k", "v"), ("any", ""))),
            ReferrerFilter(None, (("x", "y"),)),
        ),
        Place(Kind.REPOSITORY, "r.local/refs"),
        Place(Kind.REPOSITORY, "t.local/refs"),
    )
    assert repository.referrers is None
    assert (registry.digest_tags, repository.digest_tags) == (True, False)
    assert (registry.fast_check, repository.fast_check) == (True, False)
    assert registry.force_recursive and registry.include_external
    assert registry.media_types == ("a/b",)
    assert registry.hooks == Hooks()
    assert registry.schedule == Schedule("@daily")
    assert repository.schedule == Schedule(None, 90.0)
    assert registry.reserve == RateLimitReserve(10, 300.0)
    assert repository.target == Place(Kind.LAYOUT, "mirror/a")
    assert repository.backup == "old-{{.Ref.Tag}}"
    assert select.wanted(tags, repository.tags) == tags
    assert repository.repositories == Names()
    assert (config.parallel, config.docker_config, config.user_agent) == (1, False, "agent/1")
    first, second, third = config.hosts
    assert first == Host(
        "r.local",
        username="me",
        password="geheim",
        address="r.internal:5000",
        tls_verify=False,
        authority="PEM\n",
        client_certificate="cert",
        client_key="key",
        path_prefix="proxy",
        mirrors=("n.local", "m.local"),
        requests_at_once=2,
        requests_per_second=2.5,
        upload_part=1048576,
        upload_whole=2**62,
    )
    assert (second.credential_helper, second.credential_host) == ("ecr-login", "ecr.example")
    assert third.token == "t0ken"
    said = "\n".join(config.notes)
    for key in [
        "repoAuth",
        "api",
        "apiOpts",
        "scheme",
        "credExpire",
        "referrerSlow",
        "hooks",
        "blobLimit",
        "cacheCount",
        "cacheTime",
    ]:
        assert f"{key}: is ignored" in said or f"{key}: are ignored" in said, key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{source: a, target: r.local/a, type: repository}", "docker.io/library/a"),
        ("{source: a/b, target: r.local/a, type: repository}", "docker.io/a/b"),
        ("{source: 'r/b:1', target: r.local/a, type: image}", "docker.io/r/b:1"),
        ("{source: a.io/b, target: r.local/a, type: image}", "a.io/b:latest"),
        (
            "{source: registry-1.docker.io/b, target: r.local/a, type: image}",
            "docker.io/library/b:latest",
        ),
        ("{source: 'ocidir://x/y:1', target: r.local/a, type: image}", "oci:x/y:1"),
        ("{source: 'localhost/b', target: r.local/a, type: repository}", "localhost/b"),
    ],
)
def test_references_are_regclients(tmp_path: Path, text: str, expected: str) -> None:
    config = read(tmp_path, f"sync:\n- {text}\n")
    assert str(config.jobs[0].source) == expected


def test_an_images_target_has_the_tag_latest_unless_it_says_another(tmp_path: Path) -> None:
    config = read(tmp_path, "sync:\n- {source: 'a:1', target: r.local/a, type: image}\n")
    assert str(config.jobs[0].target) == "r.local/a:latest"


def test_expressions_are_anchored_without_parentheses(tmp_path: Path) -> None:
    text = "sync:\n- {source: a, target: r.local/a, type: repository, tags: {allow: ['a|b']}}\n"
    tags = read(tmp_path, text).jobs[0].tags
    assert select.wanted(["ax", "xb", "xa", "bx"], tags) == ["ax", "xb"]


def test_later_credentials_for_a_host_hold(tmp_path: Path) -> None:
    text = """
creds:
- {registry: docker.io, user: a, pass: b, reqConcurrent: 2}
- {registry: registry-1.docker.io, user: c}
- {registry: 'http://x.local', credHelper: docker-credential-x, user: u, pass: p}
- {registry: x.local, pass: q}
sync: []
"""
    hub, other = read(tmp_path, text).hosts
    assert (hub.name, hub.username, hub.password, hub.requests_at_once) == (
        "docker.io",
        "c",
        "b",
        2,
    )
    assert (other.plain_http, other.credential_helper, other.password) == (True, None, "q")


def test_jobs_have_names_of_their_own(tmp_path: Path) -> None:
    job = "- {source: a, target: r.local/a, type: repository}\n"
    names = [each.name for each in read(tmp_path, "sync:\n" + job * 3).jobs]
    first = "docker.io/library/a to r.local/a"
    assert names == [first, f"{first} (2)", f"{first} (3)"]


def test_an_empty_credential_of_a_template_is_noted(tmp_path: Path) -> None:
    text = "creds:\n- registry: a.io\n  user: '{{env \"SYNC_NO_SUCH\"}}'\nsync: []\n"
    config = read(tmp_path, text)
    assert config.hosts == (Host("a.io"),)
    assert config.notes[0].endswith(
        "regsync.yml:3: creds[0].user: the template makes an empty text: is the variable or file "
        "there?"
    )


def test_a_registry_that_goes_to_a_directory_is_noted(tmp_path: Path) -> None:
    config = read(tmp_path, "sync:\n- {source: a.io, target: 'ocidir://x', type: registry}\n")
    assert config.jobs[0].target == Place(Kind.LAYOUT, "x")
    assert "one layout here" in config.notes[0]


def test_without_secrets_templates_find_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_TEST_USER", "me")
    text = "creds:\n- {registry: a.io, user: '{{env \"SYNC_TEST_USER\"}}'}\nsync: []\n"
    assert read(tmp_path, text).hosts[0].username == "me"
    assert read(tmp_path, text, with_secrets=False).hosts[0].username is None


JOB = "sync:\n- source: a.io/b\n  target: r.local/b\n  type: repository\n"
MISTAKES = [
    ("version: 2\n" + JOB, 1, "version: a whole number from 0 to 1 is wanted; this is '2'"),
    (JOB + "  tagz: {}\n", 5, "sync[0].tagz: no such key; did you mean tags?"),
    (JOB + "  parallel: 2\n", 5, "sync[0].parallel: no such key"),
    (JOB + "  tags: {semver: []}\n", 5, "did you mean semverRange?"),
    (JOB + "  tags: {allow: a}\n", 5, "sync[0].tags.allow: a list is wanted"),
    (JOB + "  tags:\n    allow:\n    - '('\n", 7, "'(' is no regular expression"),
    (JOB + "  tags: {semverRange: ['1.x']}\n", 5, "is not a comparison with a version"),
    (JOB + "  tagSets: [{deny: ['[']}]\n", 5, "sync[0].tagSets[0].deny[0]"),
    (JOB + "  repos: {allow: ['(']}\n", 5, "sync[0].repos.allow[0]"),
    (JOB + "  interval: 1d\n", 5, "is not a time as Go has them"),
    (JOB + "  interval: -1h\n", 5, "less than no time"),
    (JOB + "  schedule: sometimes\n", 5, "sync[0].schedule: 'sometimes' has 1 fields"),
    (JOB + "  ratelimit: {max: 1}\n", 5, "sync[0].ratelimit.max: no such key"),
    (JOB + "  ratelimit: {min: many}\n", 5, "a whole number"),
    (JOB + "  backup: '{{.Ref.Nope}}'\n", 5, "sync[0].backup: the template"),
    (JOB + "  backup: '{{range .Ref}}{{end}}'\n", 5, "range is not supported here"),
    (JOB + "  platform: local\n", 5, "is not a platform"),
    (JOB + "  platforms: ['']\n", 5, "is not a platform"),
    (JOB + "  fastCheck: maybe\n", 5, "true or false"),
    (JOB + "  hooks: {before: {}}\n", 5, "sync[0].hooks.before: no such key"),
    (JOB + "  hooks: {pre: {command: x}}\n", 5, "sync[0].hooks.pre.command: no such key"),
    (JOB + "  referrers: true\n  referrerSource: 'a.io/b:1'\n", 6, "without tag or digest"),
    (JOB + "  referrerFilters: [{type: x}]\n", 5, "referrerFilters[0].type: no such key"),
    (JOB + "defaults: {tags: {}}\n", 5, "defaults.tags: no such key"),
    (JOB + "defaults: {platform: linux/amd64}\n", 5, "defaults.platform: no such key"),
    (JOB + "creds: [{registry: a.io, password: geheim}]\n", 5, "creds[0].password: no such key"),
    (JOB + "creds: [{user: a}]\n", 5, "creds[0]: no registry"),
    (JOB + "creds: [{registry: a.io, tls: maybe}]\n", 5, "none of enabled, insecure and disabled"),
    (JOB + "creds: [{registry: a.io, credHelper: /bin/sh}]\n", 5, "others are not run"),
    (JOB + "creds: [{registry: a.io, pass: '{{geheim}}'}]\n", 5, "the template is wrong"),
    (JOB + "creds: [{registry: a.io, credExpire: soon}]\n", 5, "is not a time as Go has them"),
    (JOB + "creds: [{registry: a.io, hostname: 'a b'}]\n", 5, "is not a HOST"),
    (JOB + "creds: [{registry: a.io, mirrors: ['a b']}]\n", 5, "creds[0].mirrors[0]"),
    (JOB + "creds: {registry: a.io}\n", 5, "creds: a list is wanted"),
    (JOB + "  source: c.io/d\n", 5, "the key 'source' again, which is in line 2 already"),
    ("sync:\n- {source: a, target: r.local/a}\n", 2, "sync[0]: '' is none of registry"),
    ("sync:\n- {source: a, target: r.local/a, type: repo}\n", 2, "'repo' is none of"),
    ("sync:\n- {target: r.local/a, type: image}\n", 2, "is empty, or was not given"),
    ("sync:\n- {source: a, type: image}\n", 2, "is empty, or was not given"),
    ("sync:\n- {source: 'a:1', target: r.local/a, type: repository}\n", 2, "without tag or digest"),
    ("sync:\n- {source: 'a:latest', target: r.local/a, type: repository}\n", 2, "without tag"),
    ("sync:\n- {source: a.io/b, target: r.local, type: registry}\n", 2, "is not a registry's HOST"),
    ("sync:\n- {source: 'ocidir://x', target: r.local, type: registry}\n", 2, "has no catalog"),
    ("sync:\n- {source: 'ocidir://x', target: r.local/a, type: image}\n", 2, "needs a tag"),
    (
        "sync:\n- {source: 'file://x', target: r.local/a, type: image}\n",
        2,
        "a scheme that is not known",
    ),
    ("sync:\n- {source: A, target: r.local/a, type: image}\n", 2, "is not a repository name"),
    ("sync:\n- {source: '{{.Sync.Nope}}', target: r.local/a, type: image}\n", 2, "no field .Nope"),
    ("sync:\n- {source: '{{', target: r.local/a, type: image}\n", 2, "has no end"),
    ("sync:\n- {source: a.io/b, target: a.io/b, type: repository}\n", 2, "are the same"),
    ("sync:\n- a\n", 2, "sync[0]: a mapping is wanted"),
    ("sync: a\n", 1, "sync: a list is wanted"),
    ("sinc: []\ncreds: []\n", 1, "sinc: no such key; did you mean sync?"),
]


@pytest.mark.parametrize(("text", "line", "said"), MISTAKES, ids=lambda value: str(value)[-50:])
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    found = [each for each in caught.value.mistakes if said in each]
    assert found, caught.value.mistakes
    assert found[0].startswith(f"{tmp_path}/regsync.yml:{line}: ")
    assert "geheim" not in str(caught.value).replace("password: geheim", "")
