"""rpm's database: real ones of Debian's rpm, and headers that are wrong in every way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.contents.contents import Contents
from bridge.contents.directory import of_directory
from bridge.errors import MalformedImage
from bridge.packages import rpm, rpm_header
from bridge.packages.installed import installed
from bridge.packages.package import Package
from bridge.packages.rpm_header import Header

PLACE = "usr/lib/sysimage/rpm"
SPEC = """\
Name: {name}
{epoch}
Version: 1.0
Release: 3.fc42
Summary: Says {name}
License: MIT and GPLv2+
BuildArch: {architecture}
%description
Says {name}.
%install
mkdir -p %{{buildroot}}/usr/bin %{{buildroot}}/bin %{{buildroot}}/usr/share/{name}
echo hi > %{{buildroot}}/usr/bin/{name}
echo hi > %{{buildroot}}/usr/share/{name}/README
echo hi > %{{buildroot}}/bin/old-{name}
ln -s ../bin/{name} "%{{buildroot}}/usr/share/{name}/a link"
%files
/usr/bin/{name}
/bin/old-{name}
%dir /usr/share/{name}
"/usr/share/{name}/a link"
%doc /usr/share/{name}/README
%changelog
* Wed May 01 2024 A B <a@b.example> - 1.0-3
- new
* Mon Jan 01 2024 A B <a@b.example> - 1.0-1
- first
"""


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory with two packages, the one without its documentation."""
    if shutil.which("rpmbuild") is None:
        pytest.fail("rpmbuild is missing: apt-get install --no-install-recommends rpm")
    work = tmp_path_factory.mktemp("rpm")
    built = []
    for name, epoch in (("hello", "Epoch: 2"), ("lib-hello", "")):
        spec = work / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, epoch=epoch, architecture="noarch"))
        run("rpmbuild", "-bb", "--define", f"_topdir {work}", spec)
        built.append(work / f"RPMS/noarch/{name}-1.0-3.fc42.noarch.rpm")
    top = work / "root"
    (top / "usr/bin").mkdir(parents=True)
    (top / "bin").symlink_to("usr/bin")
    command = ["rpm", "--root", top, "--define", f"_dbpath /{PLACE}", "--nodeps", "--noscripts"]
    run(*command, "-i", built[0])
    run(*command, "-i", "--excludedocs", built[1])
    return top


def view(path: Path) -> Contents:
    # The view needs the descriptor as long as it lives; the process ends both.
    return of_directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


def test_a_real_database(root: Path) -> None:
    assert installed(view(root)) == [
        Package(
            kind="rpm",
            name="hello",
            version="2:1.0-3.fc42",
            architecture="noarch",
            source="hello",
            # /bin is a link to /usr/bin in this image.
            paths=(
                "usr/bin/old-hello",
                "usr/bin/hello",
                "usr/share/hello",
                "usr/share/hello/README",
                "usr/share/hello/a link",
            ),
            changes=(1714564800, 1704110400),
            license="MIT and GPLv2+",
        ),
        Package(
            kind="rpm",
            name="lib-hello",
            version="1.0-3.fc42",
            architecture="noarch",
            source="lib-hello",
            paths=(
                "usr/bin/old-lib-hello",
                "usr/bin/lib-hello",
                "usr/share/lib-hello",
                "usr/share/lib-hello/a link",  # without README, which is not installed
            ),
            changes=(1714564800, 1704110400),
            license="MIT and GPLv2+",
        ),
    ]


@pytest.mark.parametrize("place", ["var/lib/rpm", "usr/share/rpm"])
def test_older_places_and_links_to_the_new_one(root: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(root, tmp_path / "root", symlinks=True)
    (tmp_path / "root" / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "root" / PLACE).rename(tmp_path / "root" / place)
    names = ["hello", "lib-hello"]
    assert [each.name for each in rpm.installed(view(tmp_path / "root"))] == names
    (tmp_path / "root" / PLACE).symlink_to(f"/{place}")
    assert [each.name for each in rpm.installed(view(tmp_path / "root"))] == names


def test_a_journal_is_read_with_its_database(root: Path, tmp_path: Path) -> None:
    """What rpm wrote last may not be in the database itself yet."""
    top = tmp_path / "root"
    shutil.copytree(root, top, symlinks=True)
    path = top / PLACE / "rpmdb.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("DELETE FROM Packages WHERE hnum = (SELECT max(hnum) FROM Packages)")
        kept = tmp_path / "kept"
        shutil.copytree(top, kept, symlinks=True)
    assert (kept / PLACE / "rpmdb.sqlite-wal").stat().st_size
    assert [each.name for each in rpm.installed(view(kept))] == ["hello"]


def test_without_a_database_there_are_no_packages(tmp_path: Path) -> None:
    assert rpm.installed(view(tmp_path)) == []
    (tmp_path / PLACE).mkdir(parents=True)
    (tmp_path / PLACE / "rpmdb.sqlite").touch()
    (tmp_path / PLACE / ".rpm.lock").touch()
    assert rpm.installed(view(tmp_path)) == []


@pytest.mark.parametrize(("name", "kind"), [("Packages", "Berkeley DB"), ("Packages.db", "ndb")])
def test_other_databases_are_told(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / PLACE).mkdir(parents=True)
    (tmp_path / PLACE / name).write_bytes(b"x")
    with pytest.raises(MalformedImage, match=f"kind {kind}.*rebuilddb"):
        rpm.installed(view(tmp_path))


# -- databases that are wrong --------------------------------------------------------------------


def database(tmp_path: Path, *statements: str | tuple[str, Sequence[Any]]) -> Contents:
    (tmp_path / PLACE).mkdir(parents=True, exist_ok=True)
    path = tmp_path / PLACE / "rpmdb.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for each in statements:
            connection.execute(*((each,) if isinstance(each, str) else each))
    return view(tmp_path)


TABLE = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
ENDLESS = (
    "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT x AS hnum, zeroblob(1000) AS blob FROM n"
)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE Other (blob BLOB)"],
        ["CREATE TABLE Packages (other BLOB)"],
        [ENDLESS],
        ["CREATE VIEW Packages AS SELECT randomblob(10) AS blob"],
        ["CREATE VIRTUAL TABLE Packages USING fts5(blob)", "INSERT INTO Packages VALUES ('x')"],
        ["CREATE TABLE Packages (blob)", "INSERT INTO Packages VALUES ('a text')"],
        ["CREATE TABLE Packages (blob)", "INSERT INTO Packages VALUES (5)"],
        ["CREATE TABLE Packages (blob)", "INSERT INTO Packages VALUES (NULL)"],
        ["CREATE TABLE Packages (x, blob AS (zeroblob(x)))", "INSERT INTO Packages VALUES (99)"],
        [TABLE, "INSERT INTO Packages VALUES (1, x'')"],
        [TABLE, "INSERT INTO Packages VALUES (1, zeroblob(8))"],
    ],
)
def test_databases_that_are_none_of_rpm(tmp_path: Path, statements: list[str]) -> None:
    with pytest.raises(MalformedImage):
        rpm.installed(database(tmp_path, *statements))


def test_a_file_that_is_no_database(tmp_path: Path, root: Path) -> None:
    (tmp_path / PLACE).mkdir(parents=True)
    good = (root / PLACE / "rpmdb.sqlite").read_bytes()
    for raw in (b"x" * 5000, good[:5000], good[:100] + bytes(len(good) - 100)):
        (tmp_path / PLACE / "rpmdb.sqlite").write_bytes(raw)
        with pytest.raises(MalformedImage):
            rpm.installed(view(tmp_path))


def test_what_a_database_may_have_has_an_end(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "RPM_DATABASE_MAX": 1000,
        "RPM_PACKAGES_MAX": 1,
        "RPM_HEADER_MAX": 100,
        "RPM_SQLITE_STEPS_MAX": -1,
        "ENTRIES_MAX": 8,
    }.items():
        contents = view(root)
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, value)
            patch.setattr("bridge.packages.rpm_sqlite._STEPS", 1)
            with pytest.raises(MalformedImage):
                rpm.installed(contents)


@given(st.data())
def test_a_damaged_database_is_an_error_or_one_that_is_read(
    root: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray((root / PLACE / "rpmdb.sqlite").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    top = tmp_path_factory.mktemp("damaged")
    (top / PLACE).mkdir(parents=True)
    (top / PLACE / "rpmdb.sqlite").write_bytes(raw)
    with suppress(MalformedImage):
        rpm.installed(view(top))


# -- headers -------------------------------------------------------------------------------------

Value = tuple[int, int, bytes]
"""Type, count and bytes of an entry."""


def texts(*values: str, kind: int = 8) -> Value:
    return kind, len(values), b"".join(value.encode() + b"\0" for value in values)


def text(value: str) -> Value:
    return texts(value, kind=6)


def numbers(*values: int) -> Value:
    return 4, len(values), struct.pack(f">{len(values)}I", *values)


def header(**more: Value | None) -> dict[int, Value]:
    """The entries of a small package; names are those of the tags."""
    entries: dict[str, Value | None] = {
        "NAME": text("hello"),
        "VERSION": text("1.0"),
        "RELEASE": text("3"),
        "ARCHITECTURE": text("noarch"),
        "SOURCE": text("hello-src-1.0-3.src.rpm"),
        "DIRECTORY_INDEXES": numbers(0, 1),
        "BASE_NAMES": texts("a", "b"),
        "DIRECTORY_NAMES": texts("/usr/", "/etc/"),
        **more,
    }
    return {getattr(rpm_header, name): value for name, value in entries.items() if value}


def packed(entries: dict[int, Value]) -> bytes:
    index, store = b"", b""
    for tag, (kind, count, value) in sorted(entries.items()):
        store += bytes(-len(store) % 8)
        index += struct.pack(">IIiI", tag, kind, len(store), count)
        store += value
    return struct.pack(">II", len(entries), len(store)) + index + store


def read(tmp_path: Path, raw: bytes) -> Package:
    insert = ("INSERT INTO Packages VALUES (1, ?)", (raw,))
    (found,) = rpm.installed(database(tmp_path, TABLE, insert))
    return found


def test_a_header(tmp_path: Path) -> None:
    found = read(tmp_path, packed(header()))
    assert found == Package(
        "rpm", "hello", "1.0-3", "noarch", "hello-src", ("usr/a", "etc/b"), (), ""
    )


def test_what_a_header_may_lack(tmp_path: Path) -> None:
    raw = packed(
        header(
            RELEASE=None, ARCHITECTURE=None, SOURCE=None, EPOCH=numbers(0), BASE_NAMES=None,
            DIRECTORY_INDEXES=None, DIRECTORY_NAMES=None,
            OLD_FILE_NAMES=texts("/usr/bin/x", "/etc", "/"),
        )
    )  # fmt: skip
    assert read(tmp_path, raw) == Package(
        "rpm", "hello", "0:1.0", "", "hello", ("usr/bin/x", "etc"), (), ""
    )


def test_keys_are_no_packages(tmp_path: Path) -> None:
    raw = packed(header(NAME=text("gpg-pubkey")))
    insert = ("INSERT INTO Packages VALUES (1, ?)", (raw,))
    assert rpm.installed(database(tmp_path, TABLE, insert)) == []


def test_names_that_are_not_utf8_stay(tmp_path: Path) -> None:
    raw = packed(header(BASE_NAMES=(8, 2, b"\xff\0b\0")))
    assert read(tmp_path, raw).paths == ("usr/\udcff", "etc/b")


def cut(count: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:-count]


def entry(tag: int, kind: int, offset: int, count: int) -> Callable[[bytes], bytes]:
    """Replace the entry of a tag."""

    def change(raw: bytes) -> bytes:
        out = bytearray(raw)
        for at in range(8, 8 + 16 * struct.unpack(">I", raw[:4])[0], 16):
            if struct.unpack_from(">I", raw, at)[0] == tag:
                struct.pack_into(">IIiI", out, at, tag, kind, offset, count)
        return bytes(out)

    return change


def counts(entries: int, size: int) -> Callable[[bytes], bytes]:
    return lambda raw: struct.pack(">II", entries, size) + raw[8:]


HUGE = 0xFFFFFFFF
MALFORMED: list[Callable[[bytes], bytes]] = [
    lambda raw: b"",
    lambda raw: raw[:7],
    cut(1),
    cut(20),
    lambda raw: raw + b"x",
    counts(0, 0),
    counts(HUGE, HUGE),
    counts(HUGE, 0),
    counts(0, HUGE),
    counts(8, 0),
    lambda raw: struct.pack(">II", 0, 0),
    *(entry(rpm_header.NAME, kind, 0, 1) for kind in (0, 1, 2, 3, 4, 5, 7, 10, HUGE)),
    entry(rpm_header.NAME, 6, 0, 0),
    entry(rpm_header.NAME, 6, 0, 2),
    entry(rpm_header.NAME, 6, -1, 1),
    entry(rpm_header.NAME, 6, -(2**31), 1),
    entry(rpm_header.NAME, 6, 2**31 - 1, 1),
    entry(rpm_header.NAME, 6, 5, 1),  # empty: it begins at the end of one
    entry(rpm_header.NAME, 8, 0, 0),
    entry(rpm_header.NAME, 8, 0, HUGE),
    entry(rpm_header.BASE_NAMES, 8, 0, 50),
    entry(rpm_header.BASE_NAMES, 8, 0, 1),
    entry(rpm_header.BASE_NAMES, 4, 0, 1),
    entry(rpm_header.DIRECTORY_NAMES, 8, 0, 1),
    entry(rpm_header.DIRECTORY_NAMES, 8, 0, HUGE),
    entry(rpm_header.DIRECTORY_INDEXES, 4, 0, 2),
    entry(rpm_header.DIRECTORY_INDEXES, 4, 0, HUGE),
    entry(rpm_header.DIRECTORY_INDEXES, 4, -4, 2),
    entry(rpm_header.DIRECTORY_INDEXES, 4, 2**31 - 1, 2),
    entry(rpm_header.DIRECTORY_INDEXES, 5, 0, HUGE),
    entry(rpm_header.DIRECTORY_INDEXES, 7, 0, 2),
    entry(rpm_header.DIRECTORY_INDEXES, 6, 0, 1),
]


@pytest.mark.parametrize("change", MALFORMED)
def test_malformed_headers(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedImage):
        read(tmp_path, change(packed(header())))


@pytest.mark.parametrize(
    "more",
    [
        {"NAME": None},
        {"VERSION": None},
        {"NAME": text("")},
        {"VERSION": text("")},
        {"NAME": numbers(1)},
        {"EPOCH": text("1")},
        {"CHANGE_TIMES": texts("now")},
        {"FILE_STATES": (1, 1, b"\0")},
        {"FILE_STATES": (1, 3, b"\0\0\0")},
        {"FILE_STATES": text("a")},
        {"DIRECTORY_INDEXES": numbers(0)},
        {"DIRECTORY_INDEXES": numbers(0, 2)},
        {"DIRECTORY_INDEXES": numbers(0, HUGE)},
        {"DIRECTORY_NAMES": None},
        {"DIRECTORY_INDEXES": None},
    ],
)
def test_headers_that_make_no_sense(tmp_path: Path, more: dict[str, Value | None]) -> None:
    with pytest.raises(MalformedImage):
        read(tmp_path, packed(header(**more)))


@pytest.mark.parametrize("last", [b"without an end", b""])
def test_the_last_text_has_an_end(tmp_path: Path, last: bytes) -> None:
    entries = header() | {9000: (6, 1, last)}  # the highest tag's value is the store's end
    with pytest.raises(MalformedImage, match=r"without an end|beyond its end"):
        Header.parse(packed(entries)).text(9000)


@pytest.mark.parametrize(
    ("state", "there"), [(0, True), (1, False), (2, False), (3, True), (4, False)]
)
def test_states_of_files(tmp_path: Path, state: int, there: bool) -> None:
    found = read(tmp_path, packed(header(FILE_STATES=(1, 2, bytes([state, 0])))))
    assert ("usr/a" in found.paths) is there and "etc/b" in found.paths


def test_source_names() -> None:
    assert rpm.source_name("a-b-1.0-3.src.rpm") == "a-b"
    assert rpm.source_name("") == rpm.source_name("(none)") == ""


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_an_error(raw: bytes) -> None:
    survives(raw)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1000, 1003, 1116, 1117, 1118]),
            st.integers(0, 10),
            st.integers(-3, 60),
            st.integers(0, 60) | st.just(HUGE),
        ),
        max_size=6,
    ),
    st.binary(max_size=60),
)
def test_any_entries_are_read_or_an_error(
    entries: list[tuple[int, int, int, int]], store: bytes
) -> None:
    index = b"".join(struct.pack(">IIiI", *each) for each in entries)
    survives(struct.pack(">II", len(entries), len(store)) + index + store)


def survives(raw: bytes) -> None:
    try:
        found = Header.parse(raw)
    except MalformedImage:
        return
    for tag in (1000, 1003, 1116, 1117, 1118):
        for ask in (found.text, found.texts, found.numbers):
            try:
                ask(tag)
            except MalformedImage:
                continue


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_texts_come_back(values: list[str]) -> None:
    assert Header.parse(packed({1117: texts(*values)})).texts(1117) == values


@given(st.lists(st.integers(0, HUGE)))
def test_numbers_come_back(values: list[int]) -> None:
    assert Header.parse(packed({1080: numbers(*values)})).numbers(1080) == tuple(values)
