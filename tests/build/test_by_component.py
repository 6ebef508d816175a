"""A commit's objects in layers of components."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.encapsulated import Dir, File, store

from bridge.build.by_component import by_component
from bridge.ostree.repository import Repository
from bridge.push.commit_tar import contents
from bridge.push.packing import packed


def component(name: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"user.component", name.encode()),)


SHARED = File(b"licence" * 100)
TREE = Dir(
    {
        "usr": Dir(
            {
                "a": Dir({"one": File(b"1" * 5000), "licence": SHARED}, xattrs=component("a")),
                "b": Dir({"two": File(b"2" * 4000), "licence": SHARED}, xattrs=component("b")),
                "etc": Dir({"b": Dir({"conf": File(b"c")}, xattrs=component("b"))}),
                "empty": Dir(),
            }
        )
    }
)


@pytest.mark.parametrize("budget", [4, 64])
def test_each_component_has_its_objects(tmp_path: Path, budget: int) -> None:
    with Repository.create(tmp_path / "repo", "bare-user") as repo:
        commit = store(repo, TREE)
        found = contents(repo, commit)
        rest, chunks = packed(found, by_component(repo, commit, budget))
        assert len(chunks) <= budget
        assert rest == []
        held = {name: set(own) for chunk, own in chunks for name in chunk.components}
        assert SHARED.checksum in held["a"]
        assert held["a"] == {SHARED.checksum, File(b"1" * 5000).checksum}
        assert held["b"] == {File(b"2" * 4000).checksum, File(b"c").checksum}
