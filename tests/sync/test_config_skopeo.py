"""The file of `skopeo sync --src yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigurationError, UsageError
from bridge.sync import select
from bridge.sync.config import load
from bridge.sync.model import Config, Host, Job, Kind, Place

DIGEST = "sha256:" + "1" * 64
EVERYTHING = f"""
registry.example:5000:
    images:
        busybox: []
        group/redis:
            - "1.0"
            - 2.0
            - "{DIGEST}"
        empty:
    images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is geheim
    tls-verify: true
    cert-dir: /home/john/certs
quay.example:
    tls-verify: no
    images:
        coreos/etcd:
            - latest
docker.io:
    images:
        alpine: ["3"]
    credentials:
        identitytoken: t0ken
"""
TO = Place(Kind.REGISTRY, "r.local/mirror")
TAGS = ["1.13.1-alpine", "1.13.2-alpine", "1.13.3-alpine", "3.11", "3.12.0", "4.0.0", "latest"]


def read(directory: Path, text: str, target: Place | str | None = TO, **options: object) -> Config:
    path = directory / "skopeo.yaml"
    path.write_text(text)
    return load(str(path), target=target, **options)  # type: ignore[arg-type]


def jobs(config: Config) -> dict[str, Job]:
    return {job.name: job for job in config.jobs}


def test_everything_that_the_format_has(tmp_path: Path) -> None:
    config = read(tmp_path, EVERYTHING)
    found = jobs(config)
    assert {name: str(job.target) for name, job in found.items()} == {
        "registry.example:5000/busybox": "r.local/mirror/busybox",
        f"registry.example:5000/group/redis@{DIGEST}": f"r.local/mirror/redis@{DIGEST}",
        "registry.example:5000/group/redis": "r.local/mirror/redis",
        "registry.example:5000/empty": "r.local/mirror/empty",
        "registry.example:5000/nginx": "r.local/mirror/nginx",
        "registry.example:5000/alpine": "r.local/mirror/alpine",
        "quay.example/coreos/etcd": "r.local/mirror/etcd",
        "docker.io/library/alpine": "r.local/mirror/alpine",
    }
    wanted = {name: select.wanted(TAGS, job.tags) for name, job in found.items()}
    assert wanted["registry.example:5000/busybox"] == TAGS
    assert wanted["registry.example:5000/empty"] == TAGS
    assert wanted["registry.example:5000/group/redis"] == ["1.0", "2.0"]
    assert wanted["registry.example:5000/nginx"] == ["1.13.1-alpine", "1.13.2-alpine"]
    assert wanted["registry.example:5000/alpine"] == ["3.12.0", "4.0.0"]
    assert wanted["quay.example/coreos/etcd"] == ["latest"]
    assert select.named(found["quay.example/coreos/etcd"].tags) == ("latest",)
    for job in config.jobs:
        assert (job.referrers, job.digest_tags, job.platforms) == (None, False, ())
    assert found["registry.example:5000/group/redis"].line == 5
    assert config.hosts == (
        Host(
            "registry.example:5000",
            username="john",
            password="this is geheim",
            tls_verify=True,
            cert_dir="/home/john/certs",
        ),
        Host("quay.example", tls_verify=False),
        Host("docker.io", token="t0ken"),
    )
    assert "geheim" not in repr(config)


def test_a_repository_that_is_there_twice_is_one_job(tmp_path: Path) -> None:
    text = """
docker.io:
    images: {redis: ["1.0"], library/redis: [latest]}
    images-by-semver: {redis: ">=4"}
"""
    (job,) = read(tmp_path, text).jobs
    assert select.wanted(TAGS, job.tags) == ["4.0.0", "latest", "1.0"]


@pytest.mark.parametrize(
    ("target", "scoped", "suffix", "expected"),
    [
        ("r.local/mirror", False, "", "r.local/mirror/name"),
        ("r.local/mirror/", False, "-x", "r.local/mirror/name"),
        ("r.local", False, "", "r.local/name"),
        ("r.local/mirror", True, "", "r.local/mirror/quay.example/path/name"),
        ("oci:/srv/mirror", False, "", "oci:/srv/mirror/name"),
        ("oci:/srv/mirror", True, "", "oci:/srv/mirror/quay.example/path/name"),
        ("oci-archive:/srv/a.tar", False, "", "oci-archive:/srv/a.tar"),
        ("ostree:/srv/repo", False, "", "ostree:/srv/repo"),
    ],
)
def test_where_images_go(
    tmp_path: Path, target: str, scoped: bool, suffix: str, expected: str
) -> None:
    text = "quay.example: {images: {path/name: [a]}}\n"
    (job,) = read(tmp_path, text, target, scoped=scoped, suffix=suffix).jobs
    assert str(job.target) == expected
    assert job.suffix == suffix


MISTAKES = [
    (
        "q.io:\n  image: {a: []}\n  images: {}",
        2,
        "['q.io'].image: no such key; did you mean images?",
    ),
    ("q.io:\n  images: [a]", 2, "['q.io'].images: a mapping is wanted; this is a list"),
    ("q.io:\n  images:\n    a: b", 3, "['q.io'].images.a: a list is wanted"),
    ("q.io:\n  images:\n    a: [[b]]", 3, "a[0]: one value is wanted"),
    ("q.io:\n  images:\n    a:\n    - b\n    - 'c d'", 5, "'c d' is neither a tag nor a digest"),
    ("q.io:\n  images:\n    a: ['sha256:12']", 3, "is neither a tag nor a digest"),
    ("q.io:\n  images:\n    A: []", 3, "is not a repository name"),
    ("q.io:\n  images:\n    'a:b': []", 3, "a repository has neither tag nor digest"),
    ("q.io:\n  images-by-tag-regex:\n    a: '('", 3, "is no regular expression"),
    ("q.io:\n  images-by-tag-regex:\n    a: [b]", 3, "one value is wanted; this is a list"),
    ("q.io:\n  images-by-semver:\n    a: new", 3, "is not a range of versions"),
    ("q.io:\n  images-by-semver:\n    a:", 3, "no range of versions"),
    ("q.io:\n  tls-verify: maybe\n  images: {}", 2, "true or false is wanted"),
    ("q.io:\n  cert-dir: [a]\n  images: {}", 2, "one value is wanted"),
    (
        "q.io:\n  credentials: {user: a}\n  images: {}",
        2,
        "credentials.user: no such key; did you mean",
    ),
    ("q.io:\n  credentials: geheim\n  images: {}", 2, "credentials: a mapping is wanted"),
    ("q.io:\n  credentials: {password: [geheim]}\n  images: {}", 2, "one value is wanted"),
    ("q.io: []\nr.io: {images: {}}", 1, ""),
    ("q.io: {images: {}}\n'a b': {images: {}}", 2, "is not a registry's host"),
    ("q.io: {images: {a: []}}\nq.io: {images: {b: []}}", 2, "again"),
    (
        "q.io/a:\n  images: {a: []}\nq.io/b:\n  cert-dir: x\n  images: {a: []}",
        3,
        "something else for q.io",
    ),
    ("r.local:\n  images:\n    a: []", 3, "source and target are the same"),
]


@pytest.mark.parametrize(("text", "line", "said"), MISTAKES, ids=lambda value: str(value)[:50])
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text + "\n", "r.local")
    found = [each for each in caught.value.mistakes if said in each]
    assert found, caught.value.mistakes
    assert found[0].startswith(f"{tmp_path}/skopeo.yaml:{line}: ")
    assert "geheim" not in str(caught.value)


def test_a_scoped_host_with_a_port_is_no_path(tmp_path: Path) -> None:
    """skopeo fails for it, too: a repository has no colon."""
    with pytest.raises(ConfigurationError, match="the target: "):
        read(tmp_path, "q.io:5000: {images: {a: []}}\n", scoped=True)


def test_an_image_by_digest_gets_no_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no tag that something could be added to"):
        read(tmp_path, f"q.io: {{images: {{a: ['{DIGEST}']}}}}\n", suffix="-x")


def test_an_archive_takes_one_repository(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="takes one repository"):
        read(tmp_path, "q.io: {images: {a: [], b: []}}\n", "oci-archive:/x.tar")


@pytest.mark.parametrize("target", [None, "r.local/a:b", "r.local/a@" + DIGEST, "alpine", ""])
def test_a_target_is_needed(tmp_path: Path, target: str | None) -> None:
    with pytest.raises(UsageError):
        read(tmp_path, EVERYTHING, target)


def test_a_registry_without_images_is_noted(tmp_path: Path) -> None:
    config = read(tmp_path, "q.io: {tls-verify: false}\nr.io:\ns.io: {images: {a: []}}\n")
    assert [job.name for job in config.jobs] == ["s.io/a"]
    assert [note.partition("skopeo.yaml")[2] for note in config.notes] == [
        ":1: ['q.io']: no images",
        ":2: ['r.io']: no images",
    ]
