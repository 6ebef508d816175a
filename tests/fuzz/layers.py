"""Layers: tar streams, pax records, gzip and zstd; and what ingest makes of a tar stream.

Good archives are damaged in ways that keep them near to good ones: checksums are mended, blocks
moved, numbers replaced.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import random
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import zstandard
from support.chunked import Blob, assembled, chunked, compress
from support.encapsulated import Dir, encapsulated
from support.encapsulated import File as Stored
from support.images import tar

from bridge.errors import MalformedImage, NoSpace, VerificationFailed
from bridge.layer import compression, indexed, pax, tar_split, toc, zstd_chunked
from bridge.layer.blob_index import File, Placed
from bridge.layer.tar import EntryType, TarReader
from bridge.oci.digest import Digest
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import layer
from bridge.pull.encapsulated import ingest_objects
from bridge.pull.encapsulation import Role
from bridge.pull.ingest import IMPLIED_META, ingest
from bridge.pull.merge import Merge, StoredObjects

from .harness import Target, mutated

PAYLOAD_READ_MAX = 1 << 22
NUMBERS = (
    [b"%011o\0" % number for number in (0, 1, 511, 512, 513, 8**11 - 1)]
    + [b"\x80" + number.to_bytes(11, "big") for number in (1, 2**40, 2**63 - 1, 2**63)]
    + [b"\xff" * 12, b"            ", b"-1\0", bytes(12)]
)
WORDS = [
    b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.major", b"path", b"size", b"linkpath",
    b"SCHILY.xattr.user.a", b"LIBARCHIVE.xattr.a", b"hdrcharset", b"\0", b"\xff", b"=", b"\n",
    b"18446744073709551615", b"-1", b"1\n0\n5\n", b"../", b"ustar\x0000", b"ustar  \0",
]  # fmt: skip


def _archives() -> list[bytes]:
    """Return small archives of every format."""
    result = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for number, kind in enumerate(b"0125364\x007S"):
                info = tarfile.TarInfo(f"dir/{number}")
                info.type = bytes([kind])
                info.linkname = "dir/0" if kind in b"12" else ""
                info.size = 700 if kind in b"0\x007" else 0
                if form != tarfile.USTAR_FORMAT and number % 2:
                    info.name += "/long" * 30
                if form == tarfile.PAX_FORMAT:
                    info.mtime = 1.5
                    info.pax_headers = {"SCHILY.xattr.user.name": "value"}
                    if number == 0:
                        info.pax_headers |= {"GNU.sparse.size": "900", "GNU.sparse.map": "100,700"}
                archive.addfile(info, io.BytesIO(b"p" * info.size))
        result.append(out.getvalue()[: 14 * 1024])
    return result


def _mutate_tar(blob: bytes, chance: random.Random) -> bytes:
    """Return a damaged copy, most often with right checksums."""
    data = bytearray(blob.ljust(512, b"\0"))
    del data[len(data) // 512 * 512 :]
    for _ in range(chance.randint(1, 4)):
        block = chance.randrange(len(data) // 512) * 512
        match chance.randrange(8):
            case 0:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                data[block + 156] = chance.choice(b"\x0001234567SxgLKVMX")
            case 2:
                data[block + 124 : block + 136] = chance.choice(NUMBERS)
            case 3:
                other = chance.randrange(len(data) // 512) * 512
                data[block : block + 512] = data[other : other + 512]
            case 4:
                del data[block : block + 512]
                data = data or bytearray(512)
            case 5:
                place, word = block + chance.randrange(300), chance.choice(WORDS)
                data[place : place + len(word)] = word
            case 6:
                data[block + 386 : block + 482] = b"".join(chance.choices(NUMBERS, k=8))
            case 7:
                data[block + 483 : block + 495] = chance.choice(NUMBERS)
        del data[len(data) // 512 * 512 :]
    if chance.random() < 0.9:
        for block in range(0, len(data), 512):
            if data[block + 257 : block + 262] == b"ustar":
                data[block + 148 : block + 156] = b" " * 8
                data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def _read(blob: bytes, cuts: list[int]) -> list[tuple[object, bytes]]:
    result: list[tuple[object, bytes]] = []
    edges = sorted({0, *(cut for cut in cuts if cut < len(blob)), len(blob)})
    reader = TarReader(blob[a:b] for a, b in itertools.pairwise(edges))
    for entry in reader:
        assert entry.path
        assert entry.size == 0 or entry.type is EntryType.FILE
        assert entry.mode <= 0o7777
        payload = b""
        for piece in reader.payload():
            payload += piece
            if len(payload) > PAYLOAD_READ_MAX:
                break
        else:
            assert len(payload) == entry.size
        result.append((entry, payload[:PAYLOAD_READ_MAX]))
    reader.drain()
    return result


def _read_tar(blob: bytes) -> list[tuple[object, bytes]]:
    """Read it whole and in pieces; both must come to the same."""
    chance = random.Random(len(blob))
    step = chance.randint(1, 1500)
    for cuts in ([], list(range(0, len(blob), step))):
        try:
            result = _read(blob, cuts)
        except MalformedImage as error:
            assert str(error).startswith("tar entry ")
            failure = error
        else:
            failure = None
        if not cuts:
            whole = result if failure is None else None
    assert (failure is None) == (whole is not None), "cut differently, read differently"
    if failure is not None:
        raise failure
    assert result == whole, "cut differently, read differently"
    return result


def _read_records(data: bytes) -> list[tuple[bytes, bytes]]:
    records = pax.parse_records(data)
    with contextlib.suppress(MalformedImage):
        pax.interpret_global(records, pax.interpret([]))
    pax.interpret(records)
    return records


def _records_come_back(data: bytes, records: list[tuple[bytes, bytes]]) -> None:
    """A length may have zeros before it, and nothing else can be said in two ways."""
    written = b"".join(_record(key, value) for key, value in records)
    zeros = data
    for _ in range(8):
        zeros = zeros.replace(b"\n0", b"\n").removeprefix(b"0")
    assert len(written) <= len(data)
    if len(written) == len(data):
        assert written == data


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


# -- compression -----------------------------------------------------------------------------

_TEXT = b"usr/lib/os-release " * 40 + bytes(range(256))


def _gunzip(blob: bytes) -> bytes:
    """Read it with isal and with zlib, cut in two ways; they must agree."""
    results = []
    for library, step in ((None, len(blob) or 1), (zlib, 7)):
        chosen = compression._inflate_library() if library is None else library
        with mock.patch.object(compression, "_inflate_library", lambda chosen=chosen: chosen):
            results.append(_decompressed(blob, "gzip", step))
    return _same(results)


def _unzstd(blob: bytes) -> bytes:
    return _same([_decompressed(blob, "zstd", step) for step in (len(blob) or 1, 7)])


def _decompressed(blob: bytes, kind: str, step: int) -> bytes | MalformedImage:
    out = io.BytesIO()
    try:
        chunks = (blob[at : at + step] for at in range(0, len(blob), step))
        for chunk in compression.decompress(chunks, kind):
            assert 0 < len(chunk) <= compression.OUTPUT_CHUNK
            out.write(chunk)
    except MalformedImage as error:
        return error
    return out.getvalue()


def _same(results: list[bytes | MalformedImage]) -> bytes:
    one, other = results
    if isinstance(one, bytes) != isinstance(other, bytes):
        raise AssertionError(f"one reads it, the other says: {results!r:.200}")
    if isinstance(one, MalformedImage):
        raise one
    assert one == other
    return one


def _gzip_agrees(blob: bytes, plain: bytes) -> None:
    assert gzip.decompress(blob) == plain


def _zstd_agrees(blob: bytes, plain: bytes) -> None:
    """Each frame alone, through the library's one-shot call."""
    reader = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
    assert reader.read(len(plain) + 1) == plain


def _member(data: bytes, flags: int = 0, level: int = 6) -> bytes:
    """Return a gzip member; `flags` are RFC 1952's: 2 checksum, 4 extra, 8 name, 16 comment."""
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    header += (b"\x02\0ab" if flags & 4 else b"") + (b"name\0" if flags & 8 else b"")
    header += b"note\0" if flags & 16 else b""
    if flags & 2:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


def _mutate_gzip(blob: bytes, chance: random.Random) -> bytes:
    """Put members with headers of every kind in a row, or damage them."""
    if chance.random() < 0.5:
        data = chance.choice((b"", _TEXT, bytes(700), bytes(compression.OUTPUT_CHUNK)))
        blob += _member(data, chance.randrange(0x20), chance.choice((0, 1, 9)))
    if chance.random() < 0.7:
        start = chance.randrange(len(blob) + 1)
        blob = blob[:start] + mutated(blob[start : start + 30], chance) + blob[start + 30 :]
    return blob


def _frame(data: bytes, **more: Any) -> bytes:
    return zstandard.ZstdCompressor(**more).compress(data)


def _skippable(size: int) -> bytes:
    return struct.pack("<II", 0x184D2A50, size) + bytes(size)


# -- ingest ----------------------------------------------------------------------------------


def _ingest(blob: bytes) -> str:
    """Import and merge a layer in a repository of its own; return the tree that came of it."""
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as path,
        Repository.create(Path(path) / "repo", "bare-user") as repo,
    ):
        with Transaction(repo) as transaction:
            made = ingest([blob], transaction)
            commit = made.store(transaction, Digest.of(blob))
            transaction.publish()
        with Transaction(repo) as transaction:
            merge = Merge(StoredObjects(repo), transaction.write_dirmeta(IMPLIED_META))
            merge.apply(layer.load(repo, commit))
            merge.finish()
            return merge.tree.write(transaction)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _linked() -> list[bytes]:
    """Return archives of links and whiteouts, whose paths and targets are there to be mixed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, kind, target in (
            ("etc", tarfile.DIRTYPE, ""), ("etc/a", tarfile.REGTYPE, ""),
            ("l", tarfile.SYMTYPE, "etc"), ("l/b", tarfile.REGTYPE, ""),
            ("d/e/f", tarfile.REGTYPE, ""), ("m", tarfile.SYMTYPE, "../d/./e//"),
            ("m/.wh.f", tarfile.REGTYPE, ""), ("h", tarfile.LNKTYPE, "m/f"),
            ("d/.wh..wh..opq", tarfile.REGTYPE, ""), ("x" * 200, tarfile.SYMTYPE, "y/" * 200),
        ):  # fmt: skip
            info = tarfile.TarInfo(path)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return [out.getvalue(), *_archives()]


def _mutate_layer(blob: bytes, chance: random.Random) -> bytes:
    """Give names and targets of one entry to another, or damage it as a tar stream."""
    if chance.random() < 0.3:
        return _mutate_tar(blob, chance)
    data = bytearray(blob)
    for _ in range(chance.randint(1, 3)):
        block, other = (chance.randrange(len(data) // 512) * 512 for _ in range(2))
        to, of = (chance.choice((0, 157)) for _ in range(2))
        if data[block + 257 : block + 262] == b"ustar" == data[other + 257 : other + 262]:
            name = bytes(data[other + of : other + of + 100]).rstrip(b"\0")
            name = chance.choice(
                (name, b"../" + name, b"/" + name, name + b"/" + name, name + b"/", b".wh." + name)
            )
            data[block + to : block + to + 100] = name[:100].ljust(100, b"\0")
            data[block + 156] = chance.choice(b"0012255")
            data[block + 148 : block + 156] = b" " * 8
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    return bytes(data)


# -- encapsulated commits --------------------------------------------------------------------


def _encapsulated() -> list[bytes]:
    """Return the layer of a whole commit, and it without what makes it one."""
    entries = {"a": Stored(b"x" * 700, xattrs=((b"user.k", b"v"),)), "l": Stored(target="a")}
    made = encapsulated(Dir({"usr": Dir(entries), "d": Dir()}), detached={}).whole()
    return [tar(made), tar(made[:4]), tar(made[::-1])]


def _ingest_objects(blob: bytes) -> tuple[str, list[str]]:
    """Import a layer with a commit; return that, and all objects that are there then."""
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as path,
        Repository.create(Path(path) / "repo", "bare-user") as repo,
        Transaction(repo) as transaction,
    ):
        made = ingest_objects(Role.COMMIT, [blob], transaction)
        assert made is not None
        made.elsewhere = ()
        commit = made.store(transaction, Digest.of(blob))
        transaction.publish()
        return commit, sorted(checksum for checksum, _kind in repo.objects())


# -- indexes ---------------------------------------------------------------------------------


def _chunked() -> Blob:
    content = random.Random(1).randbytes(150_000) + bytes(2000)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, data in (
            ("d", tarfile.DIRTYPE, b""), ("d/several", tarfile.REGTYPE, content),
            ("d/é", tarfile.REGTYPE, b"content"), ("l", tarfile.SYMTYPE, b""),
            ("h", tarfile.LNKTYPE, b""), ("c", tarfile.CHRTYPE, b""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime, info.devmajor = kind, len(data), 1700000000.5, 1
            info.linkname = "d/several" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.pax_headers = {"SCHILY.xattr.user.a": "b"} if data else {}
            archive.addfile(info, io.BytesIO(data))
    return chunked(out.getvalue())


_BLOB = _chunked()
_TOC_END = _BLOB.location.start
_TOC_WORDS = [
    b'"type":"reg"', b'"type":"chunk"', b'"type":"dir"', b'"name":"d/several"', b'"size":1',
    b'"offset":1', b'"endOffset":9', b'"chunkSize":1', b'"chunkOffset":0', b'"chunkType":"zeros"',
    b'"modtime":"0001-01-01T00:00:00Z"', b'"xattrs":{"a":"YQ=="}', b'"entries":[', b'"version":1',
    b"null", b"true", b"1e5", b"1.5", b"NaN", b"[]", b"{}", b'},{"', b",", b":", b'\\"',
    b"\\ud800", b'"sha256:' + b"0" * 64 + b'"',
]  # fmt: skip


def _tocs() -> list[bytes]:
    whole = json.dumps(_BLOB.toc, separators=(",", ":"), ensure_ascii=False).encode()
    entries = [{key: each[key] for key in each if key != "xattrs"} for each in _BLOB.toc["entries"]]
    return [whole, json.dumps({"version": 1, "entries": entries}, indent=1).encode()]


def _read_toc(data: bytes) -> toc.Toc:
    """Read it whole and in pieces; both must come to the same."""
    # Of a large one not the smallest: a value is looked at anew with each chunk.
    step = max(random.Random(len(data)).randint(1, 200), len(data) // 50)
    results: list[toc.Toc | None] = []
    for size in (len(data) or 1, step):
        try:
            chunks = (data[at : at + size] for at in range(0, len(data), size))
            results.append(toc.parse_toc(chunks, _TOC_END))
        except MalformedImage as error:
            results.append(None)
            failure = error
    assert results[0] == results[1], "cut differently, read differently"
    if results[0] is None:
        raise failure
    return results[0]


def _makes_sense(_data: bytes, found: toc.Toc) -> None:
    """What the rest relies on, and that Python's own reader takes the document."""
    json.loads(_data)
    places = []
    assert len({file.path for file in found.files}) == len(found.files)
    for file in found.files:
        assert found.entries[file.path][4] == file.size > 0
        assert sum(piece.size for piece in file.pieces) == file.size
        for piece in file.pieces:
            assert piece.size > 0 and 0 <= piece.start < piece.end <= _TOC_END
            assert len(piece.digest) == 32
            places.append((piece.start, piece.end, piece.digest))
    for before, after in itertools.pairwise(sorted(set(places))):
        assert before[1] <= after[0], "two contents in one place"


def _tar_splits() -> list[bytes]:
    lines = b"".join(
        json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        for line in _BLOB.tar_split
    )
    raw = b'{"type":1,"name_raw":"Yf8=","size":5,"payload":"AAAAAAAAAAA=","position":0}\n'
    return [lines, raw + b'{"type":2, "payload":"YWJj", "position":1}\n']


def _read_tar_split(data: bytes) -> list[object]:
    step = random.Random(len(data)).randint(1, 300)
    results: list[list[object] | MalformedImage] = []
    for size in (len(data) or 1, step):
        parts = (data[at : at + size] for at in range(0, len(data), size))
        try:
            results.append(_joined(tar_split.read_tar_split(parts)))
        except MalformedImage as error:
            results.append(error)
    one, other = results
    if isinstance(one, MalformedImage):
        assert isinstance(other, MalformedImage), "cut differently, read differently"
        raise one
    assert one == other, "cut differently, read differently"
    return one


def _joined(parts: Iterable[bytes | tar_split.Content]) -> list[object]:
    """Return the parts, bytes that follow one another as one."""
    found: list[object] = []
    for part in parts:
        if isinstance(part, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += part
        else:
            found.append(part)
    return found


def _written_again(_data: bytes, parts: list[object]) -> None:
    """Our own lines for the same parts are read as the same."""
    writer = tar_split.TarSplitWriter()
    lines = b""
    for part in parts:
        if isinstance(part, bytes):
            lines += writer.segment(part)
        else:
            assert isinstance(part, tar_split.Content) and part.size > 0
            name = part.name.encode("utf-8", "surrogatepass")
            with contextlib.suppress(UnicodeEncodeError):
                name = part.name.encode("utf-8", "surrogateescape")
            lines += writer.file(name, part.size, 0)
    again = _joined(tar_split.read_tar_split([lines]))
    assert [part for part in again if isinstance(part, bytes)] == [
        part for part in parts if isinstance(part, bytes)
    ]
    assert len(again) == len(parts)


def _index_seeds() -> list[bytes]:
    """Annotations, and a blob's end: what a registry has the say over."""
    return [json.dumps(dict(_BLOB.annotations)).encode() + b"\0" + _BLOB.tail]


def _read_index(data: bytes) -> tuple[object, ...]:
    text, _, tail = data.partition(b"\0")
    try:
        annotations = json.loads(text)
    except ValueError:
        raise MalformedImage("annotations that are no JSON") from None
    if not isinstance(annotations, dict):
        raise MalformedImage("annotations that are no object")
    strings = {str(key): str(value) for key, value in annotations.items()}
    found = indexed.locate(strings, len(_BLOB.data), "zstd")
    if found is None:
        return (None,)
    assert isinstance(found, zstd_chunked.ChunkedLocation)
    assert 0 < found.start < found.blob_size
    index = indexed.read(found, tail)
    size = 0
    placed: Placed = {}
    for part in index.skeleton(placed):
        assert not isinstance(part, File) or placed[size] is part
        size += len(part) if isinstance(part, bytes) else part.size
    assert sorted(placed.values()) == sorted(index.files)
    return index.files, size, index.end


def _mutate_index(data: bytes, chance: random.Random) -> bytes:
    """Damage annotations or the end; or have the annotations say that a damaged end is right."""
    text, _, tail = data.partition(b"\0")
    if not tail:
        return mutated(data, chance)
    match chance.randrange(4):
        case 0:
            return mutated(text, chance, [b":1", b"0", b":", b"sha256:"]) + b"\0" + tail
        case 1:
            return text + b"\0" + mutated(tail, chance, [b"GNUlInUx", b"\x50\x2a\x4d\x18"])
    table, split = _BLOB.toc, _BLOB.tar_split
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in split)
    digest = f"sha256:{hashlib.sha256(compress(lines)).hexdigest()}"
    document = json.dumps(table | {"tarSplitDigest": digest}).encode()
    if chance.random() < 0.5:
        document = mutated(document, chance, _TOC_WORDS)
    else:
        lines = mutated(lines, chance, [b'"type":1', b'"type":2', b'"position":1', b'"size":1'])
        digest = f"sha256:{hashlib.sha256(compress(lines)).hexdigest()}"
        document = json.dumps(table | {"tarSplitDigest": digest}).encode()
    made = assembled(_BLOB.data[:_TOC_END], document, lines)
    return json.dumps(dict(made.annotations)).encode() + b"\0" + made.tail


TARGETS = [
    Target("toc", _tocs, _read_toc, (MalformedImage,), _makes_sense, _TOC_WORDS),
    Target(
        "tar-split",
        _tar_splits,
        _read_tar_split,
        (MalformedImage,),
        _written_again,
        [
            b'"type":1',
            b'"type":2',
            b'"position":1',
            b'"size":7',
            b'"payload":null',
            b'"name":"a"',
            b'"name_raw":"Yf8="',
            b"\\u003c",
            b'\\"',
            b"==",
            b"\n",
        ],
    ),
    Target(
        "encapsulated",
        _encapsulated,
        _ingest_objects,
        (MalformedImage, VerificationFailed),
        mutate=_mutate_layer,
    ),
    Target("index", _index_seeds, _read_index, (MalformedImage,), mutate=_mutate_index),
    Target("tar", _archives, _read_tar, (MalformedImage,), mutate=_mutate_tar),
    Target(
        "pax",
        lambda: [
            _record(b"path", b"usr/bin/x") + _record(b"SCHILY.xattr.user.a", b"\0\n"),
            _record(b"LIBARCHIVE.xattr.user.%41", b"YWI") + _record(b"mtime", b"-1.5"),
            _record(b"GNU.sparse.map", b"0,1") + _record(b"uid", b"") + _record(b"gid", b"7"),
        ],
        _read_records,
        (MalformedImage,),
        _records_come_back,
        [*WORDS, b"12 mtime=1.5\n", b"6 a=b\n", b"LIBARCHIVE.xattr."],
    ),
    Target(
        "gzip",
        lambda: [_member(_TEXT, 0x1E), _member(b"") + _member(_TEXT, level=0) + bytes(20)],
        _gunzip,
        (MalformedImage,),
        _gzip_agrees,
        mutate=_mutate_gzip,
    ),
    Target(
        "zstd",
        lambda: [
            _frame(_TEXT),
            _frame(_TEXT, write_checksum=True) + _skippable(9) + _frame(b""),
            _skippable(0) + _frame(_TEXT, write_content_size=False, level=19),
        ],
        _unzstd,
        (MalformedImage,),
        _zstd_agrees,
        [_frame(b""), _frame(bytes(300)), _skippable(3), b"\x28\xb5\x2f\xfd", b"\x01\0\0"],
    ),
    Target("ingest", _linked, _ingest, (MalformedImage, NoSpace), mutate=_mutate_layer),
]
