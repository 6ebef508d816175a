"""The view itself: nodes by path, links followed inside of the image, content read in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.tar import EntryType


@dataclass(frozen=True, slots=True)
class Node:
    """One name in an image. A hard link is a file like any other name of that file."""

    path: str
    """`usr/bin/ls`: no slash at either end; the root's is empty. What is not UTF-8 in the name of
    a directory's file comes as Python's surrogate escapes; an image's names are UTF-8."""
    type: EntryType
    mode: int
    """Permission bits, within 0o7777."""
    uid: int
    gid: int
    size: int
    """Bytes of a file, else 0."""
    mtime: int | None
    """Seconds since 1970; None in a commit, which has no times."""
    target: str
    """Of a symbolic link, else empty."""
    xattrs: tuple[tuple[bytes, bytes], ...]
    key: str
    """Of files with equal keys content and metadata are equal; empty where that is not known."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_file(self) -> bool:
        return self.type is EntryType.FILE

    @property
    def is_directory(self) -> bool:
        return self.type is EntryType.DIRECTORY

    @property
    def is_link(self) -> bool:
        return self.type is EntryType.SYMLINK


class Contents(ABC):
    """All that there is, as the running system would see it: `/etc` is `etc`, wherever it is
    stored."""

    nodes: Mapping[str, Node]
    """By path, parents before what is in them, names in the order of their code points."""

    def get(self, path: str) -> Node | None:
        """Return what is at `path`, no link followed."""
        return self.nodes.get(path)

    def resolve(self, path: str) -> Node | None:
        """Return what `path` leads to, with links followed, none of them out of the image; None
        where that is nothing, or links lead in circles."""
        waiting = path.split("/")[::-1]
        here = ""
        for _ in range(limits.LINK_HOPS_MAX + 1):
            while waiting:
                part = waiting.pop()
                if part in ("", "."):
                    continue
                if part == "..":
                    here = here.rpartition("/")[0]
                    continue
                node = self.nodes.get(f"{here}/{part}" if here else part)
                if node is None:
                    return None
                if node.is_link:
                    if node.target.startswith("/"):
                        here = ""
                    waiting += node.target.split("/")[::-1]
                    break
                here = node.path
            else:
                return self.nodes.get(here)
        return None

    def children(self, path: str) -> list[Node]:
        """Return what is directly in the directory at `path`, in order."""
        return [self.nodes[name] for name in self._below.get(path, ())]

    @property
    def _below(self) -> dict[str, list[str]]:
        if self._children is None:
            self._children = {}
            for path in self.nodes:
                if path:
                    self._children.setdefault(path.rpartition("/")[0], []).append(path)
        return self._children

    _children: dict[str, list[str]] | None = None

    @abstractmethod
    def chunks(self, node: Node) -> Iterator[bytes]:
        """Yield a file's content in pieces of at most `limits.BLOB_BUFFER` bytes."""

    def read(self, node: Node, limit: int) -> bytes:
        """Return a file's content; `MalformedImage` where that is more than `limit` bytes."""
        if node.size > limit:
            raise MalformedImage(f"{node.path!r:.300} has {node.size} bytes; the limit is {limit}")
        found = bytearray()
        for chunk in self.chunks(node):
            found += chunk
            if len(found) > limit:
                raise MalformedImage(f"{node.path!r:.300} is larger than {limit} bytes")
        return bytes(found)
