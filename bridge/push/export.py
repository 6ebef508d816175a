"""A stored layer's tar stream, byte for byte as it was when it was imported."""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.errors import DamagedRepository, VerificationFailed
from bridge.oci.digest import Digest, Verifier
from bridge.ostree.repository import Repository
from bridge.pull import skeleton
from bridge.pull.streams import verified

_CHUNK = 256 * limits.KIB


def export(repo: Repository, diff_id: Digest) -> Iterator[bytes]:
    """Return the tar stream of the layer with that DiffID, in chunks of at least 256 KiB but for
    the last; the same chunks each time.

    Content comes from the objects, the rest from the layer's skeleton. `NotFound`, at once, where
    there is no skeleton; `DamagedRepository`, at the latest at the end, where the bytes do not
    hash to the DiffID: nothing of them may be of use before.
    """
    return _verified(repo, joined(_stream(repo, skeleton.read(repo, diff_id))), diff_id)


def _verified(repo: Repository, chunks: Iterator[bytes], diff_id: Digest) -> Iterator[bytes]:
    try:
        yield from verified(chunks, Verifier(f"layer {diff_id} as {repo.path} has it", diff_id))
    except VerificationFailed as error:
        raise DamagedRepository(str(error)) from None


def _stream(
    repo: Repository, parts: Iterator[bytes | skeleton.Payload]
) -> Iterator[bytes | memoryview]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            yield from _content(repo, *part)


def _content(repo: Repository, checksum: str, size: int) -> Iterator[bytes]:
    # One byte more than there may be: a longer file is no better than a shorter one.
    if size < limits.BLOB_BUFFER:
        data = repo.read_payload(checksum, 0, size + 1)
        left = size - len(data)
        yield data
    else:
        left = size
        for chunk in repo.stream_payload(checksum, 0, size + 1):
            left -= len(chunk)
            yield chunk
    if left:
        raise DamagedRepository(f"file {checksum} in {repo.path} does not have {size} bytes")


def joined(parts: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the same bytes in fewer pieces: whoever takes them works for each."""
    held: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _CHUNK:
            yield b"".join(held)
            held.clear()
            size = 0
    if held:
        yield b"".join(held)
