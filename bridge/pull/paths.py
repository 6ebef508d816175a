"""Paths of an image as they stand in the store: relative, `/etc` as `usr/etc`; and walking them.

Links are followed inside of the image and by its own geography: above the root is the root, and
above `/etc` is the root too, wherever the store keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge import limits
from bridge.errors import MalformedImage
from bridge.ostree.tree import Tree

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def components(path: str) -> list[str]:
    """Return the parts of a path in an archive; none for the root.

    `MalformedImage` for one that could leave the image, or is too long or too deep.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise MalformedImage(f"path {path!r:.300} has a '..'")
    if len(path) > limits.PATH_MAX or len(parts) > limits.DEPTH_MAX:
        raise MalformedImage(f"path {path!r:.100} is too long or too deep")
    return parts


def mapped(parts: list[str]) -> list[str]:
    """Return where the store keeps what the image has at `parts`."""
    return ["usr", *parts] if parts and parts[0] in ("etc", WHITEOUT + "etc") else parts


def store_path(path: str) -> str:
    """Return a path of the image as it stands in the store; the root is "". `MalformedImage`."""
    return "/".join(mapped(components(path)))


def check_depth(at: str, way: str) -> None:
    """Raise `MalformedImage` where links on `way` led to a directory `at` that is too deep.

    Trees are walked by recursion. What the paths of a layer may be deep themselves comes on top.
    """
    if at.count("/") > limits.DEPTH_MAX:
        raise MalformedImage(
            f"{way!r:.300} leads through links to more than {limits.DEPTH_MAX} levels"
        )


def join(at: str, name: str) -> str:
    """Return the path of `name` in the directory `at`."""
    return f"{at}/{name}" if at else name


def walk(
    root: Tree,
    way: Sequence[str],
    target_of: Callable[[str], str | None],
    make: Callable[[str], Tree] | None,
) -> tuple[Tree | None, str]:
    """Follow `way` from `root`; return the directory that it leads to and its own path.

    `target_of` tells where an object points if it is a symbolic link. `make` gives a directory
    for a path that has none; without it the answer there is None and the path that is left.
    Raises `MalformedImage` for a loop of links and, when making, for a way through a file or to
    where it is too deep.
    """
    trail = [(root, "")]
    todo = list(way[::-1])
    hops = names = 0
    while todo:
        name = todo.pop()
        here, at = trail[-1]
        if name == "..":
            del trail[1 if at == "usr/etc" else max(1, len(trail) - 1) :]
            continue
        if not at and name == "etc":
            todo += ("etc", "usr")
            continue
        below = here.dirs.get(name)
        if below is None:
            link = here.files.get(name)
            target = None if link is None else target_of(link)
            if target is not None:
                parts = [part for part in target.split("/")[::-1] if part not in ("", ".")]
                hops += 1
                names += len(parts)
                if hops > limits.LINK_HOPS_MAX or names > limits.LINK_NAMES_MAX:
                    what = "symbolic links" if hops > limits.LINK_HOPS_MAX else "names behind links"
                    raise MalformedImage(f"{'/'.join(way)!r:.300}: too many {what}")
                if target.startswith("/"):
                    del trail[1:]
                todo += parts
                continue
            if make is None:
                return None, "/".join([join(at, name), *todo[::-1]])
            if link is not None:
                raise MalformedImage(f"{'/'.join(way)!r:.300} leads through a file")
            check_depth(at, "/".join(way))
            below = make(join(at, name))
            here.set_dir(name, below)
        trail.append((below, join(at, name)))
    return trail[-1]
