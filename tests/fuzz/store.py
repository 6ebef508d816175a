"""The store: variants, objects, the configuration, refs and the names in them."""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import zstandard

from bridge.errors import DamagedRepository, MalformedImage, UsageError
from bridge.oci.digest import Digest
from bridge.ostree import config, objects, refs, variant
from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta
from bridge.ostree.repository import Repository
from bridge.ostree.variant import Variant
from bridge.pull import skeleton
from bridge.pull.refnames import escape, unescape

from . import glib
from .harness import Target

_HASH = "ab" * 32
_XATTRS = ((b"user.a", b"1"), (b"user.b", b"\0" * 300))
_COMMIT_TYPE = "(a{sv}aya(say)sstayay)"

# -- variants: the type string stands before the bytes, parted by a NUL ----------------------

_VALUES: list[tuple[str, Any]] = [
    ("(uuua(ayay))", (1, 2, 3, [(b"user.a\0", b"1"), (b"user.b\0", bytes(300))])),
    ("(a(say)a(sayay))", ([("a", bytes(32)), ("b", bytes(32))], [("c", bytes(32), bytes(32))])),
    ("a{sv}", {"k": Variant("a(ss)", [("x", "y")]), "l": Variant("v", Variant("b", True))}),
    ("a{sv}", {"k": Variant("as", ["text"] * 90)}),
    ("(ybnqiuxt)", (1, True, -2, 3, -4, 5, -6, 7)),
    ("(yt(y)ay)", (1, 2, (3,), b"")),
    ("aay", [b"", b"a", bytes(255)]),
    ("a()", [(), ()]),
    ("av", [Variant("y", 1), Variant("(sau)", ("s", [1, 2])), Variant("at", [])]),
    ("a{ya{sas}}", {1: {"a": ["b"]}, 2: {}}),
]


def _parse_variant(data: bytes) -> tuple[str, Any]:
    name, _, body = data.partition(b"\0")
    kind = name.decode("ascii", "replace")
    try:
        variant.codec(kind)
    except ValueError:
        raise DamagedRepository("no type") from None
    try:
        return kind, variant.decode(kind, body)
    except DamagedRepository as error:
        # GLib takes no bytes at all for a tuple of empty members, though it does not write it so.
        quirk = "tuple with broken framing" in str(error)
        if not quirk and not set("og") & set(data.decode("latin-1")) and "d" not in kind:
            assert not _normal(kind, body), "refused, but in normal form"
        raise


def _variant_is_normal(data: bytes, found: tuple[str, Any]) -> None:
    kind, value = found
    body = data.partition(b"\0")[2]
    if not set("og") & set(data.decode("latin-1")):  # paths and signatures are texts to us
        assert _normal(kind, body), "accepted, but not in normal form"
    again = variant.encode(kind, value)
    if len(again) >= len(body):  # a dict may have a key twice
        assert again == body


def _normal(kind: str, body: bytes) -> bool:
    return kind.isascii() and glib.is_normal(kind, body)


# -- objects ---------------------------------------------------------------------------------


def _nested(depth: int) -> Variant:
    value = Variant("u", 1)
    for _ in range(depth):
        value = Variant("av", [value])
    return value


def _encoded_commit(data: bytes, found: Commit) -> None:
    metadata = variant.decode(_COMMIT_TYPE, data)[0]
    names = list(metadata)
    if names == sorted(names) and not variant.decode(_COMMIT_TYPE, data)[2]:
        again = objects.encode_commit(Commit(**{**_fields(found), "metadata": metadata}))
        if len(again) == len(data):
            assert again == data


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _encoded_dirtree(data: bytes, found: DirTree) -> None:
    assert objects.encode_dirtree(found) == data


def _encoded_dirmeta(data: bytes, found: DirMeta) -> None:
    if list(found.xattrs) == sorted(found.xattrs):
        assert objects.encode_dirmeta(found) == data


def _filez_header(data: bytes, found: tuple[FileMeta, int]) -> None:
    meta, size = found
    again = objects.archive_header(meta, size)[8:]
    if list(meta.xattrs) == sorted(meta.xattrs) and data[20:24] == bytes(4):
        assert again == data


# -- texts -----------------------------------------------------------------------------------


def _config(data: bytes) -> config.Config:
    return config.parse(data.decode("utf-8", "replace"))


def _config_is_as_glib_reads_it(data: bytes, found: config.Config) -> None:
    values = glib.key_file(data)
    if values is not None:
        assert values.get(("core", "repo_version")) == "1"
        mode = values.get(("core", "mode"), "bare") or ""
        assert mode.replace("archive-z2", "archive") == found.mode
    text = data.decode("utf-8", "replace")
    changed = config.set_value(text, "sysroot", "bootloader", "none")
    assert config.parse(changed).values["sysroot", "bootloader"] == "none"


_CONFIG = (
    b"[core]\nrepo_version=1\nmode=bare\n",
    b"# note\n[core]\nrepo_version=1\nmode=archive-z2\nmin-free-space-size=10GB\n"
    b'[remote "x"]\nurl=https://a\n',
    b"[core]\nmode = bare-user\nrepo_version = 1\nmin-free-space-percent=5\n\n[sysroot]\na=b\n",
)


def _ref(data: bytes) -> str | None:
    """Read a ref that is a file with these bytes."""
    repo = _repository()
    (Path(repo.path) / "refs/heads/name").write_bytes(data)
    return refs.resolve(repo, "name")


@cache
def _repository() -> Repository:
    directory = tempfile.TemporaryDirectory()
    repo = Repository.create(Path(directory.name) / "repo", "bare-user")
    weakref.finalize(repo, directory.cleanup)
    return repo


def _ref_name(data: bytes) -> str:
    return refs.check_ref(data.decode("utf-8", "replace"))


def _unescaped(data: bytes) -> str:
    return unescape(data.decode("utf-8", "replace"))


def _escaped_again(data: bytes, found: str) -> None:
    assert escape(found) == data.decode("utf-8", "replace")
    found.encode()


def _digest(data: bytes) -> Digest:
    return Digest.parse(data.decode("utf-8", "replace"))


def _ref_is_the_text(data: bytes, found: str | None) -> None:
    assert found == data.decode().strip()


def _name_stays_below(_data: bytes, found: str) -> None:
    assert not {"", ".", ".."} & set(found.split("/"))


def _digest_is_the_text(data: bytes, found: Digest) -> None:
    assert found.encode() == data
    assert len(bytes.fromhex(found.hex)) in (32, 64)


# -- skeletons: as they are before they are compressed, which alone would hide what is in them --

_SKELETON_END = struct.pack("<IQ", 0, 0)


def _skeleton(data: bytes) -> list[bytes | skeleton.Payload]:
    packed = zstandard.ZstdCompressor(1, write_checksum=True).compress(data)
    return list(skeleton.parts(io.BytesIO(packed)))


def _skeleton_is_the_records(data: bytes, found: list[bytes | skeleton.Payload]) -> None:
    total = sum(len(part) if isinstance(part, bytes) else part.size for part in found)
    assert data.endswith(_SKELETON_END + struct.pack("<Q", total))
    stands = [bytes.fromhex(part[0]) if isinstance(part, tuple) else part for part in found]
    heads = len(data) - 20 - 20 - sum(map(len, stands))
    assert heads % 12 == 0 and all(part in data for part in stands)


_SKELETONS = (
    b"bootc-py skeleton 1\n" + _SKELETON_END + bytes(8),
    b"bootc-py skeleton 1\n"
    + struct.pack("<IQ", 3, 5)
    + b"abc"
    + bytes(range(32))
    + struct.pack("<IQ", 0, 2**40)
    + bytes(32)
    + struct.pack("<IQ", 600, 0)
    + bytes(600)
    + _SKELETON_END
    + struct.pack("<Q", 608 + 2**40),
)


TYPES = (b"a{sv}", b"(yt)", b"av", b"as", b"v\0", b"\0u", b"\0(ss)", b"()", b"\x01\0b", b"\x02\0b")
OFFSETS = tuple(number.to_bytes(width, "little") for number in (0, 1, 33, 255) for width in (1, 2))

TARGETS = [
    Target(
        "variant",
        lambda: [kind.encode() + b"\0" + variant.encode(kind, value) for kind, value in _VALUES],
        _parse_variant,
        (DamagedRepository,),
        _variant_is_normal,
        TYPES + OFFSETS,
    ),
    Target(
        "commit",
        lambda: [
            objects.encode_commit(each)
            for each in (
                Commit(_HASH, _HASH),
                Commit(_HASH, _HASH, {"version": "1", "n": Variant("u", 7)}, _HASH, "s", "b", 9),
                Commit(_HASH, _HASH, {"deep": _nested(30)}),
                Commit(_HASH, _HASH, {"deep": _nested(460)}),
            )
        ],
        objects.decode_commit,
        (DamagedRepository,),
        _encoded_commit,
        TYPES + OFFSETS,
    ),
    Target(
        "dirtree",
        lambda: [
            objects.encode_dirtree(each)
            for each in (
                DirTree({}, {}),
                DirTree({"a": _HASH, "b" * 60: _HASH}, {"c": (_HASH, _HASH)}),
                DirTree({f"{number}": _HASH for number in range(12)}, {}),
            )
        ],
        objects.decode_dirtree,
        (DamagedRepository,),
        _encoded_dirtree,
        (*OFFSETS, b"/", b"..", b"a\0", bytes(32), b"\xff\0"),
    ),
    Target(
        "dirmeta",
        lambda: [
            objects.encode_dirmeta(DirMeta(0, 0, stat.S_IFDIR | 0o755, each))
            for each in ((), _XATTRS)
        ],
        objects.decode_dirmeta,
        (DamagedRepository,),
        _encoded_dirmeta,
        OFFSETS,
    ),
    Target(
        "filez-header",
        lambda: [
            objects.archive_header(FileMeta(1, 2, stat.S_IFREG | 0o644, _XATTRS), 5)[8:],
            objects.archive_header(FileMeta(0, 0, stat.S_IFLNK | 0o777, (), "to"), 0)[8:],
        ],
        objects.parse_archive_header,
        (DamagedRepository,),
        _filez_header,
        OFFSETS,
    ),
    Target(
        "repo-config",
        lambda: _CONFIG,
        _config,
        (DamagedRepository, UsageError),
        _config_is_as_glib_reads_it,
        (b"[core]\n", b"[DEFAULT]\n", b"mode=", b"\n ", b";", b"#", b"=", b"GB", b"%(a)s", b"\\s"),
    ),
    Target(
        "ref",
        lambda: [f"{_HASH}\n".encode(), _HASH.encode()],
        _ref,
        (DamagedRepository,),
        _ref_is_the_text,
    ),
    Target(
        "ref-name",
        lambda: [b"ostree/0/1/0", b"exampleos/x86_64/stable", _HASH.encode()],
        _ref_name,
        (UsageError,),
        _name_stays_below,
        (b"/", b"..", b".", b"-", b"_"),
    ),
    Target(
        "escaped-ref",
        lambda: [
            escape(text).encode()
            for text in ("docker://quay.io/a/b:t", "oci:/srv/os_x:v1", "é//\U0001f40d", "a_/-")
        ],
        _unescaped,
        (UsageError,),
        _escaped_again,
        (b"_2F_", b"_D800_", b"_0_", b"__", b"_", b"_110000_", b"_41_", b"_0041_", b"/"),
    ),
    Target(
        "skeleton",
        lambda: _SKELETONS,
        _skeleton,
        (DamagedRepository,),
        _skeleton_is_the_records,
        (_SKELETON_END, struct.pack("<IQ", 1, 0), struct.pack("<IQ", 65537, 0), b"\xff" * 8),
    ),
    Target(
        "digest",
        lambda: [Digest.of(b"").encode(), Digest.of(b"", "sha512").encode()],
        _digest,
        (MalformedImage,),
        _digest_is_the_text,
        (b"sha256:", b"sha512:", b"md5:", b"\n", b"/", "٣".encode()),
    ),
]
