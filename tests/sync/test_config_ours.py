"""Our own format: what each key means, and where a mistake is said to be."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bridge import limits
from bridge.errors import BridgeError, ConfigurationError, UsageError
from bridge.push.compress import Compression
from bridge.sync import semver
from bridge.sync.config import load, patterns
from bridge.sync.config.reading import Mistakes
from bridge.sync.model import (
    Conversion,
    Deletion,
    Hook,
    Hooks,
    Job,
    Kind,
    Names,
    Place,
    RateLimitReserve,
    ReferrerFilter,
    Referrers,
    Schedule,
    TagSet,
)

DOCUMENTED = Path(__file__).parents[2] / "docs" / "sync-config.md"
JOB = "version: 1\njobs:\n- name: a\n  source: quay.io/a/b\n  target: r.local/a\n"


def written(directory: Path, text: str) -> str:
    path = directory / "sync.yaml"
    path.write_text(text)
    return str(path)


def job_of(directory: Path, text: str) -> Job:
    return load(written(directory, JOB + text)).jobs[0]


def example() -> str:
    found = re.search(r"```yaml\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_documented_example_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "quay").write_text("quay's password\n")
    monkeypatch.setenv("REGISTRY_PASSWORD", "another")
    config = load(written(tmp_path, example()))
    assert [job.name for job in config.jobs] == ["fedora-bootc", "tools", "air-gap", "deploy"]
    fedora, tools, air_gap, deploy = config.jobs
    assert fedora.source == Place(Kind.REPOSITORY, "quay.io/fedora/fedora-bootc")
    assert fedora.target == Place(Kind.REPOSITORY, "registry.example/os/fedora-bootc")
    assert fedora.tags == (
        TagSet(
            Names(allow=(patterns.whole("4[0-9]"),), deny=(patterns.whole(".*-(rc|beta).*"),)),
            newest=3,
        ),
    )
    assert fedora.conversion == Conversion(Compression.ZSTD_CHUNKED, 9, rechunk=True)
    assert fedora.deletion == Deletion(20)
    assert fedora.schedule == Schedule("CRON_TZ=Europe/Berlin 15 3 * * *", None, 600.0)
    assert tools.source.kind is Kind.REGISTRY
    assert tools.schedule == Schedule(None, 21600.0, 600.0)
    assert air_gap.target == Place(Kind.ARCHIVE, "/media/usb/bundle.tar")
    assert deploy.target == Place(Kind.OSTREE, "/srv/ostree/repo")
    quay = config.host("quay.io")
    assert (quay.username, quay.password) == ("mirror+robot", "quay's password")
    assert (quay.requests_at_once, quay.bandwidth) == (4, 20_000_000)
    assert config.host("registry.example").password == "another"
    assert config.listen == "127.0.0.1:9464"
    assert "password" not in repr(config)
    assert config.notes == ()


def test_every_key_of_the_format_is_described() -> None:
    text = DOCUMENTED.read_text()
    source = (Path(sys.modules["bridge.sync.config"].__file__ or "").parent / "ours.py").read_text()
    source += (
        Path(sys.modules["bridge.sync.config"].__file__ or "").parent / "hosts.py"
    ).read_text()
    keys = set(
        re.findall(
            r"\.(?:text|texts|each|made|flag|whole|decimal|section|sections|has|node)\(\s*\"([a-z-]+)\"",
            source,
        )
    ) - {"password", "token"}
    assert len(keys) > 50
    assert sorted(key for key in keys if f"`{key}`" not in text) == []


def test_the_least_configuration(tmp_path: Path) -> None:
    config = load(written(tmp_path, JOB))
    assert config.jobs == (
        Job(
            "a",
            Place(Kind.REPOSITORY, "quay.io/a/b"),
            Place(Kind.REPOSITORY, "r.local/a"),
            line=3,
        ),
    )
    assert config.parallel == limits.SYNC_IMAGES_AT_ONCE
    assert (config.hosts, config.state, config.listen, config.docker_config) == (
        (),
        None,
        None,
        True,
    )
    assert config.jobs[0].referrers == Referrers()
    assert config.jobs[0].digest_tags


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("tags: {names: [a, 1.10]}", "tags", (TagSet(Names(("a", "1.10"))),)),
        ("tags: {names: a}", "tags", (TagSet(Names(("a",))),)),
        ("tags: {allow: a.*}", "tags", (TagSet(Names(allow=(patterns.whole("a.*"),))),)),
        (
            "tags: {deny: [a, 3]}",
            "tags",
            (TagSet(Names(deny=(patterns.whole("a"), patterns.whole("3")))),),
        ),
        ("tags: {semver: '>=1'}", "tags", (TagSet(versions=(semver.parse_range(">=1"),)),)),
        (
            "tags: {newest: 5, younger-than: 90d}",
            "tags",
            (TagSet(newest=5, younger_than=7776000.0),),
        ),
        ("tags: {}", "tags", (TagSet(),)),
        ("tag-sets: [{newest: 1}, {names: x}]", "tags", (TagSet(newest=1), TagSet(Names(("x",))))),
        (
            "{tags: {newest: 2}, tag-sets: [{newest: 1}]}",
            "tags",
            (TagSet(newest=2), TagSet(newest=1)),
        ),
        ("platforms: [linux/amd64, linux/arm/v7]", "platforms", ("linux/amd64", "linux/arm/v7")),
        ("platforms: linux/amd64", "platforms", ("linux/amd64",)),
        ("sparse: true", "sparse", True),
        ("referrers: false", "referrers", None),
        ("referrers: true", "referrers", Referrers()),
        ("referrers: {}", "referrers", Referrers()),
        (
            "referrers: {artifact-types: [a/b, c/d], annotations: {k: v, n: ''}}",
            "referrers",
            Referrers(
                (
                    ReferrerFilter("a/b", (("k", "v"), ("n", ""))),
                    ReferrerFilter("c/d", (("k", "v"), ("n", ""))),
                )
            ),
        ),
        (
            "referrers: {annotations: {k: v}, source: q.io/x/y, target: r.local/z}",
            "referrers",
            Referrers(
                (ReferrerFilter(None, (("k", "v"),)),),
                Place(Kind.REPOSITORY, "q.io/x/y"),
                Place(Kind.REPOSITORY, "r.local/z"),
            ),
        ),
        ("digest-tags: false", "digest_tags", False),
        ("fast-check: true", "fast_check", True),
        ("force-recursive: true", "force_recursive", True),
        ("include-external: true", "include_external", True),
        ("media-types: [a/b]", "media_types", ("a/b",)),
        ("backup: 'old-{{.Ref.Tag}}'", "backup", "old-{{.Ref.Tag}}"),
        ("suffix: -mirror", "suffix", "-mirror"),
        ("parallel: 2", "parallel", 2),
        (
            "hooks: {pre: [scan, --all], post: [notify]}",
            "hooks",
            Hooks(Hook("exec", ("scan", "--all")), Hook("exec", ("notify",))),
        ),
        ("schedule: '@daily'", "schedule", Schedule("@daily")),
        ("{interval: 6h, jitter: 10m}", "schedule", Schedule(None, 21600.0, 600.0)),
        ("rate-limit: {reserve: 50}", "reserve", RateLimitReserve(50, 300.0)),
        ("rate-limit: {reserve: 50, retry: 1m}", "reserve", RateLimitReserve(50, 60.0)),
        ("convert: {}", "conversion", Conversion()),
        ("convert: {compression: gzip, level: 9}", "conversion", Conversion(Compression.GZIP, 9)),
        ("delete: {at-most: 3}", "deletion", Deletion(3)),
    ],
)
def test_a_key_of_a_job(tmp_path: Path, text: str, field: str, expected: object) -> None:
    inner = text[1:-1] if text.startswith("{") else text
    lines = re.split(r", (?=[a-z-]+: [^ ]+$|tag-sets)", inner) if text.startswith("{") else [inner]
    body = "".join(f"  {line}\n" for line in lines)
    assert getattr(job_of(tmp_path, body), field) == expected
    # The same as a default, which the job has unless it says otherwise.
    defaults = f"defaults:\n{body}"
    inherited = load(written(tmp_path, JOB + defaults)).jobs[0]
    assert getattr(inherited, field) == expected


def test_what_a_job_says_holds_against_the_defaults(tmp_path: Path) -> None:
    defaults = "defaults: {interval: 1h, jitter: 1m, tags: {newest: 3}, referrers: false}\n"
    job = load(
        written(tmp_path, defaults + JOB + "  schedule: '@daily'\n  tags: {deny: x}\n")
    ).jobs[0]
    assert job.schedule == Schedule("@daily", None, 60.0)
    assert job.tags == (TagSet(Names(deny=(patterns.whole("x"),))),)
    assert job.referrers is None


def test_repositories_make_a_source_a_registry(tmp_path: Path) -> None:
    job = job_of(tmp_path, "  repositories: {allow: 'x.*', deny: [y], names: [p/q]}\n")
    assert (job.source.kind, job.target.kind) == (Kind.REGISTRY, Kind.REGISTRY)
    assert job.repositories == Names(("p/q",), (patterns.whole("x.*"),), (patterns.whole("y"),))


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    text = (
        "version: 1\nstate: state\njobs: [{name: a, source: quay.io/a/b, target: 'oci:mirror'}]\n"
    )
    config = load(written(tmp_path, text))
    assert config.state == str(tmp_path / "state")
    assert config.jobs[0].target == Place(Kind.LAYOUT, str(tmp_path / "mirror"))


def test_what_is_known_of_a_host(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    text = """
registries:
  Quay.io:
    credential-helper: docker-credential-ecr-login
    tls-verify: false
    plain-http: true
    cert-dir: certs
    address: 10.0.0.1:5000
    mirrors: [m.local, m.local:5000/quay/]
    requests-per-second: 2.5
    upload-part: 32MiB
    upload-whole: 1MiB
  r.local: {token-file: token}
"""
    config = load(written(tmp_path, JOB + text))
    host = config.host("quay.io")
    assert host.credential_helper == "ecr-login"
    assert (host.tls_verify, host.plain_http) == (False, True)
    assert host.cert_dir == str(tmp_path / "certs")
    assert host.address == "10.0.0.1:5000"
    assert host.mirrors == ("m.local", "m.local:5000/quay")
    assert host.requests_per_second == 2.5
    assert (host.upload_part, host.upload_whole) == (32 * 1024**2, 1024**2)
    assert config.host("r.local").token == "t0ken"


def test_without_secrets_nothing_is_read(tmp_path: Path) -> None:
    text = "registries:\n  quay.io: {username: a, password-file: missing}\n"
    path = written(tmp_path, JOB + text)
    assert load(path, with_secrets=False).host("quay.io").username == "a"
    with pytest.raises(ConfigurationError, match="missing: No such file"):
        load(path)


MISTAKES = [
    # what stands behind a job with five lines, the line and the text of the mistake
    ("  tags: {newst: 3}", 6, "jobs[0].tags.newst: no such key; did you mean newest?"),
    ("  tag: {}", 6, "jobs[0].tag: no such key; did you mean tags?"),
    ("  colour: red", 6, "jobs[0].colour: no such key"),
    (
        "  tags:\n    newest: 0",
        7,
        "jobs[0].tags.newest: a whole number, 1 or more, is wanted; this is '0'",
    ),
    ("  tags: {newest: '3'}", 6, "jobs[0].tags.newest: a whole number"),
    ("  tags: {newest: 3.0}", 6, "a whole number"),
    ("  tags: {newest: -1}", 6, "a whole number"),
    (
        "  tags: {newest: }",
        6,
        "jobs[0].tags.newest: a whole number, 1 or more, is wanted; this is empty",
    ),
    ("  tags: {newest: [1]}", 6, "this is a list"),
    ("  tags: {allow: ['(']}", 6, "jobs[0].tags.allow[0]: '(' is no regular expression"),
    (
        "  tags:\n    allow:\n    - a\n    - '['",
        9,
        "jobs[0].tags.allow[1]: '[' is no regular expression",
    ),
    ("  tags: {names: ['4.*']}", 6, "'4.*' is not a tag; expressions go under allow"),
    ("  tags: {names: [[a]]}", 6, "jobs[0].tags.names[0]: one value is wanted; this is a list"),
    ("  tags: {semver: ['>=y']}", 6, "is not a range of versions"),
    ("  tags: {younger-than: 90}", 6, "'90' is not a time such as 90d"),
    ("  tags: {younger-than: 0d}", 6, "no time at all"),
    ("  tags: [a]", 6, "jobs[0].tags: a mapping is wanted; this is a list"),
    ("  tags:", 6, "jobs[0].tags: a mapping is wanted; this is empty"),
    ("  tag-sets: []", 6, "no tag would be wanted"),
    ("  tag-sets: {newest: 1}", 6, "jobs[0].tag-sets: a list is wanted"),
    ("  repositories: {allow: ['(']}", 6, "jobs[0].repositories.allow[0]"),
    ("  repositories: {newest: 1}", 6, "jobs[0].repositories.newest: no such key"),
    ("  platforms: [amd64]", 6, "is not a platform"),
    ("  referrers: maybe", 6, "jobs[0].referrers: true or false is wanted; this is 'maybe'"),
    ("  referrers: 'true'", 6, "true or false is wanted"),
    ("  referrers: {types: []}", 6, "jobs[0].referrers.types: no such key"),
    ("  referrers: {source: quay.io}", 6, "is not a repository"),
    ("  digest-tags: yes", 6, "true or false is wanted; this is 'yes'"),
    ("  backup: '{{.Ref.Nope}}'", 6, "jobs[0].backup: the template"),
    ("  backup: 'a b'", 6, "is not a tag"),
    ("  suffix: ' x'", 6, "cannot be the end of a tag"),
    ("  hooks: {pre: scan}", 6, "jobs[0].hooks.pre: a list is wanted"),
    ("  hooks: {pre: []}", 6, "the program to run"),
    ("  hooks: {before: [x]}", 6, "jobs[0].hooks.before: no such key"),
    ("  schedule: 1 2 3", 6, "jobs[0].schedule: '1 2 3' has 3 fields"),
    ("  interval: 6", 6, "is not a time"),
    ("  interval: 0s", 6, "no time at all"),
    ("  schedule: '@daily'\n  interval: 6h", 7, "one of schedule and interval"),
    ("  jitter: soon", 6, "is not a time"),
    ("  rate-limit: {retry: 5m}", 6, "no reserve"),
    ("  rate-limit: {reserve: 0}", 6, "a whole number, 1 or more,"),
    ("  convert: {compression: lzma}", 6, "is none of gzip, zstd, zstd:chunked, none"),
    ("  convert: {level: 40}", 6, "compression level 40"),
    ("  convert: true", 6, "a mapping is wanted; this is one value"),
    ("  delete: {}", 6, "no at-most"),
    ("  delete: {at-most: 0}", 6, "a whole number, 1 or more,"),
    ("  parallel: 0", 6, "a whole number from 1 to 1000 is wanted"),
    (
        "- name: a\n  source: quay.io/c/d\n  target: r.local/c",
        6,
        "jobs[1].name: the name 'a' again",
    ),
    ("- source: quay.io/c/d\n  target: r.local/c", 6, "jobs[1]: no name"),
    ("- name: b\n  target: r.local/c", 6, "jobs[1]: no source"),
    ("- name: b\n  source: quay.io/c/d", 6, "jobs[1]: no target"),
    ("- name: b c\n  source: quay.io/c/d\n  target: r.local/c", 6, "is not a name"),
    ("- name: b\n  source: alpine\n  target: r.local/c", 7, "jobs[1].source: 'alpine' might be"),
    ("- name: b\n  source: ostree:/x\n  target: r.local/c", 8, "can be a target, not a source"),
    ("- name: b\n  source: r.local/c\n  target: r.local/c", 8, "source and target are the same"),
    ("- {name: b, source: 'q.io/a:1', target: r.local/c, tags: {}}", 6, ""),
    (
        "- {name: b, source: 'q.io/a:1', target: r.local/c, tags: {newest: 1}}",
        6,
        "is one image already",
    ),
    ("- {name: b, source: q.io/a, target: 'ostree:/x', convert: {}}", 6, "as they are"),
    (
        "- {name: b, source: 'q.io/a:1', target: r.local/c, repositories: {allow: x}}",
        6,
        "is no more than one",
    ),
    ("- 5", 6, "jobs[1]: a mapping is wanted; this is one value"),
    ("parallel: many", 6, "parallel: a whole number"),
    ("server: {listen: 9464}", 6, "server.listen: '9464' is not HOST:PORT"),
    ("server: {port: 9464}", 6, "server.port: no such key"),
    ("job: []", 6, "job: no such key; did you mean jobs?"),
    ("registries: {'a/b': {}}", 6, "is not a registry's HOST"),
    ("registries:\n  q.io: {password: geheim}", 7, "a password is not kept in this file"),
    (
        "registries:\n  q.io: {username: a}",
        7,
        "username and password-file or password-env go together",
    ),
    ("registries:\n  q.io: {username: a, password-env: NO_SUCH_VARIABLE}", 7, "is not set"),
    ("registries:\n  q.io: {username: a, password-env: A, password-file: b}", 7, "not both"),
    ("registries:\n  q.io: {credential-helper: a/b}", 7, "is not the NAME of a program"),
    ("registries:\n  q.io: {credential-helper: a, token-file: b}", 7, "not more of them"),
    ("registries:\n  q.io: {bandwidth: fast}", 7, "is not a rate"),
    ("registries:\n  q.io: {requests-at-once: 0}", 7, "from 1 to 1000"),
    ("registries:\n  q.io: {requests-per-second: 0}", 7, "a number above 0"),
    ("registries:\n  q.io: {mirrors: ['https://x']}", 7, "is not a HOST"),
    ("registries:\n  q.io: {tls-verify: 1}", 7, "true or false"),
    ("registries: {q.io: {}, Q.io: {}}", 6, "the registry q.io again"),
    ("registries: {q.io: }", 6, "registries['q.io']: a mapping is wanted"),
]


@pytest.mark.parametrize(("text", "line", "said"), MISTAKES, ids=lambda value: str(value)[:50])
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = written(tmp_path, JOB + text + "\n")
    if not said:
        load(path)
        return
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    places = [each for each in caught.value.mistakes if said in each]
    assert places, caught.value.mistakes
    assert places[0].startswith(f"{path}:{line}: ")
    assert caught.value.exit_code == 2
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a sync configuration: the file is empty"),
        ("a", "the file is one value, not a mapping"),
        ("[]", "the file is a list, not a mapping"),
        ("a: 1\n", "not a sync configuration: no jobs"),
        ("version: 1\n", ":1: no jobs"),
        ("version: 2\njobs: []\n", ":1: version: 1 is wanted; this is '2'"),
        ("jobs: []\n", "no version; write version: 1"),
        ("version: 1\njobs:\n", ":2: jobs: a list is wanted; this is empty"),
        ("version: 1\njobs: 5\n", ":2: jobs: a list is wanted"),
        ("version: 1\njobs: [\n", "not YAML"),
        ("version: 1\nversion: 1\n", "again"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, text))
    assert said in str(caught.value)


def test_all_mistakes_are_told_at_once_up_to_a_bound(tmp_path: Path) -> None:
    path = written(tmp_path, JOB + "".join(f"  wrong{n}: 1\n" for n in range(50)))
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    mistakes = caught.value.mistakes
    assert len(mistakes) == limits.SYNC_MISTAKES_MAX + 1
    assert [int(each.split(":")[1]) for each in mistakes[:-1]] == list(range(6, 26))
    assert mistakes[-1] == f"{path}: 30 more mistakes"


def test_extensions_are_for_anchors(tmp_path: Path) -> None:
    text = "x-common: &common\n  referrers: false\n" + JOB + "  <<: *common\n"
    assert load(written(tmp_path, text)).jobs[0].referrers is None


@pytest.mark.parametrize("options", [{"target": "r.local"}, {"scoped": True}, {"suffix": "-x"}])
def test_a_target_is_for_skopeos_files(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="the file itself says where images go"):
        load(written(tmp_path, JOB), **options)  # type: ignore[arg-type]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.yaml: No such file"):
        load(str(tmp_path / "missing.yaml"))
    with pytest.raises(UsageError, match="Is a directory"):
        load(str(tmp_path))
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        load(written(tmp_path, "#" * limits.SYNC_CONFIG_MAX + "#"))


@pytest.mark.parametrize("module", ["yaml", "cronsim", "re2"])
def test_what_is_not_installed_is_named(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = written(tmp_path, JOB + "  schedule: '1 2 3 4 *'\n  tags: {allow: x}\n")
    with pytest.raises(BridgeError, match=re.escape("pip install 'bootc-py[sync]'")) as caught:
        load(path)
    assert module in str(caught.value)


def test_notes_and_mistakes_are_by_line() -> None:
    mistakes = Mistakes("f")
    mistakes.note(10, "a", "two")
    mistakes.note(9, "", "one")
    mistakes.check()
    assert mistakes.notes == ("f:9: one", "f:10: a: two")
    mistakes.add(3, "b", "wrong")
    mistakes.add(3, "b", "wrong")
    with pytest.raises(ConfigurationError) as caught:
        mistakes.check()
    assert caught.value.mistakes == ("f:3: b: wrong",)
