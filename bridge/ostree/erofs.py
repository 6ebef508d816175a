"""The EROFS image of composefs: a tree's names and metadata, without the content of its files.

Mounted as the lower layer of an overlay it shows the files of a directory of objects: each file is
empty here, and its xattrs say which one it is. The bytes are those that libcomposefs 1.0 writes
for the same tree (format version 0, all times 0), since images are compared by their digest.

Formats: https://erofs.docs.kernel.org/en/latest/core_ondisk.html, and composefs' own writer
(libcomposefs/lcfs-writer-erofs.c), which is what says where everything goes. Little-endian.

    0      composefs' header
    1024   superblock
    1152   inodes, breadth first, each with its xattrs and the end of its data
           xattrs that several inodes share
    N*4096 blocks of directories that did not fit beside their inodes
"""

from __future__ import annotations

import stat
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from bridge.errors import MalformedImage
from bridge.ostree.objects import Xattrs
from bridge.ostree.xxhash32 import xxhash32

_BLOCK = 4096
_SLOT = 32
_SUPERBLOCK_AT = 1024
_INODES_AT = 1152

_HEADER = struct.Struct("<IIII16x")
_MAGIC, _IMAGE_VERSION, _FORMAT_VERSION, _HAS_ACL = 0xD078629A, 1, 0, 1
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sI44x")
_EROFS_MAGIC = 0xE0F5E1E2
_FEATURES = 0x2 | 0x4  # mtime, xattr filter
_COMPACT = struct.Struct("<HHHHI4xIIHH4x")
_EXTENDED = struct.Struct("<HHH2xQIIIIQII16x")
_FLAT, _INLINE, _CHUNKS = 0, 2, 4
_DIRENT = struct.Struct("<QHBx")
_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3, stat.S_IFLNK: 7}
_CHUNK_BITS = 12
_FILE_MAX = 1 << _CHUNK_BITS + 31
"""What one chunk may have; a hole, here."""
_HOLE = b"\xff\xff\xff\xff"

_XATTRS = struct.Struct("<IB7x")
_XATTR = struct.Struct("<BBH")
_PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)
_ACLS = frozenset({b"system.posix_acl_access", b"system.posix_acl_default"})
_FILTER_SEED = 0x25BBE08F
_SHARED_MAX = 128
_XATTRS_MAX = 0xFFFF // 2
"""libcomposefs' limit on the xattrs of one inode, names and all."""

_OVERLAY = b"trusted.overlay."
_ESCAPED = b"trusted.overlay.overlay."
_METACOPY = struct.Struct("<BBBB32s")


@dataclass(slots=True, eq=False)
class Node:
    """A directory, a symbolic link (with `target`), or a regular file of `size` bytes.

    What a file that is not empty contains is at `target` in the directory of objects; `digest` is
    its fs-verity digest, where reading is to depend on that. `mode` has the file type's bits.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    xattrs: Xattrs = ()
    size: int = 0
    target: bytes = b""
    digest: bytes | None = None
    children: dict[bytes, Node] = field(default_factory=dict)
    """Of a directory, by name: neither `.` nor `..`."""


def image(root: Node) -> Iterator[bytes]:
    """Yield the image of the tree below `root` in pieces, of which none is large.

    The tree is not changed. `MalformedImage` where it cannot be in such an image.
    """
    return _Image(root).pieces()


@dataclass(slots=True, eq=False)
class _Inode:
    """What an inode of the image is to be, and where."""

    mode: int
    uid: int
    gid: int
    xattrs: Xattrs
    links: int = 1
    size: int = 0
    names: Sequence[tuple[bytes, _Inode]] = ()
    """A directory's entries, sorted."""
    tail: bytes = b""
    """What stands behind the inode, but for a directory, where it is made of the last names."""
    shared: int = 0
    """So many of the first of `ordered` are not here, but with those that inodes share."""
    ordered: Xattrs = ()
    xattrs_size: int = 0
    padding: int = 0
    at: int = 0
    blocks: int = 0
    tail_size: int = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def nid(self) -> int:
        return self.at // _SLOT


class _Image:
    def __init__(self, root: Node) -> None:
        self._inodes = _flattened(root)
        self._shared, self._shared_end = _share_xattrs(self._inodes)
        position = _INODES_AT
        for each in self._inodes:
            position = _place(each, position)
        self._inodes_end = _up(position, _SLOT)
        self._blocks_at = _up(self._inodes_end + self._shared_end, _BLOCK)

    def pieces(self) -> Iterator[bytes]:
        acls = any(key in _ACLS for each in self._inodes for key, _ in each.xattrs)
        header = _HEADER.pack(_MAGIC, _IMAGE_VERSION, _HAS_ACL if acls else 0, _FORMAT_VERSION)
        yield header.ljust(_SUPERBLOCK_AT, b"\0")
        blocks = self._blocks_at // _BLOCK
        yield _SUPERBLOCK.pack(
            *(_EROFS_MAGIC, 0, _FEATURES, _BLOCK.bit_length() - 1, 0, self._inodes[0].nid),
            *(len(self._inodes), 0, 0, blocks + sum(each.blocks for each in self._inodes)),
            *(0, self._inodes_end // _BLOCK, b"", b"", 0),
        )
        position = _INODES_AT
        for number, each in enumerate(self._inodes):
            data = b"".join((bytes(each.padding), *self._inode(each, number, blocks)))
            yield data
            position += len(data)
            blocks += each.blocks
        yield bytes(self._inodes_end - position)
        yield from (_xattr(key, value) for key, value in self._shared)
        yield bytes(self._blocks_at - self._inodes_end - self._shared_end)
        for each in self._inodes:
            if each.is_directory:
                for names in _split(each.names)[: each.blocks]:
                    yield _dirents(names).ljust(_BLOCK, b"\0")

    def _inode(self, each: _Inode, number: int, block: int) -> Iterator[bytes]:
        layout, data = _INLINE if each.tail_size else _FLAT, block if each.blocks else 0
        size = each.size
        if stat.S_ISREG(each.mode) and size:
            layout, data = _CHUNKS, max((size - 1).bit_length() - _CHUNK_BITS, 0)
        count = (each.xattrs_size - _XATTRS.size) // 4 + 1 if each.xattrs_size else 0
        if _is_compact(each):
            yield _COMPACT.pack(
                *(layout << 1, count, each.mode, each.links, size, data, number),
                *(each.uid, each.gid),
            )
        else:
            yield _EXTENDED.pack(
                *(layout << 1 | 1, count, each.mode, size, data, number),
                *(each.uid, each.gid, 0, 0, each.links),
            )
        if each.ordered:
            yield _XATTRS.pack(_filter(each.ordered), each.shared)
            here = self._inodes_end % _BLOCK
            for pair in each.ordered[: each.shared]:
                yield ((here + self._shared[pair]) // 4).to_bytes(4, "little")
            yield from (_xattr(key, value) for key, value in each.ordered[each.shared :])
        if each.is_directory and each.tail_size:
            yield _dirents(_split(each.names)[-1])
        else:
            yield each.tail


# -- from the tree to inodes -----------------------------------------------------------------


def _flattened(root: Node) -> list[_Inode]:
    """Return the inodes of the tree, and of what the root of an overlay's lower layer needs."""
    top = _converted(root)
    top.xattrs = tuple(sorted((*top.xattrs, (_OVERLAY + b"opaque", b"y"))))
    label = tuple(pair for pair in root.xattrs if pair[0] == b"security.selinux")
    # What is at these names in the directory of objects is hidden.
    hidden = {
        b"%02x" % number: _Inode(stat.S_IFCHR | 0o644, root.uid, root.gid, label)
        for number in range(256)
    }
    inodes, nodes = [top], [root]
    parents = {id(top): top}
    for inode, node in zip(inodes, nodes, strict=True):  # both grow meanwhile
        if not inode.is_directory:
            continue
        entries = dict(hidden) if inode is top else {}
        below = {}
        for name, child in node.children.items():
            entries[name] = below[name] = _converted(child)
        inode.links = 2 + sum(each.is_directory for each in below.values())
        for name in sorted(entries):
            inodes.append(entries[name])
            nodes.append(node.children.get(name) or _NOTHING)
            if entries[name].is_directory:
                parents[id(entries[name])] = inode
        entries[b"."], entries[b".."] = inode, parents.pop(id(inode))
        inode.names = sorted(entries.items(), key=lambda entry: entry[0])
    return inodes


_NOTHING = Node(stat.S_IFCHR)


def _converted(node: Node) -> _Inode:
    kind = stat.S_IFMT(node.mode)
    xattrs = {
        _ESCAPED + key[len(_OVERLAY) :] if key.startswith(_OVERLAY) else key: value
        for key, value in node.xattrs
    }
    inode = _Inode(node.mode, node.uid, node.gid, ())
    if kind == stat.S_IFLNK:
        inode.tail = node.target
        inode.size = len(node.target)
    elif kind == stat.S_IFREG and node.size:
        inode.size = node.size
        if node.size > _FILE_MAX:
            raise MalformedImage(f"a file of {node.size} bytes is too large for composefs")
        inode.tail = _HOLE
        xattrs[_OVERLAY + b"metacopy"] = (
            _METACOPY.pack(0, _METACOPY.size, 0, 1, node.digest) if node.digest else b""
        )
        xattrs[_OVERLAY + b"redirect"] = b"/" + node.target
    elif kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise MalformedImage(f"a file of mode {node.mode:o} cannot be in a composefs image")
    taken = sum(2 * _XATTR.size - 1 + len(key) + len(value) for key, value in xattrs.items())
    if taken + _XATTRS.size > _XATTRS_MAX and xattrs:
        raise MalformedImage(f"xattrs of {taken} bytes on one file are too large for composefs")
    inode.xattrs = tuple(sorted(xattrs.items()))
    return inode


def _share_xattrs(inodes: list[_Inode]) -> tuple[dict[tuple[bytes, bytes], int], int]:
    """Have inodes share the xattrs that several of them have; return where each of those lies,
    from the first one on, and where they end."""
    count = Counter(pair for each in inodes for pair in each.xattrs)
    shared, end = {}, 0
    for pair in sorted(
        (pair for pair, times in count.items() if times > 1),
        key=lambda pair: (pair[0], len(pair[1]), pair[1]),
        reverse=True,
    ):
        shared[pair] = end
        end += len(_xattr(*pair))
    for each in inodes:
        if each.xattrs:
            there = [pair for pair in each.xattrs if pair in shared][:_SHARED_MAX]
            here = [pair for pair in each.xattrs if pair not in there]
            each.shared, each.ordered = len(there), (*there, *here)
            size = _XATTRS.size + 4 * len(there) + sum(len(_xattr(*pair)) for pair in here)
            each.xattrs_size = size
    return shared, end


def _place(each: _Inode, position: int) -> int:
    """Say where an inode goes, the first free byte being at `position`; return where it ends.

    No tail crosses a block's end. One that has no place beside its inode gets a block.
    """
    each.tail_size = len(each.tail)
    if each.is_directory:
        blocks = _split(each.names)
        each.blocks, each.tail_size = len(blocks) - 1, _dirents_size(blocks[-1])
        if each.tail_size > _BLOCK // 2:
            each.blocks, each.tail_size = len(blocks), 0
        each.size = each.blocks * _BLOCK + each.tail_size
    head = (_COMPACT if _is_compact(each) else _EXTENDED).size + each.xattrs_size
    at = _up(position, _SLOT)
    if stat.S_ISLNK(each.mode):
        # All of it is in one block.
        if head + each.tail_size >= _BLOCK:
            raise MalformedImage(f"a link to {each.size} bytes is too long for composefs")
        if at // _BLOCK != (at + head + each.tail_size - 1) // _BLOCK:
            at = _up(at, _BLOCK)
    else:
        room = _BLOCK - (at + head) % _BLOCK
        if room < each.tail_size:
            further = at + _up(room, _SLOT)
            if each.tail_size <= _BLOCK - (further + head) % _BLOCK:
                at = further
            else:
                at, each.tail, each.tail_size = _up(at, _BLOCK), b"", 0
                each.blocks += 1
                if each.is_directory:
                    each.size = each.blocks * _BLOCK
    each.padding, each.at = at - position, at
    return at + head + each.tail_size


def _is_compact(each: _Inode) -> bool:
    return max(each.uid, each.gid, each.links) <= 0xFFFF and each.size <= 0xFFFFFFFF


# -- parts -----------------------------------------------------------------------------------


def _split(names: Sequence[tuple[bytes, _Inode]]) -> list[Sequence[tuple[bytes, _Inode]]]:
    """Divide a directory's entries into blocks."""
    first, size, blocks = 0, 0, []
    for number, (name, _) in enumerate(names):
        length = _DIRENT.size + len(name)
        if size + length > _BLOCK:
            blocks.append(names[first:number])
            first, size = number, 0
        size += length
    return [*blocks, names[first:]]


def _dirents_size(names: Sequence[tuple[bytes, _Inode]]) -> int:
    return sum(_DIRENT.size + len(name) for name, _ in names)


def _dirents(names: Sequence[tuple[bytes, _Inode]]) -> bytes:
    parts, offset = [], _DIRENT.size * len(names)
    for name, inode in names:
        parts.append(_DIRENT.pack(inode.nid, offset, _TYPES[stat.S_IFMT(inode.mode)]))
        offset += len(name)
    return b"".join((*parts, *(name for name, _ in names)))


@lru_cache(maxsize=1024)
def _indexed(key: bytes) -> tuple[int, bytes]:
    """Return an xattr's name as the number of its beginning, and the rest."""
    for prefix, index in _PREFIXES:
        if key.startswith(prefix):
            return index, key[len(prefix) :]
    return 0, key


def _xattr(key: bytes, value: bytes) -> bytes:
    index, rest = _indexed(key)
    data = _XATTR.pack(len(rest), index, len(value)) + rest + value
    return data.ljust(_up(len(data), 4), b"\0")


@lru_cache(maxsize=1024)
def _filter_bit(key: bytes) -> int:
    index, rest = _indexed(key)
    return 1 << (xxhash32(rest, _FILTER_SEED + index) & 31)


def _filter(xattrs: Xattrs) -> int:
    """Return 32 bits of which one that is set says that certain names are not among these."""
    found = 0
    for key, _ in xattrs:
        found |= _filter_bit(key)
    return 0xFFFFFFFF & ~found


def _up(position: int, to: int) -> int:
    return -(-position // to) * to
