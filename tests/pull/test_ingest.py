"""One layer into the store: what is kept to the bit, what is dropped and named, what is refused."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.images import Member, char, directory, file, hardlink, symlink, tar
from support.merging import ingested, merged
from support.trees import listing, nodes, objects

from bridge import limits
from bridge.errors import DamagedRepository, MalformedImage, VerificationFailed
from bridge.layer.tar import Entry
from bridge.oci.digest import Digest
from bridge.ostree.objects import Commit, DirMeta, FileMeta
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import layer
from bridge.pull.ingest import ingest
from bridge.pull.paths import store_path

FIFO = Member("pipe", tarfile.FIFOTYPE)
BLOCK = Member("opt/disk", tarfile.BLKTYPE, device=(8, 0))
FOREIGN = {
    "trusted.overlay.opaque": "y",
    "user.overlay.origin": "o",
    "user.ostreemeta": "forged",
    "security.selinux": "system_u:object_r:shadow_t:s0",
}


def dropped(repo: Repository, *members: Member) -> list[tuple[str, str]]:
    made, commit = ingested(repo, members)
    stored = layer.load(repo, commit)
    assert sorted(stored.dropped, key=str) == sorted(made.dropped, key=str)
    return [(each.path, each.reason) for each in made.dropped]


MOUNTED = "in a directory that is mounted over"
DROPPED: dict[str, tuple[list[Member], list[tuple[str, str]], list[str]]] = {
    "devices": (
        [char("etc/null", 1, 3), char("gone"), BLOCK, FIFO, file("a")],
        [("usr/etc/null", "character device"), ("gone", "character device"),
         ("opt/disk", "block device"), ("pipe", "fifo")],
        ["a", "opt", "usr", "usr/etc"],
    ),
    "below the mount points": (
        [directory("dev"), char("dev/null", 1, 3), directory("./proc/"), file("/sys/a/b"),
         directory("run/lock"), symlink("tmp/l", "x"), file("run/.wh.x"), hardlink("tmp/h", "a"),
         file("tmp"), file("var/run/x"), file("devices")],
        [("dev/null", MOUNTED), ("sys/a/b", MOUNTED), ("run/lock", MOUNTED), ("tmp/l", MOUNTED),
         ("run/.wh.x", MOUNTED), ("tmp/h", MOUNTED), ("tmp", MOUNTED)],
        ["dev", "devices", "proc", "var", "var/run", "var/run/x"],
    ),
    "AUFS metadata": (
        [directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"),
         file("etc/.wh..wh.orph/x"), file("d/a")],
        [(".wh..wh.plnk", "AUFS metadata"), (".wh..wh.plnk/1.2", "AUFS metadata"),
         (".wh..wh.aufs", "AUFS metadata"), ("usr/etc/.wh..wh.orph/x", "AUFS metadata")],
        ["d", "d/a"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("members", "named", "kept"), DROPPED.values(), ids=DROPPED)
def test_what_is_dropped_is_named(
    repo: Repository, members: list[Member], named: list[tuple[str, str]], kept: list[str]
) -> None:
    assert dropped(repo, *members) == named
    assert sorted(listing(repo, merged(repo, members))) == kept


@pytest.mark.parametrize("make", [file, directory, lambda path, **m: symlink(path, "t", **m)])
def test_foreign_xattrs_are_named_on_every_entry(
    repo: Repository, make: Callable[..., Member]
) -> None:
    mine = {"trusted.mine": "v"}  # links cannot have others
    members = [make(path, xattrs=FOREIGN | mine) for path in ("etc/a", "b", "c")]
    assert sorted(dropped(repo, *members)) == sorted(
        (path, f"xattr {name}") for path in ("usr/etc/a", "b", "c") for name in FOREIGN
    )
    found = nodes(repo, merged(repo, members))
    assert all(
        found[path][0].xattrs == ((b"trusted.mine", b"v"),) for path in ("usr/etc/a", "b", "c")
    )


def test_empty_xattrs_are_named_too(repo: Repository) -> None:
    """libostree takes a bare object with one for damaged."""
    members = [file("a", xattrs={"user.none": "", "user.some": "v"})]
    assert dropped(repo, *members) == [("a", "xattr user.none")]
    assert nodes(repo, merged(repo, members))["a"][0].xattrs == ((b"user.some", b"v"),)


def test_metadata_is_kept_to_the_bit(repo: Repository) -> None:
    capability = "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    members = [
        directory("d", mode=0o3775, uid=1, gid=2, xattrs={"user.d": "x"}),
        file("d/s", "#!", mode=0o6755, uid=2**21 + 5, gid=4_000_000_000),
        file("d/c", xattrs={"user.z": "\0", "security.capability": capability, "user.a": "1=2\n3"}),
        symlink("d/l", "../é\n", uid=7, gid=8),
        file("d/none", mode=0),
    ]
    found = nodes(repo, merged(repo, members))
    xattrs = (
        (b"security.capability", capability.encode()),
        (b"user.a", b"1=2\n3"),
        (b"user.z", b"\0"),
    )
    assert {path: meta for path, (meta, _) in found.items()} == {
        "": DirMeta(0, 0, 0o40755),
        "d": DirMeta(1, 2, 0o43775, ((b"user.d", b"x"),)),
        "d/s": FileMeta(2**21 + 5, 4_000_000_000, 0o106755),
        "d/c": FileMeta(0, 0, 0o100644, xattrs),
        "d/l": FileMeta(7, 8, 0o120777, (), "../é\n"),
        "d/none": FileMeta(0, 0, 0o100000),
    }


def test_files_beyond_the_buffer_are_streamed(repo: Repository) -> None:
    data = bytes(range(256)) * (limits.SMALL_FILE // 256) + b"end"
    members = [file("large", data), file("again", data), file("small", data[: limits.SMALL_FILE])]
    found = nodes(repo, merged(repo, members))
    assert [found[name][1] for name in ("large", "again", "small")] == [data, data, data[:-3]]
    assert len([each for each in objects(repo) if each.endswith(".file")]) == 2


def test_the_layers_commit_is_the_same_anywhere_and_loads_back(repo: Repository) -> None:
    members = [
        file("etc/a"), file(".wh.x"), file("d/.wh..wh..opq"), hardlink("l", "lower"), FIFO,
        directory("d/e"),
    ]  # fmt: skip
    made, commit = ingested(repo, members)
    again, same = ingested(repo, members)
    assert commit == same and (made.links, made.implied) == (again.links, again.implied)
    stored = layer.load(repo, commit)
    assert stored.implied == made.implied == {"", "usr", "usr/etc", "d"}
    assert stored.whiteouts == made.whiteouts == {".wh.x", "d/.wh..wh..opq"}
    assert stored.links == made.links == {"l": "lower"}
    read = repo.read_commit(commit)
    assert (read.timestamp, read.parent, read.subject) == (0, None, "")
    assert layer.diff_id_of(read) == Digest.of(tar(members))
    # Whiteouts stand in the tree as files, as ostree-ext has them.
    assert listing(repo, commit) == {
        ".wh.x": "", "d": "dir", "d/.wh..wh..opq": "", "d/e": "dir",
        "usr": "dir", "usr/etc": "dir", "usr/etc/a": "",
    }  # fmt: skip


def test_another_programs_commit_is_no_layer_of_ours(repo: Repository) -> None:
    _, ours = ingested(repo, [])
    tree = repo.read_commit(ours)
    with Transaction(repo) as transaction:
        metadata = {"ostree.importer.version": "0.15"}
        theirs = transaction.write_commit(Commit(tree.tree, tree.meta, metadata))
        transaction.publish()
    assert layer.diff_id_of(repo.read_commit(theirs)) is None
    with pytest.raises(DamagedRepository, match="not a layer of ours"):
        layer.load(repo, theirs)


def test_nothing_is_visible_when_the_stream_fails_at_its_very_end(repo: Repository) -> None:
    def chunks() -> object:
        yield tar([file("a", "secret")])
        raise VerificationFailed("wrong DiffID")

    with pytest.raises(VerificationFailed), Transaction(repo) as transaction:
        ingest(chunks(), transaction)  # type: ignore[arg-type]
    assert objects(repo) == set()


@pytest.mark.parametrize(
    "stream",
    [b"\x01" * 512, tar([file("a", "1")])[:700], b"not a tar" * 100, tar([file("a")])[:300]],
    ids=["no header", "cut payload", "text", "cut header"],
)
def test_what_is_no_tar_stream_is_refused(repo: Repository, stream: bytes) -> None:
    with pytest.raises(MalformedImage):
        ingested(repo, stream)


def test_an_empty_stream_is_an_empty_layer(repo: Repository) -> None:
    assert listing(repo, merged(repo, b"")) == {}


PATHS = {
    "etc": "usr/etc",
    "/etc/a": "usr/etc/a",
    "./etc//a/": "usr/etc/a",
    ".wh.etc": "usr/.wh.etc",
    "etcetera": "etcetera",
    "usr/etc": "usr/etc",
    "a/etc": "a/etc",
    "/": "",
    ".": "",
    "": "",
    "a/...": "a/...",
}


@pytest.mark.parametrize(("path", "stored"), PATHS.items())
def test_paths_of_the_store(path: str, stored: str) -> None:
    assert store_path(path) == stored


def test_the_hooks_are_told_where_each_file_was_and_what_it_became(repo: Repository) -> None:
    large = bytes(range(256)) * 5000
    members = [
        directory("usr"),
        file("usr/a", "first"),
        file("usr/empty"),
        file("usr/" + "long" * 40, "second", xattrs={"user.x": "y"}),
        file("usr/large", large),
        symlink("usr/link", "a"),
        hardlink("usr/hard", "usr/a"),
        file("usr/.wh.gone", "ignored"),
        file("run/left/out", "content"),
        file("etc/a", "first"),
    ]
    data = tar(members)
    files: list[tuple[int, str]] = []
    entries: list[Entry | None] = []
    with Transaction(repo) as transaction:
        chunks = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        made = ingest(
            chunks,
            transaction,
            on_file=lambda *each: files.append(each),
            on_entry=entries.append,
        )
        transaction.publish()
    assert made is not None
    below = made.tree.dirs["usr"].files
    contents = [
        (data[offset : offset + len(content)], content, checksum)
        for (offset, checksum), content in zip(
            files, [b"first", b"second", large, b"first"], strict=True
        )
    ]
    assert [read for read, _, _ in contents] == [content for _, content, _ in contents]
    names = ["a", "long" * 40, "large"]
    assert [checksum for _, _, checksum in contents[:3]] == [below[name] for name in names]
    assert entries.pop() is None
    paths = [each.path.rstrip("/") for each in entries if each is not None]
    assert paths == [each.path for each in members]


def test_a_sparse_file_has_no_place_in_the_stream(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"plain")
    with (tmp_path / "sparse").open("wb") as made:
        made.seek(limits.MIB)
        made.write(b"end")
    arguments = ["--sparse", "--hole-detection=raw", "--format=posix", "sparse", "plain"]
    done = subprocess.run(["tar", "-c", *arguments], cwd=tmp_path, capture_output=True, check=True)
    files: list[tuple[int, str]] = []
    with Transaction(repo) as transaction:
        made_layer = ingest([done.stdout], transaction, on_file=lambda *each: files.append(each))
    assert made_layer is not None and {"sparse", "plain"} <= made_layer.tree.files.keys()
    assert files == [(done.stdout.rindex(b"plain\0"), made_layer.tree.files["plain"])]
