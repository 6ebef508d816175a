"""Reading eStargz blobs: those of the reference writer, our own, and malformed ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.estargz import ANNOTATION, Stargz, entry, estargz, footer, gnu

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import estargz as reader
from bridge.layer import indexed
from bridge.layer.blob_index import BlobIndex, Placed
from bridge.layer.pieces import unpack
from bridge.layer.tar import TarReader

GOLDEN = Path(__file__).parent / "data/golden.esgz"
"""By containerd/stargz-snapshotter/estargz 0.19.1, chunks of 1024 bytes, three writers at once."""
GOLDEN_TOC = "sha256:8d63f7a236094fb59a846306423ac8b4dae8afefc504ea12b46ecac682a19966"
GOLDEN_DIFF_ID = "725e0449448e1aa7bfd1dfefc6657383f87cd602cbc57d05e0f984d24f0589d0"


def read(blob: bytes, toc_digest: str) -> BlobIndex:
    """Reads an index as a pull does, with no more of the blob than it asks for."""
    location = indexed.locate({ANNOTATION: toc_digest}, len(blob), "gzip")
    assert location is not None
    try:
        index = indexed.read(location, blob[location.start :])
    except indexed.MoreNeeded as more:
        assert more.start < location.start
        index = indexed.read(location, blob[more.start :])
    indexed.compare(index, lambda size: blob[:size])
    return index


def rebuilt(blob: bytes, index: BlobIndex) -> bytes:
    """Puts the tar stream together of pieces that are held to their digests."""
    made = bytearray()
    placed: Placed = {}
    for part in index.skeleton(placed):
        if isinstance(part, bytes):
            made += part
            continue
        at = len(made)
        assert placed[at] is part
        for piece in part.pieces:
            data = unpack(blob[piece.start : piece.end], piece.size, index.compression)
            assert hashlib.sha256(data).digest() == piece.digest
            made += data
        assert hashlib.sha256(made[at:]).digest() == part.digest
    assert len(placed) == len(index.files)
    assert len(made) >= index.least_size
    return bytes(made)


def checked(stream: bytes, index: BlobIndex) -> None:
    check = index.check()
    for each in TarReader([stream]):
        check(each)
    check(None)


def test_what_the_reference_writer_writes() -> None:
    """All kinds of entries; headers in ustar, with prefixes, in pax; in three pieces, in none."""
    blob = GOLDEN.read_bytes()
    index = read(blob, GOLDEN_TOC)
    stream = rebuilt(blob, index)
    assert hashlib.sha256(stream).hexdigest() == GOLDEN_DIFF_ID
    checked(stream, index)
    assert {file.path: len(file.pieces) for file in index.files if len(file.pieces) > 1} == {
        "usr/chunks": 3
    }


ENTRIES = [
    entry("usr/", kind=tarfile.DIRTYPE, mode=0o755),
    entry("usr/one", b"one" * 100),
    entry("usr/empty"),
    entry("usr/hard", kind=tarfile.LNKTYPE, linkname="usr/one"),
    entry("usr/two", random.Random(2).randbytes(2500), uid=1000),
    entry("usr/soft", kind=tarfile.SYMTYPE, linkname="two", mode=0o777),
]


@pytest.mark.parametrize("old", [False, True], ids=["footer", "old footer"])
@pytest.mark.parametrize("chunk", [700, 2500, 4 << 20])
def test_streams_are_made_again(chunk: int, old: bool) -> None:
    made = estargz(ENTRIES, chunk=chunk, old=old)
    index = read(made.blob, made.toc_digest)
    assert rebuilt(made.blob, index) == made.tar
    checked(made.tar, index)


NAMES = st.lists(
    st.text("abc-.é", min_size=1, max_size=60).filter(lambda name: name not in (".", "..")),
    min_size=1, max_size=6,
).map("/".join).filter(lambda name: name.isascii() and len(name) < 100)  # fmt: skip


@given(st.dictionaries(NAMES, st.binary(max_size=3000), max_size=6), st.integers(1, 2000))
@settings(max_examples=60, deadline=None)
def test_any_files(files: dict[str, bytes], chunk: int) -> None:
    made = estargz([entry(name, data) for name, data in files.items()], chunk=chunk)
    index = read(made.blob, made.toc_digest)
    assert rebuilt(made.blob, index) == made.tar


def test_a_table_that_begins_early_is_asked_for() -> None:
    """Many small names, little content: it is more than 64 KiB, and than a 128th."""
    rng = random.Random(1)
    made = estargz([entry(rng.randbytes(40).hex(), b"x") for _ in range(2000)])
    location = indexed.locate(made.annotations, len(made.blob), "gzip")
    assert location is not None
    assert len(made.blob) - location.start == limits.ESTARGZ_TAIL
    with pytest.raises(indexed.MoreNeeded):
        indexed.read(location, made.blob[location.start :])
    assert rebuilt(made.blob, read(made.blob, made.toc_digest)) == made.tar


@pytest.mark.parametrize(
    "made",
    [
        estargz(ENTRIES, header=gnu),
        estargz([entry("a", b"a", uname="root"), entry("b", b"b")]),
        estargz([entry("a", b"a", mtime=1_700_000_000.5)], header=tarfile.TarInfo.tobuf),
    ],
    ids=["GNU format", "a user's name that the table has not", "a fraction of a second"],
)
def test_headers_that_cannot_be_guessed(made: Stargz) -> None:
    with pytest.raises(MalformedImage, match="headers are not as eStargz writers make them"):
        read(made.blob, made.toc_digest)


def change(name: str, /, **values: Any) -> Callable[[dict[str, Any]], object]:
    def edit(toc: dict[str, Any]) -> None:
        for each in toc["entries"]:
            if each["name"] == name:
                each.update(values)
                return

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda toc: toc.update(version=2), "of version 2"),
        (lambda toc: toc["entries"].append(1), "no object"),
        (lambda toc: toc["entries"].append(toc["entries"][1]), "twice"),
        (lambda toc: toc["entries"].insert(0, {"type": "chunk", "name": "a"}), "no file"),
        (lambda toc: toc["entries"].append({"type": "reg", "name": "stargz.index.json"}), "itself"),
        (change("usr/two", innerOffset=5), "one gzip member"),
        (change("usr/two", offset=0), "one place|outside"),
        (change("usr/two", offset=1 << 40), "outside"),
        (change("usr/two", offset=-1), "number"),
        (change("usr/two", offset="1"), "number"),
        (change("usr/two", digest="sha256:00"), "digest"),
        (change("usr/two", size=2501), "headers"),
        (change("usr/two", size=1400), "do not follow"),
        (change("usr/two", chunkOffset=1), "do not follow"),
        (change("usr/two", type="other"), "type"),
        (change("usr/two", uid=2000), "headers"),
        (change("usr/two", mode=-1), "fits in no"),
        (change("usr/two", userName=1), "no text"),
        (change("usr/two", userName="\0"), "NUL"),
        (change("usr/soft", linkName=5), "no text"),
        (change("usr/two", modtime="yesterday"), "the time"),
        (change("usr/two", name="usr/other"), "no file"),
    ],
)
def test_tables_that_cannot_be(edit: Callable[[dict[str, Any]], object], says: str) -> None:
    made = estargz(ENTRIES, chunk=700, edit=edit)
    with pytest.raises(MalformedImage, match=says):
        read(made.blob, made.toc_digest)


def cut(blob: bytes, offset: int) -> bytes:
    """The blob with a footer that says another offset."""
    return blob[:-51] + footer(offset)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda blob: blob[:-1], "no eStargz footer"),
        (lambda blob: blob + b"\0", "no eStargz footer"),
        (lambda blob: cut(blob, 0), "not where its footer says"),
        (lambda blob: cut(blob, len(blob)), "not where its footer says"),
        (lambda blob: cut(blob, 1), "."),
        (lambda blob: cut(blob, len(blob) - 60), "."),
        (lambda blob: b"\0" + blob[1:], "beginning cannot be unpacked"),
    ],
)
def test_blobs_that_cannot_be(damage: Callable[[bytes], bytes], says: str) -> None:
    made = estargz(ENTRIES)
    with pytest.raises(MalformedImage, match=says):
        read(damage(made.blob), made.toc_digest)


def test_another_table_than_the_manifest_means() -> None:
    made = estargz(ENTRIES)
    with pytest.raises(MalformedImage, match="not the digest that the manifest gives"):
        read(made.blob, f"sha256:{'0' * 64}")


def test_a_stream_that_is_not_as_the_table_says() -> None:
    made = estargz(ENTRIES)
    other = estargz([*ENTRIES[:-1], entry("usr/soft", b"", tarfile.SYMTYPE, linkname="one")])
    with pytest.raises(MalformedImage, match="disagree on the mode of 'usr/soft'"):
        checked(other.tar, read(made.blob, made.toc_digest))


def test_where_it_is_said() -> None:
    chunked = {"io.github.containers.zstd-chunked.manifest-checksum": f"sha256:{'0' * 64}"}
    digest = {ANNOTATION: f"sha256:{'1' * 64}"}
    assert indexed.locate({}, 1000, "gzip") is None
    assert indexed.locate(digest, 1000, "zstd") is None
    with pytest.raises(MalformedImage, match="eStargz as well"):
        indexed.locate(digest | chunked, 1000, "gzip")
    with pytest.raises(MalformedImage, match="has none"):
        indexed.locate({ANNOTATION: "sha256:1"}, 1000, "gzip")
    large = indexed.locate(digest, 128 * limits.MIB, "gzip")
    assert large is not None
    assert large.start == 127 * limits.MIB


def test_a_table_in_a_gzip_member_for_each_byte_is_read_in_large_chunks() -> None:
    """Else the end of a long value would be looked for as often as it has bytes."""
    text = b'{"version":1,"x":"' + bytes(20_000).replace(b"\0", b"x") + b'","entries":[]}'
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("stargz.index.json")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    packed = b"".join(gzip.compress(bytes([each]), 1) for each in out.getvalue())
    table = reader.Table(packed, hashlib.sha256(text).digest())
    chunks = list(table.json())
    assert b"".join(chunks) == text
    assert len(chunks) == 1
