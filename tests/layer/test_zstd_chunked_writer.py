"""Writing zstd:chunked: what is in a blob, and that the same stream comes out of it again."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastcrc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import indexed, zstd_chunked
from bridge.layer.blob_index import File
from bridge.layer.compression import decompress
from bridge.layer.pieces import unpacked
from bridge.layer.tar import TarReader
from bridge.layer.zstd_chunked_writer import NotHeld, Written, write

Member = tuple[str, bytes, bytes, dict[str, Any]]
"""Name, type, content, and what else its header says."""


def archive(members: list[Member], form: int = tarfile.PAX_FORMAT, **all_of: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **all_of) as packed:
        for name, kind, content, values in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            for key, value in values.items():
                setattr(info, key, value)
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


def file(name: str, content: bytes = b"", **values: Any) -> Member:
    return name, tarfile.REGTYPE, content, values


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def made(tar: bytes, step: int = 0, threads: int = 1, level: int = 3) -> tuple[bytes, Written]:
    chunks = [tar[at : at + step] for at in range(0, len(tar), step)] if step else [tar]
    out = bytearray()
    written = write(chunks, out.extend, level=level, threads=threads)
    assert written.size == len(out)
    assert written.digest == f"sha256:{hashlib.sha256(out).hexdigest()}"
    return bytes(out), written


def documents(blob: bytes, written: Written) -> tuple[str, list[Any]]:
    """Return the table of contents as it was written, and the lines of the tar-split."""
    place = zstd_chunked.locate(written.annotations, len(blob))
    assert place is not None
    toc, split = zstd_chunked.split(place, blob[place.start :])
    texts = [b"".join(decompress([each], "zstd")).decode() for each in (toc, split)]
    assert [len(each.encode()) for each in texts] == [place.toc.size, place.tar_split.size]
    digest = hashlib.sha256(split).hexdigest()
    assert texts[0].endswith(f'],"tarSplitDigest":"sha256:{digest}"}}')
    return texts[0], [json.loads(line) for line in texts[1].splitlines()]


def check(tar: bytes, blob: bytes, written: Written) -> tuple[File, ...]:
    """Have a blob unpacked whole, and built from its parts; return the files of its index."""
    assert b"".join(decompress([blob], "zstd")) == tar
    location = indexed.locate(written.annotations, len(blob), "zstd")
    assert location is not None
    index = indexed.read(location, blob[location.start :])
    assert index.least_size <= len(tar)

    def parts() -> Iterator[bytes]:
        for part in index.skeleton():
            if isinstance(part, bytes):
                yield part
                continue
            whole = hashlib.sha256()
            for piece in part.pieces:
                frame = blob[piece.start : piece.end]
                data = b"".join(unpacked([frame], piece.size, "zstd"))
                assert hashlib.sha256(data).digest() == piece.digest
                assert not piece.zeros or not data.strip(b"\0")
                whole.update(data)
                yield data
            assert whole.digest() == part.digest

    assert b"".join(parts()) == tar
    compare = index.check()
    for entry in TarReader([tar]):
        compare(entry)
    compare(None)
    return index.files


# -- what is written -------------------------------------------------------------------------


def test_the_documents_of_a_small_layer() -> None:
    content = b"content\n"
    tar = archive(
        [
            ("etc/", tarfile.DIRTYPE, b"", {"mode": 0o755, "mtime": 1700000000}),
            file(
                "etc/a<b>&c",
                content,
                mode=0o4750,
                uid=7,
                gid=8,
                mtime=1700000000.25,
                pax_headers={
                    "atime": "1700000001.5",
                    "ctime": "1700000002",
                    "SCHILY.xattr.user.z": "last",
                    "SCHILY.xattr.user.a": "first",
                },
            ),
            file("etc/empty", mtime=0),
            ("etc/link", tarfile.SYMTYPE, b"", {"linkname": "a<b>&c", "mode": 0o777, "mtime": 1}),
            ("etc/hard", tarfile.LNKTYPE, b"", {"linkname": "etc/empty", "mtime": -2.5}),
            ("null", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3, "mtime": 9e9}),
            ("pipe", tarfile.FIFOTYPE, b"", {"mode": 0, "mtime": -4e10 + 0.5}),
        ]
    )
    blob, written = made(tar)
    [whole] = check(tar, blob, written)
    toc, lines = documents(blob, written)
    digest = hashlib.sha256(content).hexdigest()
    place = f'"offset":{whole.pieces[0].start},"endOffset":{whole.pieces[0].end}'
    expected = [
        '{"type":"dir","name":"etc/","mode":493,"modtime":"2023-11-14T22:13:20Z"}',
        '{"type":"reg","name":"etc/a\\u003cb\\u003e\\u0026c","mode":2536,"size":8,"uid":7,"gid":8,'
        '"modtime":"2023-11-14T22:13:20.25Z","accesstime":"2023-11-14T22:13:21.5Z",'
        '"changetime":"2023-11-14T22:13:22Z",'
        '"xattrs":{"user.a":"Zmlyc3Q=","user.z":"bGFzdA=="},'
        f'"digest":"sha256:{digest}",{place}}}',
        '{"type":"reg","name":"etc/empty","mode":420,"modtime":"1970-01-01T00:00:00Z"}',
        '{"type":"symlink","name":"etc/link","linkName":"a\\u003cb\\u003e\\u0026c","mode":511,'
        '"modtime":"1970-01-01T00:00:01Z"}',
        '{"type":"hardlink","name":"etc/hard","linkName":"etc/empty","mode":420,'
        '"modtime":"1969-12-31T23:59:57.5Z"}',
        '{"type":"char","name":"null","mode":420,"modtime":"2255-03-14T16:00:00Z",'
        '"devMajor":1,"devMinor":3}',
        '{"type":"fifo","name":"pipe","modtime":"0702-06-15T00:53:20.5Z"}',
    ]
    assert toc.partition("[")[0] == '{"version":1,"entries":'
    assert toc.partition("[")[2].rpartition('],"tarSplitDigest"')[0] == ",".join(expected)

    assert [line["position"] for line in lines] == list(range(15))
    assert [line["type"] for line in lines] == [2, 1] * 7 + [2]
    crc = base64.b64encode(struct.pack(">Q", fastcrc.crc64.go_iso(content))).decode()
    assert lines[3] == {
        "type": 1, "name": "etc/a<b>&c", "size": 8, "payload": crc, "position": 3,
    }  # fmt: skip
    assert lines[5] == {"type": 1, "name": "etc/empty", "payload": None, "position": 5}
    segments = [base64.b64decode(line["payload"]) for line in lines[::2]]
    assert b"".join(segments[:2]) + content + b"".join(segments[2:]) == tar


def test_files_are_cut_and_zeros_are_pieces_of_their_own() -> None:
    content = noise(300_000) + bytes(5000) + noise(100_000, 1) + bytes(2000)
    tar = archive([file("large", content), file("zeros", bytes(70_000)), file("end", b"end")])
    blob, written = made(tar)
    large, zeros, end = check(tar, blob, written)
    assert len(large.pieces) > 4
    assert [piece.size for piece in large.pieces if piece.zeros] == [5000, 2000]
    assert large.pieces[-1].zeros
    assert [(len(each.pieces), each.pieces[0].zeros) for each in (zeros, end)] == [
        (1, False),  # of one piece nothing is said but the digest
        (1, False),
    ]
    entries = json.loads(documents(blob, written)[0])["entries"]
    chunks = [each for each in entries if each["name"] == "large"]
    assert [each["type"] for each in chunks] == ["reg"] + ["chunk"] * (len(large.pieces) - 1)
    assert list(chunks[1]) == ["type", "name", "offset", "chunkSize", "chunkOffset", "chunkDigest"]
    assert list(chunks[-1])[-1] == "chunkType" and chunks[-1]["chunkType"] == "zeros"
    assert "chunkOffset" not in chunks[0] and "chunkSize" in chunks[0]


def test_three_annotations_and_a_footer_that_says_the_same() -> None:
    blob, written = made(archive([file("f", b"x")]))
    place = zstd_chunked.locate(written.annotations, len(blob))
    assert place is not None and len(written.annotations) == 3
    footer = zstd_chunked.parse_footer(blob[place.tar_split.end :])
    assert footer == zstd_chunked.Footer(place.toc, place.tar_split)


def test_an_archive_of_nothing() -> None:
    for tar in (bytes(1024), bytes(10240)):
        blob, written = made(tar)
        assert check(tar, blob, written) == ()


# -- the same stream again -------------------------------------------------------------------

NAMES = st.one_of(
    st.text("abcdefgh<>&\"'\\", min_size=1, max_size=90),
    st.text("üß€\u2028\x7f日本語", min_size=1, max_size=40),
    st.integers(60, 500).map(lambda size: ("d" * 49 + "/") * 12 + "f" * size),
).map(lambda name: "n" + name)
CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=600),
        st.sampled_from([1, 64, 1023, 1024, 1025, 5000, 70_000]).map(bytes),
        st.builds(noise, st.integers(1, 150_000), st.integers(0, 9)),
    ),
    max_size=4,
).map(b"".join)
TIMES = st.one_of(
    st.integers(0, 2**33),
    st.sampled_from(["0.5", "-1.25", "1700000000.123456789", "-40000000000.000000001", "12.000"]),
)
KINDS = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE)


class Tar(bytes):
    """An archive that a failing test shows in a line."""

    def __repr__(self) -> str:
        return f"Tar({[entry.path for entry in TarReader([self])]!r:.300})"


@st.composite
def tars(draw: st.DrawFn) -> Tar:
    form = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    members: list[Member] = []
    for name in draw(st.lists(NAMES, max_size=6, unique=True)):
        values: dict[str, Any] = {
            "mode": draw(st.integers(0, 0o7777)),
            "uid": draw(st.integers(0, 2**32 - 2)),
            "devminor": draw(st.integers(0, 4095)),
            "linkname": draw(NAMES),
        }
        time = draw(TIMES)
        if isinstance(time, int):
            values["mtime"] = time
        headers = {"mtime": str(time)} if isinstance(time, str) else {}
        if draw(st.booleans()):
            headers["SCHILY.xattr.user." + draw(st.text("xyz<ü", min_size=1))] = draw(
                st.text(st.characters(codec="utf-8"), max_size=50)
            )
            headers["atime"] = str(draw(TIMES))
        values["pax_headers"] = headers
        if draw(st.booleans()):
            del values["linkname"]
            members.append(file(name, draw(CONTENTS), **values))
        else:
            members.append((name, draw(st.sampled_from(KINDS)), b"", values))
    behind = draw(st.sampled_from([b"", bytes(9000), b"behind the end"]))
    return Tar(archive(members, form) + behind)


@settings(deadline=None, max_examples=30)
@given(tar=tars(), step=st.integers(100, 40_000), level=st.sampled_from([1, 3, 9]))
def test_any_stream_comes_out_again_and_threads_and_chunks_change_nothing(
    tar: bytes, step: int, level: int
) -> None:
    blob, written = made(tar, level=level)
    check(tar, blob, written)
    assert made(tar, step, 4, level) == (blob, written)


def test_threads_and_chunks_change_nothing_in_several_batches() -> None:
    members = [file(f"small/{number}", noise(number, number)) for number in range(1200)]
    members += [file(f"large/{number}", noise(1_500_000, number)) for number in range(3)]
    tar = archive(members)
    expected = made(tar)
    check(tar, *expected)
    for step, threads in ((7001, 1), (0, 4), (100_003, 4)):
        assert made(tar, step, threads) == expected


@pytest.mark.parametrize(
    "content",
    [
        bytes(300_000),
        b"\1" * 300_000,
        b"\1" * 65_500 + bytes(200_000) + noise(200_000),
        b"\1" * 150_000 + bytes(1023) + b"\1" * 150_000 + bytes(1024),
        noise(100_000) + bytes(65_537),
    ],
)
def test_pieces_of_any_size_are_not_held(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [file("before", b"x"), file("large", content), file("after", b"y")]
    members += [(f"{number}", tarfile.DIRTYPE, b"", {}) for number in range(300)]
    tar = archive(members)
    usual, as_usual = made(tar)
    cut = [
        (each.path, [piece[:2] for piece in each.pieces]) for each in check(tar, usual, as_usual)
    ]
    monkeypatch.setattr(limits, "PIECE_HELD_MAX", 65_536)
    blob, written = made(tar)
    files = check(tar, blob, written)
    assert [(each.path, [piece[:2] for piece in each.pieces]) for each in files] == cut
    assert blob != usual
    for step, threads in ((999, 1), (65_537, 4)):
        assert made(tar, step, threads) == (blob, written)


def test_what_follows_the_archive_may_be_long() -> None:
    tar = archive([file("f", b"x")]) + noise(3_000_000)
    blob, written = made(tar)
    check(tar, blob, written)
    assert made(tar, 10_007, 4) == (blob, written)


# -- what the format has no way to say -------------------------------------------------------


EMPTY_AND_SPARSE = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": "a",
    "GNU.sparse.realsize": "0",
}


@pytest.mark.parametrize(
    ("tar", "why"),
    [
        (archive([file("a", b"1"), file("b"), file("a", b"2")]), "'a' is there twice"),
        (archive([file("a")], pax_headers={"mtime": "1"}), "global pax headers"),
        (archive([("a", tarfile.CONTTYPE, b"x", {})]), "of a type"),
        (archive([file("a", pax_headers={"mtime": "999999999999"})]), "beyond the year 9999"),
        (archive([file("a", pax_headers={"atime": "noon"})]), "pax time"),
        (archive([file("a", pax_headers={"LIBARCHIVE.xattr.user.b": "Zmlyc3Q"})]), "libarchive"),
        (archive([file("b", b"0\n".ljust(512, b"\0"), pax_headers=EMPTY_AND_SPARSE)]), "sparse"),
    ],
)
def test_what_is_not_held(tar: bytes, why: str) -> None:
    with pytest.raises(NotHeld, match=why):
        made(tar)


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_files_are_not_held(form: str, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as sparse:
        sparse.truncate(1_000_000)
    command = ["tar", f"--format={form}", "--sparse", "--hole-detection=raw", "-cf", "-", "f"]
    tar = subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.PIPE).stdout
    with pytest.raises(NotHeld, match="sparse"):
        made(tar)


def test_a_stream_that_is_cut_off() -> None:
    tar = archive([file("f", noise(100_000))])
    with pytest.raises(MalformedImage, match="cut off"):
        made(tar[:50_000])
