"""Lints on real images: what is wrong with the project's own, exactly, by every way to look."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rig.command import PLAIN_HTTP, bootc_py
from rig.peers import require
from rig.registry import Registry, run_registry
from rig.small import of_layers
from support.images import directory, file, whiteout

from bridge.initramfs.cpio import InitramfsReader
from tools.images import build
from tools.images.layout import Layout
from tools.images.spec import SOURCE_DATE_EPOCH

TOP = Path(__file__).parents[1]
EPOCH = {"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
LINTS = 19

WRONG = {
    "baseimage-composefs": ["/usr/lib/ostree/prepare-root.conf"],
    "initramfs": ["/usr/lib/modules/VERSION/initramfs.img"],
}
"""What is wrong with all of them: Debian 12's ostree has no composefs, and buildah alone leaves the
initramfs as dracut packs it. Times are those of the build, too."""


def lint(*arguments: str | Path, code: int = 0, env: dict[str, str] | None = None) -> Any:
    """The findings of each lint that has some, by its name."""
    done = bootc_py("container", "lint", *arguments, "--json", "--quiet", env=env)
    assert done.code == code, done.err
    lints = {each["name"]: each for each in done.json["lints"]}
    assert len(lints) == LINTS
    return {name: each["findings"] for name, each in lints.items() if each["findings"]}


def paths(findings: list[dict[str, str]]) -> list[str]:
    return [re.sub(r"/modules/\d[^/]*", "/modules/VERSION", each["path"]) for each in findings]


def later(layout: Layout) -> set[tuple[str, int]]:
    """What has a time after SOURCE_DATE_EPOCH in which layer, as Python's tarfile has it."""
    found = set()
    for number, layer in enumerate(layout.layers):
        with tarfile.open(layout.blob(layer["digest"])) as archive:
            names = (each.name for each in archive if each.mtime > SOURCE_DATE_EPOCH)
            found |= {(f"/{name.strip('/')}", number) for name in names}
    return found


@pytest.mark.parametrize(("name", "version"), [("base", "v2"), ("server", "v1")])
def test_what_is_wrong_with_a_plain_build(name: str, version: str) -> None:
    layout = build.image(name, version, "plain")
    found = lint(layout.reference, env=EPOCH)
    times = found.pop("timestamps")
    assert {name: paths(each) for name, each in found.items()} == WRONG
    layers = [int(each["detail"].split()[1].rstrip(":")) for each in times]
    told = {(each["path"], layer) for each, layer in zip(times, layers, strict=True)}
    assert told == later(layout)
    assert len(told) > 100


def test_a_root_and_a_stored_image_say_the_same(tmp_path: Path) -> None:
    layout = build.image("base", "v1", "plain")
    by_reference = lint(layout.reference, env=EPOCH)
    repo = tmp_path / "repo"
    assert bootc_py("image", "pull", layout.reference, "--repo", repo, "--quiet").code == 0
    assert lint(layout.reference, "--repo", repo, env=EPOCH) == by_reference

    root = tmp_path / "root"
    root.mkdir()
    (layer,) = layout.layers
    blob = layout.blob(layer["digest"])
    subprocess.run(["tar", "--numeric-owner", "-xpf", blob, "-C", root], check=True)
    by_root = lint("--rootfs", root, env=EPOCH)
    # A step cannot pack the initramfs as it is packed in the end.
    assert by_root.keys() == by_reference.keys() - {"initramfs"}
    for name in by_root:
        # A root has its own time, too, and does not say which layer it is from.
        mine = [each for each in paths(by_root[name]) if each != "/"]
        assert sorted(mine) == sorted(paths(by_reference[name])), name


def test_the_initramfs_is_read_as_cpio_reads_it(tmp_path: Path) -> None:
    layout = build.image("base", "v1", "plain")
    (layer,) = layout.layers
    packed = tmp_path / "initramfs.img"
    with tarfile.open(layout.blob(layer["digest"])) as archive:
        for member in archive:
            if member.name.endswith("/initramfs.img"):
                content = archive.extractfile(member)
                assert content is not None
                packed.write_bytes(content.read())
    assert packed.read_bytes().startswith(b"\x28\xb5\x2f\xfd")
    plain = subprocess.run([require("zstd"), "-dc", packed], capture_output=True, check=True)
    (tmp_path / "root").mkdir()
    subprocess.run(
        [require("cpio"), "--quiet", "-idm", "--no-absolute-filenames"],
        input=plain.stdout, cwd=tmp_path / "root", check=True,
    )  # fmt: skip
    reader = InitramfsReader([packed.read_bytes()])
    seen = 0
    for segment, entry in reader:
        there = tmp_path / "root" / entry.name
        status = there.lstat()
        assert (segment.compression, status.st_mode) == ("zstd", entry.mode), entry.name
        if entry.is_file:
            assert there.read_bytes() == b"".join(reader.payload()), entry.name
            assert int(status.st_mtime) == entry.mtime
            seen += entry.size
    assert seen > 30_000_000
    names = subprocess.run(
        [require("cpio"), "--quiet", "-it"], input=plain.stdout, capture_output=True, check=True
    ).stdout.decode()
    assert [entry.name for _, entry in InitramfsReader([packed.read_bytes()])] == names.split("\n")[
        :-1
    ]


@pytest.fixture(scope="module")
def empty_registry() -> Iterator[Registry]:
    with run_registry() as registry:
        yield registry


def test_a_secret_that_was_deleted_is_found_in_the_registry(
    empty_registry: Registry, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    layout = of_layers(
        tmp_path / "layout",
        [directory("usr"), file("root/.ssh/id_ed25519", key, 0o600)],
        [whiteout("root/.ssh")],
    )
    target = f"{empty_registry.host}/os/secret:v1"
    subprocess.run(
        [require("skopeo"), "copy", "--quiet", "--dest-tls-verify=false", layout.reference,
         f"docker://{target}"], check=True,
    )  # fmt: skip
    found = lint(target, PLAIN_HTTP, code=1)
    assert [(each["path"], each["detail"]) for each in found["secrets"]] == [
        ("/root/.ssh/id_ed25519", "layer 0, hidden by a later one")
    ]
    done = bootc_py("container", "lint", f"{empty_registry.host}/os/none:v1", PLAIN_HTTP)
    assert (done.code, done.out) == (4, "")


@contextmanager
def storage(place: Path, image: Layout) -> Iterator[list[str]]:
    """A container storage that holds an image as localhost/base; yields what buildah needs."""
    root, run_root = place / "root", place / "run"
    options = [f"--root={root}", f"--runroot={run_root}", "--storage-driver=overlay"]
    target = f"containers-storage:[overlay@{root}+{run_root}]localhost/base"
    # Mounts of its own: when it ends, none is left.
    build.run(require("skopeo"), "copy", "--quiet", image.reference, target)
    yield options


@pytest.mark.skipif(os.geteuid() != 0, reason="builds an image as root")
def test_a_step_of_a_containerfile(tmp_path: Path) -> None:
    """`RUN bootc-py container lint`, in buildah: what is mounted for the step is not its image."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("takes this Python's packages for those of the image's")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Containerfile").write_text(
        "FROM localhost/base\n"
        "RUN --mount=type=tmpfs,target=/var/cache/apt touch /run/left /var/cache/apt/gone && "
        "PYTHONPATH=/bridge:/site python3 -m bridge container lint --json >/report || test $? = 1\n"
        "RUN cp /report /volume/report\n"
    )
    volumes = {
        TOP / "bridge": "/bridge/bridge:ro",
        Path(sysconfig.get_path("purelib")): "/site:ro",
        tmp_path: "/volume:rw",
    }
    with storage(tmp_path, build.image("base", "v1", "plain")) as options:
        build.run(
            require("buildah"), *options, "bud", "--isolation=chroot", "--pull-never",
            *(f"--volume={here}:{there}" for here, there in volumes.items()),
            str(tmp_path / "context"),
        )  # fmt: skip
    document = json.loads((tmp_path / "report").read_text())
    lints = {each["name"]: each for each in document["lints"]}
    assert {name for name, each in lints.items() if each["outcome"] == "skipped"} == {
        "buildah-injected", "timestamps",
    }  # fmt: skip
    found = {name: each["findings"] for name, each in lints.items() if each["findings"]}
    assert {name: paths(each) for name, each in found.items()} == {
        "baseimage-composefs": WRONG["baseimage-composefs"], "nonempty-run-tmp": ["/run/left"],
    }  # fmt: skip
