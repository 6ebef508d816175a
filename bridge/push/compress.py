"""Packing a layer's tar stream into a blob: the same bytes each time, on any machine.

(As long as it has the same release of zlib or libzstd.)
"""

from __future__ import annotations

import enum
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import UsageError
from bridge.oci.digest import Digest

_TAR = "application/vnd.oci.image.layer.v1.tar"


class Compression(enum.Enum):
    """What a layer is packed with, in skopeo's words."""

    GZIP = "gzip"
    ZSTD = "zstd"
    ZSTD_CHUNKED = "zstd:chunked"
    NONE = "none"


_LEVELS = {
    Compression.GZIP: range(1, 10),
    Compression.ZSTD: range(1, 23),
    Compression.ZSTD_CHUNKED: range(1, 23),
}
_DEFAULTS = {Compression.GZIP: 6, Compression.ZSTD: 3}
"""Those of the two programs; zstd:chunked's is its writer's."""
_MEDIA_TYPES = {
    Compression.GZIP: f"{_TAR}+gzip",
    Compression.ZSTD: f"{_TAR}+zstd",
    Compression.ZSTD_CHUNKED: f"{_TAR}+zstd",
    Compression.NONE: _TAR,
}


@dataclass(frozen=True, slots=True)
class Packed:
    """A blob that was made, as a manifest describes it."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)


def check_level(compression: Compression, level: int | None) -> None:
    """Raise `UsageError` for a level that the compression does not have."""
    levels = _LEVELS.get(compression)
    if level is None or (levels is not None and level in levels):
        return
    if levels is None:
        raise UsageError(f"compression level {level}: {compression.value} has no levels")
    raise UsageError(
        f"compression level {level}: those of {compression.value} are {levels[0]} to {levels[-1]}"
    )


def pack(
    tar: Iterable[bytes],
    compression: Compression,
    level: int | None,
    out: Callable[[bytes], object],
) -> Packed:
    """Hand the blob that `tar` is packed to over to `out`, and return what it is.

    What `tar` raises at its end comes through: then there is no blob; nor is there one where
    zstd:chunked has no way to say what is in the layer (`NotHeld`).
    """
    if compression is Compression.ZSTD_CHUNKED:
        # To import it takes longer than many a sync job.
        from bridge.layer.zstd_chunked_writer import DEFAULT_LEVEL, write

        made = write(tar, out, level=level or DEFAULT_LEVEL, threads=os.cpu_count() or 1)
        media_type = _MEDIA_TYPES[compression]
        return Packed(media_type, Digest(made.digest), made.size, made.annotations)
    digest = hashlib.sha256()
    size = 0
    for chunk in _packed(tar, compression, level or _DEFAULTS.get(compression, 0)):
        if chunk:
            digest.update(chunk)
            size += len(chunk)
            out(chunk)
    return Packed(_MEDIA_TYPES[compression], Digest(f"sha256:{digest.hexdigest()}"), size)


def _packed(tar: Iterable[bytes], compression: Compression, level: int) -> Iterator[bytes]:
    if compression is Compression.NONE:
        yield from tar
        return
    packer: Any
    if compression is Compression.GZIP:
        # The header that zlib writes has no name and no time.
        packer = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    else:
        import zstandard

        # In one thread: with several, the blob depends on how many they are.
        packer = zstandard.ZstdCompressor(level, write_checksum=True).compressobj()
    for chunk in tar:
        yield packer.compress(chunk)
    yield packer.flush()
