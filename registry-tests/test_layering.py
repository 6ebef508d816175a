"""What is built on an installed machine's image is what the machine boots next, with no registry in
between: that is how packages are layered.

The steps run on this side, for the machine has no buildah. The layout that they make is on the
machine's disk, and all else is done there. An emulated machine takes minutes for it, so it is done
only where BOOTC_PY_LAYERING is set.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from rig import hosts
from rig.builder import Builder
from rig.peers import require
from rig.qemu import Machine, Said

from bridge.initramfs.pack import packed
from tools.images import build, cache
from tools.images import layout as oci
from tools.images.layout import Layout

pytestmark = pytest.mark.skipif(
    not os.environ.get("BOOTC_PY_LAYERING"), reason="BOOTC_PY_LAYERING is not set"
)

# Of a stage without a step buildah (1.28) leaves its container, mounted.
CONTAINERFILE = """\
FROM localhost/os/host:v1 AS published
LABEL org.opencontainers.image.title="os/published"
FROM published AS layered
ARG SOURCE_DATE_EPOCH
RUN --mount=type=bind,source=packages,target=/run/packages \\
    dpkg --install /run/packages/layered.deb && \\
    systemctl enable layered.service && \\
    /usr/libexec/os-image/seal
"""
CONTROL = """\
Package: layered
Version: {version}
Architecture: all
Maintainer: nobody <nobody@example.com>
Description: shows that it is there
"""
# It runs at each boot, before anything that a test does.
UNIT = """\
[Unit]
DefaultDependencies=no
After=systemd-tmpfiles-setup.service
Before=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'layered >>/var/lib/layered/boots'
[Install]
WantedBy=basic.target
"""
LAYOUT = "/var/lib/images"
"""On the machine: a layout, of which the tag `next` is what was built last."""
STATUS = {
    "status": "bootc-py status --json",
    "admin": "ostree admin status",
    "failed": "systemctl --failed --quiet --no-legend",
}
LAYERED = {
    **STATUS,
    "ran": "layered; cat /var/lib/layered/boots",
    "installed": "dpkg-query --show layered",
    "kept": "cat /etc/kept.conf /var/lib/kept",
    "origin": "cat /ostree/deploy/*/deploy/$(ostree admin status | "
    "sed -n 's/^\\* [^ ]* //p').origin",
}


@pytest.fixture
def builder() -> Iterator[Builder]:
    with cache.scratch(cache.root() / "work") as work:
        made = Builder(work / "build")
        made.prepare(CONTAINERFILE, {"localhost/os/host:v1": build.image("host", "v1", "plain")})
        yield made


@pytest.fixture
def published(builder: Builder) -> Layout:
    """The image that the machine has at first, in layers as `build` makes them."""
    builder.built(f"oci:{builder.work}/published:v1", "--target=published", "--no-lint")
    return oci.read(builder.work / "published")


@pytest.fixture
def machine(published: Layout) -> Iterator[Machine]:
    with cache.scratch(cache.root() / "work") as work:
        content = work / "content"
        content.mkdir()
        tag = f"{hosts.NAME}:stable"
        yield hosts.on_disk(work, published.reference, content, 16, tag, "--bootloader=none")


def package(builder: Builder, version: str) -> None:
    """Have the steps install this version of a package."""
    tree = builder.work / f"package-{version}"
    files = {
        "DEBIAN/control": CONTROL.format(version=version),
        "usr/bin/layered": f"#!/bin/sh\necho layered {version}\n",
        "usr/lib/systemd/system/layered.service": UNIT,
        "usr/lib/tmpfiles.d/layered.conf": "d /var/lib/layered 0755 - - -\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "usr/bin/layered").chmod(0o755)
    packages = builder.context / "packages"
    packages.mkdir(exist_ok=True)
    subprocess.run(
        [require("dpkg-deb"), "--root-owner-group", "--build", tree, packages / "layered.deb"],
        check=True, capture_output=True,
    )  # fmt: skip


def built(builder: Builder, machine: Machine, previous: str, *options: str) -> Layout:
    """Build, and bring the layout to the machine's disk; what is now `next` there.

    The disk is not mounted while steps run, for they have mounts of their own: what they would
    keep of it this side would go on to see, and not what the machine makes of it.
    """
    layout = builder.work / "images"
    builder.built(f"oci:{layout}:next", "--target=layered", f"--previous={previous}", *options)
    with machine.mounted() as root:
        (stateroot,) = root.glob("ostree/deploy/*")
        place = stateroot / LAYOUT.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--recursive", "--update", f"{layout}/.", place], check=True)
    return oci.read(layout)


def packed_initramfs() -> bytes:
    """That of the image that is built upon, as it is to be packed anew; it was not packed so."""
    base = build.image("host", "v1", "plain")
    with tarfile.open(base.blob(base.layers[0]["digest"])) as archive:
        member = next(each for each in archive if each.name.endswith("/initramfs.img"))
        found = archive.extractfile(member)
        assert found is not None
        original = found.read()
    anew = b"".join(packed(lambda: iter([original]), io.BytesIO()))
    assert anew != original
    return anew


def test_a_build_is_what_the_machine_boots_next(
    builder: Builder, published: Layout, machine: Machine
) -> None:
    package(builder, "1")
    one = built(builder, machine, published.reference)
    (first,) = machine.run(
        [
            {
                **STATUS,
                "edit": "echo kept >/etc/kept.conf; echo kept >/var/lib/kept; ! layered",
                "switch": f"bootc-py switch oci:{LAYOUT}:next --json 2>/dev/null",
            }
        ]
    )
    assert hosts.booted(first["status"]) == published.digest
    assert first["edit"].code == 0, first["edit"].text
    _moved(json.loads(first["switch"].ok), published, one, 10_000_000)

    package(builder, "2")
    two = built(builder, machine, f"oci:{builder.work}/images:next", "--no-lint")
    initramfs = "sha256sum $(find /usr/lib/modules /boot/ostree -name 'initramfs*.img')"
    (second,) = machine.run(
        [
            {
                **LAYERED,
                "initramfs": initramfs,
                "upgrade": "bootc-py upgrade --json 2>/dev/null",
            }
        ]
    )
    started = (machine.work / "initrd").read_bytes()
    assert started == packed_initramfs()
    # In /usr and, for both deployments, in /boot.
    sums = [line.split()[0] for line in second["initramfs"].ok.splitlines() if line]
    assert sums == [hashlib.sha256(started).hexdigest()] * 2
    _is_layered(second, one, "1", "1")
    # The package, and dpkg's database.
    _moved(json.loads(second["upgrade"].ok), one, two, 100_000)

    third, fourth = machine.run([{**LAYERED, "rollback": "bootc-py rollback"}, LAYERED])
    _is_layered(third, two, "2", "12")
    assert third["rollback"].code == 0, third["rollback"].text
    _is_layered(fourth, one, "1", "121")


def _moved(report: dict[str, Any], before: Layout, after: Layout, most: int) -> None:
    """Holds the report of an update to what the images have in common: all but `most` bytes."""
    assert report["changed"] and report["deployment"]["staged"]
    assert report["image"]["manifestDigest"] == after.digest
    there = {each["digest"] for each in before.layers}
    new = {each["digest"]: each["size"] for each in after.layers if each["digest"] not in there}
    modes = {each["digest"]: each["mode"] for each in report["layers"]}
    assert {digest for digest, mode in modes.items() if mode != "present"} == set(new)
    size = sum(each["size"] for each in after.layers)
    assert report["transfer"]["avoided"]["layerBytes"] == size - sum(new.values())
    assert 0 < sum(new.values()) < most
    assert report["transfer"]["receivedBytes"] == report["transfer"]["requests"] == 0
    assert 0 < report["store"]["newBytes"] < 1_000_000


def _is_layered(said: dict[str, Said], image: Layout, version: str, boots: str) -> None:
    """Holds what is said to the package's version in that image, and in all boots so far."""
    assert hosts.booted(said["status"]) == image.digest, said["admin"].text
    hosts.agreed(said["status"], said["admin"])
    spec = json.loads(said["status"].ok)["status"]["booted"]["image"]["image"]
    assert (spec["transport"], spec["image"]) == ("oci", f"{LAYOUT}:next")
    assert f"ostree-unverified-image:oci:{LAYOUT}:next\n" in said["origin"].ok
    assert said["failed"].ok.strip() == ""
    ran = said["ran"].ok.split("\n\n")[0].splitlines()
    assert ran == [f"layered {each}" for each in version + boots]
    assert said["installed"].ok.split() == ["layered", version]
    assert said["kept"].ok.split() == ["kept", "kept"]
