"""The tree of layers as one view, for who reads package databases: their files, and no others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from bridge.compare.layer import LayerFacts
from bridge.compare.spool import Spool
from bridge.compare.tree import Spot
from bridge.contents.contents import Contents, Node
from bridge.errors import MalformedImage, VerificationFailed
from bridge.layer.blob_index import File
from bridge.layer.pieces import unpack, unpacked
from bridge.limits import PIECE_HELD_MAX
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.pull.coalesce import coalesce, joined
from bridge.pull.source import Parts, Source

_DATABASE = re.compile(
    r"(?:\./)?/*(?:var/lib/dpkg|usr/lib/sysimage/dpkg)/"
    r"(?:status|diversions|status\.d/[^/]+|info/[^/]+\.list)"
    r"|(?:\./)?/*(?:usr/share|usr/lib/sysimage|var/lib)/rpm/"
    r"(?:rpmdb\.sqlite|Packages\.db|Packages)(?:-wal)?"
)
"""What is read of dpkg's and rpm's databases."""
_CHANGELOG = re.compile(r"usr/share/doc/[^/]+/changelog[^/]*")


def is_database(path: str) -> bool:
    """Tell whether a file, by its path in an archive, is needed to tell what is installed."""
    return _DATABASE.fullmatch(path) is not None


class View(Contents):
    """All that a tree has, but for changelogs: of interest to nobody here, and far away.

    Content is that of package databases, which has to be in `spool`: see `fetch`.
    """

    def __init__(self, tree: Sequence[tuple[str, Spot]], spool: Spool) -> None:
        self._spool = spool
        self._digests = {path: spot.item.digest for path, spot in tree}
        self.nodes = {
            path: _node(path, spot) for path, spot in tree if not _CHANGELOG.fullmatch(path)
        }

    def chunks(self, node: Node) -> Iterator[bytes]:
        try:
            return self._spool.chunks(self._digests[node.path])
        except KeyError:
            raise MalformedImage(f"the content of {node.path!r:.300} was not read") from None


def _node(path: str, spot: Spot) -> Node:
    entry = spot.item.entry
    return Node(
        path, entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime, entry.target,
        entry.xattrs, "",
    )  # fmt: skip


Way = Callable[[Digest], tuple[Source, Descriptor] | None]
"""Tells where a blob can be had."""


def fetch(
    facts: Sequence[LayerFacts], tree: Sequence[tuple[str, Spot]], spool: Spool, way: Way
) -> None:
    """Bring the package databases of a tree into the spool: those parts of blobs, by range.

    `facts` are of the tree's layers. Raises what a source raises, `VerificationFailed` for a piece
    that has not the digest that the table of contents gives, `MalformedImage` for one that is none.
    """
    wanted: dict[int, list[File]] = {}
    for path, spot in tree:
        file = spot.item.file
        if file is not None and is_database(path) and file.digest not in spool:
            wanted.setdefault(spot.layer, []).append(file)
    for number, files in wanted.items():
        index, blob = facts[number].index, facts[number].blob
        found = way(blob) if blob is not None else None
        if found is None or index is None:
            continue
        source, layer = found
        places = joined(sorted((each.start, each.end) for file in files for each in file.pieces))
        [ranges] = coalesce([places], source.link)
        with source.parts(layer, ranges, source.meter) as parts:
            for file in files:
                if file.digest not in spool:
                    size = spool.write(_content(file, parts, index.compression))
                    spool.keep(file.digest, size)
        source.done(layer)


def _content(file: File, parts: Parts, compression: str) -> Iterator[bytes]:
    for piece in file.pieces:
        packed = parts.read(piece.start, piece.end)
        if piece.size <= PIECE_HELD_MAX:
            chunks: Iterable[bytes] = [unpack(packed, piece.size, compression)]
        else:
            chunks = unpacked([packed], piece.size, compression)
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
            yield chunk
        if digest.digest() != piece.digest:
            raise VerificationFailed(
                f"{file.path!r:.300}: a piece of it is not what its layer's table of contents says"
            )
