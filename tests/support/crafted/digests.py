"""Digests, sizes and DiffIDs that are not what they should be, and the algorithms there are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from bridge.oci.digest import Digest
from support.crafted.case import Case, complete
from support.images import Image, compress, dumps, file, image, tar

_LOW, _TOP = [file("a", "1" * 5000)], [file("b", "2" * 5000)]
TREE = {"a": "1" * 5000, "b": "2" * 5000}
_NOWHERE = "sha256:" + "0" * 64


def _made(kind: str = "gzip") -> Image:
    return image(_LOW, _TOP, compression=kind)


def changed(
    made: Image, place: str, number: int = 0, blobs: Mapping[str, bytes] | None = None, **to: Any
) -> Image:
    """Return the image with other members in its config's or one layer's descriptor."""
    document = made.document
    target = document["config"] if place == "config" else document["layers"][number]
    target.update(to)
    result = Image(dumps(document), {**made.blobs, **(blobs or {})}, made.media_type)
    return result


def _flipped(kind: str, number: int, at: float) -> Image:
    made = _made(kind)
    digest = made.layers[number]
    data = bytearray(made.blobs[digest])
    data[int(at * (len(data) - 1))] ^= 0x10
    made.blobs[digest] = bytes(data)
    return made


def _replaced(kind: str, number: int, data: Callable[[bytes], bytes]) -> Image:
    made = _made(kind)
    digest = made.layers[number]
    made.blobs[digest] = data(made.blobs[digest])
    return made


_SERVED = "a registry keeps blobs by their digests, and serves no other bytes"
FLIPPED: dict[str, Case] = {
    f"a flipped bit {where} of layer {number}, {kind}": Case(
        lambda kind=kind, number=number, at=at: _flipped(kind, number, at),  # type: ignore[misc]
        6, phrase="content has sha256", unpublishable=_SERVED,
    )
    for kind in ("gzip", "zstd", "none")
    for number in (0, 1)
    for where, at in {"at the start": 0.0, "in the middle": 0.5, "at the end": 1.0}.items()
}  # fmt: skip
REPLACED: dict[str, Case] = {
    f"{what}, {kind}": Case(
        lambda kind=kind, change=change: _replaced(kind, 1, change),  # type: ignore[misc]
        6, phrase=phrase, unpublishable=_SERVED,
    )
    for kind in ("gzip", "zstd", "none")
    for what, change, phrase in (
        ("a byte less", lambda data: data[:-1], "bytes where its descriptor gives"),
        ("a byte more", lambda data: data + b"\0", "more than the .* bytes its descriptor gives"),
        ("a block more", lambda data: data + bytes(512), "more than the"),
        ("much more", lambda data: data + bytes(1 << 20), "more than the"),
        ("nothing", lambda data: b"", "0 bytes where its descriptor gives"),
        ("noise of that size", lambda data: b"\xa5" * len(data), "content has sha256"),
    )
}  # fmt: skip

_SHA512 = "sha512:" + hashlib.sha512(compress(tar(_TOP), "gzip")).hexdigest()
_BAD_DIGESTS = {
    "md5": "md5:" + "0" * 32, "sha1": "sha1:" + "0" * 40, "sha384": "sha384:" + "0" * 96,
    "upper case": "sha256:" + "A" * 64, "upper case algorithm": "SHA256:" + "a" * 64,
    "63 digits": "sha256:" + "a" * 63, "65 digits": "sha256:" + "a" * 65, "no digits": "sha256:",
    "no algorithm": "a" * 64, "a path": "sha256:../../../../etc/passwd", "a path of 64":
    "sha256:" + "../" * 21 + "x", "a NUL": "sha256:" + "a" * 63 + "\0", "a newline": "sha256:" +
    "a" * 64 + "\n", "spaces": " sha256:" + "a" * 64, "other digits": "sha256:" + "١" * 64,
    "sha512 of 64": "sha512:" + "a" * 64, "two colons": "sha256::" + "a" * 63, "empty": "",
    "a number": 7, "none at all": None, "a list": ["sha256:" + "a" * 64],
}  # fmt: skip
GRAMMAR: dict[str, Case] = {
    f"a {place}'s digest: {what}": Case(
        lambda place=place, digest=digest: changed(_made(), place, digest=digest),  # type: ignore[misc]
        7, phrase="is not a sha256 or sha512 digest", unpublishable="a registry checks the grammar",
    )
    for place in ("config", "layer")
    for what, digest in _BAD_DIGESTS.items()
} | {
    f"a DiffID: {what}": Case(
        lambda digest=digest: image(_LOW, diff_ids=[digest]),  # type: ignore[misc]
        7, phrase="is not a sha256 or sha512 digest",
    )
    for what, digest in _BAD_DIGESTS.items()
}  # fmt: skip

DESCRIPTORS: dict[str, Case] = {
    "a layer that is not there": Case(
        lambda: changed(_made(), "layer", digest=_NOWHERE), 4, phrase="is not in the layout",
        unpublishable="a registry wants the blobs first"),
    "a config that is not there": Case(
        lambda: changed(_made(), "config", digest=_NOWHERE), 4, phrase="is not in the layout",
        unpublishable="a registry wants the blobs first"),
    "a layer of another's digest": Case(
        lambda: changed(made := _made(), "layer", 0, digest=made.layers[1],
                        size=len(made.blobs[made.layers[1]])),
        6, phrase="its DiffID"),
    "layers in the wrong order": Case(
        lambda: (made := _made()).changed(layers=made.document["layers"][::-1]),
        6, phrase="its DiffID"),
    **{
        f"a {place}'s size {what}": Case(
            lambda place=place, size=size: changed(_made(), place, size=size(_made(), place)),  # type: ignore[misc]
            6, phrase="descriptor gives", unpublishable="a registry compares the sizes",
        )
        for place in ("config", "layer")
        for what, size in (
            ("less by one", lambda made, place: _size(made, place) - 1),
            ("more by one", lambda made, place: _size(made, place) + 1),
            ("of zero", lambda made, place: 0),
        )
    },
    **{
        f"a {place}'s size is {size!r:.30}": Case(
            lambda place=place, size=size: changed(_made(), place, size=size),  # type: ignore[misc]
            7, phrase="descriptor with size", unpublishable="a registry reads a number",
        )
        for place in ("config", "layer")
        for size in (-1, 2**63, 1.5, "7", None, True, [1])
    },
    "a config of 4 MiB and a byte": Case(
        lambda: changed(_made(), "config", size=(4 << 20) + 1), 7, phrase="the limit is",
        unpublishable="a registry compares the sizes"),
    "a flipped config": Case(
        lambda: _with_config(lambda raw: raw.replace(b"linux", b"linuz")), 6,
        phrase="content has", unpublishable=_SERVED),
}  # fmt: skip

_WRONG = {"of another stream": str(Digest.of(b"")), "of zeros": _NOWHERE, "of the blob":
          str(Digest.of(compress(tar(_LOW), "gzip"))), "of sha512": "sha512:" + "0" * 128,
          "a digit off": str(Digest.of(tar(_LOW)))[:-1] + "g"}  # fmt: skip
DIFF_IDS: dict[str, Case] = {
    f"a DiffID {what}, {kind}": Case(
        lambda diff_id=diff_id, kind=kind: image(_LOW, diff_ids=[diff_id], compression=kind),  # type: ignore[misc]
        6, phrase="its DiffID|content has",
    )
    for what, diff_id in _WRONG.items()
    for kind in ("gzip", "zstd", "none")
    if not diff_id.endswith("g") and not (what == "of the blob" and kind != "gzip")
} | {
    "too few DiffIDs": Case(
        lambda: image(_LOW, _TOP, diff_ids=[Digest.of(tar(_LOW))]), 7, phrase="has 2 layers"),
    "too many DiffIDs": Case(
        lambda: image(_LOW, diff_ids=[Digest.of(tar(_LOW))] * 2), 7, phrase="has 2 DiffIDs"),
    "no DiffIDs": Case(lambda: image(_LOW, diff_ids=[]), 7, phrase="has 0 DiffIDs"),
    "DiffIDs the wrong way round": Case(
        lambda: image(_LOW, _TOP, diff_ids=[Digest.of(tar(_TOP)), Digest.of(tar(_LOW))]),
        6, phrase="its DiffID"),
    "a DiffID of sha512": Case(
        lambda: image(_LOW, _TOP, diff_ids=[
            Digest.of(tar(_LOW)), Digest.of(tar(_TOP), "sha512")]),
        tree=complete(TREE), engines="umoci knows sha256 only"),
    "a layer's digest of sha512": Case(
        lambda: changed(_made(), "layer", 1, {_SHA512: compress(tar(_TOP), "gzip")},
                        digest=_SHA512),
        tree=complete(TREE), engines="umoci knows sha256 only",
        unpublishable="docker-registry keeps sha256 only"),
    "the same layer twice": Case(
        lambda: image(_LOW, _LOW), tree=complete({"a": "1" * 5000})),
    "the same layer twice, packed differently": Case(
        lambda: image(_LOW, _TOP, _LOW, compression=("gzip", "none", "zstd")),
        tree=complete(TREE)),
    "one layer ten times": Case(
        lambda: image(*[_LOW] * 10, _TOP), tree=complete(TREE)),
}  # fmt: skip


def _size(made: Image, place: str) -> int:
    document = made.document
    return int((document["config"] if place == "config" else document["layers"][0])["size"])


def _with_config(change: Callable[[bytes], bytes]) -> Image:
    made = _made()
    digest = made.document["config"]["digest"]
    made.blobs[digest] = change(made.blobs[digest])
    return made


CASES: dict[str, Case] = FLIPPED | REPLACED | GRAMMAR | DESCRIPTORS | DIFF_IDS
