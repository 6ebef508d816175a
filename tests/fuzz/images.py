"""OCI: manifests, indexes, configurations, references, layouts and archives of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import struct
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.images import Member, file, image, index, layout_files, tar

from bridge.errors import BridgeError, MalformedImage, NotFound, UsageError, VerificationFailed
from bridge.oci.artifact import artifact
from bridge.oci.digest import Digest
from bridge.oci.layout import Archive, Layout
from bridge.oci.model import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse_config,
    parse_document,
)
from bridge.oci.reference import (
    ImageReference,
    Transport,
    origin_form,
    parse_origin,
    parse_reference,
    parse_registry_reference,
)
from bridge.ostree.refs import check_ref
from bridge.packages import rpm_header
from bridge.pull.refnames import image_ref, unescape
from bridge.sysroot import image_metadata

from .harness import Mutate, Target, mutated

# -- JSON ------------------------------------------------------------------------------------

ODD: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: True, lambda: -1, lambda: 0, lambda: 1.5, lambda: 2**63, lambda: 10**400,
    lambda: float("inf"), lambda: float("nan"), lambda: "", lambda: "\ud800", lambda: "\0",
    lambda: "a\nb\x1b[31m", lambda: "x" * 70_000, lambda: [], lambda: {}, lambda: [None],
    lambda: {"": ""}, lambda: ["a"],
    lambda: "sha256:" + "0" * 64, lambda: OCI_INDEX,
)  # fmt: skip
"""What nobody expects as a value."""


class Nest(int):
    """So many lists in one another. Python's own writer would not get to the bottom of them."""


def _write(value: Any) -> str:
    if isinstance(value, Nest):
        return "[" * value + "]" * value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {_write(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    return json.dumps(value)


def json_mutated(data: bytes, chance: random.Random) -> bytes:
    """Put something odd in the place of a value, drop or copy one; now and then damage bytes."""
    if chance.random() < 0.25:
        return mutated(data, chance, (b"\\ud800", b"[", b"{", b"null", b"NaN", b'"', b"\\u0000"))
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutated(data, chance)
    root = [document]
    for _ in range(chance.randint(1, 3)):
        places = list(_places(root))
        holder, key = chance.choice(places)
        match chance.randrange(5):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, list) and holder is not root:
                holder.append(holder[key])
            case 2:
                other, there = chance.choice(places)
                with contextlib.suppress(LookupError):
                    holder[key] = json.loads(json.dumps(other[there]))
            case _ if chance.random() < 0.1:
                holder[key] = Nest(chance.choice((30, 200, chance.randrange(900, 1000))))
            case _:
                holder[key] = chance.choice(ODD)()
    return _write(root[0]).encode()


def _places(holder: Any) -> Any:
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


# -- documents -------------------------------------------------------------------------------

_IMAGE = image([file("a", "x")], [file("b", "y")], annotations={"k": "v"})
_INDEX = index((_IMAGE, Platform("linux", "amd64")), (_IMAGE, Platform("linux", "arm", "v7")))
_ARTIFACT = artifact(
    "application/x",
    Descriptor(OCI_MANIFEST, _IMAGE.digest, len(_IMAGE.manifest)),
    [],
    {"org.example": "ü"},
)
_CONFIG = next(data for data in _IMAGE.blobs.values() if data.startswith(b"{"))


def _document(data: bytes) -> Manifest | Index:
    """Read it with and without a media type, and ask an index what it has for whom."""
    found = parse_document(data)
    if isinstance(found, Index):
        for platform in (Platform("linux", "amd64"), Platform("plan9", "mips")):
            with contextlib.suppress(MalformedImage):
                found.select(platform)
        found.select(Platform("linux", "amd64"))
    return found


def _document_is_whole(data: bytes, found: Manifest | Index) -> None:
    plain = json.loads(data)
    assert found.raw == data and found.digest == Digest.of(data)
    entries = found.layers if isinstance(found, Manifest) else found.manifests
    wanted = plain["layers" if isinstance(found, Manifest) else "manifests"]
    assert [(each.digest, each.size) for each in entries] == [
        (each["digest"], each["size"]) for each in wanted
    ]
    assert parse_document(data, found.media_type) == found
    str(found).encode()


def _config_is_whole(data: bytes, found: Any) -> None:
    plain = json.loads(data)
    assert list(found.diff_ids) == (plain["rootfs"].get("diff_ids") or [])
    assert found.platform.os == plain["os"]
    repr(found)
    _printable(found.labels, found.created)


def _printable(*values: object) -> None:
    """What comes from an image can be written: to a terminal, to the store, to a log."""
    json.dumps(values, ensure_ascii=False).encode()


def _metadata(data: bytes) -> image_metadata.ImageMetadata | None:
    return image_metadata.parse(
        {
            "ostree.manifest-digest": "sha256:" + "0" * 64,
            "ostree.container.image-config": data.decode("utf-8", "replace"),
        }
    )


def _metadata_can_be_shown(_data: bytes, found: image_metadata.ImageMetadata | None) -> None:
    assert found is not None
    _printable(found.version, found.timestamp, found.architecture)


# -- layouts ---------------------------------------------------------------------------------

_FILES = layout_files({"v1": _IMAGE, "v2": _INDEX})


def _layout(data: bytes) -> list[str]:
    """Resolve tags of a layout whose `index.json` and `oci-layout` (after a NUL) are `data`."""
    index_json, _, marker = data.partition(b"\0")
    with tempfile.TemporaryDirectory() as path:
        for name, content in {**_FILES, "index.json": index_json, "oci-layout": marker}.items():
            (Path(path) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(path) / name).write_bytes(content)
        os.chdir(path)
        try:
            with Layout.open(".") as layout:
                return _resolved(layout)
        finally:
            os.chdir("/")


def _archive(data: bytes) -> list[str]:
    with tempfile.TemporaryDirectory() as path:
        os.chdir(path)
        try:
            Path("a").write_bytes(data)
            with Archive.open("a") as archive:
                return _resolved(archive)
        finally:
            os.chdir("/")


def _resolved(layout: Layout | Archive) -> list[str]:
    found = []
    last: BridgeError | None = None
    for tag in (None, "v1", "v2"):
        try:
            descriptor = layout.resolve(tag)
            found.append(Digest.of(layout.read_blob(descriptor), descriptor.digest.algorithm))
            assert found[-1] == descriptor.digest
        except (MalformedImage, NotFound, UsageError, VerificationFailed) as error:
            last = error
    if not found and last is not None:
        raise last
    return found


def _layout_mutated(data: bytes, chance: random.Random) -> bytes:
    index_json, _, marker = data.partition(b"\0")
    if chance.random() < 0.2:
        return index_json + b"\0" + json_mutated(marker, chance)
    return json_mutated(index_json, chance) + b"\0" + marker


def _archives() -> list[bytes]:
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for name, data in _FILES.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        made.append(out.getvalue())
    long = tar([Member("x" * 300, data=b"y"), *(file(name, data) for name, data in _FILES.items())])
    return [*made, long, long[:1024] * 3000]


def _tar_mutate(data: bytes, chance: random.Random) -> bytes:
    from .layers import _mutate_tar

    return _mutate_tar(data, chance)


# -- references ------------------------------------------------------------------------------

_REFERENCES = (
    "quay.io/a/b:t", "localhost:5000/a@sha256:" + "ab" * 32, "oci:/p/d:v1", "[::1]:5000/foo",
    "ostree-image-signed:docker://quay.io/a/b", "ostree-unverified-image:oci-archive:/f.tar:x",
    "registry://docker.io/library/alpine", "containers-storage:localhost/x:y",
)  # fmt: skip


def _reference(data: bytes) -> ImageReference:
    text = data.decode("utf-8", "replace")
    for transport in (Transport.REGISTRY, Transport.OCI):
        with contextlib.suppress(UsageError):
            parse_reference(text, transport)
    return parse_reference(text)


def _reference_comes_back(data: bytes, found: ImageReference) -> None:
    assert parse_origin(origin_form(found)) == found
    assert str(found).isprintable()
    with contextlib.suppress(UsageError):  # a dash at a part's start is no ref to libostree
        check_ref(image_ref(found))
    assert unescape(image_ref(found).removeprefix("ostree/container/image/")) == str(found)
    if found.transport is Transport.REGISTRY:
        parsed = found.registry
        assert parse_registry_reference(str(parsed)) == parsed
        assert not {"", ".", ".."} & set(parsed.repository.split("/"))
    elif found.transport in (Transport.OCI, Transport.OCI_ARCHIVE):
        path, tag = found.layout
        assert path and found.name.rstrip(":") == (f"{path}:{tag}" if tag else path).rstrip(":")


def _origin(data: bytes) -> ImageReference:
    return parse_origin(data.decode("utf-8", "replace"))


_JSON: Mutate = json_mutated
_WORDS = (
    b"docker://", b"oci:", b"registry:", b"ostree-", b"@sha256:", b"/", b":", b"..", b"[", b"]",
    "é".encode(), "٣".encode(), b"_", b"localhost", b"index.docker.io/", b":65536", b":0",
)  # fmt: skip

# -- packages --------------------------------------------------------------------------------


def _rpm_seed() -> bytes:
    values = {
        rpm_header.NAME: (6, 1, b"hello\0"),
        rpm_header.EPOCH: (4, 1, bytes(4)),
        rpm_header.BASE_NAMES: (8, 2, b"a\0b\0"),
        rpm_header.DIRECTORY_INDEXES: (4, 2, bytes(8)),
        rpm_header.FILE_STATES: (1, 2, bytes(2)),
    }
    entries, kept = b"", b""
    for tag, (kind, count, value) in values.items():
        kept += bytes(-len(kept) % 4)
        entries += struct.pack(">IIiI", tag, kind, len(kept), count)
        kept += value
    return struct.pack(">II", len(values), len(kept)) + entries + kept


def _rpm_header(data: bytes) -> list[Any]:
    found = rpm_header.Header.parse(data)
    return [
        found.text(rpm_header.NAME),
        found.texts(rpm_header.BASE_NAMES),
        found.numbers(rpm_header.EPOCH),
        found.numbers(rpm_header.DIRECTORY_INDEXES),
        found.numbers(rpm_header.FILE_STATES),
    ]


TARGETS = [
    Target("rpm-header", lambda: [_rpm_seed()], _rpm_header, (MalformedImage,)),
    Target(
        "manifest",
        lambda: [_IMAGE.manifest, _INDEX.manifest, _ARTIFACT],
        _document,
        (MalformedImage,),
        _document_is_whole,
        mutate=_JSON,
    ),
    Target(
        "image-config",
        lambda: [_CONFIG],
        parse_config,
        (MalformedImage,),
        _config_is_whole,
        mutate=_JSON,
    ),
    Target(
        "image-metadata",
        lambda: [_CONFIG, b'{"config": {"Labels": {"version": "1"}}, "architecture": "amd64"}'],
        _metadata,
        (),
        _metadata_can_be_shown,
        mutate=_JSON,
    ),
    Target(
        "layout",
        lambda: [_FILES["index.json"] + b"\0" + _FILES["oci-layout"]],
        _layout,
        (MalformedImage, NotFound, UsageError, VerificationFailed),
        mutate=_layout_mutated,
    ),
    Target(
        "oci-archive",
        _archives,
        _archive,
        (MalformedImage, NotFound, UsageError, VerificationFailed),
        mutate=_tar_mutate,
    ),
    Target(
        "reference",
        lambda: [text.encode() for text in _REFERENCES],
        _reference,
        (UsageError,),
        _reference_comes_back,
        _WORDS,
    ),
    Target(
        "origin-reference",
        lambda: [origin_form(parse_reference(text)).encode() for text in _REFERENCES],
        _origin,
        (UsageError,),
        _reference_comes_back,
        _WORDS,
    ),
]
