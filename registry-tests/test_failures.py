"""What goes wrong has its exit code and one clear line, and leaves nothing to be seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import raw, store
from rig.command import PLAIN_HTTP, Done, bootc_py, pull
from rig.misbehaving import cut, flips
from rig.ports import LOOPBACK, free_port
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import INDEX, altered, other_platform, plain, small, wrong_diff_id

from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS

# One try more, so that what is tried again is tried again, quickly.
RETRY = "--retry-times=1"


@dataclass(frozen=True)
class Bench:
    """A registry behind a proxy, with a good image in it as a/b:good."""

    registry: Registry
    proxy: CountingProxy
    image: Layout

    def name(self, tag: str) -> str:
        return f"{self.proxy.host}/a/b:{tag}"

    @property
    def layer(self) -> dict[str, Any]:
        """The layer that the tests damage: large enough to be cut."""
        layer: dict[str, Any] = self.image.layers[1]
        return layer


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        image = small(tmp_path / "good")
        push(image, registry, "a/b", "good")
        yield Bench(registry, proxy, image)


def fail(code: int, *arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """Runs `image pull`, which must end with `code`; the error's line."""
    done: Done = bootc_py("image", "pull", *arguments, "--json", env=env)
    assert done.code == code, f"{done.code}: {done.err}"
    return done.error


def check_clean(repo: Path, layers: int = 0) -> None:
    """No image; so many verified layers, and not an object more; nothing half done."""
    if not (repo / "config").exists():
        return
    names = store.refs(repo)
    assert len(names) == layers
    assert all(name.startswith("ostree/container/blob/") for name in names)
    store.fsck(repo)
    if not layers:
        assert store.object_names(repo) == set()
    else:
        before = store.object_names(repo)
        store.ostree(repo, "prune", "--refs-only", "--depth=0")
        assert store.object_names(repo) == before
    assert [path for path in (repo / "tmp").iterdir() if path.name != "cache"] == []


# -- the reference names no image of ours ------------------------------------------------------


def _wrong_tag(bench: Bench, work: Path) -> str:
    return bench.name("wrong")


def _wrong_repository(bench: Bench, work: Path) -> str:
    return f"{bench.proxy.host}/a/nothing:good"


def _wrong_digest(bench: Bench, work: Path) -> str:
    return f"{bench.proxy.host}/a/b@sha256:{'0' * 64}"


def _artifact(bench: Bench, work: Path) -> str:
    """What oras makes of a file."""
    from oras.client import OrasClient

    (work / "file.txt").write_text("no image\n")
    client = OrasClient(hostname=bench.registry.host, insecure=True)
    client.push(
        target=f"{bench.registry.host}/a/b:artifact",
        files=[str(work / "file.txt")],
        disable_path_validation=True,
    )
    return bench.name("artifact")


def _helm_chart(bench: Bench, work: Path) -> str:
    """Another config type, and a layer that is no tar."""
    data = b"chart"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    raw.put_blob(bench.registry, "a/b", digest, data)
    blob = {"digest": digest, "size": len(data)}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {**blob, "mediaType": "application/vnd.cncf.helm.config.v1+json"},
        "layers": [{**blob, "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"}],
    }
    raw.put_manifest(bench.registry, "a/b", "chart", document)
    return bench.name("chart")


def _wrong_platform(bench: Bench, work: Path) -> str:
    push(other_platform(bench.image, work / "other"), bench.registry, "a/b", "other")
    return bench.name("other")


def _index_without_us(bench: Bench, work: Path) -> str:
    entry = {
        "mediaType": bench.image.manifest["mediaType"],
        "digest": bench.image.digest,
        "size": bench.image.blob(bench.image.digest).stat().st_size,
        "platform": {"os": "linux", "architecture": "s390x"},
    }
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    raw.put_manifest(bench.registry, "a/b", "index", document)
    return bench.name("index")


UNUSABLE: dict[Callable[[Bench, Path], str], tuple[int, str]] = {
    _wrong_tag: (4, "a/b:wrong"),
    _wrong_repository: (4, "a/nothing:good"),
    _wrong_digest: (4, "0" * 64),
    _artifact: (7, "not an image"),
    _helm_chart: (7, "vnd.cncf.helm.config"),
    _wrong_platform: (7, "s390x"),
    _index_without_us: (7, "s390x"),
}


@pytest.mark.parametrize("make", UNUSABLE, ids=lambda make: make.__name__[1:])
def test_no_image_of_ours(bench: Bench, tmp_path: Path, make: Callable[[Bench, Path], str]) -> None:
    code, words = UNUSABLE[make]
    name, repo = make(bench, tmp_path), tmp_path / "repo"
    assert words in fail(code, name, "--repo", repo, PLAIN_HTTP)
    assert bench.proxy.fetched(bench.layer["digest"]) == 0
    check_clean(repo)
    pull(bench.name("good"), repo)
    store.fsck(repo)


# -- bytes that are not what they must be ------------------------------------------------------


def _changed_on_disk(bench: Bench, work: Path) -> str:
    digest = bench.layer["digest"]
    data = bytearray(bench.registry.blob_file(digest).read_bytes())
    data[len(data) // 2] ^= 1
    bench.registry.replace_blob(digest, bytes(data))
    return "good"


def _shorter_on_disk(bench: Bench, work: Path) -> str:
    digest = bench.layer["digest"]
    bench.registry.replace_blob(digest, bench.registry.blob_file(digest).read_bytes()[:-1])
    return "good"


def _changed_on_the_way(bench: Bench, work: Path) -> str:
    bench.proxy.spoil(bench.layer["digest"], flips(1_000_000))
    return "good"


def _changed_config(bench: Bench, work: Path) -> str:
    bench.proxy.spoil(bench.image.manifest["config"]["digest"], flips(10))
    return "good"


def _changed_manifest(bench: Bench, work: Path) -> str:
    # A space for a character of the document, so that it may still be JSON.
    bench.proxy.spoil("/manifests/", flips(20))
    return "good"


def _wrong_diff_id(bench: Bench, work: Path) -> str:
    push(wrong_diff_id(bench.image, work / "diffid"), bench.registry, "a/b", "diffid")
    return "diffid"


# What is damaged, and how many of the three layers are good and may stay.
DAMAGES = {
    _changed_on_disk: 2,
    _shorter_on_disk: 2,
    _changed_on_the_way: 2,
    _changed_config: 0,
    _changed_manifest: 0,
    _wrong_diff_id: 2,
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__[1:])
def test_damaged_bytes(bench: Bench, tmp_path: Path, damage: Callable[[Bench, Path], str]) -> None:
    whole = bench.registry.blob_file(bench.layer["digest"]).read_bytes()
    tag, repo = damage(bench, tmp_path), tmp_path / "repo"
    line = fail(6, bench.name(tag), "--repo", repo, PLAIN_HTTP)
    assert bench.name(tag) in line or "sha256:" in line
    kept = len(store.refs(repo))
    assert kept <= DAMAGES[damage]
    check_clean(repo, kept)

    bench.registry.replace_blob(bench.layer["digest"], whole)
    report = pull(bench.name("good"), repo)
    assert report["image"]["manifestDigest"] == bench.image.digest
    store.fsck(repo)


@pytest.mark.parametrize("offset", (0, 2, 257, 1_000_000, 2_400_000))
@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_byte_is_no_malformed_image(
    bench: Bench, tmp_path: Path, form: str, offset: int
) -> None:
    """Wherever it is: in a compression's header, in a tar header, in a file."""
    layout = plain(bench.image, tmp_path / "plain")
    if form != "plain":
        layout = oci.convert(layout, tmp_path / form, form)
    push(layout, bench.registry, "a/b", form)
    damaged = layout.layers[1]["digest"]
    bench.proxy.spoil(damaged, flips(offset))
    line = fail(6, bench.name(form), "--repo", tmp_path / "repo", PLAIN_HTTP)
    assert damaged in line
    check_clean(tmp_path / "repo", len(store.refs(tmp_path / "repo")))


# -- the network -------------------------------------------------------------------------------


def test_a_cut_off_blob_is_resumed(bench: Bench, tmp_path: Path) -> None:
    bench.proxy.spoil(bench.layer["digest"], cut(1_500_000))
    report = pull(bench.name("good"), tmp_path / "repo")
    log = [each for each in bench.proxy.log if bench.layer["digest"] in each.path]
    assert [each.range for each in log] == [None, "bytes=1500000-"]
    assert report["transfer"]["retries"] == 1
    assert report["transfer"]["receivedBytes"] == bench.proxy.body_bytes
    store.fsck(tmp_path / "repo")


def test_a_blob_that_is_always_cut_off(bench: Bench, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    bench.proxy.spoil(bench.layer["digest"], *[cut(100_000)] * 10)
    line = fail(5, bench.name("good"), "--repo", repo, PLAIN_HTTP, RETRY)
    assert bench.layer["digest"] in line
    kept = len(store.refs(repo))
    assert kept <= 2
    check_clean(repo, kept)

    # What came is not fetched again, by the next process either.
    with run_proxy(bench.registry.port) as proxy:
        pull(f"{proxy.host}/a/b:good", repo)
        (again,) = (each for each in proxy.log if bench.layer["digest"] in each.path)
        assert again.range == "bytes=200000-"
        assert again.body_bytes == bench.layer["size"] - 200_000
    store.fsck(repo)


def test_a_registry_that_is_down(bench: Bench, tmp_path: Path) -> None:
    host = f"{LOOPBACK}:{free_port()}"
    line = fail(5, f"{host}/a/b:good", "--repo", tmp_path / "repo", PLAIN_HTTP, RETRY)
    assert host in line
    check_clean(tmp_path / "repo")
    pull(bench.name("good"), tmp_path / "repo")


# -- sysroots ----------------------------------------------------------------------------------


def test_a_failed_upgrade_leaves_the_host_as_it_is(bench: Bench, tmp_path: Path) -> None:
    sysroot = tmp_path / "sysroot"
    options = ("--sysroot", sysroot, PLAIN_HTTP)
    assert bootc_py("switch", bench.name("good"), *options).code == 0
    before = bootc_py("status", "--sysroot", sysroot, "--json").json
    objects = store.object_names(sysroot / "ostree/repo")

    newer = small(tmp_path / "newer", version="2")
    push(newer, bench.registry, "a/b", "good")
    bench.proxy.spoil(newer.layers[1]["digest"], flips(2_000_000))
    failed = bootc_py("upgrade", *options)
    assert failed.code == 6
    assert newer.layers[1]["digest"] in failed.error
    assert bootc_py("status", "--sysroot", sysroot, "--json").json == before
    assert store.object_names(sysroot / "ostree/repo") == objects

    assert bootc_py("upgrade", *options).code == 0
    after = bootc_py("status", "--sysroot", sysroot, "--json").json
    assert after["spec"] == before["spec"]
    assert len(after["status"]["otherDeployments"]) == 2


def test_an_image_that_cannot_boot_is_not_switched_to(bench: Bench, tmp_path: Path) -> None:
    def without_labels(config: dict[str, Any]) -> None:
        del config["config"]["Labels"]

    image = altered(bench.image, tmp_path / "unbootable", config=without_labels)
    push(image, bench.registry, "a/b", "unbootable")
    failed = bootc_py(
        "switch", bench.name("unbootable"), "--sysroot", tmp_path / "sysroot", PLAIN_HTTP
    )
    assert failed.code == 7
    assert "containers.bootc" in failed.error
    check_clean(tmp_path / "sysroot/ostree/repo")
