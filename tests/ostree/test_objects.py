"""Objects' bytes and checksums, held to what `ostree` wrote; the validators of names."""

from __future__ import annotations

import contextlib
import hashlib
import stat
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import DamagedRepository, MalformedImage
from bridge.ostree import objects, variant
from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta
from bridge.ostree.variant import Variant

from . import vectors

HASH = "ab" * 32


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- what ostree wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", vectors.DIRMETAS)
def test_dirmeta_as_ostree_wrote_it(checksum: str) -> None:
    data, meta = vectors.DIRMETAS[checksum]
    assert objects.encode_dirmeta(meta).hex() == data
    assert objects.decode_dirmeta(bytes.fromhex(data)) == meta
    assert sha256(objects.encode_dirmeta(meta)) == checksum


@pytest.mark.parametrize("checksum", vectors.DIRTREES)
def test_dirtree_as_ostree_wrote_it(checksum: str) -> None:
    data, tree = vectors.DIRTREES[checksum]
    assert objects.encode_dirtree(tree).hex() == data
    assert objects.decode_dirtree(bytes.fromhex(data)) == tree
    assert sha256(objects.encode_dirtree(tree)) == checksum


def test_commit_as_ostree_wrote_it() -> None:
    assert sha256(vectors.COMMIT_BYTES) == vectors.COMMIT
    assert objects.decode_commit(vectors.COMMIT_BYTES) == vectors.COMMIT_VALUE


def test_commit_is_encoded_as_ostree_does(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = {
        "version": "42",
        "z": Variant("as", ["p", "q"]),
        "n": Variant("u", 7),
        "ostree.ref-binding": Variant("as", ["x/y"]),
    }
    # We sort metadata; the command keeps the order of its options.
    monkeypatch.setattr(objects, "sorted", list, raising=False)
    assert objects.encode_commit(replace(vectors.COMMIT_VALUE, metadata=typed)) == (
        vectors.COMMIT_BYTES
    )


def test_equal_commits_are_equal_bytes() -> None:
    one = Commit(HASH, HASH, {"b": Variant("u", 1), "a": "x"}, HASH, "subject", "body", 5)
    other = replace(one, metadata={"a": "x", "b": Variant("u", 1)})
    assert objects.encode_commit(one) == objects.encode_commit(other)
    assert objects.decode_commit(objects.encode_commit(one)) == replace(
        one, metadata={"a": "x", "b": 1}
    )


def test_content_checksum_is_over_the_root_tree_and_its_metadata() -> None:
    expected = sha256(bytes.fromhex(vectors.TREE_ROOT + vectors.META_755))
    assert vectors.COMMIT_VALUE.content_checksum == expected


@pytest.mark.parametrize("checksum", vectors.FILES)
def test_content_object_as_ostree_wrote_it(checksum: str) -> None:
    meta, payload, filez, filemeta = vectors.FILES[checksum]
    assert objects.file_checksum(meta, payload) == checksum
    assert objects.encode_filemeta(meta).hex() == filemeta
    assert objects.decode_filemeta(bytes.fromhex(filemeta)) == (
        meta.uid, meta.gid, meta.mode, meta.xattrs
    )  # fmt: skip
    raw = bytes.fromhex(filez)
    header = objects.archive_header(meta, len(payload))
    assert raw.startswith(header)
    assert objects.parse_archive_header(header[8:]) == (meta, len(payload))
    deflated = raw[len(header) :]
    assert (zlib.decompress(deflated, -zlib.MAX_WBITS) if deflated else b"") == payload


def test_xattrs_are_hashed_in_the_order_of_their_names() -> None:
    one = FileMeta(0, 0, stat.S_IFREG, ((b"user.a", b"2"), (b"user.b", b"1")))
    other = FileMeta(0, 0, stat.S_IFREG, one.xattrs[::-1])
    assert objects.file_checksum(one) == objects.file_checksum(other)


def test_large_headers_are_not_kept() -> None:
    before = objects._kept_header.cache_info().currsize
    objects.content_header(FileMeta(12, 34, stat.S_IFREG, ((b"user.a", bytes(65_536)),)))
    assert objects._kept_header.cache_info().currsize == before


# -- round trips -----------------------------------------------------------------------------------

_NAMES = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=30
).filter(lambda name: name not in (".", ".."))
_SUMS = st.binary(min_size=32, max_size=32).map(bytes.hex)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(_NAMES, _SUMS, max_size=12), st.dictionaries(_NAMES, st.tuples(_SUMS, _SUMS))
)
def test_dirtrees_come_back_and_agree_with_the_codec(
    files: dict[str, str], dirs: dict[str, tuple[str, str]]
) -> None:
    tree = DirTree(files, {name: pair for name, pair in dirs.items() if name not in files})
    data = objects.encode_dirtree(tree)
    assert objects.decode_dirtree(data) == tree
    # The dirtree is written without the codecs: they have the last word.
    by_bytes = lambda pair: pair[0].encode()  # noqa: E731
    value = (
        [(name, bytes.fromhex(each)) for name, each in sorted(files.items(), key=by_bytes)],
        [
            (name, *map(bytes.fromhex, pair))
            for name, pair in sorted(tree.dirs.items(), key=by_bytes)
        ],
    )
    assert data == variant.encode("(a(say)a(sayay))", value)


_META = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 0o7777),
    st.dictionaries(
        st.binary(min_size=1, max_size=9).filter(lambda name: b"\0" not in name),
        st.binary(max_size=300),
        max_size=3,
    ),
)


@settings(max_examples=150, deadline=None)
@given(_META, st.integers(0, 2**63), st.text(st.characters(codec="ascii"), min_size=1))
def test_metadata_of_files_and_directories_comes_back(
    raw: tuple[int, int, int, dict[bytes, bytes]], size: int, target: str
) -> None:
    uid, gid, mode, pairs = raw
    xattrs = tuple(sorted(pairs.items()))
    dirmeta = DirMeta(uid, gid, stat.S_IFDIR | mode, xattrs)
    assert objects.decode_dirmeta(objects.encode_dirmeta(dirmeta)) == dirmeta
    target = target.replace("\0", "")
    meta = FileMeta(uid, gid, stat.S_IFLNK | mode, xattrs, target)
    assert objects.parse_archive_header(objects.archive_header(meta, size)[8:]) == (meta, size)


def test_a_big_dirtree_has_wide_offsets() -> None:
    for count in (3, 10, 2000):
        tree = DirTree({f"{number:05}": HASH for number in range(count)}, {})
        assert objects.decode_dirtree(objects.encode_dirtree(tree)) == tree


# -- damage ----------------------------------------------------------------------------------------

DECODERS = (
    objects.decode_dirmeta,
    objects.decode_dirtree,
    objects.decode_commit,
    objects.decode_filemeta,
    objects.parse_archive_header,
)
SEEDS = [
    vectors.COMMIT_BYTES,
    bytes.fromhex(vectors.DIRTREES[vectors.TREE_ROOT][0]),
    bytes.fromhex(vectors.DIRMETAS[vectors.META_D][0]),
    bytes.fromhex(vectors.FILES[vectors.F][2])[8:56],
]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_an_object_or_damaged(data: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(DamagedRepository):
            decode(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0), st.integers(0, 255), st.integers(0, 300))
def test_changed_objects_are_an_object_or_damaged(seed: bytes, at: int, to: int, cut: int) -> None:
    raw = bytearray(seed)
    raw[at % len(raw)] = to
    for decode in DECODERS:
        with contextlib.suppress(DamagedRepository):
            decode(bytes(raw))
        with contextlib.suppress(DamagedRepository):
            decode(bytes(raw[:cut]))


def dirtree(files: list[tuple[str, bytes]], dirs: list[tuple[str, bytes, bytes]]) -> bytes:
    return variant.encode("(a(say)a(sayay))", (files, dirs))


H = bytes(32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dirtree([("a", H), ("a", H)], []), "a name twice"),
        (dirtree([("a", H)], [("a", H, H)]), "a name twice"),
        (dirtree([("b", H), ("a", H)], []), "not sorted"),
        (dirtree([], [("b", H, H), ("a", H, H)]), "not sorted"),
        (dirtree([("../x", H)], []), "cannot be a file's name"),
        (dirtree([("..", H)], []), "cannot be a file's name"),
        (dirtree([("", H)], []), "cannot be a file's name"),
        (dirtree([], [(".", H, H)]), "cannot be a file's name"),
        (dirtree([], [("a/b", H, H)]), "cannot be a file's name"),
        (dirtree([("a", H[1:])], []), "not an object's checksum"),
        (dirtree([], [("a", H, b"")]), "not an object's checksum"),
        (dirtree([("x" * 256, H)], []), "longer than 255 bytes"),
    ],
)
def test_bad_dirtrees(data: bytes, message: str) -> None:
    with pytest.raises(DamagedRepository, match=message):
        objects.decode_dirtree(data)


@pytest.mark.parametrize("mode", [stat.S_IFREG | 0o644, 0, stat.S_IFLNK | 0o777])
def test_a_dirmeta_is_a_directorys(mode: int) -> None:
    with pytest.raises(ValueError, match="not a directory"):
        objects.encode_dirmeta(DirMeta(0, 0, mode))
    data = objects.encode_filemeta(DirMeta(0, 0, mode))
    with pytest.raises(DamagedRepository, match="dirmeta with mode"):
        objects.decode_dirmeta(data)


@pytest.mark.parametrize("name", [b"", b"\0", b"user.a", b"user\0.a\0", b"user.a\0\0"])
def test_bad_xattr_names(name: bytes) -> None:
    with pytest.raises(DamagedRepository, match="xattr name"):
        objects.parse_xattrs([(name, b"value")])


@pytest.mark.parametrize("tree", [b"", H[1:], H + b"1"])
def test_bad_commits(tree: bytes) -> None:
    for at in (6, 7):
        value: list[object] = [{}, b"", [], "", "", 0, H, H]
        value[at] = tree
        with pytest.raises(DamagedRepository, match="checksum"):
            objects.decode_commit(variant.encode("(a{sv}aya(say)sstayay)", value))


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", ".a", "...", "a b", "ü", "-", "\n", "\\", "x" * 255, "ü" * 127, "a\x7f", "*"]
)
def test_names_that_a_directory_may_have(name: str) -> None:
    assert objects.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a/b", "/a", "a/", "a\0", "\0", "x" * 256, "ü" * 128]
)
def test_names_that_it_may_not(name: str) -> None:
    with pytest.raises(MalformedImage):
        objects.check_name(name)


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "../" + "a" * 61]
)
def test_checksums_are_64_lower_case_hex_digits(text: str) -> None:
    assert objects.check_checksum(HASH) == HASH
    with pytest.raises(DamagedRepository):
        objects.check_checksum(text)


@pytest.mark.parametrize("depth", [330, 400])
def test_metadata_that_is_nested_too_deep_is_damage(depth: int) -> None:
    deep = Variant("u", 1)
    for _ in range(depth):
        deep = Variant("av", [deep])
    data = objects.encode_commit(Commit(HASH, HASH, {"deep": deep}))
    with pytest.raises(DamagedRepository, match=r"nested too deep|not a serialised"):
        objects.decode_commit(data)


@pytest.mark.parametrize("name", ["/" * 100_000, "\0" * 100_000])
def test_a_bad_name_of_any_length_is_told_in_a_line(name: str) -> None:
    with pytest.raises(MalformedImage) as caught:
        objects.check_name(name)
    assert len(str(caught.value)) < 200
