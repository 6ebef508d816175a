"""Images with an SELinux policy: what their commits are labelled with, and what becomes of them."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.images import Image, Member, directory, file, hardlink, image, symlink, write_layout
from support.trees import listing, nodes, objects

from bridge.errors import BridgeError, DamagedRepository, MalformedImage
from bridge.oci.layout import Layout
from bridge.oci.model import Manifest, parse_config, parse_document
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree import selinux
from bridge.ostree.fsck import fsck
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import reachable
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import COMMIT_KEY
from bridge.ostree.transaction import Transaction
from bridge.pull import images, labelled
from bridge.pull.pull import pull
from bridge.pull.repair import repair
from bridge.push.compress import Compression
from bridge.push.push import push

CONFIG = "SELINUX=permissive\nSELINUXTYPE=test\n"
CONTEXTS = """\
/.*                   s:o:default_t:s0
/usr(/.*)?            s:o:usr_t:s0
/usr/bin(/.*)?        s:o:bin_t:s0
/usr/sbin        -l   s:o:sbin_link_t:s0
/etc(/.*)?            s:o:etc_t:s0
/etc/shadow      --   s:o:shadow_t:s0
/var/none(/.*)?       <<none>>
"""
LOWER = [
    directory("usr", 0o711),
    file("usr/bin/tool", b"tool" * 1000, 0o4755, xattrs={"user.z": "1", "user.a": "2"}),
    file("usr/lib/big", "big file" * 300_000),
    symlink("usr/sbin", "bin"),
    file("etc/passwd", b"root\n"),
    hardlink("usr/share/passwd", "etc/passwd"),
    file("etc/shadow", b"root\n", 0o640, xattrs={"security.selinux": "s:o:wrong_t:s0\0"}),
    directory("var/none", 0o700),
    file("var/none/x", b"x"),
]
POLICY = [
    file("etc/selinux/config", CONFIG),
    file("etc/selinux/test/contexts/files/file_contexts", CONTEXTS),
    file("etc/selinux/test/contexts/files/file_contexts.local", "/usr/lib/big s:o:big_t:s0\n"),
    file("etc/selinux/test/contexts/files/file_contexts.bin", b"compiled"),
]
UPPER = [
    hardlink("usr/bin/again", "usr/lib/big"),
    # Through a link of the lower layer: it is /usr/bin/more.
    file("usr/sbin/more", b"more"),
    file("proc/gone", b""),
]
LABELS = {
    "": "default_t",
    "usr": "usr_t",
    "usr/bin": "bin_t",
    "usr/bin/tool": "bin_t",
    "usr/bin/again": "bin_t",
    "usr/bin/more": "bin_t",
    "usr/sbin": "sbin_link_t",
    "usr/lib": "usr_t",
    "usr/lib/big": "big_t",
    "usr/share": "usr_t",
    "usr/share/passwd": "usr_t",
    "usr/etc": "etc_t",
    "usr/etc/passwd": "etc_t",
    "usr/etc/shadow": "shadow_t",
    "usr/etc/selinux": "etc_t",
    "usr/etc/selinux/config": "etc_t",
    "var": "default_t",
    "var/none": None,
    "var/none/x": None,
}


def labels(repo: Repository, commit: str) -> dict[str, str | None]:
    """The type in the label of each path, of those in `LABELS`."""
    found = {}
    for path, (meta, _content) in nodes(repo, commit).items():
        names = [name for name, _ in meta.xattrs]
        assert names == sorted(set(names)), "xattrs are sorted, each there once"
        value = dict(meta.xattrs).get(b"security.selinux")
        assert value is None or value.endswith(b":s0\0")
        found[path] = None if value is None else value.decode().split(":")[2]
    return {path: found[path] for path in LABELS}


def published(tmp_path: Path, made: Image, name: str = "layout") -> ImageReference:
    return parse_reference(f"oci:{write_layout(tmp_path / name, made)}:latest")


def policy(**changed: str | bytes | None) -> list[Member]:
    """The members of `POLICY`, some with another content or left out, by their last name."""
    return [
        file(each.path, changed.get(Path(each.path).name.replace(".", "_")) or each.data)
        for each in POLICY
        if Path(each.path).name.replace(".", "_") not in changed
        or changed[Path(each.path).name.replace(".", "_")] is not None
    ]


def test_every_path_has_the_label_of_the_images_own_policy(
    repo: Repository, tmp_path: Path
) -> None:
    with_labels = pull(repo, published(tmp_path, image(LOWER, POLICY, UPPER)))
    assert labels(repo, with_labels.commit) == LABELS
    assert repo.read_commit(with_labels.commit).metadata[COMMIT_KEY] == "test"
    tool = nodes(repo, with_labels.commit)["usr/bin/tool"]
    assert tool[0].mode == stat.S_IFREG | 0o4755
    assert dict(tool[0].xattrs).keys() == {b"user.a", b"user.z", b"security.selinux"}
    assert tool[1] == b"tool" * 1000
    assert fsck(repo).faults == ()

    # The same image without its policy, but for these files and the labels the same tree.
    plain = pull(repo, published(tmp_path, image(LOWER, policy(config=None), UPPER), "plain"))
    shown = listing(repo, with_labels.commit)
    del shown["usr/etc/selinux/config"]
    assert listing(repo, plain.commit) == shown
    assert set(labels_or_none(repo, plain.commit).values()) == {None}


def labels_or_none(repo: Repository, commit: str) -> dict[str, bytes | None]:
    return {
        path: dict(meta.xattrs).get(b"security.selinux")
        for path, (meta, _content) in nodes(repo, commit).items()
    }


def test_the_commit_is_the_same_anywhere(repo: Repository, tmp_path: Path) -> None:
    made = image(LOWER, POLICY, UPPER)
    first = pull(repo, published(tmp_path, made))
    with Repository.create(tmp_path / "other", "archive") as other:
        # Another policy was here before.
        pull(other, published(tmp_path, image(LOWER, policy(file_contexts="/.* a:b:c:s0\n"))))
        second = pull(other, published(tmp_path, made, "again"))
        assert (second.commit, second.content_checksum) == (first.commit, first.content_checksum)
        assert fsck(other).faults == ()
    again = pull(repo, published(tmp_path, made, "again"))
    assert again.commit == first.commit and again.store.new_objects == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"config": None},
        {"config": "SELINUX=disabled\nSELINUXTYPE=test\n"},
        {"config": "SELINUX=enforcing\nSELINUXTYPE=other\n"},
        {"file_contexts": None},
    ],
    ids=["no config", "disabled", "another one", "no file contexts"],
)
def test_without_a_policy_there_are_no_labels(
    repo: Repository, tmp_path: Path, changed: Mapping[str, str | None]
) -> None:
    report = pull(repo, published(tmp_path, image(LOWER, policy(**changed))))
    assert set(labels_or_none(repo, report.commit).values()) == {None}
    assert COMMIT_KEY not in repo.read_commit(report.commit).metadata


def test_a_policy_behind_links_is_found_inside_of_the_image(
    repo: Repository, tmp_path: Path
) -> None:
    moved = [
        file("usr/lib/policy/contexts/files/real", CONTEXTS),
        symlink("usr/lib/policy/contexts/files/file_contexts", "/usr/lib/policy/contexts/x/real"),
        symlink("usr/lib/policy/contexts/x", "files"),
        symlink("etc/selinux/test", "../../usr/lib/policy"),
        file("etc/selinux/real", CONFIG),
        symlink("etc/selinux/config", "real"),
    ]
    report = pull(repo, published(tmp_path, image(LOWER, moved, UPPER)))
    assert labels(repo, report.commit) == LABELS | {"usr/lib/big": "usr_t"}


@pytest.mark.parametrize(
    "changed",
    [{"file_contexts": "/.* a:b:c:d\n/usr/[ a:b:c:d\n"}, {"config": CONFIG + "SELINUXTYPE=../a\n"}],
)
def test_a_policy_that_is_none_ends_the_pull_with_nothing_stored(
    repo: Repository, tmp_path: Path, changed: Mapping[str, str]
) -> None:
    with pytest.raises(MalformedImage, match="SELinux policy"):
        pull(repo, published(tmp_path, image(LOWER, policy(**changed))))
    assert images.listing(repo) == ([], [])


def test_what_was_left_without_labels_is_another_commit_and_says_so(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = published(tmp_path, image(LOWER, POLICY, UPPER))
    monkeypatch.setattr(selinux, "_LIBRARY", "libselinux.so.0-none")
    with pytest.raises(BridgeError, match="--disable-selinux"):
        pull(repo, reference)
    assert images.listing(repo) == ([], [])
    plain = pull(repo, reference, labelled=False)
    assert plain.store.new_objects == 0, "the layers stayed"
    assert set(labels_or_none(repo, plain.commit).values()) == {None}
    assert repo.read_commit(plain.commit).metadata[COMMIT_KEY] == ""
    with pytest.raises(BridgeError, match="--disable-selinux"):
        pull(repo, reference)
    monkeypatch.undo()
    again = pull(repo, reference)
    assert again.changed and again.commit != plain.commit
    assert labels(repo, again.commit) == LABELS
    assert pull(repo, reference, labelled=False).commit == plain.commit


def test_a_damaged_layer_is_not_given_a_good_name(repo: Repository, tmp_path: Path) -> None:
    reference = published(tmp_path, image(LOWER, POLICY, UPPER))
    plain = pull(repo, reference, labelled=False)
    found = nodes_objects(repo, plain.commit)
    for name in ("usr/bin/tool", "usr/lib/big", "usr/etc/selinux/config", "usr/sbin"):
        path = Path(repo.path, repo.object_path(found[name], ObjectType.FILE))
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-2] + b"??")
        with pytest.raises(DamagedRepository, match=found[name]):
            pull(repo, reference)
        path.write_bytes(good)
    assert labels(repo, pull(repo, reference).commit) == LABELS


def nodes_objects(repo: Repository, commit: str) -> dict[str, str]:
    """The content object of each file."""
    found: dict[str, str] = {}

    def walk(tree: str, at: str) -> None:
        stored = repo.read_dirtree(tree)
        found.update({at + name: checksum for name, checksum in stored.files.items()})
        for name, (below, _meta) in stored.dirs.items():
            walk(below, f"{at}{name}/")

    walk(repo.read_commit(commit).tree, "")
    return found


@pytest.mark.parametrize("labelled", [True, False])
def test_each_object_of_a_labelled_image_is_healed(
    repo: Repository, tmp_path: Path, labelled: bool
) -> None:
    reference = published(tmp_path, image(LOWER, POLICY, UPPER))
    commit = pull(repo, reference, labelled=labelled).commit
    before = objects(repo)
    needed = reachable(repo, {commit})
    for kind in (ObjectType.FILE, ObjectType.DIRMETA, ObjectType.DIRTREE, ObjectType.COMMIT):
        for checksum in sorted(needed[kind]):
            Path(repo.path, repo.object_path(checksum, kind)).unlink()
        faults = fsck(repo).faults
        assert {each.kind for each in faults} == {kind}
        result = repair(repo, faults)
        assert result.unrepaired == () and result.problems == ()
        assert fsck(repo).faults == () and objects(repo) == before


def test_a_layer_of_a_labelled_image_is_written_out_as_it_came(
    repo: Repository, tmp_path: Path
) -> None:
    made = image(LOWER, POLICY, UPPER)
    reference = published(tmp_path, made)
    pull(repo, reference)
    images.prune(repo)
    target = parse_reference(f"oci:{tmp_path / 'out'}:x")
    push(repo, reference, target, compression=Compression.NONE)
    with Layout.open(str(tmp_path / "out")) as layout:
        found = layout.resolve("x")
        manifest = parse_document(layout.read_blob(found), found.media_type)
        assert isinstance(manifest, Manifest)
        config = parse_config(layout.read_blob(manifest.config))
    assert list(config.diff_ids) == [each.digest for each in manifest.layers]
    assert manifest.config.digest == made.document["config"]["digest"]


def test_what_was_labelled_before_is_not_read_again(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pull(repo, published(tmp_path, image(LOWER, POLICY, UPPER)))
    images.prune(repo)
    read: list[str] = []
    write = Transaction.write_changed

    def counted(self: Transaction, checksum: str, *more: Any) -> str:
        read.append(checksum)
        return write(self, checksum, *more)

    monkeypatch.setattr(Transaction, "write_changed", counted)
    made = image(LOWER, POLICY, UPPER, [file("usr/new", "new"), file("usr/bin/tool", "other")])
    new = pull(repo, published(tmp_path, made, "new"))
    assert len(read) == 2
    assert labels(repo, new.commit) == labels(repo, first.commit) == LABELS
    assert nodes(repo, new.commit)["usr/bin/tool"][1] == b"other"


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "directory", "gone"])
def test_what_is_known_of_labels_is_a_hint(repo: Repository, tmp_path: Path, damage: str) -> None:
    reference = published(tmp_path, image(LOWER, POLICY, UPPER))
    commit = pull(repo, reference).commit
    path = Path(repo.path, "extensions/bootc-py", labelled.NAME)
    raw = bytearray(path.read_bytes())
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "gone":
        raw[60] ^= damage == "flip"
        path.write_bytes({"cut": raw[:-64], "flip": raw, "empty": b""}[damage])
    assert pull(repo, reference).commit == commit
    assert fsck(repo).faults == ()


def test_an_object_that_is_gone_is_made_again(repo: Repository, tmp_path: Path) -> None:
    reference = published(tmp_path, image(LOWER, POLICY, UPPER))
    commit = pull(repo, reference).commit
    gone = nodes_objects(repo, commit)["usr/lib/big"]
    Path(repo.path, repo.object_path(gone, ObjectType.FILE)).unlink()
    assert pull(repo, reference).commit == commit
    assert fsck(repo).faults == ()
