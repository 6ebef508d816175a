"""XXH32, the hash that EROFS filters the names of extended attributes by.

Specification: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. Names are short, so
this is about the bytes and not about speed.
"""

from __future__ import annotations

import struct

_PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1)
_MASK = 0xFFFFFFFF
_STRIPE = 16


def xxhash32(data: bytes, seed: int = 0) -> int:
    """Return the 32-bit hash of `data`."""
    first, second, third, fourth, fifth = _PRIMES
    whole = len(data) - len(data) % _STRIPE
    if whole:
        lanes = [seed + first + second, seed + second, seed, seed - first]
        for words in struct.iter_unpack("<4I", data[:whole]):
            lanes = [
                _rotated((lane + word * second) & _MASK, 13) * first & _MASK
                for lane, word in zip(lanes, words, strict=True)
            ]
        value = sum(
            _rotated(lane & _MASK, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)
        )
    else:
        value = seed + fifth
    value = (value + len(data)) & _MASK
    words_end = len(data) - len(data) % 4
    for (word,) in struct.iter_unpack("<I", data[whole:words_end]):
        value = _rotated((value + word * third) & _MASK, 17) * fourth & _MASK
    for byte in data[words_end:]:
        value = _rotated((value + byte * fifth) & _MASK, 11) * first & _MASK
    value = (value ^ value >> 15) * second & _MASK
    value = (value ^ value >> 13) * third & _MASK
    return value ^ value >> 16


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> 32 - by) & _MASK
