"""Random layers, merged, against a model that applies image-spec `layer.md` to nested dicts."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from support.images import Member
from support.merging import merged
from support.random_layers import LAYERS
from support.trees import nodes

from bridge.errors import MalformedImage
from bridge.ostree.objects import DirMeta
from bridge.ostree.repository import Repository

# -- the model -------------------------------------------------------------------------------


BROKEN = "a hard link to nothing"


class Refused(Exception):
    pass


@dataclass
class Dir:
    mode: int = 0o755
    entry: bool = False
    """Whether the layer has an entry for it, or just passes through."""
    opaque: bool = False
    hidden: set[str] = field(default_factory=set)
    below: dict[str, Node] = field(default_factory=dict)


@dataclass
class Leaf:
    text: str


Node = Dir | Leaf


def enter(root: Dir, parts: list[str]) -> Dir:
    """Return the directory at `parts`, through links, made where there is none."""
    path: list[Dir] = [root]
    todo = parts[::-1]
    for _ in range(200):
        if not todo:
            return path[-1]
        name = todo.pop()
        if name == "..":
            path = path[:-1] or [root]
            continue
        here = path[-1].below.setdefault(name, Dir())
        if isinstance(here, Dir):
            path.append(here)
        elif here.text.startswith("-> "):
            target = here.text[3:]
            if target.startswith("/"):
                path = [root]
            todo += [part for part in target.split("/")[::-1] if part]
        else:
            raise Refused(f"{name} is a file")
    raise Refused("loop")


def literal(root: Dir, parts: list[str]) -> Node | None:
    here: Node | None = root
    for name in parts:
        here = here.below.get(name) if isinstance(here, Dir) else None
    return here


def read_layer(members: list[Member], lower: Dir) -> Dir:
    """Apply a layer's entries, one after the other, to an empty directory."""
    root = Dir()
    for member in members:
        *way, name = member.path.split("/")
        parent = enter(root, way)
        if name == ".wh..wh..opq":
            parent.opaque = True
        elif name.startswith(".wh."):
            parent.hidden.add(name[4:])
        elif member.kind == b"5":
            made = parent.below.get(name)
            if not isinstance(made, Dir):
                made = parent.below[name] = Dir()
            made.mode, made.entry = member.mode, True
        elif member.kind == b"2":
            parent.below[name] = Leaf(f"-> {member.target}")
        elif member.kind == b"1":
            if member.target == member.path:
                raise Refused("to itself")
            parts = member.target.split("/")
            found = literal(root, parts) or literal(lower, parts)
            if isinstance(literal(root, parts), Dir):
                raise Refused("to a directory")
            # A link to nothing does no harm where something else takes its place.
            parent.below[name] = found if isinstance(found, Leaf) else Leaf(BROKEN)
        else:
            parent.below[name] = Leaf(member.data.decode())
    if BROKEN in show(root).values():
        raise Refused("no such file")
    return root


def put_on(lower: Dir, upper: Dir, root: Dir) -> None:
    if upper.opaque:
        lower.below.clear()
    for name in upper.hidden:
        lower.below.pop(name, None)
    leaves = {name: node for name, node in upper.below.items() if isinstance(node, Leaf)}
    lower.below |= leaves
    for name, node in sorted(upper.below.items(), key=lambda item: item[0]):
        if isinstance(node, Leaf):
            continue
        there = lower.below.get(name)
        if isinstance(there, Leaf) and there.text.startswith("-> ") and not node.entry:
            there = enter(root, [name])  # links are made at the root only, below
        if not isinstance(there, Dir):
            there = lower.below[name] = Dir(node.mode)
        elif node.entry:
            there.mode = node.mode
        put_on(there, node, root)


def model(layers: list[list[Member]]) -> dict[str, str]:
    root = Dir()
    for members in layers:
        layer = read_layer(members, copy.deepcopy(root))
        put_on(root, layer, root)
    return show(root)


def show(node: Dir, at: str = "") -> dict[str, str]:
    shown = {}
    for name, each in node.below.items():
        shown[at + name] = each.text if isinstance(each, Leaf) else f"dir {each.mode:o}"
        if isinstance(each, Dir):
            shown |= show(each, f"{at}{name}/")
    return shown


# -- against ours ----------------------------------------------------------------------------


def ours(layers: list[list[Member]]) -> dict[str, str]:
    with (
        tempfile.TemporaryDirectory() as path,
        Repository.create(Path(path) / "repo", "bare-user") as repo,
    ):
        found = nodes(repo, merged(repo, *layers))
    shown = {}
    for name, (meta, content) in found.items():
        if isinstance(meta, DirMeta):
            shown[name] = f"dir {meta.mode & 0o7777:o}"
        else:
            shown[name] = f"-> {meta.target}" if meta.is_symlink else content.decode()
    del shown[""]
    return shown


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LAYERS)
def test_random_layers_merge_as_the_model_says(layers: list[list[Member]]) -> None:
    try:
        expected = model(layers)
    except Refused as reason:
        try:
            found = ours(layers)
        except MalformedImage:
            return
        raise AssertionError(f"accepted, but {reason}: {found}") from None
    assert ours(layers) == expected
