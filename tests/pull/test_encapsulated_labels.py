"""Encapsulated commits with an SELinux policy: whose labels count, and that they are there once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from support.encapsulated import LABEL, Dir, File, as_image, encapsulated
from support.images import Image, file, write_layout
from support.trees import nodes

from bridge.oci.reference import parse_reference
from bridge.ostree.fsck import fsck
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import COMMIT_KEY
from bridge.pull.pull import pull
from bridge.pull.repair import repair
from bridge.pull.report import TransferReport

MODES = ("bare", "bare-user", "archive")
CONTEXTS = b"/.*  s:o:default_t:s0\n/usr/bin(/.*)?  s:o:bin_t:s0\n"
TOOL = File(b"tool" * 3000, 0o4755, xattrs=((b"user.k", b"v"),))


def tree(label: str | None) -> Dir:
    """A tree with a policy, each file and directory of it with that label."""
    own = () if label is None else ((LABEL, f"s:o:{label}:s0".encode() + b"\0"),)

    def labelled(each: File | Dir) -> File | Dir:
        xattrs = tuple(sorted((*each.xattrs, *own)))
        if isinstance(each, Dir):
            return Dir({n: labelled(e) for n, e in each.entries.items()}, each.mode, xattrs)
        return replace(each, xattrs=xattrs)

    config = File(b"SELINUX=enforcing\nSELINUXTYPE=test\n")
    files = Dir({"file_contexts": File(CONTEXTS)})
    policy = Dir({"config": config, "test": Dir({"contexts": Dir({"files": files})})})
    bare = Dir(
        {
            "usr": Dir(
                {
                    "bin": Dir({"tool": TOOL, "link": File(target="tool")}),
                    "lib": Dir({"empty": File()}),
                    "etc": Dir({"selinux": policy}),
                }
            )
        }
    )
    made = labelled(bare)
    assert isinstance(made, Dir)
    return made


def labels(repo: Repository, commit: str) -> Mapping[str, str | None]:
    found = {}
    for path, (meta, _content) in nodes(repo, commit).items():
        names = [name for name, _ in meta.xattrs]
        assert names == sorted(set(names))
        value = dict(meta.xattrs).get(LABEL)
        found[path] = None if value is None else value.decode().split(":")[2]
    return found


def pulled(repo: Repository, made: Image, tmp_path: Path, **options: bool) -> TransferReport:
    name = f"oci:{write_layout(tmp_path / made.digest.hex, made)}:latest"
    return pull(repo, parse_reference(name), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_labels_of_the_build_stay(tmp_path: Path, mode: str) -> None:
    made = encapsulated(tree("odd_t"))
    with Repository.create(tmp_path / "repo", mode) as repo:
        done = pulled(repo, as_image(made.whole(), last=0), tmp_path)
        assert set(labels(repo, done.commit).values()) == {"odd_t"}
        assert repo.read_commit(done.commit).metadata[COMMIT_KEY] == "test"
        assert done.content_checksum == repo.read_commit(made.commit).content_checksum


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", ["odd_t", "bin_t", None])
def test_with_layers_on_top_all_is_labelled_anew(
    tmp_path: Path, mode: str, label: str | None
) -> None:
    made = encapsulated(tree(label))
    top = [file("usr/bin/new", b"new")]
    with Repository.create(tmp_path / "repo", mode) as repo:
        done = pulled(repo, as_image(made.whole(), top, last=0), tmp_path)
        found = labels(repo, done.commit)
        binary = {path for path in found if path.startswith("usr/bin")}
        assert {"usr/bin/new", "usr/bin/tool", "usr/bin/link"} < binary
        assert {path: kind for path, kind in found.items() if kind != "default_t"} == dict.fromkeys(
            binary, "bin_t"
        )
        assert nodes(repo, done.commit)["usr/bin/tool"][1] == TOOL.data
        assert set(labels(repo, made.commit).values()) == {label}
        assert fsck(repo).faults == ()
        again = pulled(repo, as_image(made.whole(), top, last=0), tmp_path)
        assert (again.commit, again.store.new_objects) == (done.commit, 0)


def test_labels_are_one_function_of_the_image(tmp_path: Path) -> None:
    made = encapsulated(tree("odd_t"))
    commits = set()
    for mode in MODES:
        with Repository.create(tmp_path / mode, mode) as repo:
            image = as_image(made.whole(), [file("usr/bin/new", b"new")], last=0)
            commits.add(pulled(repo, image, tmp_path).commit)
    assert len(commits) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_commit_without_labels_gets_those_of_its_policy(tmp_path: Path, mode: str) -> None:
    """As ostree-ext does it; the commit itself stays what it is."""
    made = encapsulated(tree(None))
    with Repository.create(tmp_path / "repo", mode) as repo:
        done = pulled(repo, as_image(made.whole(), last=0), tmp_path)
        assert labels(repo, done.commit)["usr/bin/tool"] == "bin_t"
        assert set(labels(repo, made.commit).values()) == {None}


@pytest.mark.parametrize("label", ["odd_t", None])
def test_without_labels_on_purpose(repo: Repository, tmp_path: Path, label: str | None) -> None:
    made = encapsulated(tree(label))
    done = pulled(repo, as_image(made.whole(), last=0), tmp_path, labelled=False)
    assert repo.read_commit(done.commit).metadata[COMMIT_KEY] == ""
    assert set(labels(repo, done.commit).values()) == {label}


def test_damage_is_not_labelled_away(tmp_path: Path) -> None:
    """What was damaged in a commit is found when layers are put on it, and can be repaired."""
    made = encapsulated(tree("odd_t"))
    image = as_image(made.whole(), [file("usr/bin/new", b"new")], last=0)
    with Repository.create(tmp_path / "repo", "bare") as repo:
        done = pulled(repo, image, tmp_path)
        tool = next(each for each, _ in made.files.values() if each.data == TOOL.data)
        path = Path(repo.path) / repo.object_path(tool.checksum, ObjectType.FILE)
        path.write_bytes(b"fool" * 3000)
        faults = fsck(repo).faults
        assert [each.checksum for each in faults] == [tool.checksum]
        assert repair(repo, faults).unrepaired == ()
        assert fsck(repo).faults == ()
        assert labels(repo, done.commit)["usr/bin/tool"] == "bin_t"
