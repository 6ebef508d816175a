"""Writing a layer: the tar stream of some of an image's nodes.

Equal nodes make equal bytes: names in order, times all zero (a deployed file's is too, and a file
that was only made again is no change), directories on the way as the image has them, so that each
layer is good alone. Names of one file are hard links to the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.build.components import COMPONENT, INTERVAL
from bridge.contents.contents import Contents, Node
from bridge.errors import DamagedRepository
from bridge.layer.go_header import GoHeader, render
from bridge.layer.header import BLOCK, ZERO_BLOCK
from bridge.layer.tar import EntryType

_FLAGS = {
    EntryType.FILE: b"0",
    EntryType.HARDLINK: b"1",
    EntryType.SYMLINK: b"2",
    EntryType.DIRECTORY: b"5",
}
_OF_THE_BUILD = (COMPONENT, INTERVAL)


def stream(contents: Contents, nodes: Iterable[Node]) -> Iterator[bytes]:
    """Yield the tar stream of a layer with these nodes, which are files, links and directories."""
    wanted = {node.path: node for node in nodes}
    for path in list(wanted):
        while path:
            path = path.rpartition("/")[0]
            if path in wanted:
                break
            if path:
                wanted[path] = contents.nodes[path]
    first: dict[str, str] = {}
    for path in sorted(wanted, key=lambda each: each.split("/")):
        node = wanted[path]
        same = first.setdefault(node.key, path) if node.is_file and node.size else path
        if same != path:
            yield _header(node, EntryType.HARDLINK, same)
            continue
        yield _header(node, node.type, node.target)
        if node.is_file:
            yield from _payload(contents, node)
    yield ZERO_BLOCK * 2


def _header(node: Node, kind: EntryType, target: str) -> bytes:
    is_file = kind is EntryType.FILE
    return render(
        GoHeader(
            name=node.path + ("/" if kind is EntryType.DIRECTORY else ""),
            type_flag=_FLAGS[kind],
            mode=node.mode,
            uid=node.uid,
            gid=node.gid,
            size=node.size if is_file else 0,
            mtime=0,
            target=target,
            xattrs=()
            if kind is EntryType.HARDLINK
            else tuple(each for each in node.xattrs if each[0] not in _OF_THE_BUILD),
        )
    )


def _payload(contents: Contents, node: Node) -> Iterator[bytes]:
    left = node.size
    for chunk in contents.chunks(node):
        left -= len(chunk)
        yield chunk
    if left:
        raise DamagedRepository(f"{node.path!r:.300} does not have {node.size} bytes any more")
    yield bytes(-node.size % BLOCK)
