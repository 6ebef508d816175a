"""A case: an image and what must become of it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.ostree.objects import DirMeta, FileMeta
from support.crafted.blocks import archive
from support.images import Image, Member, image
from support.trees import Node

HOST = f"/var/tmp/bootc-py-host-{os.getpid()}"
"""Where tests lay out a piece of host, for images that try to reach it. Absolute."""
SECRET = b"the host's own, which no image may read\n"
"""What its files hold."""

Layer = Sequence[Member | bytes] | bytes
Tree = Mapping[str, tuple[Node, bytes]]
Shorthand = str | bytes | tuple[Node, bytes]
"""A file's content, `dir`, `-> target`, or all there is to say."""


@dataclass(frozen=True)
class Case:
    """One image. Which outcome it must have, `code` tells: 0 is a tree."""

    make: Callable[[], Image]
    code: int = 0
    tree: Tree = field(default_factory=dict)
    """Everything there is, by its path in the store; the root is ""."""
    dropped: tuple[tuple[str, str], ...] = ()
    """Path and reason of what is left out, sorted."""
    phrase: str = ""
    """A pattern in the error's line."""
    verified: bool = False
    """Refused as an image, of layers that are each in order: those stay, until a prune."""
    engines: str = ""
    """Why umoci gives another tree, where it does."""
    unpublishable: str = ""
    """Why no registry would take it, where none would."""

    @property
    def legal(self) -> bool:
        return self.code == 0


def count_layers(made: Image) -> int:
    """Return how many layers an image's manifest has, if it is one at all."""
    try:
        document = json.loads(made.manifest)
        return len(document["layers"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return 0


def legal(
    layers: Sequence[Layer],
    tree: Mapping[str, Shorthand],
    dropped: Sequence[tuple[str, str]] = (),
    engines: str = "",
    **how: Any,
) -> Case:
    """Return a case of layers that give `tree`; its implied directories need not be named."""
    return Case(
        lambda: build(layers, **how),
        tree=complete(tree),
        dropped=tuple(sorted(dropped)),
        engines=engines,
    )


def refused(
    layers: Sequence[Layer], phrase: str, code: int = 7, verified: bool = False, **how: Any
) -> Case:
    """Return a case of layers that end with exit code `code` and a line that matches `phrase`."""
    re.compile(phrase)
    return Case(lambda: build(layers, **how), code, phrase=phrase, verified=verified)


def build(layers: Sequence[Layer], **how: Any) -> Image:
    """Return the image of layers that are entries and raw blocks, or whole tar streams."""
    streams = [each if isinstance(each, bytes) else archive(each) for each in layers]
    return image(*streams, **how)


def complete(tree: Mapping[str, Shorthand]) -> Tree:
    """Return the tree in full: every path's metadata, and the directories on the way to it."""
    full: dict[str, tuple[Node, bytes]] = {"": d()}
    for path, what in tree.items():
        parent = path
        while parent := parent.rpartition("/")[0]:
            full.setdefault(parent, d())
        full[path] = _full(what)
    return full


def _full(what: Shorthand) -> tuple[Node, bytes]:
    if isinstance(what, tuple):
        return what
    if what == "dir":
        return d()
    if isinstance(what, str) and what.startswith("-> "):
        return ln(what.removeprefix("-> "))
    return f(what)


def f(
    content: str | bytes = b"",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    xattrs: Mapping[str, str | bytes] | None = None,
) -> tuple[Node, bytes]:
    """Return a file of a tree."""
    content = content if isinstance(content, bytes) else content.encode()
    return FileMeta(uid, gid, stat.S_IFREG | mode, _xattrs(xattrs)), content


def d(
    mode: int = 0o755, uid: int = 0, gid: int = 0, xattrs: Mapping[str, str | bytes] | None = None
) -> tuple[Node, bytes]:
    """Return a directory of a tree."""
    return DirMeta(uid, gid, stat.S_IFDIR | mode, _xattrs(xattrs)), b""


def ln(
    target: str, uid: int = 0, gid: int = 0, xattrs: Mapping[str, str | bytes] | None = None
) -> tuple[Node, bytes]:
    """Return a symbolic link of a tree."""
    return FileMeta(uid, gid, stat.S_IFLNK | 0o777, _xattrs(xattrs), target), b""


def _xattrs(given: Mapping[str, str | bytes] | None) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        sorted(
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in (given or {}).items()
        )
    )
