"""Building OS images with the real buildah, and what peers make of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import forky, ports, store
from rig.builder import Builder
from rig.command import PLAIN_HTTP, bootc_py
from rig.peers import require
from rig.registry import run_registry

from bridge.build.rechunk import COMPONENTS_KEY
from tools.images import build as images
from tools.images import cache
from tools.images import layout as oci
from tools.images.layout import Layout

CONTAINERFILE = """\
ARG BASE=localhost/os/base:v1
FROM ${BASE} AS made
ARG GREETING
RUN --mount=type=secret,id=word cp /run/secrets/word /tmp/word && \\
    echo "$GREETING $(wc -c </tmp/word)" >/usr/share/greeting && rm /tmp/word && \\
    echo hello >/etc/motd
FROM made
RUN false
"""


def made(work: Path, *versions: str) -> Builder:
    """One who builds the Containerfile above on the project's base."""
    secret = work / "secret"
    builder = Builder(
        work,
        ("--target=made", f"--secret=id=word,src={secret}", "--build-arg=GREETING=hello"),
    )
    bases = {f"localhost/os/base:{each}": images.image("base", each, "plain") for each in versions}
    builder.prepare(CONTAINERFILE, bases)
    secret.write_text("a secret of 21 bytes\n")
    return builder


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    with cache.scratch(cache.root() / "work") as work:
        yield made(work / "one", "v1", "v2")


@pytest.fixture(scope="module")
def first(builder: Builder) -> Layout:
    """The first version's image in a layout."""
    builder.built(f"oci:{builder.work}/out:v1", "--version=1")
    return oci.read(builder.work / "out")


def components(layout: Layout) -> list[list[str]]:
    return [sorted(json.loads(each["annotations"][COMPONENTS_KEY])) for each in layout.layers]


def test_what_was_built_is_in_layers_of_what_changes_together(
    builder: Builder, first: Layout
) -> None:
    names = components(first)
    assert 40 <= len(names) <= 64
    assert ["initramfs"] in names
    assert ["linux-signed-amd64"] in names
    config = json.loads(first.blob(first.manifest["config"]["digest"]).read_bytes())
    assert config["created"] == "2023-11-14T22:13:20Z"
    labels = config["config"]["Labels"]
    assert labels == {
        "containers.bootc": "1",
        "org.opencontainers.image.title": "os/base",
        "org.opencontainers.image.version": "1",
        "ostree.bootable": "true",
    }
    assert config["config"]["Cmd"] == ["/sbin/init"]
    store.fsck(builder.repo)
    listed = bootc_py("image", "list", "--repo", builder.repo, "--json").json
    assert [each["reference"] for each in listed] == [f"oci:{builder.work}/out:v1"]


def test_build_arguments_and_secrets_reach_the_steps(builder: Builder, first: Layout) -> None:
    (commit,) = {
        each["commit"] for each in bootc_py("image", "list", "--repo", builder.repo, "--json").json
    }
    shown = store.ostree(builder.repo, "cat", commit, "/usr/share/greeting")
    assert shown == b"hello 21\n"
    assert store.ostree(builder.repo, "cat", commit, "/usr/etc/motd") == b"hello\n"


def test_the_same_sources_make_the_same_image_elsewhere(builder: Builder, first: Layout) -> None:
    with cache.scratch(cache.root() / "work") as work:
        other = made(work / "two", "v1")
        report = other.built(f"oci:{other.work}/out:v1", "--version=1", "--no-cache")
        again = oci.read(other.work / "out")
    assert report["pushed"]["destination"]["digest"] == again.digest == first.digest


def test_an_update_moves_what_changed(builder: Builder, first: Layout) -> None:
    """Against the layers of the build's steps, of which the first is all of the base."""
    before = f"oci:{builder.work}/out:v1"
    report = builder.built(
        f"oci:{builder.work}/next:v2", "--version=2", f"--previous={before}",
        "--build-arg=BASE=localhost/os/base:v2",
    )  # fmt: skip
    second = oci.read(builder.work / "next")
    there = {each["digest"] for each in first.layers}
    moved = sum(each["size"] for each in second.layers if each["digest"] not in there)
    assert sum(each["digest"] in there for each in second.layers) >= report["keptLayers"] > 30
    plain = images.image("base", "v2", "zstd")
    assert moved < 0.7 * sum(each["size"] for each in plain.layers)
    # What changed once is known to have.
    seen = {
        name: (builds, changes)
        for each in second.layers
        for name, (_, builds, changes) in json.loads(each["annotations"][COMPONENTS_KEY]).items()
    }
    assert seen["linux-signed-amd64"] == (1, 1)
    assert seen["icu"] == (1, 0)


def test_a_build_becomes_the_next_deployment(
    builder: Builder, first: Layout, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    done = bootc_py("switch", f"oci:{builder.work}/out:v1", "--sysroot", host, "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.json["image"]["manifestDigest"] == first.digest
    (tree,) = host.glob("ostree/deploy/default/deploy/*.0")
    assert (tree / "usr/share/greeting").read_text() == "hello 21\n"
    shown = subprocess.run(
        [require("ostree"), "admin", "status", f"--sysroot={host}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.json["image"]["commit"] in shown.stdout


def test_current_podman_and_skopeo_take_what_was_built(builder: Builder, first: Layout) -> None:
    with run_registry() as registry, forky.run_forky(builder.work / "forky", 4096) as peer:
        name = f"{registry.host}/os/built:v1"
        pushed = builder.built(name, "--push", "--tls-verify=false", "--version=1",
                               "--compression=zstd:chunked")  # fmt: skip
        digest = pushed["pushed"]["destination"]["digest"]
        shown = peer.checked("skopeo", "inspect", "--tls-verify=false", f"docker://{name}")
        assert json.loads(shown)["Digest"] == digest
        done = peer.pull(name)
        assert done.code == 0, done.err
        read = f"cat $(podman image mount {name})/usr/share/greeting"
        assert peer.checked("sh", "-c", read) == "hello 21\n"


def test_a_step_that_fails_is_the_end(builder: Builder) -> None:
    done = builder.build("localhost/none:v1", "--target=")
    assert done.code == 1
    assert done.error == (
        f"error: building the Containerfile in {builder.work}/context: buildah build ended with "
        "status 1; what it said is above"
    )
    said = done.err.splitlines()
    assert any("false" in line and "exit status 1" in line for line in said), done.err
    listed = bootc_py("image", "list", "--repo", builder.repo, "--json").json
    assert "localhost/none:v1" not in [each["reference"] for each in listed]


WRONG = [
    (["--timestamp=x"], 2, "no number of seconds since 1970"),
    (["--timestamp=999999999999999999"], 2, "no number of seconds since 1970"),
    (["--max-layers=1"], 2, "no number from 2 to"),
    (["--label=x"], 2, "NAME=VALUE"),
    (["--push", "--tag=oci:/x"], 2, "written in any case"),
    (["--file=/nowhere/Containerfile"], 1, "building /nowhere/Containerfile: buildah build"),
]


@pytest.mark.parametrize(("options", "code", "message"), WRONG)
def test_what_cannot_be_built(
    builder: Builder, options: list[str], code: int, message: str
) -> None:
    done = builder.build("localhost/none:v1", *options)
    assert done.code == code
    assert message in done.error


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """One who builds an image of one file, for what does not depend on what is built."""
    builder = Builder(tmp_path_factory.mktemp("small") / "one", ("--no-lint",))
    builder.prepare("FROM scratch\nCOPY tree /\n", {})
    (builder.context / "tree/usr/share").mkdir(parents=True)
    (builder.context / "tree/usr/share/file").write_text("content\n")
    return builder


def test_a_registry_that_is_not_there(small: Builder) -> None:
    name = f"127.0.0.1:{ports.free_port()}/os/built:v1"
    done = small.build(name, "--push", PLAIN_HTTP, "--retry-times=0", "--version=1", "--quiet")
    assert done.code == 5
    assert name in done.error


def test_a_previous_image_that_is_not_there_yet(small: Builder, tmp_path: Path) -> None:
    done = small.build(f"oci:{tmp_path}/without:v1", "--version=1")
    assert done.code == 0, done.err
    with run_registry() as registry:
        previous = f"{registry.host}/os/none:v0"
        done = small.build(f"oci:{tmp_path}/none:v1", f"--previous={previous}", PLAIN_HTTP,
                           "--version=1")  # fmt: skip
    assert done.code == 0, done.err
    assert "no previous image" in done.err
    image = oci.read(tmp_path / "none")
    assert image.digest == oci.read(tmp_path / "without").digest
    assert components(image) == [["unpackaged"]]
