"""The tar reader against the standard library's and GNU tar, on archives that are good."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedImage
from bridge.layer.tar import Entry, EntryType, TarReader

Read = list[tuple[Entry, bytes]]

KINDS = {
    tarfile.REGTYPE: EntryType.FILE,
    tarfile.AREGTYPE: EntryType.FILE,
    tarfile.CONTTYPE: EntryType.FILE,
    tarfile.GNUTYPE_SPARSE: EntryType.FILE,
    tarfile.LNKTYPE: EntryType.HARDLINK,
    tarfile.SYMTYPE: EntryType.SYMLINK,
    tarfile.DIRTYPE: EntryType.DIRECTORY,
    tarfile.CHRTYPE: EntryType.CHAR,
    tarfile.BLKTYPE: EntryType.BLOCK,
    tarfile.FIFOTYPE: EntryType.FIFO,
}


def pieces(blob: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = sorted({0, *(cut for cut in cuts if cut < len(blob)), len(blob)})
    for start, stop in itertools.pairwise(edges):
        yield blob[start:stop]


def read(blob: bytes, cuts: list[int] | None = None, whole: bool = False) -> Read:
    reader = TarReader(pieces(blob, cuts or []))
    return [
        (entry, reader.read_payload() if whole else b"".join(map(bytes, reader.payload())))
        for entry in reader
    ]


def oracle(blob: bytes) -> Read:
    """Return what the standard library reads; it drops slashes at the end and knows no xattrs."""
    result: Read = []
    with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
        for member in archive:
            is_link = member.issym() or member.islnk()
            is_device = member.ischr() or member.isblk()
            file = archive.extractfile(member) if member.isreg() else None
            xattrs = {
                key.removeprefix("SCHILY.xattr.").encode(): value.encode()
                for key, value in member.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            }
            entry = Entry(
                path=member.name,
                type=KINDS[member.type],
                mode=member.mode & 0o7777,
                uid=member.uid,
                gid=member.gid,
                size=member.size if member.isreg() else 0,
                mtime=int(member.mtime // 1),
                target=member.linkname if is_link else "",
                xattrs=tuple(sorted(xattrs.items())),
                device=(member.devmajor, member.devminor) if is_device else (0, 0),
            )
            result.append((entry, file.read() if file is not None else b""))
    return result


def without_slashes(result: Read) -> Read:
    return [
        (entry._replace(path=entry.path.rstrip("/")), payload)
        if entry.type is EntryType.DIRECTORY
        else (entry, payload)
        for entry, payload in result
    ]


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def pack(
    members: list[tuple[tarfile.TarInfo, bytes]],
    format: int = tarfile.PAX_FORMAT,
    pax_headers: dict[str, str] | None = None,
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, pax_headers=pax_headers) as archive:
        for info, payload in members:
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return out.getvalue()


# -- any archive -----------------------------------------------------------------------------

names = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_characters="/\0\n", exclude_categories=["Cs"]),
        min_size=1,
        max_size=60,
    ).filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=6,
).map("/".join)
short_names = st.text("abcdefghijklmnop-._", min_size=1, max_size=90).map(lambda text: "n" + text)


class Blob(bytes):
    """Bytes that a failing test shows in a line."""

    def __repr__(self) -> str:
        return f"Blob({bytes(self).rstrip(bytes(1))[:3000]!r})"


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    form = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    ustar, is_pax = form == tarfile.USTAR_FORMAT, form == tarfile.PAX_FORMAT
    name = short_names if ustar else names
    number = st.integers(0, 0o7777777 if ustar else 2**32 - 2)
    members = []
    for _ in range(draw(st.integers(0, 6))):
        info = member(draw(name), draw(st.sampled_from(sorted(KINDS.keys() - {b"S", b"\0"}))))
        info.mode = draw(st.integers(0, 0o7777))
        info.uid, info.gid = draw(number), draw(number)
        info.mtime = draw(st.integers(0, 2**33 - 1))
        if is_pax and draw(st.booleans()):
            info.mtime = draw(st.floats(1, 2**33 - 1, allow_nan=False))
        payload = b""
        if info.isreg():
            payload = draw(st.binary(max_size=2000))
        elif info.issym() or info.islnk():
            info.linkname = draw(name)
        elif info.ischr() or info.isblk():
            info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 4095))
        if is_pax and draw(st.booleans()):
            value = draw(st.text(st.characters(codec="utf-8"), max_size=50))
            info.pax_headers = {"SCHILY.xattr.user." + draw(short_names): value, "comment": "x=y"}
        members.append((info, payload))
    headers = (
        {"mtime": "12.5", "comment": "all"} if is_pax and members and draw(st.booleans()) else None
    )
    return Blob(pack(members, form, headers))


@settings(deadline=None, max_examples=150)
@given(blob=archives(), cuts=st.lists(st.integers(0, 30_000), max_size=10), whole=st.booleans())
def test_reads_what_the_standard_library_reads(blob: bytes, cuts: list[int], whole: bool) -> None:
    result = read(blob, cuts, whole)
    assert without_slashes(result) == without_slashes(oracle(blob))


@settings(deadline=None, max_examples=40)
@given(blob=archives(), step=st.integers(1, 700))
def test_chunk_sizes_change_nothing(blob: bytes, step: int) -> None:
    assert read(blob, list(range(0, len(blob), step))) == read(blob)


@settings(deadline=None, max_examples=60)
@given(
    blob=archives(),
    cuts=st.lists(st.integers(0, 30_000), max_size=10),
    taken=st.lists(st.sampled_from(["whole", "chunks", "not"]), min_size=1),
    rest=st.binary(max_size=2000),
)
def test_skeleton_and_payloads_are_the_stream(
    blob: bytes, cuts: list[int], taken: list[str], rest: bytes
) -> None:
    """Whatever of the payloads is taken, the rest comes as skeleton, each byte once, in order."""
    blob += rest
    stream = bytearray()
    announced: list[int] = []

    def skeleton(data: bytes, payload: int) -> None:
        stream.extend(data)
        announced.append(payload)

    reader = TarReader(pieces(blob, cuts), on_skeleton=skeleton)
    for (entry, payload), how in zip(oracle(blob), itertools.cycle(taken), strict=False):
        here = next(iter(reader))
        assert here.size == entry.size
        if how == "not":
            continue
        offset = reader.payload_offset
        assert offset is not None
        whole = how == "whole"
        data = reader.read_payload() if whole else b"".join(map(bytes, reader.payload()))
        assert data == payload == blob[offset : offset + len(data)]
        if data:
            assert (len(stream), announced[-1]) == (offset, len(data))
            stream.extend(data)
    reader.drain()
    reader.drain()
    assert stream == blob


def test_a_sparse_file_is_skeleton() -> None:
    script = "truncate -s 70000 f; printf data | dd of=f bs=1 seek=60000 conv=notrunc 2>/dev/null"
    command = f"cd $(mktemp -d) && {script}; tar --sparse -cf - f"
    blob = subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.PIPE).stdout
    stream = bytearray()
    reader = TarReader([blob], on_skeleton=lambda data, payload: stream.extend(data))
    for _entry in reader:
        assert b"data" in reader.read_payload()
    reader.drain()
    assert stream == blob and len(blob) < 70000


def test_an_announced_payload_is_taken_whole() -> None:
    blob = pack([(member("a"), bytes(3000)), (member("b"), b"")])
    reader = TarReader(pieces(blob, [1024]), on_skeleton=lambda data, payload: None)
    entries = iter(reader)
    next(entries)
    next(iter(reader.payload()))
    with pytest.raises(RuntimeError):
        next(entries)


# -- names, numbers, types -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "form"),
    [
        (length, form)
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
        for length in (1, 99, 100, 101, 155, 156, 250, 255, 256, 257, 300, 1000, 4096)
        if form != tarfile.USTAR_FORMAT or length <= 250  # 256, cut at a slash
    ],
)
def test_names_of_any_length(length: int, form: int) -> None:
    name = ("d" * 49 + "/") * 100
    name = name[: length - 1] + "f"
    blob = pack(
        [
            (member(name), b"payload"),
            (member("link", tarfile.SYMTYPE, linkname=name[:100]), b""),
            (member("end"), b"end"),
        ],
        form,
    )
    result = read(blob)
    assert [entry.path for entry, _ in result] == [name, "link", "end"]
    assert [payload for _, payload in result] == [b"payload", b"", b"end"]
    assert result[1][0].target == name[:100]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_link_targets(form: int) -> None:
    target = "ü/" * 120 + "target"
    for kind, expected in (
        (tarfile.SYMTYPE, EntryType.SYMLINK),
        (tarfile.LNKTYPE, EntryType.HARDLINK),
    ):
        [(entry, _)] = read(pack([(member("n" * 180, kind, linkname=target), b"")], form))
        assert (entry.path, entry.type, entry.target) == ("n" * 180, expected, target)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("owner", [2097151, 2097152, 3_000_000, 2**31, 2**32 - 2])
def test_owners_above_octal(owner: int, form: int) -> None:
    [(entry, _)] = read(pack([(member("f", uid=owner, gid=owner - 1), b"")], form))
    assert (entry.uid, entry.gid) == (owner, owner - 1)


@pytest.mark.parametrize(("mtime", "seconds"), [(-1, -1), (-1.5, -2), (1.999, 1), (2**34, 2**34)])
def test_times(mtime: float, seconds: int) -> None:
    assert read(pack([(member("f", mtime=mtime), b"")]))[0][0].mtime == seconds
    if isinstance(mtime, int):
        blob = pack([(member("f", mtime=mtime), b"")], tarfile.GNU_FORMAT)
        assert read(blob)[0][0].mtime == seconds


def test_duplicates_and_hard_links_come_as_they_stand() -> None:
    blob = pack(
        [
            (member("a", mode=0o4755), b"one"),
            (member("a", mode=0o644), b"two"),
            (member("b", tarfile.LNKTYPE, linkname="a"), b""),
            (member("./c/../d"), b"three"),
        ]
    )
    assert [(e.path, e.type, e.mode, e.target, p) for e, p in read(blob)] == [
        ("a", EntryType.FILE, 0o4755, "", b"one"),
        ("a", EntryType.FILE, 0o644, "", b"two"),
        ("b", EntryType.HARDLINK, 0o644, "a", b""),
        ("./c/../d", EntryType.FILE, 0o644, "", b"three"),
    ]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_only_files_have_payloads(kind: bytes) -> None:
    # Go's writer, for one, keeps the size of the file that a hard link names.
    info = member("n", kind, linkname="t" if kind in b"12" else "")
    info.size = 7000
    blob = info.tobuf(tarfile.USTAR_FORMAT) + pack([(member("after"), b"payload")])
    result = read(blob)
    assert [(entry.path.rstrip("/"), entry.size) for entry, _ in result] == [("n", 0), ("after", 7)]
    assert result[1][1] == b"payload"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("start", ["", "x"])
def test_long_names_cut_within_a_character(start: str, form: int) -> None:
    # The short name that GNU tar leaves in the header ends at byte 100, whatever is there.
    name = start + "ü" * 120
    blob = pack([(member(name, tarfile.SYMTYPE, linkname=name), b"")], form)
    assert [(entry.path, entry.target) for entry, _ in read(blob)] == [(name, name)]


def test_v7_directories_end_in_a_slash() -> None:
    blob = pack([(member("d/", tarfile.AREGTYPE), b""), (member("f", tarfile.AREGTYPE), b"x")])
    assert [entry.type for entry, _ in read(blob)] == [EntryType.DIRECTORY, EntryType.FILE]


def test_global_headers_hold_until_the_next() -> None:
    headers = {"uid": "42", "mtime": "7.5", "comment": "of all"}
    first = pack([(member("a", mtime=1), b""), (member("b", mtime=1), b"")], pax_headers=headers)
    second = pack([(member("c", mtime=1), b"")], pax_headers={"uid": ""})
    result = read(first.rstrip(b"\0").ljust(-(-len(first.rstrip(b"\0")) // 512) * 512, b"\0"))
    assert [(entry.uid, entry.mtime) for entry, _ in result] == [(42, 7), (42, 7)]
    blocks = first[: first.index(bytes(1024), 1024) // 512 * 512 + 512]
    assert read(blocks + second)[-1][0].uid == 0


def test_a_device_has_its_numbers_and_a_file_none() -> None:
    blob = pack(
        [
            (member("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
            (member("file", devmajor=1, devminor=3), b""),
        ],
        tarfile.GNU_FORMAT,
    )
    assert [entry.device for entry, _ in read(blob)] == [(1, 3), (0, 0)]


# -- extended attributes ---------------------------------------------------------------------


def pax_header(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    body = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        body += str(length).encode() + rest
    info = member("PaxHeaders/x", kind)
    info.size = len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def test_extended_attributes_are_raw_bytes_sorted_by_name() -> None:
    capability = b"\x01\0\0\x02\0\x20\0\0" + b"\0" * 12
    blob = pax_header(
        (b"SCHILY.xattr.user.z", b"last"),
        (b"SCHILY.xattr.security.capability", capability),
        (b"SCHILY.xattr.user.empty", b""),
        (b"SCHILY.xattr.user.line", b"a=1\nb=2\n"),
        (b"LIBARCHIVE.xattr.user.with%20space%3D", base64.b64encode(b"\xff\0=").rstrip(b"=")),
        (b"LIBARCHIVE.xattr.user.z", base64.b64encode(b"last")),
    )
    [(entry, _)] = read(blob + pack([(member("f"), b"")], tarfile.USTAR_FORMAT))
    assert entry.xattrs == (
        (b"security.capability", capability),
        (b"user.empty", b""),
        (b"user.line", b"a=1\nb=2\n"),
        (b"user.with space=", b"\xff\0="),
        (b"user.z", b"last"),
    )


def test_extended_attributes_of_gnu_tar(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    try:
        os.setxattr(file, "user.plain", b"value")
        os.setxattr(file, "user.binary", bytes(range(256)))
    except OSError:
        pytest.skip("no extended attributes here")
    tar("--xattrs", "--xattrs-include=*", "-cf", str(tmp_path / "a.tar"), "f", cwd=tmp_path)
    [(entry, payload)] = read((tmp_path / "a.tar").read_bytes())
    assert payload == b"x"
    assert dict(entry.xattrs)[b"user.plain"] == b"value"
    assert dict(entry.xattrs)[b"user.binary"] == bytes(range(256))


# -- sparse files ----------------------------------------------------------------------------


def tar(*words: str, cwd: Path) -> None:
    subprocess.run(["tar", "--sort=name", *words], cwd=cwd, check=True)


SPARSE = {
    "empty": [],
    "hole only": [(5_000_000, b"")],
    "head": [(0, b"head"), (3_000_000, b"")],
    "tail": [(1_000_000, b"tail")],
    "unaligned": [(100_001, b"x" * 777), (900_003, b"y" * 4097), (1_500_000, b"")],
    "many": [(65536 * (2 * i + 1), bytes([65 + i % 26]) * 4096) for i in range(60)],
}


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_files_of_gnu_tar(form: list[str], tmp_path: Path) -> None:
    contents = {}
    for name, parts in SPARSE.items():
        with (tmp_path / name).open("wb") as file:
            for offset, data in parts:
                file.seek(offset)
                file.write(data)
            file.truncate(max([file.tell(), *(offset for offset, _ in parts)]))
        contents[name] = (tmp_path / name).read_bytes()
    tar(*form, "--sparse", "--hole-detection=raw", "-cf", "a.tar", *sorted(SPARSE), cwd=tmp_path)
    blob = (tmp_path / "a.tar").read_bytes()
    assert len(blob) < 2_000_000, "tar did not store the files as sparse ones"
    for cuts in ([], list(range(0, len(blob), 10_007))):
        result = read(blob, cuts)
        assert {entry.path: payload for entry, payload in result} == contents
        assert all(entry.size == len(contents[entry.path]) for entry, _ in result)
    assert {entry.path: payload for entry, payload in read(blob, whole=True)} == contents
    # Unread payloads are passed over, in the stored size and not in the real one.
    assert [entry.path for entry in TarReader([blob])] == sorted(SPARSE)


def test_holes_come_in_bounded_pieces(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.write(b"start")
        file.truncate(1 << 30)
    tar("--format=posix", "--sparse", "-cf", "a.tar", "f", cwd=tmp_path)
    reader = TarReader([(tmp_path / "a.tar").read_bytes()])
    [entry] = itertools.islice(reader, 1)
    assert entry.size == 1 << 30
    total = 0
    for piece in reader.payload():
        assert len(piece) <= 256 * 1024
        total += len(piece)
    assert total == 1 << 30


# -- the stream ------------------------------------------------------------------------------


def some_archive() -> bytes:
    noise = random.Random(3).randbytes
    return pack([(member(f"file{i}"), noise(i * 997 % 9000)) for i in range(20)])


def test_payloads_may_be_taken_in_part_or_not() -> None:
    blob = some_archive()
    expected = read(blob)
    for step in (100, 512, 100_000):
        reader = TarReader(pieces(blob, list(range(0, len(blob), step))))
        for index, entry in enumerate(reader):
            assert entry == expected[index][0]
            if index % 3 == 1:
                assert b"".join(map(bytes, reader.payload())) == expected[index][1]
            elif index % 3 == 2:
                taken = b"".join(map(bytes, itertools.islice(reader.payload(), 1)))
                assert taken + reader.read_payload() == expected[index][1]
        assert index == len(expected) - 1


def test_an_abandoned_payload_does_not_take_from_the_next_entry() -> None:
    blob = pack([(member("a"), b"a" * 2000), (member("b"), b"b" * 2000)])
    reader = TarReader(pieces(blob, list(range(0, len(blob), 100))))
    entries = iter(reader)
    next(entries)
    payload = reader.payload()
    next(payload)
    next(entries)
    with pytest.raises(RuntimeError, match="passed"):
        next(payload)
    assert reader.read_payload() == b"b" * 2000


@pytest.mark.parametrize("tail", [b"", bytes(10240), b"trailing bytes of any kind" * 1000])
@pytest.mark.parametrize("step", [100, 1 << 20])
def test_the_hook_sees_the_whole_stream(tail: bytes, step: int) -> None:
    blob = some_archive() + tail
    hashed = hashlib.sha256()
    reader = TarReader(pieces(blob, list(range(0, len(blob), step))), hashed.update)
    assert len(list(reader)) == 20
    reader.drain()
    reader.drain()
    assert hashed.digest() == hashlib.sha256(blob).digest()
    assert list(reader) == []


def test_drain_ends_the_reading_wherever_it_was() -> None:
    blob = some_archive()
    seen: list[bytes] = []
    reader = TarReader(pieces(blob, [5000, 9000]), seen.append)
    for _ in itertools.islice(reader, 3):
        pass
    reader.drain()
    assert b"".join(seen) == blob
    assert list(reader) == []


@pytest.mark.parametrize(
    ("blob", "count"),
    [
        (b"", 0),
        (bytes(512), 0),
        (bytes(1024), 0),
        (bytes(10240), 0),
        (member("f").tobuf(), 1),
        (member("f").tobuf() + bytes(512), 1),
        (member("f").tobuf() + bytes(1024), 1),
    ],
)
def test_how_an_archive_may_end(blob: bytes, count: int) -> None:
    assert len(read(blob)) == count
    assert len(read(blob, list(range(0, len(blob), 7)))) == count


@settings(deadline=None, max_examples=60)
@given(blob=archives(), data=st.data())
def test_what_is_cut_off_is_refused_or_a_part_of_the_whole(
    blob: bytes, data: st.DataObject
) -> None:
    whole = read(blob)
    part = blob[: data.draw(st.integers(0, len(blob)))]
    found: Read = []
    reader = TarReader([part])
    with contextlib.suppress(MalformedImage):
        for entry in reader:
            found.append((entry, reader.read_payload()))
    assert found == whole[: len(found)]
