"""Mutation fuzzing of the tar reader.

    python tests/fuzz/fuzz_tar.py [ROUNDS [SEED]]

Good archives are damaged in ways that keep them near to good ones (checksums are mended, blocks
moved, numbers replaced). Whatever comes of it: entries or one `MalformedImage`, in the same way
however the stream is cut, and never more payload than an entry announces.
"""

from __future__ import annotations

import io
import random
import sys
import tarfile

from bridge.errors import MalformedImage
from bridge.layer.tar import EntryType, TarReader

PAYLOAD_READ_MAX = 1 << 22
NUMBERS = (
    [b"%011o\0" % number for number in (0, 1, 511, 512, 513, 8**11 - 1)]
    + [b"\x80" + number.to_bytes(11, "big") for number in (1, 2**40, 2**63 - 1, 2**63)]
    + [b"\xff" * 12, b"            ", b"-1\0", bytes(12)]
)
WORDS = [
    b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.major", b"path", b"size", b"linkpath",
    b"SCHILY.xattr.user.a", b"LIBARCHIVE.xattr.a", b"hdrcharset", b"\0", b"\xff", b"=", b"\n",
    b"18446744073709551615", b"-1", b"1\n0\n5\n", b"../", b"ustar\x0000", b"ustar  \0",
]  # fmt: skip


def seeds() -> list[bytes]:
    """Return small archives of every format."""
    result = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for number, kind in enumerate(b"0125364\x007S"):
                info = tarfile.TarInfo(f"dir/{number}")
                info.type = bytes([kind])
                info.linkname = "dir/0" if kind in b"12" else ""
                info.size = 700 if kind in b"0\x007" else 0
                if form != tarfile.USTAR_FORMAT and number % 2:
                    info.name += "/long" * 30
                if form == tarfile.PAX_FORMAT:
                    info.mtime = 1.5
                    info.pax_headers = {"SCHILY.xattr.user.name": "value"}
                    if number == 0:
                        info.pax_headers |= {"GNU.sparse.size": "900", "GNU.sparse.map": "100,700"}
                archive.addfile(info, io.BytesIO(b"p" * info.size))
        result.append(out.getvalue()[: 14 * 1024])
    return result


def mutate(blob: bytes, chance: random.Random) -> bytes:
    """Return a damaged copy, most often with right checksums."""
    data = bytearray(blob)
    for _ in range(chance.randint(1, 4)):
        block = chance.randrange(len(data) // 512) * 512
        match chance.randrange(8):
            case 0:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                data[block + 156] = chance.choice(b"\x0001234567SxgLKVMX")
            case 2:
                data[block + 124 : block + 136] = chance.choice(NUMBERS)
            case 3:
                other = chance.randrange(len(data) // 512) * 512
                data[block : block + 512] = data[other : other + 512]
            case 4:
                del data[block : block + 512]
                data = data or bytearray(512)
            case 5:
                place, word = block + chance.randrange(300), chance.choice(WORDS)
                data[place : place + len(word)] = word
            case 6:
                data[block + 386 : block + 482] = b"".join(chance.choices(NUMBERS, k=8))
            case 7:
                data[block + 483 : block + 495] = chance.choice(NUMBERS)
        del data[len(data) // 512 * 512 :]
    if chance.random() < 0.9:
        for block in range(0, len(data), 512):
            if data[block + 257 : block + 262] == b"ustar":
                data[block + 148 : block + 156] = b" " * 8
                data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def read(blob: bytes, step: int) -> tuple[list[tuple[object, bytes]], str]:
    """Return the entries with what was read of their payloads, and the error's text."""
    result: list[tuple[object, bytes]] = []
    reader = TarReader(blob[i : i + step] for i in range(0, len(blob), step))
    try:
        for entry in reader:
            assert entry.path
            assert entry.size == 0 or entry.type is EntryType.FILE
            assert entry.mode <= 0o7777
            payload = b""
            for piece in reader.payload():
                payload += piece
                if len(payload) > PAYLOAD_READ_MAX:
                    break
            else:
                assert len(payload) == entry.size
            result.append((entry, payload[:PAYLOAD_READ_MAX]))
        reader.drain()
    except MalformedImage as error:
        assert str(error).startswith("tar entry ")
        assert "\n" not in str(error)
        return result, str(error)
    return result, ""


def fuzz(rounds: int, seed: int) -> tuple[int, int]:
    """Run `rounds` mutations; return how many archives were read and how many refused."""
    chance = random.Random(seed)
    good = refused = 0
    archives = seeds()
    for _ in range(rounds):
        blob = mutate(chance.choice(archives), chance)
        whole = read(blob, len(blob) or 1)
        cut = read(blob, chance.randint(1, 1500))
        assert whole[0] == cut[0], "cut differently, read differently"
        assert bool(whole[1]) == bool(cut[1])
        good, refused = good + (not whole[1]), refused + bool(whole[1])
    return good, refused


def test_mutations() -> None:
    good, refused = fuzz(400, seed=1)
    assert good > 20
    assert refused > 100


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    count = arguments[0] if arguments else 20_000
    start = arguments[1] if len(arguments) > 1 else random.SystemRandom().randrange(2**32)
    print(f"seed {start}")
    print("read {}, refused {}".format(*fuzz(count, start)))
