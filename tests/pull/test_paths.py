"""Paths and links stay inside of the image, whatever they say."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.ostree.tree import Tree
from bridge.pull.paths import components, mapped, store_path, walk

PARTS = st.sampled_from(["a", "b", "etc", "usr", "..", ".", "", "...", ".wh.a", "\n"])
PATHS = st.lists(PARTS, max_size=8).map("/".join)


@given(PATHS | st.text(max_size=60) | st.integers(250, 260).map(lambda depth: "d/" * depth))
def test_a_path_is_inside_or_refused(path: str) -> None:
    try:
        parts = components(path)
    except MalformedImage as error:
        assert ".." in path.split("/") or len(path.split("/")) > limits.DEPTH_MAX
        assert str(error).isprintable()
        return
    assert not {"", ".", ".."} & set(parts) and not any("/" in part for part in parts)
    assert "/".join(parts) == "/".join(part for part in path.split("/") if part not in ("", "."))
    stored = store_path(path)
    assert stored == "/".join(mapped(parts))
    assert not stored.startswith(("etc/", "/")) and stored != "etc"
    assert store_path(stored) == stored


@st.composite
def trees(draw: st.DrawFn) -> tuple[Tree, dict[str, str]]:
    """Return a tree, and where those of its files point that are symbolic links."""
    targets: dict[str, str] = {}

    def make(depth: int) -> Tree:
        tree = Tree("meta")
        for name in draw(st.sets(st.sampled_from("abcd"), max_size=3)):
            kind = draw(st.integers(0, 3 if depth else 1))
            if kind > 1:
                tree.set_dir(name, make(depth - 1))
                continue
            checksum = f"object-{len(targets)}"
            targets[checksum] = (
                draw(
                    st.lists(
                        st.sampled_from(["..", "a", "b", "c", "", "etc"]), min_size=1, max_size=5
                    ).map("/".join)
                )
                or "/"
            )
            if kind:
                targets[checksum] = ""  # a file
            tree.set_file(name, checksum)
        return tree

    root = make(3)
    if draw(st.booleans()):
        usr = Tree("meta")
        usr.set_dir("etc", make(2))
        root.set_dir("usr", usr)
    return root, targets


@given(trees(), st.lists(st.sampled_from(["a", "b", "c", "d", "etc", "usr"]), max_size=6))
def test_a_walk_ends_at_a_real_directory_of_the_tree(
    made: tuple[Tree, dict[str, str]], way: list[str]
) -> None:
    root, targets = made
    with contextlib.suppress(MalformedImage):
        found, at = walk(root, way, lambda checksum: targets[checksum] or None, None)
        if found is not None:
            assert found is (root.find(at) if at else root)
            assert not {"", ".", ".."} & set(at.split("/")) or not at


@given(trees(), st.lists(st.sampled_from(["a", "b", "c", "d", "etc"]), min_size=1, max_size=6))
def test_what_a_walk_makes_is_at_the_path_it_gives(
    made: tuple[Tree, dict[str, str]], way: list[str]
) -> None:
    root, targets = made
    try:
        found, at = walk(root, way, lambda checksum: targets[checksum] or None, lambda _: Tree("x"))
    except MalformedImage:
        return
    assert found is (root.find(at) if at else root)
    assert "etc" not in root.dirs  # the store has it below usr
