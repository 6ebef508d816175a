"""Real upgrades: two states of a distribution, as images."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bridge.build.rechunk import rechunk
from bridge.contents.commit import of_commit
from bridge.oci.model import Manifest, parse_document
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.pull import pull
from bridge.push.layouts import LayoutWriter
from rig.peers import require
from tools.images import build, cache, wheels
from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS, IMAGES, MIRROR, SOURCE_DATE_EPOCH

VERSIONS = ("v1", "v2")

_SUITE = "trixie"
_TRIXIE = f"deb {MIRROR}/debian {_SUITE} main"
_SOURCES = {
    "v1": (_TRIXIE,),
    "v2": (
        _TRIXIE,
        f"deb {MIRROR}/debian-security {_SUITE}-security main",
        f"deb {MIRROR}/debian {_SUITE}-updates main",
    ),
}
_PACKAGES = (
    "linux-image-cloud-amd64", "systemd", "openssl", "curl", "perl", "python3", "nginx-light",
    "openssh-server", "sudo", "sqlite3",
)  # fmt: skip
_RECIPE = (
    "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=output/dev",
    # A mirror that is frozen at a date is good enough.
    '--aptopt=Acquire::Check-Valid-Until "false"', f"--include={','.join(_PACKAGES)}", _SUITE,
)  # fmt: skip
_BUILT = "-built"
_CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Pair:
    """An image before and after an upgrade, in every form of layers."""

    name: str
    forms: dict[tuple[str, str], Layout]
    """By version and form: ("v1", "plain")."""

    @property
    def repository(self) -> str:
        return f"os/{self.name}"

    def plain(self) -> dict[str, Layout]:
        """Both images, uncompressed, by REPOSITORY:TAG."""
        return {f"{self.repository}:{each}": self.forms[each, "plain"] for each in VERSIONS}


def pair(name: str) -> Pair:
    """`base` and `server` are the project's own images; `trixie` is Debian 13 in a single layer,
    before and after its security updates. `NAME-built` is NAME in the layers that `bootc-py build`
    makes of it, the second version with `--previous` the first."""
    if name in IMAGES:
        return Pair(
            name,
            {(v, form): build.image(name, v, form) for v in VERSIONS for form in FORMATS},
        )
    if name.endswith(_BUILT):
        source = pair(name.removesuffix(_BUILT))
        builder = [hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.sources()]
        made_of = [builder, [image.diff_ids for image in source.plain().values()]]
        return _cached(name, made_of, partial(_build, source))
    return _cached(_SUITE, [_RECIPE, _SOURCES], _install)


def _cached(name: str, made_of: object, make: Callable[[Path, str], None]) -> Pair:
    """The pair whose versions `make` writes to a directory, as plain tars, one after the other."""

    def every_form(directory: Path) -> None:
        for version in VERSIONS:
            make(directory, version)
            plain = oci.read(directory / version / "plain")
            for form in FORMATS:
                if form != "plain":
                    oci.convert(plain, directory / version / form, form)

    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    place = cache.entry(f"images/{name}-{key}", every_form)
    return Pair(name, {(v, form): oci.read(place / v / form) for v in VERSIONS for form in FORMATS})


def _install(directory: Path, version: str) -> None:
    require("mmdebstrap")
    tar = directory / f"{version}.tar"
    build.run(
        *_RECIPE, str(tar), *_SOURCES[version],
        SOURCE_DATE_EPOCH=str(SOURCE_DATE_EPOCH), INITRD="No", TMPDIR=str(directory),
    )  # fmt: skip
    _layout(directory / version / "plain", version, tar)


def _build(source: Pair, directory: Path, version: str) -> None:
    before = directory / VERSIONS[0] / "plain"
    previous = None if version == VERSIONS[0] else _manifest(oci.read(before))
    reference = parse_reference(source.forms[version, "plain"].reference)
    with (
        Repository.create(directory / "repo", "bare-user") as repo,
        LayoutWriter.open(str(directory / version / "plain"), version) as target,
    ):
        pull(repo, reference, labelled=False)
        image = images.find(repo, reference)
        contents = of_commit(repo, image.checksum)
        rechunk(image, contents, target, created=SOURCE_DATE_EPOCH, previous=previous)
    shutil.rmtree(directory / "repo")


def _manifest(layout: Layout) -> Manifest:
    parsed = parse_document(layout.blob(layout.digest).read_bytes())
    assert isinstance(parsed, Manifest)
    return parsed


def _layout(path: Path, tag: str, tar: Path) -> Layout:
    """The image whose only layer is `tar`, which moves there."""
    path.mkdir(parents=True)
    layer = oci.adopt_blob(path, tar, FORMATS["plain"])
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"containers.bootc": "1", "ostree.bootable": "true"}},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": oci.add_blob(path, json.dumps(config).encode(), _CONFIG),
        "layers": [layer],
    }
    return oci.write(path, tag, manifest)
