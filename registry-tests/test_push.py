"""Pushing stored images: to a real registry, to layouts, and what peers make of them."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig.certificates import Authority
from rig.command import PLAIN_HTTP, bootc_py, pull, report
from rig.credentials import Credentials
from rig.peers import require
from rig.proxy import run_proxy
from rig.registry import Registry, run_registry
from rig.small import medium, small
from rig.tokens import run_token_server
from rig.twopkg import write_image

from tools.images import build, cache
from tools.images import layout as oci
from tools.images.layout import Layout

COMPRESSIONS = {
    "gzip": ("application/vnd.oci.image.layer.v1.tar+gzip", ["gzip", "-dc"]),
    "zstd": ("application/vnd.oci.image.layer.v1.tar+zstd", ["zstd", "-dc"]),
    "none": ("application/vnd.oci.image.layer.v1.tar", ["cat"]),
}
FAST = {"gzip": ["--compression-level=1"], "zstd": [], "none": []}


def push(image: str, target: str, repo: Path, *options: str) -> dict[str, Any]:
    """The report of `image push`, which must succeed, without TLS."""
    return report("image", "push", image, target, "--repo", repo, PLAIN_HTTP, *options)


def skopeo(*arguments: str | Path) -> bytes:
    command = [require("skopeo"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return done.stdout


def copied(source: str, target: Path) -> Layout:
    """An image as skopeo copies it, which checks every blob against its digest."""
    skopeo(
        "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", source, f"oci:{target}:v"
    )
    return oci.read(target)


def unpacked_digest(layout: Layout, layer: dict[str, Any], program: list[str]) -> str:
    """The sha256 of a layer as the real program for its compression unpacks it."""
    with layout.blob(layer["digest"]).open("rb") as blob:
        command = [require(program[0]) if program[0] != "cat" else "cat", *program[1:]]
        process = subprocess.Popen(command, stdin=blob, stdout=subprocess.PIPE)
        assert process.stdout is not None
        digest = hashlib.file_digest(process.stdout, "sha256").hexdigest()  # type: ignore[arg-type]
        assert process.wait() == 0
    return f"sha256:{digest}"


def same_image(found: Layout, source: Layout, compression: str) -> None:
    """Fails unless `found` has the configuration of `source`, and its layers in `compression`."""
    media_type, program = COMPRESSIONS[compression]
    assert found.manifest["config"]["digest"] == source.manifest["config"]["digest"]
    config = found.blob(found.manifest["config"]["digest"]).read_bytes()
    assert config == source.blob(source.manifest["config"]["digest"]).read_bytes()
    assert {layer["mediaType"] for layer in found.layers} == {media_type}
    diff_ids = [unpacked_digest(found, layer, program) for layer in found.layers]
    assert diff_ids == list(source.diff_ids)


@dataclass(frozen=True)
class Stored:
    """The real image `base`, in a repository and as it was pulled."""

    layout: Layout
    repo: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def stored() -> Iterator[Stored]:
    with cache.scratch(cache.root() / "work") as work:
        layout = build.image("base", "v1", "gzip")
        yield Stored(layout, work / "repo", pull(layout.reference, work / "repo"))


@pytest.fixture(scope="module")
def plain_registry() -> Iterator[Registry]:
    with cache.scratch(cache.root() / "work") as work, run_registry(work / "storage") as running:
        yield running


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_real_image_is_pushed(
    stored: Stored, plain_registry: Registry, scratch: Path, compression: str
) -> None:
    name = f"{plain_registry.host}/again/base:{compression}"
    options = [f"--compression={compression}", *FAST[compression]]
    first = push(stored.layout.reference, name, stored.repo, *options)
    sizes = sum(layer["size"] for layer in first["layers"])
    assert first["transfer"]["pushedBytes"] == sizes
    found = copied(f"docker://{name}", scratch / "copied")
    assert found.digest == first["destination"]["digest"]
    same_image(found, stored.layout, compression)

    if compression == "zstd":  # one of them is enough
        again = push(stored.layout.reference, name, stored.repo, *options)
        assert again["destination"] == first["destination"]
        assert (again["transfer"]["pushedBytes"], again["transfer"]["skippedBytes"]) == (0, sizes)
        assert again["transfer"]["requests"] == len(again["layers"]) + 2  # config, manifest

    back = pull(name, stored.repo)
    assert {layer["mode"] for layer in back["layers"]} == {"present"}
    assert all(layer["receivedBytes"] == 0 for layer in back["layers"])
    assert back["image"]["contentChecksum"] == stored.report["image"]["contentChecksum"]


# -- small images ------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Layout:
    made = small(tmp_path / "image")
    pull(made.reference, tmp_path / "repo", "--mode=bare-user")
    return made


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_layouts_and_archives_are_what_peers_read(
    image: Layout, tmp_path: Path, compression: str
) -> None:
    repo, option = tmp_path / "repo", f"--compression={compression}"
    archive = f"oci-archive:{tmp_path / 'out.tar'}:v1"
    for target in (f"oci:{tmp_path / 'out'}:v1", archive):
        done = push(image.reference, target, repo, option)
        found = copied(target, tmp_path / f"copied-{target.partition(':')[0]}")
        assert found.digest == done["destination"]["digest"]
        same_image(found, image, compression)
    if compression == "zstd":
        return  # umoci does not know it
    bundle = tmp_path / "bundle"
    subprocess.run(
        [require("umoci"), "unpack", "--rootless", "--image", f"{tmp_path / 'out'}:v1", bundle],
        check=True,
        capture_output=True,
    )
    assert (bundle / "rootfs/etc/release").read_text() == "1\n"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_podman_pulls_what_was_pushed(image: Layout, tmp_path: Path, compression: str) -> None:
    with run_registry() as registry, tempfile.TemporaryDirectory(prefix="podman-") as place:
        podman = [require("podman"), f"--root={place}/root", f"--runroot={place}/run"]
        name = f"{registry.host}/a/b:v1"
        push(image.reference, name, tmp_path / "repo", f"--compression={compression}")
        pulled = subprocess.run(
            [*podman, "--storage-driver=vfs", "pull", "--quiet", "--tls-verify=false", name],
            capture_output=True,
            text=True,
        )
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.strip() == image.manifest["config"]["digest"].removeprefix("sha256:")


def test_one_image_is_one_manifest_wherever_it_is_pushed(image: Layout, tmp_path: Path) -> None:
    found = []
    pull(image.reference, tmp_path / "archive-repo", "--mode=archive")
    with run_registry() as registry:
        for repo in ("repo", "archive-repo"):
            for target in (f"{registry.host}/{repo}/x:1", f"oci:{tmp_path / repo}-out:2"):
                found.append(push(image.reference, target, tmp_path / repo)["destination"])
    assert len({each["digest"] for each in found}) == 1
    assert len({each["reference"] for each in found}) == 4


@pytest.mark.parametrize(
    ("cuts", "starts"),
    [
        # docker-registry forgets an upload of which a part broke off, ...
        ([12_000_000], [0, 1 << 26]),
        # ... but not one that broke between two parts.
        ([1 << 30, 0], [0, 1 << 26, 1 << 26]),
    ],
    ids=["amid a part", "between two"],
)
def test_an_upload_that_breaks(tmp_path: Path, cuts: list[int], starts: list[int]) -> None:
    content = {"usr/share/data": random.Random(1).randbytes(1000) * 70_000}
    image = write_image(tmp_path / "image", "v1", [content])
    pull(image.reference, tmp_path / "repo", "--mode=bare-user")
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        proxy.cut_uploads = list(cuts)
        name = f"{proxy.host}/a/b:v1"
        done = push(image.reference, name, tmp_path / "repo", "--compression=none")
        assert done["transfer"]["retries"] >= 1 and proxy.cut_uploads == []
        same_image(copied(f"docker://{name}", tmp_path / "copied"), image, "none")
        parts = [each.headers["content-range"] for each in proxy.log if each.method == "PATCH"]
    assert [int(each.partition("-")[0]) for each in parts[-len(starts) :]] == starts


def test_a_push_that_failed_goes_on_with_the_next(tmp_path: Path) -> None:
    """Layers that are there are not sent again; nothing has the tag before all are."""
    image = medium(tmp_path / "image")
    repo = tmp_path / "repo"
    pull(image.reference, repo, "--mode=bare-user")
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        name = f"{proxy.host}/a/b:v1"
        command = ("image", "push", image.reference, name, "--repo", repo, PLAIN_HTTP)
        proxy.cut_uploads = [10, 10, 10]
        failed = bootc_py(*command, "--retry-times=0")
        assert failed.code == 5 and "blob sha256:" in failed.error
        tags = bootc_py("image", "pull", name, "--repo", tmp_path / "none", PLAIN_HTTP)
        assert tags.code == 4
        proxy.cut_uploads = []
        done = push(image.reference, name, repo)
        same_image(copied(f"docker://{name}", tmp_path / "copied"), image, "zstd")
        assert done["destination"]["digest"] == oci.read(tmp_path / "copied").digest


# -- who may push ------------------------------------------------------------------------------

RIGHT = Credentials("user", "pass:word")


def test_a_push_with_a_token(image: Layout, tmp_path: Path) -> None:
    with (
        run_token_server(tmp_path / "tokens", RIGHT) as tokens,
        run_registry(tokens=tokens) as registry,
    ):
        name = f"{registry.host}/a/b:v1"
        command = ("image", "push", image.reference, name, "--repo", tmp_path / "repo", PLAIN_HTTP)
        nobody = bootc_py(*command)
        assert nobody.code == 3 and "not authorised for" in nobody.error
        wrong = bootc_py(*command, "--creds=user:guess")
        assert wrong.code == 3
        report(*command, "--creds=user:pass:word")
        borrowed = ("--authfile", registry.write_auth_file(tmp_path / "auth.json"))
        pulled = report("image", "pull", name, "--repo", tmp_path / "repo", PLAIN_HTTP, *borrowed)
        assert {layer["mode"] for layer in pulled["layers"]} == {"present"}
        other = f"{registry.host}/c/d:v1"
        lent = report("image", "push", name, other, *command[4:], *borrowed)
        assert {layer["outcome"] for layer in lent["layers"]} == {"mounted"}


def test_a_push_over_tls_with_a_password(image: Layout, tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    with run_registry(basic=RIGHT, tls=authority) as registry:
        name = f"{registry.host}/a/b:v1"
        command = ("image", "push", image.reference, name, "--repo", tmp_path / "repo")
        certificates = ("--cert-dir", registry.write_certs_dir(tmp_path / "certs"))
        assert bootc_py(*command, "--creds=user:pass:word").code == 5
        assert bootc_py(*command, *certificates).code == 3
        done = report(*command, *certificates, "--creds=user:pass:word")
        assert {layer["outcome"] for layer in done["layers"]} == {"pushed"}


def test_a_registry_that_takes_nothing(image: Layout, tmp_path: Path) -> None:
    with run_registry(read_only=True) as registry:
        name = f"{registry.host}/a/b:v1"
        done = bootc_py(
            "image", "push", image.reference, name, "--repo", tmp_path / "repo", PLAIN_HTTP
        )
    assert done.code == 5 and "405" in done.error


# -- what cannot be pushed ---------------------------------------------------------------------


def test_layers_of_an_old_store(image: Layout, tmp_path: Path) -> None:
    """Without skeletons nothing is sent, and the way that the error names leads out."""
    repo = tmp_path / "repo"
    for path in (repo / "extensions/bootc-py/skeletons").iterdir():
        path.unlink()
    target = f"oci:{tmp_path / 'out'}:v1"
    command = ("image", "push", image.reference, target, "--repo", repo)
    done = bootc_py(*command)
    assert done.code == 4 and "pull the image again" in done.error
    assert bootc_py("image", "remove", image.reference, "--repo", repo).code == 0
    assert bootc_py("image", "prune", "--repo", repo).code == 0
    pull(image.reference, repo)
    report(*command)
    same_image(copied(target, tmp_path / "copied"), image, "zstd")


def test_the_report(image: Layout, tmp_path: Path) -> None:
    target = f"oci:{tmp_path / 'out'}:v1"
    command = ("image", "push", image.reference, target, "--repo", tmp_path / "repo")
    shown = bootc_py(*command, "-v")
    assert shown.code == 0
    document = report(*command)
    assert document["kind"] == "PushReport"
    assert [each["diffId"] for each in document["layers"]] == list(image.diff_ids)
    for each in document["layers"]:
        assert f"{each['digest']}  pushed" in shown.out
        assert Path(f"{tmp_path}/out/blobs/{each['digest'].replace(':', '/')}").exists()
    index = json.loads((tmp_path / "out/index.json").read_bytes())
    assert index["manifests"][0]["digest"] == document["destination"]["digest"]
