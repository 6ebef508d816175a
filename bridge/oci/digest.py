"""Digests: the grammar of image-spec `descriptor.md`, and the one check of bytes against them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from bridge.errors import MalformedImage, VerificationFailed

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[a-f0-9]+")


class Digest(str):
    """A checked `ALGORITHM:HEX` string. Make one with `Digest.parse` or `Digest.of`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Return `text` as a digest; `MalformedImage` unless sha256 or sha512 in lower case."""
        if isinstance(text, str):
            algorithm, _, value = text.partition(":")
            if _HEX_LENGTH.get(algorithm) == len(value) and _HEX.fullmatch(value):
                return cls(text)
        raise MalformedImage(f"{text!r:.200} is not a sha256 or sha512 digest")

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of `data`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


class Verifier:
    """Hashes a stream and holds it to a digest and, when it is known, a size in bytes."""

    def __init__(self, what: str, digest: Digest, size: int | None = None) -> None:
        self.what = what
        self.digest = digest
        self.size = size
        self.seen = 0
        self._hash: Any = hashlib.new(digest.algorithm)

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes; `VerificationFailed` as soon as there are more than there may be."""
        self.seen += len(chunk)
        if self.size is not None and self.seen > self.size:
            raise VerificationFailed(
                f"{self.what}: more than the {self.size} bytes its descriptor gives"
            )
        self._hash.update(chunk)

    def finish(self) -> None:
        """Raise `VerificationFailed` unless size and digest are what they must be."""
        if self.size is not None and self.seen != self.size:
            raise VerificationFailed(
                f"{self.what}: {self.seen} bytes where its descriptor gives {self.size}"
            )
        actual = self._hash.hexdigest()
        if actual != self.digest.hex:
            raise VerificationFailed(
                f"{self.what}: content has {self.digest.algorithm}:{actual}, not {self.digest}",
                self.digest,
            )

    def lacks_zeros(self, most: int, step: int) -> bool:
        """Tell whether what was taken, with 1 to `most` / `step` times `step` zeros behind it, has
        the digest."""
        hashed = self._hash.copy()
        for _ in range(most // step):
            hashed.update(bytes(step))
            if hashed.hexdigest() == self.digest.hex:
                return True
        return False
