"""Encapsulated commits are imported bit for bit, or refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.encapsulated import (
    LABEL,
    Dir,
    Encapsulated,
    File,
    as_image,
    content,
    encapsulated,
    name,
)
from support.images import (
    Image,
    Member,
    directory,
    file,
    hardlink,
    image,
    tar,
    whiteout,
    write_layout,
)
from support.trees import listing, nodes

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree import fsck, objects, refs
from bridge.ostree.objects import Commit, DirTree, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.variant import Variant
from bridge.pull import images, verified_commits
from bridge.pull.encapsulated import OBJECTS_KEY, detached_path, ingest_objects
from bridge.pull.encapsulation import Role
from bridge.pull.pull import pull
from bridge.pull.refnames import layer_ref
from bridge.pull.repair import repair
from bridge.pull.report import TransferReport

SHELL = File(b"\x7fELF" + b"s" * 5000, 0o4755, xattrs=((LABEL, b"bin_t\0"), (b"user.k", b"v")))
CONF = File(b"conf", 0o600, uid=7, gid=8, xattrs=((LABEL, b"etc_t\0"),))
EMPTY = File()
LINK = File(target="..//bin/sh")
TREE = Dir(
    {
        "usr": Dir(
            {
                "bin": Dir({"sh": SHELL, "bash": SHELL, "link": LINK}),
                "etc": Dir({"conf": CONF}, xattrs=((LABEL, b"etc_t\0"),)),
                "lib": Dir({"empty": EMPTY}),
            }
        ),
        "var": Dir(),
        "sysroot": Dir(),
    },
    xattrs=((LABEL, b"root_t\0"),),
)
MADE = encapsulated(
    TREE,
    subject="A commit",
    body="of two\nlines",
    timestamp=1_700_000_000,
    metadata={"version": "1.2", "ostree.bootable": Variant("b", True)},
    detached={"sig": Variant("ay", b"\1\2")},
)
FIRST = MADE.layer(EMPTY.checksum, CONF.checksum, metadata=True)
SECOND = MADE.layer(SHELL.checksum)
THIRD = MADE.layer(LINK.checksum)


def pulled(repo: Repository, made: Image, at: Path) -> TransferReport:
    reference = parse_reference(f"oci:{write_layout(at, made)}:latest")
    return pull(repo, reference)


def commit_of(repo: Repository, made: Image, number: int) -> str:
    found = refs.current(repo, layer_ref(Digest.parse(made.layers[number])))
    assert found is not None
    return found


def sound(repo: Repository) -> None:
    assert fsck.fsck(repo).faults == ()


@pytest.mark.parametrize("mode", ["bare-user", "archive", "bare"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_the_commit_is_the_very_same(tmp_path: Path, mode: str, compression: str) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2, commit=MADE.commit, compression=compression)
    with Repository.create(tmp_path / "repo", mode) as repo:
        report = pulled(repo, made, tmp_path / "image")
        base = commit_of(repo, made, 0)
        assert base == MADE.commit
        assert repo.read_metadata(base, ObjectType.COMMIT) == MADE.serialised
        detached = tmp_path / "repo" / detached_path(base)
        assert detached.read_bytes() == MADE.metadata[1].data
        image_commit = repo.read_commit(report.commit)
        assert image_commit.parent == base
        assert image_commit.content_checksum == repo.read_commit(base).content_checksum
        assert image_commit.metadata[images.MANIFEST_DIGEST_KEY] == str(made.digest)
        assert report.dropped == []
        sound(repo)
        found = nodes(repo, base)
        assert found["usr/bin/sh"] == found["usr/bin/bash"] == (SHELL.meta, SHELL.data)
        assert found["usr/bin/link"][0] == LINK.meta
        assert found["usr/etc"][0].xattrs == ((LABEL, b"etc_t\0"),)


def test_layers_of_content_are_flat_trees(repo: Repository, tmp_path: Path) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2)
    pulled(repo, made, tmp_path / "image")
    commit = repo.read_commit(commit_of(repo, made, 1))
    assert repo.read_dirtree(commit.tree) == DirTree({SHELL.checksum: SHELL.checksum}, {})
    assert (commit.timestamp, commit.parent, commit.subject) == (0, None, "")
    assert commit.metadata[OBJECTS_KEY] == Digest.of(tar(SECOND))


def test_one_layer_may_have_it_all(repo: Repository, tmp_path: Path) -> None:
    made = as_image(MADE.whole(), last=0, commit=MADE.commit)
    pulled(repo, made, tmp_path / "image")
    assert commit_of(repo, made, 0) == MADE.commit
    sound(repo)


def test_a_second_pull_moves_nothing(repo: Repository, tmp_path: Path) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2)
    one = pulled(repo, made, tmp_path / "image")
    again = pulled(repo, made, tmp_path / "image")
    assert again.commit == one.commit
    assert [each.plan.mode.value for each in again.layers] == ["present"] * 3
    recompressed = as_image(FIRST, SECOND, THIRD, last=2, compression="zstd")
    other = pulled(repo, recompressed, tmp_path / "other")
    assert [each.plan.mode.value for each in other.layers] == ["present"] * 3
    assert other.content_checksum == one.content_checksum


def test_an_upgrade_moves_the_layers_that_changed(repo: Repository, tmp_path: Path) -> None:
    pulled(repo, as_image(FIRST, SECOND, THIRD, last=2), tmp_path / "one")
    changed = Dir({**TREE.entries, "new": Dir({"f": CONF})}, xattrs=TREE.xattrs)
    made = encapsulated(changed)
    first = made.layer(EMPTY.checksum, CONF.checksum, metadata=True)
    second = as_image(first, SECOND, THIRD, last=2, commit=made.commit)
    report = pulled(repo, second, tmp_path / "two")
    assert [each.plan.mode.value for each in report.layers] == ["whole", "present", "present"]
    assert commit_of(repo, second, 0) == made.commit
    sound(repo)


def test_layers_on_top_are_merged_on_the_commit(repo: Repository, tmp_path: Path) -> None:
    top = [file("usr/bin/new", "n"), whiteout("usr/bin/bash"), file("etc/conf", "other")]
    made = as_image(FIRST, SECOND, THIRD, top, last=2, commit=MADE.commit)
    report = pulled(repo, made, tmp_path / "image")
    tree = listing(repo, report.commit)
    assert {"usr/bin/new", "usr/bin/sh", "usr/etc/conf", "usr/lib/empty"} <= tree.keys()
    assert "usr/bin/bash" not in tree
    assert repo.read_commit(report.commit).parent == MADE.commit
    assert commit_of(repo, made, 0) == MADE.commit
    assert nodes(repo, report.commit)["usr/bin/sh"] == (SHELL.meta, SHELL.data)
    assert not any(path.startswith("sysroot/ostree") for path in tree)
    sound(repo)


def test_a_build_on_top_that_brings_the_repository_again_leaves_no_trace_of_it(
    repo: Repository, tmp_path: Path
) -> None:
    """As where a step has changed a file whose hard links were kept."""
    path = name(SHELL.checksum, "file")
    top = [file(path, "changed", mode=0o755), hardlink("usr/bin/sh", path)]
    made = as_image(FIRST, SECOND, THIRD, top, last=2)
    report = pulled(repo, made, tmp_path / "image")
    assert nodes(repo, report.commit)["usr/bin/sh"][1] == b"changed"
    assert [each.path for each in report.dropped] == ["sysroot/ostree"]


def test_without_the_label_it_is_files_like_any_others(repo: Repository, tmp_path: Path) -> None:
    made = image(FIRST, SECOND, THIRD)
    report = pulled(repo, made, tmp_path / "image")
    assert repo.read_commit(report.commit).parent is None
    found = nodes(repo, report.commit)
    assert found["usr/bin/sh"][1] == SHELL.data
    assert "usr/etc/conf" in found


def test_a_label_of_other_layers_makes_no_commit(repo: Repository, tmp_path: Path) -> None:
    """What a build that squashes layers leaves behind."""
    labels = {"ostree.final-diffid": str(Digest.of(b"gone")), "ostree.commit": MADE.commit}
    report = pulled(repo, image(FIRST, SECOND, THIRD, labels=labels), tmp_path / "image")
    assert repo.read_commit(report.commit).parent is None


def test_one_store_has_an_image_both_ways(repo: Repository, tmp_path: Path) -> None:
    plain = pulled(repo, image(FIRST, SECOND, THIRD), tmp_path / "plain")
    other = pulled(repo, as_image(FIRST, SECOND, THIRD, last=2), tmp_path / "image")
    assert [each.plan.mode.value for each in other.layers] == ["whole"] * 3
    assert repo.read_commit(plain.commit).parent is None
    assert repo.read_commit(other.commit).parent == MADE.commit
    sound(repo)


def test_prune_keeps_what_an_image_needs_and_drops_it_with_the_image(
    repo: Repository, tmp_path: Path
) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2)
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'image', made)}:latest")
    pull(repo, reference)
    layers, result = images.prune(repo)
    assert (layers, result.objects) == (0, 0)
    assert [each for _, each in verified_commits.listing(repo)] == [MADE.commit]
    images.remove(repo, reference)
    images.prune(repo)
    assert list(repo.objects()) == []
    assert not os.path.exists(os.path.join(repo.path, detached_path(MADE.commit)))
    assert list(verified_commits.listing(repo)) == []


# -- what is refused ---------------------------------------------------------------------------


def changed(members: Sequence[Member], ending: str, **members_of: object) -> list[Member]:
    """The entries with another value in the first object with that ending."""
    made = list(members)
    at = next(i for i, each in enumerate(made) if each.path.endswith(f".{ending}"))
    made[at] = replace(made[at], **members_of)  # type: ignore[arg-type]
    return made


def without(members: Sequence[Member], path: str) -> list[Member]:
    return [each for each in members if each.path != path]


ROOT = next(each for each in MADE.metadata if each.data == objects.encode_dirmeta(TREE.meta))
WRONG: dict[str, tuple[Role, list[Member], str]] = {
    "a file with other content": (
        Role.OBJECTS, changed(SECOND, "file", data=b"\x7fELF" + b"t" * 5000), "hashes to",
    ),
    "a file with another mode": (Role.OBJECTS, changed(SECOND, "file", mode=0o755), "hashes to"),
    "a file of another owner": (Role.OBJECTS, changed(SECOND, "file", uid=1), "hashes to"),
    "a file with other xattrs": (
        Role.OBJECTS, changed(SECOND, "file-xattrs-link", data=b""), "hashes to",
    ),
    "a link to elsewhere": (Role.OBJECTS, changed(THIRD, "file", target="/etc"), "hashes to"),
    "another commit": (
        Role.COMMIT, changed(FIRST, "commit", data=encapsulated(TREE).serialised), "hashes to",
    ),
    "another dirtree": (
        Role.COMMIT,
        changed(FIRST, "dirtree", data=objects.encode_dirtree(DirTree({}, {}))),
        "hashes to",
    ),
    "another dirmeta": (
        Role.COMMIT,
        changed(FIRST, "dirmeta", data=objects.encode_dirmeta(Dir(mode=0o700).meta)),
        "hashes to",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("role", "members", "reason"), WRONG.values(), ids=WRONG)
def test_what_does_not_hash_to_its_name_is_refused(
    repo: Repository, role: Role, members: list[Member], reason: str
) -> None:
    with pytest.raises(VerificationFailed, match=reason), Transaction(repo) as transaction:
        ingest_objects(role, [tar(members)], transaction)


def nasty(*pairs: tuple[bytes, bytes]) -> list[Member]:
    return MADE.layer() + content(File(b"x", xattrs=pairs))


BAD_ORDER = content(File(b"x", xattrs=((b"user.b", b"1"), (b"user.a", b"1"))))
DETACHED = MADE.metadata[1]
MALFORMED: dict[str, tuple[Role, list[Member], str]] = {
    "no commit": (Role.COMMIT, MADE.layer(EMPTY.checksum), "before all else"),
    "nothing at all": (Role.COMMIT, [], "has none"),
    "no commit, but its trees": (
        Role.COMMIT, without(FIRST, MADE.metadata[0].path), "does not follow its commit",
    ),
    "no commit, but its trees alone": (Role.COMMIT, MADE.metadata[2:], "before all"),
    "two commits": (
        Role.COMMIT, [*FIRST, encapsulated(TREE).metadata[0]], "one commit",
    ),
    "the commit comes late": (Role.COMMIT, [*MADE.layer(EMPTY.checksum), *FIRST], "before all"),
    "detached metadata comes late": (
        Role.COMMIT, [*without(FIRST, DETACHED.path), DETACHED], "does not follow its commit",
    ),
    "detached metadata of another commit": (
        Role.COMMIT,
        changed(FIRST, "commitmeta", path=name(SHELL.checksum, "commitmeta")),
        "does not follow its commit",
    ),
    "detached metadata that is none": (
        Role.COMMIT, changed(FIRST, "commitmeta", data=b"\xff"), "not a serialised",
    ),
    "a commit that is none": (Role.COMMIT, changed(FIRST, "commit", data=b""), "commit .*: "),
    "a commit cut off": (
        Role.COMMIT, changed(FIRST, "commit", data=MADE.serialised[:-1]), "commit .*: ",
    ),
    "a dirtree that is none": (Role.COMMIT, changed(FIRST, "dirtree", data=b"x"), "dirtree .*: "),
    "a dirtree with a way out": (
        Role.COMMIT,
        changed(
            FIRST,
            "dirtree",
            data=objects.encode_dirtree(DirTree({"..": SHELL.checksum}, {})),
        ),
        "cannot be a file's name",
    ),
    "a dirmeta that is none": (Role.COMMIT, changed(FIRST, "dirmeta", data=b""), "dirmeta .*: "),
    "a dirmeta of a file": (
        Role.COMMIT,
        changed(FIRST, "dirmeta", data=objects.encode_filemeta(SHELL.meta)),
        "dirmeta with mode",
    ),
    "a commit among content": (Role.OBJECTS, FIRST, "content alone"),
    "a dirtree among content": (Role.OBJECTS, [MADE.metadata[-1]], "content alone"),
    "detached metadata among content": (Role.OBJECTS, [DETACHED], "content alone"),
    "xattrs that are none": (
        Role.OBJECTS, changed(SECOND, "file-xattrs-link", data=b"\0\1"), "xattrs of",
    ),
    "xattrs without a NUL": (
        Role.OBJECTS,
        changed(SECOND, "file-xattrs-link", data=b"user.k" + b"v" + b"\x06\x08"),
        "xattrs of",
    ),
    "xattrs out of order": (Role.OBJECTS, BAD_ORDER, "not sorted"),
    "xattrs twice": (Role.OBJECTS, nasty((b"user.a", b"1"), (b"user.a", b"1")), "there twice"),
    "an empty xattr": (Role.OBJECTS, nasty((b"user.a", b"")), "has the xattr 'user.a'"),
    "an xattr of the store's": (
        Role.OBJECTS, nasty((b"user.ostreemeta", b"x")), "has the xattr 'user.ostreemeta'",
    ),
    "an xattr of overlayfs": (
        Role.OBJECTS, nasty((b"trusted.overlay.opaque", b"y")), "has the xattr",
    ),
    "an xattr in no namespace": (Role.OBJECTS, nasty((b"foo", b"y")), "has the xattr 'foo'"),
    "a capability that is none": (
        Role.OBJECTS, nasty((b"security.capability", b"x")), "a file capability",
    ),
    "too many xattrs": (
        Role.OBJECTS,
        nasty((b"user.a", bytes(40_000)), (b"user.b", bytes(40_000))),
        "extended attributes of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("role", "members", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_layers(repo: Repository, role: Role, members: list[Member], reason: str) -> None:
    with pytest.raises(MalformedImage, match=reason), Transaction(repo) as transaction:
        ingest_objects(role, [tar(members)], transaction)
    assert list(repo.objects()) == []


def deep(levels: int) -> Dir:
    here = Dir({"f": EMPTY})
    for _ in range(levels):
        here = Dir({"d": here})
    return here


def bomb(levels: int, width: int) -> Encapsulated:
    """A few small trees that stand for `width` to the power of `levels` paths."""
    made = encapsulated(Dir({"f": EMPTY}))
    meta = next(e for e in made.metadata if e.path.endswith(".dirmeta"))
    meta_sum = hashlib.sha256(meta.data).hexdigest()
    tree = next(e for e in made.metadata if e.path.endswith(".dirtree"))
    trees = [tree]
    for _ in range(levels):
        below = hashlib.sha256(trees[-1].data).hexdigest()
        names = {f"n{i:04}": (below, meta_sum) for i in range(width)}
        data = objects.encode_dirtree(DirTree({}, names))
        trees.append(file(name(hashlib.sha256(data).hexdigest(), "dirtree"), data))
    top = hashlib.sha256(trees[-1].data).hexdigest()
    data = objects.encode_commit(Commit(top, meta_sum))
    commit = hashlib.sha256(data).hexdigest()
    return Encapsulated(
        commit, [file(name(commit, "commit"), data), meta, *trees], made.files, data
    )


INCOMPLETE: dict[str, tuple[Callable[[], Image], str]] = {
    "a layer of content that lacks a file": (
        lambda: as_image(FIRST, MADE.layer(), THIRD, last=2), "needs file",
    ),
    "the label is a layer too early": (
        lambda: as_image(FIRST, SECOND, THIRD, last=1), "needs file",
    ),
    "a dirtree that is missing": (
        lambda: as_image(
            without(FIRST, next(e.path for e in FIRST if e.path.endswith(".dirtree"))),
            SECOND, THIRD, last=2,
        ),
        "needs dirtree",
    ),
    "a dirmeta that is missing": (
        lambda: as_image(without(FIRST, ROOT.path), SECOND, THIRD, last=2), "needs dirmeta",
    ),
    "a file of no commit beside the commit": (
        lambda: as_image([*MADE.whole(), *content(File(b"foreign"))], last=0), "is not one of",
    ),
    "too deep": (
        lambda: as_image(encapsulated(deep(limits.DEPTH_MAX + 1)).whole(), last=0), "deeper than",
    ),
    "a bomb of trees": (lambda: as_image(bomb(5, 100).whole(), last=0), "more than 750000 paths"),
    "a layer in two roles": (
        lambda: as_image(FIRST, SECOND, THIRD, SECOND, last=2), "both objects and files",
    ),
    "the last layer twice": (
        lambda: as_image(FIRST, THIRD, SECOND, SECOND, last=3), "several layers",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_images_that_are_refused(
    repo: Repository, tmp_path: Path, make: Callable[[], Image], reason: str
) -> None:
    with pytest.raises(MalformedImage, match=reason):
        pulled(repo, make(), tmp_path / "image")
    assert refs.listing(repo, "ostree/container/image") == {}
    assert fsck.fsck(repo).faults == ()


def test_as_deep_as_may_be(repo: Repository, tmp_path: Path) -> None:
    made = encapsulated(deep(limits.DEPTH_MAX))
    pulled(repo, as_image(made.whole(), last=0, commit=made.commit), tmp_path / "image")


def test_another_commit_than_the_label_says_is_refused(repo: Repository, tmp_path: Path) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2, commit=encapsulated(TREE).commit)
    with pytest.raises(VerificationFailed, match="but its first layer holds commit"):
        pulled(repo, made, tmp_path / "image")
    assert refs.listing(repo, "ostree/container/image") == {}


def test_the_empty_tree_of_sysroot_may_be_missing(repo: Repository, tmp_path: Path) -> None:
    """ostree-ext leaves it out, for it passes over /sysroot."""
    made = encapsulated(Dir({"sysroot": Dir(), "usr": Dir({"f": EMPTY})}))
    empty = hashlib.sha256(objects.encode_dirtree(DirTree({}, {}))).hexdigest()
    members = without(made.whole(), name(empty, "dirtree"))
    assert len(members) < len(made.whole())
    pulled(repo, as_image(members, last=0, commit=made.commit), tmp_path / "image")
    sound(repo)


def test_a_stream_that_is_not_the_one_of_the_diff_id_is_refused(
    repo: Repository, tmp_path: Path
) -> None:
    good = as_image(FIRST, SECOND, THIRD, last=2)
    diff_ids = [str(Digest.of(tar(each))) for each in (FIRST, SECOND, THIRD)]
    made = image(
        FIRST, [*SECOND, directory("x")], THIRD,
        labels={"ostree.final-diffid": diff_ids[2]}, diff_ids=diff_ids,
    )  # fmt: skip
    with pytest.raises(VerificationFailed, match="DiffID"):
        pulled(repo, made, tmp_path / "image")
    assert refs.current(repo, layer_ref(Digest.parse(good.layers[0]))) is None


# -- repair ------------------------------------------------------------------------------------


def damage(repo: Repository, checksum: str, kind: ObjectType, how: str) -> None:
    path = Path(repo.path) / repo.object_path(checksum, kind)
    if how == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes() or b"x")
        data[0] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)


DAMAGED: Mapping[str, tuple[str, ObjectType]] = {
    "a file of a layer of content": (SHELL.checksum, ObjectType.FILE),
    "a file beside the commit": (CONF.checksum, ObjectType.FILE),
    "the commit": (MADE.commit, ObjectType.COMMIT),
    "a dirtree": (
        hashlib.sha256(
            next(e.data for e in MADE.metadata if e.path.endswith(".dirtree"))
        ).hexdigest(),
        ObjectType.DIRTREE,
    ),
    "the root's dirmeta": (
        hashlib.sha256(objects.encode_dirmeta(TREE.meta)).hexdigest(),
        ObjectType.DIRMETA,
    ),
}


@pytest.mark.parametrize("how", ["missing", "damaged"])
@pytest.mark.parametrize(("checksum", "kind"), DAMAGED.values(), ids=DAMAGED)
def test_repair(
    repo: Repository, tmp_path: Path, checksum: str, kind: ObjectType, how: str
) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2, commit=MADE.commit)
    pulled(repo, made, tmp_path / "image")
    damage(repo, checksum, kind, how)
    faults = fsck.fsck(repo).faults
    assert faults
    done = repair(repo, faults)
    assert (done.unrepaired, done.problems) == ((), ())
    sound(repo)
    assert commit_of(repo, made, 0) == MADE.commit


def test_everything_damaged_is_repaired(repo: Repository, tmp_path: Path) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2, commit=MADE.commit)
    report = pulled(repo, made, tmp_path / "image")
    for checksum, kind in list(repo.objects()):
        if checksum != report.commit and kind is not ObjectType.COMMIT:
            damage(repo, checksum, kind, "damaged")
    damage(repo, MADE.commit, ObjectType.COMMIT, "damaged")
    done = repair(repo, fsck.fsck(repo).faults)
    assert done.unrepaired == ()
    sound(repo)


def test_a_note_that_was_changed_is_none(repo: Repository, tmp_path: Path) -> None:
    made = as_image(FIRST, SECOND, THIRD, last=2)
    pulled(repo, made, tmp_path / "image")
    note = next((Path(repo.path) / verified_commits.DIRECTORY).iterdir())
    for bad in (b"", b"x", note.read_bytes().replace(MADE.commit.encode(), b"0" * 64)):
        note.write_bytes(bad)
        assert list(verified_commits.listing(repo)) == []
    report = pulled(repo, made, tmp_path / "image")
    assert [each.plan.mode.value for each in report.layers] == ["whole", "present", "present"]
    assert [each for _, each in verified_commits.listing(repo)] == [MADE.commit]


def reference_of(at: Path) -> ImageReference:
    return parse_reference(f"oci:{at}:latest")


def test_objects_of_a_pull_that_failed_are_taken_up_by_the_next(
    repo: Repository, tmp_path: Path
) -> None:
    with pytest.raises(BridgeError):
        pulled(repo, as_image(FIRST, MADE.layer(), THIRD, last=2), tmp_path / "bad")
    report = pulled(repo, as_image(FIRST, SECOND, THIRD, last=2), tmp_path / "good")
    assert [each.plan.mode.value for each in report.layers] == ["whole", "whole", "present"]
    sound(repo)


def test_what_the_store_has_is_not_what_the_image_has(repo: Repository, tmp_path: Path) -> None:
    """One image is good or bad on any host."""
    pulled(repo, as_image(FIRST, SECOND, THIRD, last=2), tmp_path / "good")
    bad = as_image([*FIRST[:-1], directory("x")], MADE.layer(), THIRD, last=2)
    with pytest.raises(MalformedImage, match="needs file"):
        pulled(repo, bad, tmp_path / "bad")
    no_metadata = [each for each in FIRST if each is not ROOT] + [directory("x")]
    with pytest.raises(MalformedImage, match="needs dirmeta"):
        pulled(repo, as_image(no_metadata, SECOND, THIRD, last=2), tmp_path / "worse")
