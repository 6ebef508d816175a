"""Crafted images (`tests/support/crafted`) in a registry, and the trees they must give."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping

import requests
from support.crafted import KINDS
from support.crafted.case import Case, Tree
from support.images import Image, descriptor, dumps

from bridge.ostree.objects import DirMeta
from rig.reference import Record
from rig.registry import Registry

_SECONDS = 60
EVERY = "BOOTC_PY_CRAFTED"
"""Set to `all` in the environment, all crafted images are run; otherwise some of each kind."""


# Where umoci 0.4 gives another tree, or none; what a case itself says is in its `engines`.
UMOCI = {
    r"compression: .*zstd.*|compression: all three|digests: .*packed differently": "it has no zstd",
    r"compression: gzip with zeros behind": "it wants nothing behind the last member",
    r"sparse: .*old GNU|sparse: .*sparse file.*": "it has no old GNU sparse files",
    r"headers: a contiguous file": "it knows no contiguous files",
    r"pax: a global .*": "it knows no global headers",
    r"paths: 4,096 bytes": "it joins the path to its own, which is then too long",
    r"documents: a time (that is none|beyond time)": "it wants a time that is one",
    r"merging: linked parent: over a lower file": "it does not replace the file",
    r"merging: whiteout: in a (directory that is not there|hidden directory)": (
        "it does not make the directory that the layer has the whiteout in"
    ),
    r"merging: replaced: a whiteout in a replaced directory counts no more": (
        "it goes by the order of the entries"
    ),
    r"merging: hard link: to what is hidden, without its directory": "it removes the file first",
    r"merging: linked parent: above the root, within a layer": "/tmp is mounted over",
    r"merging: linked parent: one path by two names, against .*": "it goes by the archive's order",
    r"merging: place: (a repository inside of the image|mount points stay, also as links)": (
        "a store keeps neither"
    ),
}


def agrees(name: str, case: Case) -> bool:
    """Tell whether umoci should unpack the tree that the case gives."""
    return not case.engines and not any(re.fullmatch(pattern, name) for pattern in UMOCI)


def some(legal: bool, most: int) -> dict[str, Case]:
    """At most so many cases of each kind, evenly spread over it; all if the environment says so."""
    chosen = {}
    for kind, cases in KINDS.items():
        names = [name for name, case in cases.items() if case.legal is legal]
        step = 1.0 if os.environ.get(EVERY) == "all" else max(1.0, len(names) / most)
        picked = dict.fromkeys(names[int(n * step)] for n in range(int(len(names) / step)))
        chosen |= {f"{kind}: {name}": cases[name] for name in picked}
    return chosen


class Publisher:
    """Puts images into one repository of a registry, byte for byte, by the registry's API."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self._base = f"{registry.url}/v2/{repository}"
        self._session = requests.Session()
        self._there: set[str] = set()

    def put(self, image: Image, tag: str) -> None:
        """Uploads what is not there yet of `image`, and tags it."""
        document = json.loads(image.manifest)
        below = {each["digest"]: each["mediaType"] for each in document.get("manifests", ())}
        for digest, data in image.blobs.items():
            if digest not in self._there and digest not in below:
                self._put_blob(digest, data)
            self._there.add(digest)
        for digest, media_type in below.items():
            self._put_manifest(digest, image.blobs[digest], media_type)
        self._put_manifest(tag, image.manifest, image.media_type)

    def _put_blob(self, digest: str, data: bytes) -> None:
        start = self._session.post(f"{self._base}/blobs/uploads/", timeout=_SECONDS)
        place = requests.compat.urljoin(start.url, start.headers["Location"])
        done = self._session.put(place, params={"digest": digest}, data=data, timeout=_SECONDS)
        assert done.status_code == 201, done.text

    def _put_manifest(self, name: str, data: bytes, media_type: str) -> None:
        done = self._session.put(
            f"{self._base}/manifests/{name}",
            data=data,
            headers={"Content-Type": media_type},
            timeout=_SECONDS,
        )
        assert done.status_code == 201, done.text


def records(tree: Tree) -> dict[str, Record]:
    """A case's tree as the peers tell theirs."""
    found = {}
    for path, (meta, content) in tree.items():
        is_directory = isinstance(meta, DirMeta)
        is_link = not is_directory and meta.is_symlink
        is_file = not (is_directory or is_link)
        found[f"/{path}"] = Record(
            kind="directory" if is_directory else "symlink" if is_link else "file",
            mode=meta.mode & 0o7777,
            uid=meta.uid,
            gid=meta.gid,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest() if is_file else "",
            target="" if isinstance(meta, DirMeta) else meta.target,
            xattrs=tuple((name.decode(), value) for name, value in meta.xattrs),
        )
    return found


def with_parents(found: Mapping[str, Record]) -> dict[str, Record]:
    """The records, and a plain directory for every parent that has none."""
    full = dict(found)
    for path in found:
        while (path := path.rpartition("/")[0]) and path not in full:
            full[path] = Record("directory", 0o755, 0, 0)
    return full


def stacked(lower: Image, upper: Image) -> Image:
    """The image with the layers of both."""
    documents = [each.document for each in (lower, upper)]
    configs = [
        json.loads(each.blobs[document["config"]["digest"]])
        for each, document in zip((lower, upper), documents, strict=True)
    ]
    configs[0]["rootfs"]["diff_ids"] += configs[1]["rootfs"]["diff_ids"]
    raw = dumps(configs[0])
    config = descriptor(raw, documents[0]["config"]["mediaType"])
    blobs = {**lower.blobs, **upper.blobs, config["digest"]: raw}
    layers = documents[0]["layers"] + documents[1]["layers"]
    return Image(dumps(documents[0] | {"config": config, "layers": layers}), blobs)
