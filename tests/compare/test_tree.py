"""The tree of layers without a store is the one that a pull makes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from support.images import Member, directory, file, hardlink, opaque, symlink, tar, whiteout
from support.merging import merged
from support.random_layers import LAYERS

from bridge.compare.layer import of_stream
from bridge.compare.spool import Spool
from bridge.compare.tree import Tree
from bridge.contents.commit import of_commit
from bridge.errors import MalformedImage
from bridge.layer.allowance import Allowance
from bridge.layer.tar import EntryType
from bridge.ostree.repository import Repository

LINK = EntryType.SYMLINK
Shown = dict[str, tuple[str, int, int, str]]


def ours(layers: Sequence[Sequence[Member]]) -> Shown:
    tree = Tree()
    with Spool() as spool:
        for members in layers:
            stream = [tar(members)]
            allowance = Allowance().layer()
            tree.apply(of_stream(stream, allowance, spool, lambda path: False, pieces=False))
    return {
        path: (each.type.value, each.mode * (each.type is not LINK), each.size, each.target)
        for path, spot in tree.walk()
        for each in [spot.item.entry]
    }


def pulled(layers: Sequence[Sequence[Member]]) -> Shown:
    with (
        tempfile.TemporaryDirectory() as path,
        Repository.create(Path(path) / "repo", "bare-user") as repo,
    ):
        nodes = of_commit(repo, merged(repo, *layers)).nodes
        return {
            path: (node.type.value, node.mode * (not node.is_link), node.size, node.target)
            for path, node in nodes.items()
        }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LAYERS)
def test_random_layers_make_the_tree_that_a_pull_makes(layers: list[list[Member]]) -> None:
    try:
        expected = pulled(layers)
    except MalformedImage:
        with pytest.raises(MalformedImage):
            ours(layers)
        return
    assert ours(layers) == expected


BASE = [
    directory("./"),
    directory("usr/bin"),
    file("usr/bin/sh", b"x" * 100, mode=0o755),
    symlink("bin", "usr/bin"),
    file("etc/passwd", "root"),
    file("etc/gone", "x"),
]


@pytest.mark.parametrize(
    "layers",
    [
        [BASE, [file("bin/tool", "tool", mode=0o4755), whiteout("etc/gone")]],
        [BASE, [hardlink("usr/bin/bash", "usr/bin/sh"), hardlink("z", "usr/bin/bash")]],
        [BASE, [opaque("usr/bin"), file("usr/bin/new", "n")]],
        [BASE, [file("dev/null"), file("run/x", "y"), directory("proc", 0o555), file("tmp/a")]],
        [BASE, [file("etc/hostname"), file("etc/resolv.conf"), file("etc/hosts", "h")]],
        [BASE, [file("sysroot/ostree/repo/x", "y"), file("sysroot/z", "z")]],
        [[symlink("a", "b"), symlink("b", "c"), file("c/d", "e")], [file("a/x", "y")]],
    ],
)
def test_layers_as_they_are_made(layers: list[list[Member]]) -> None:
    assert ours(layers) == pulled(layers)


@pytest.mark.parametrize(
    "members",
    [
        [file("../x", "y")],
        [file("a/../../x", "y")],
        [hardlink("a", "nothing")],
        [hardlink("a", "a")],
        [directory("d"), hardlink("a", "d")],
        [file("f", "x"), file("f/below", "y")],
        [symlink("l", "l"), file("l/x", "y")],
        [file("/".join(["d"] * 300), "deep")],
        [file("./", "the root is a file")],
    ],
)
def test_what_makes_no_tree_is_refused_as_a_pull_refuses_it(members: list[Member]) -> None:
    with pytest.raises(MalformedImage):
        pulled([members])
    with pytest.raises(MalformedImage):
        ours([members])
