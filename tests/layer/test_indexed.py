"""The index of a blob: table of contents and tar-split together, or why there is none."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from support.chunked import Blob, assembled, chunked, compress, framed, grouped
from support.images import char, directory, file, hardlink, symlink, tar

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import indexed
from bridge.layer.blob_index import File, Placed
from bridge.layer.compression import OUTPUT_CHUNK
from bridge.layer.tar import Entry, TarReader
from bridge.layer.zstd_chunked import Extent, Footer, as_annotations, render_footer, skippable

NOISE = random.Random(1).randbytes(300_000)
MEMBERS = [
    directory("etc", 0o755, xattrs={"user.a": "b"}),
    file("etc/motd", "content\n", 0o640, uid=7, gid=8),
    file("etc/empty"),
    file("usr/large", NOISE + bytes(5000) + NOISE[:1000]),
    file("usr/" + "long/" * 50 + "name", "pax"),
    symlink("link", "etc/motd"),
    hardlink("hard", "etc/motd"),
    char("null", 1, 3),
    file("same", "content\n"),
]
TAR = tar(MEMBERS)
BLOB = chunked(TAR)
START = BLOB.location.start


def placed(blob: Blob) -> list[tuple[int, File]]:
    """Where in the tar stream the files are, in its order."""
    found: Placed = {}
    for _part in blob.index.skeleton(found):
        pass
    return list(found.items())


def held(blob: Blob, stream: bytes) -> None:
    """Hold a tar stream to the index's table of contents."""
    check = blob.index.check()
    for entry in TarReader([stream]):
        check(entry)
    check(None)


def test_the_index_of_a_blob() -> None:
    index = BLOB.index
    assert index.compression == "zstd"
    # But for two headers in pax, and the archive's end.
    assert index.least_size == len(TAR) - 2 * 1024 - 3072
    assert index.end == START
    contents = {member.path: member.data for member in MEMBERS if member.data}
    assert [each.path for _at, each in placed(BLOB)] == list(contents)
    assert [each.path for each in index.files] == list(contents)
    for at, each in placed(BLOB):
        data = contents[each.path]
        assert each.size == len(data) == sum(piece.size for piece in each.pieces)
        assert each.digest == hashlib.sha256(data).digest()
        assert TAR[at : at + each.size] == data
    large = index.files[1]
    assert len(large.pieces) > 3
    assert [piece.zeros for piece in large.pieces].count(True) == 1
    held(BLOB, TAR)


def test_the_skeleton_is_made_anew_at_each_call() -> None:
    skeleton = BLOB.index.skeleton
    first = list(skeleton())
    assert list(skeleton()) == first
    assert BLOB.rebuilt() == TAR
    one, other = skeleton(), skeleton()  # two at once are not in one another's way
    assert [next(one), next(other), next(one), next(other)] == [first[0]] * 2 + [first[1]] * 2
    lengths = sum(len(part) for part in first if isinstance(part, bytes))
    assert lengths + sum(part.size for part in first if isinstance(part, File)) == len(TAR)


def test_a_layer_without_content() -> None:
    stream = tar([directory("a"), file("b"), symlink("c", "a")])
    blob = chunked(stream)
    assert blob.index.files == ()
    assert blob.rebuilt() == stream
    held(blob, stream)


def test_content_without_headers_between() -> None:
    """What no tar archive is, and makes no difference here."""
    blob = assembled(
        b"x" * 100,
        {"version": 1, "entries": [entry("a", 10, 20), entry("b", 20, 30)]},
        [content(0, "a"), content(1, "b")],
    )
    parts = list(blob.index.skeleton())
    assert [part.path for part in parts if isinstance(part, File)] == ["a", "b"]
    assert placed(blob) == list(zip([0, 5], blob.index.files, strict=True))
    assert b"".join(each for each in blob.index.skeleton() if isinstance(each, bytes)) == b""


def test_a_long_run_of_headers_comes_in_bounded_parts() -> None:
    """None of it has to be in memory, however much there is between two files."""
    run = 40 * limits.MIB
    blob = assembled(
        b"x" * 100,
        {"version": 1, "entries": [entry("a", 10, 20), entry("b", 20, 30)]},
        [content(0, "a"), *(segment(1 + at, bytes(limits.MIB)) for at in range(40)),
         content(41, "b"), segment(42, bytes(limits.MIB))],
    )  # fmt: skip
    between = 0
    longest = 0
    for part in blob.index.skeleton():
        if isinstance(part, bytes):
            longest = max(longest, len(part))
            between += len(part)
        else:
            assert between in (0, run)
    assert between == run + limits.MIB
    assert longest <= OUTPUT_CHUNK


# -- documents that disagree -----------------------------------------------------------------


def entry(name: str, start: int, end: int, size: int = 5) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    return {
        "type": "reg", "name": name, "size": size, "digest": digest, "offset": start,
        "endOffset": end,
    }  # fmt: skip


def content(position: int, name: str, size: int = 5) -> dict[str, Any]:
    return {"type": 1, "name": name, "size": size, "payload": None, "position": position}


def segment(position: int, data: bytes) -> dict[str, Any]:
    return {"type": 2, "payload": base64.b64encode(data).decode(), "position": position}


Toc, Split = dict[str, Any], list[dict[str, Any]]


def entry_of(toc: Toc, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in toc["entries"] if each["name"] == name)
    return found


def line_of(split: Split, name: str) -> dict[str, Any]:
    return next(each for each in split if each.get("name") == name)


def renumber(split: Split) -> None:
    for position, line in enumerate(split):
        line["position"] = position


def drop_line(_toc: Toc, split: Split) -> None:
    split.remove(line_of(split, "same"))
    renumber(split)


def double_line(_toc: Toc, split: Split) -> None:
    split.append(dict(line_of(split, "same")))
    renumber(split)


CHANGES: dict[str, tuple[Callable[[Toc, Split], object], str]] = {
    "a file that only the tar-split has": (
        lambda toc, _: toc["entries"].remove(entry_of(toc, "same")),
        "disagree on 'same'",
    ),
    "a file that only the table has": (drop_line, "tar-split lacks 'same'"),
    "a file that the tar-split has twice": (double_line, "disagree on 'same'"),
    "another name in the table": (
        lambda toc, _: entry_of(toc, "same").update(name="other"),
        "disagree on 'same'",
    ),
    "another name in the tar-split": (
        lambda _, split: line_of(split, "same").update(name="./same"),
        "disagree on './same'",
    ),
    "another size in the table": (
        lambda toc, _: entry_of(toc, "same").update(size=9),
        "disagree on 'same'",
    ),
    "another size in the tar-split": (
        lambda _, split: line_of(split, "same").update(size=9),
        "disagree on 'same'",
    ),
    "no size in the tar-split": (
        lambda _, split: line_of(split, "same").update(size=0),
        "tar-split lacks 'same'",
    ),
    "no size in the table": (
        lambda toc, _: entry_of(toc, "same").update(size=0),
        "disagree on 'same'",
    ),
    "a directory in the table": (
        lambda toc, _: entry_of(toc, "same").update(type="dir"),
        "disagree on 'same'",
    ),
    "lines in another order": (lambda _, split: split.reverse(), "tar-split is none"),
    "more content than an image may have": (
        lambda toc, split: (
            toc["entries"].append(entry("more", START - 2, START - 1, limits.CONTENT_MAX)),
            entry_of(toc, "same").update(endOffset=START - 2),
            split.append(content(len(split), "more", limits.CONTENT_MAX)),
        ),
        "which is the limit",
    ),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_documents_that_disagree(change: Callable[[Toc, Split], object], words: str) -> None:
    with pytest.raises(MalformedImage, match=words):
        for _ in BLOB.changed(change).index.skeleton():
            pass


def test_headers_count_as_what_an_image_may_hold() -> None:
    """Its content alone would be just allowed."""
    size = limits.CONTENT_MAX
    toc = {"version": 1, "entries": [entry("a", 10, 20, size)]}
    blob = assembled(b"x" * 100, toc, [content(0, "a", size)])
    with pytest.raises(MalformedImage, match="which is the limit"):
        _ = blob.index


def test_an_unchanged_copy_is_as_good() -> None:
    copy = BLOB.changed(lambda _toc, _split: None)
    assert copy.rebuilt() == TAR
    held(copy, TAR)


def test_a_skeleton_that_says_otherwise_is_noticed_by_who_compares() -> None:
    """The documents agree with one another; the tar stream is another one."""
    other = tar([*MEMBERS[:1], file("etc/motd", "content\n", 0o4640, uid=7, gid=8), *MEMBERS[2:]])
    split = chunked(other).tar_split
    blob = BLOB.changed(lambda _toc, mine: mine.__setitem__(slice(None), split))
    assert blob.rebuilt() == other
    with pytest.raises(MalformedImage, match="disagree on the mode of 'etc/motd'"):
        held(blob, other)


# -- documents that cannot be unpacked -------------------------------------------------------

SPLIT = b"".join(json.dumps(line).encode() + b"\n" for line in BLOB.tar_split)
TOC = json.dumps(
    BLOB.toc | {"tarSplitDigest": f"sha256:{hashlib.sha256(compress(SPLIT)).hexdigest()}"}
).encode()
CONTENT = BLOB.data[:START]


def test_documents_as_they_should_be() -> None:
    assert (
        framed(CONTENT, (compress(TOC), len(TOC)), (compress(SPLIT), len(SPLIT))).rebuilt() == TAR
    )


def test_documents_of_several_frames() -> None:
    toc = compress(TOC[:100]) + compress(TOC[100:])
    assert framed(CONTENT, (toc, len(TOC)), (compress(SPLIT), len(SPLIT))).rebuilt() == TAR


PACKED: dict[str, tuple[bytes, int]] = {
    "one byte less": (compress(TOC), len(TOC) - 1),
    "one byte more": (compress(TOC), len(TOC) + 1),
    "much less": (compress(TOC), 1),
    "much more": (compress(TOC), limits.TOC_MAX),
    "not packed": (TOC, len(TOC)),
    "gzip": (gzip.compress(TOC), len(TOC)),
    "cut off": (compress(TOC)[:-1], len(TOC)),
    "cut off early": (compress(TOC)[:9], len(TOC)),
    "with something behind it": (compress(TOC) + b"\0", len(TOC)),
    "with half a frame behind it": (compress(TOC) + compress(TOC)[:30], len(TOC)),
    "twice": (compress(TOC) * 2, 2 * len(TOC)),
    "zeros": (bytes(100), len(TOC)),
    "a large window": (b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(20), len(TOC)),
    "a bomb": (compress(bytes(64 * limits.MIB)), len(TOC)),
    "a bomb of its own size": (compress(bytes(16 * limits.MIB)), 16 * limits.MIB),
    "a bomb of white space": (compress(b" " * 16 * limits.MIB), 16 * limits.MIB),
}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_table_that_cannot_be_unpacked(packed: tuple[bytes, int]) -> None:
    blob = framed(CONTENT, packed, (compress(SPLIT), len(SPLIT)))
    with pytest.raises(MalformedImage):
        _ = blob.index


SPLITS: dict[str, tuple[bytes, int]] = {
    "one byte less": (compress(SPLIT), len(SPLIT) - 1),
    "one byte more": (compress(SPLIT), len(SPLIT) + 1),
    "not packed": (SPLIT, len(SPLIT)),
    "cut off": (compress(SPLIT)[:-1], len(SPLIT)),
    "with something behind it": (compress(SPLIT) + b"\0", len(SPLIT)),
    "zeros": (bytes(100), len(SPLIT)),
    "a bomb": (compress(bytes(64 * limits.MIB)), len(SPLIT)),
    "a bomb of its own size": (compress(b"\n" * 16 * limits.MIB), 16 * limits.MIB),
}


@pytest.mark.parametrize("packed", SPLITS.values(), ids=SPLITS)
def test_a_tar_split_that_cannot_be_unpacked(packed: tuple[bytes, int]) -> None:
    digest = f"sha256:{hashlib.sha256(packed[0]).hexdigest()}"
    toc = json.dumps(BLOB.toc | {"tarSplitDigest": digest}).encode()
    index = framed(CONTENT, (compress(toc), len(toc)), packed).index
    with pytest.raises(MalformedImage):
        for _ in index.skeleton():
            pass


@pytest.mark.parametrize("digest", [None, "", "sha256:" + "0" * 64])
def test_a_tar_split_that_nobody_vouches_for(digest: str | None) -> None:
    toc = json.dumps(BLOB.toc | {"tarSplitDigest": digest}).encode()
    blob = assembled(CONTENT, toc, BLOB.tar_split)
    with pytest.raises(MalformedImage, match="tar-split has not the digest"):
        _ = blob.index


def test_each_damaged_byte_of_the_end_is_noticed() -> None:
    """All of it is under a digest, but for the kind of a skippable frame and a footer."""
    small = chunked(tar([file("a", "content")]))
    tail = small.tail
    noticed = 0
    for at in range(len(tail)):
        damaged = bytearray(tail)
        damaged[at] ^= 0x80
        try:
            index = indexed.read(small.location, bytes(damaged))
        except MalformedImage:
            noticed += 1
        else:
            assert index.files == small.index.files
            assert at >= len(tail) - 72
    assert noticed >= len(tail) - 72 + 48  # of the footer its numbers
    with pytest.raises(MalformedImage):
        indexed.read(small.location, tail[:-1])


# -- what the writers may do otherwise -------------------------------------------------------


def test_frames_of_documents_may_have_any_of_the_sixteen_numbers() -> None:
    toc, split = compress(TOC), compress(SPLIT)
    toc_at = Extent(START + 8, len(toc), len(TOC))
    split_at = Extent(toc_at.end + 8, len(split), len(SPLIT))
    other = bytearray(skippable(toc))
    other[0] = 0x5F
    tail = bytes(other) + skippable(split) + render_footer(Footer(toc_at, split_at))
    annotations = as_annotations(toc_at, hashlib.sha256(toc).digest(), split_at)
    assert Blob(CONTENT + tail, annotations).rebuilt() == TAR


@pytest.mark.parametrize("order", [1, -1])
def test_entries_may_be_in_any_order(order: int) -> None:
    def shuffle(toc: Toc, _split: Split) -> None:
        groups = grouped(toc["entries"])
        random.Random(order).shuffle(groups)
        toc["entries"] = [each for group in groups for each in group]

    blob = BLOB.changed(shuffle)
    assert placed(blob) == placed(BLOB)  # in the tar stream's order
    assert sorted(blob.index.files) == sorted(BLOB.index.files)
    assert blob.rebuilt() == TAR
    held(blob, TAR)


def compared(blob: Blob, entries: Sequence[Entry | None]) -> None:
    check = blob.index.check()
    for each in entries:
        check(each)


def test_each_call_compares_anew() -> None:
    entries: list[Entry | None] = [*TarReader([TAR]), None]
    for _ in range(2):
        compared(BLOB, entries)
    with pytest.raises(MalformedImage):
        compared(BLOB, entries[1:])


def annotations_of(changes: Mapping[str, str]) -> dict[str, str]:
    return {**BLOB.annotations, **changes}


def test_the_wrong_digest_in_the_manifest() -> None:
    key = next(each for each in BLOB.annotations if each.endswith("manifest-checksum"))
    blob = Blob(BLOB.data, annotations_of({key: "sha256:" + "0" * 64}))
    with pytest.raises(MalformedImage, match="digest that the manifest gives"):
        _ = blob.index
