"""The largest index of a layer that is taken: in less than 512 MiB.

    BOOTC_PY_INDEX_PART=1 python -m pytest tests/layer/test_index_memory.py

makes it in full; without that all of its limits are an eighth of what they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import zstandard
from support.chunked import framed

from bridge import limits
from bridge.layer.zstd_chunked import FRAME_HEADER

PART = int(os.environ.get("BOOTC_PY_INDEX_PART", "8"))
MEMORY = 512 * limits.MIB
FILES = limits.TOC_ENTRIES_MAX // PART
# What no entry shares with another, and names as long as they can be without counting as more. In
# memory each of their characters has the four bytes of the largest one.
NAME = "\U0001f600" + "n" * ((256 - 32) // 4 - 8)
ENTRY = (
    b'{"type":"reg","name":"%07d%s","size":%d,"uid":%d,"gid":%d,"modtime":"2024-01-01T0%d:%02d:%02dZ",'
    b'"digest":"sha256:%s","offset":%d,"endOffset":%d}'
)

READ = """
import json, sys
from bridge import limits
part = int(sys.argv[2])
limits.TOC_ENTRIES_MAX //= part
limits.TOC_TIMES_KEPT //= part
from bridge.layer import indexed
from bridge.oci.digest import Digest
from bridge.ostree.repository import Repository
annotations, size = json.loads(sys.argv[3])
def used():
    # Not ru_maxrss, which an exec hands on.
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmHWM:")[2].split()[0]) * 1024
before = used()
with open(sys.argv[1], "rb") as file:
    tail = file.read()
location = indexed.locate(annotations, size, "zstd")
index = indexed.read(location, tail, limits.TOC_ENTRIES_MAX)
print(json.dumps([before, used(), len(index.files)]))
"""


def entries(digest: str) -> Iterator[bytes]:
    yield b'{"version":1,"entries":['
    for at in range(FILES):
        yield (b"," if at else b"") + ENTRY % (
            at, NAME.encode(), 10**5 + at, 10**7 + at, 10**8 + at, at // 3600 % 10,
            at // 60 % 60, at % 60, hashlib.sha256(b"%d" % at).hexdigest().encode(), 10**9 + at,
            10**9 + at + 1,
        )  # fmt: skip
    yield f'],"tarSplitDigest":"sha256:{digest}"}}'.encode()


def lines(noise: int) -> Iterator[bytes]:
    chance = random.Random(1)
    for at in range(FILES):
        segment = base64.b64encode(chance.randbytes(noise))
        yield b'{"type":2,"payload":"%s","position":%d}\n' % (segment, 2 * at)
        yield b'{"type":1,"name":"%07d%s","size":%d,"payload":null,"position":%d}\n' % (
            at, NAME.encode(), 10**5 + at, 2 * at + 1
        )  # fmt: skip


def packed(parts: Iterator[bytes]) -> tuple[bytes, int]:
    compressor = zstandard.ZstdCompressor(1).compressobj()
    size = 0
    out = []
    for part in parts:
        size += len(part)
        out.append(compressor.compress(part))
    return b"".join([*out, compressor.flush()]), size


def test_the_largest_index_takes_a_bounded_amount_of_memory(tmp_path: Path) -> None:
    room = limits.TAILS_MAX // limits.TOC_ENTRIES_MAX - len(packed(entries("0" * 64))[0]) // FILES
    split = packed(lines(room * 9 // 10))  # of bytes that do not pack
    toc = packed(entries(hashlib.sha256(split[0]).hexdigest()))
    assert toc[1] <= limits.TOC_MAX // PART and split[1] <= limits.TAR_SPLIT_MAX // PART
    blob = framed(b"", toc, split)
    tail = blob.data
    assert limits.TAILS_MAX * 8 // 10 < len(tail) * PART <= limits.TAILS_MAX
    # All that is before the tail need not be there.
    offset = 2 * 10**9
    annotations = {}
    for key, value in blob.annotations.items():
        first, _, rest = value.partition(":")
        annotations[key] = f"{int(first) + offset}:{rest}" if first.isdecimal() else value
    path = tmp_path / "tail"
    end = len(tail) - 64 - FRAME_HEADER  # without the footer, which has other offsets
    path.write_bytes(tail[:end] + bytes(72))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            READ,
            path,
            str(PART),
            json.dumps([annotations, offset + len(tail)]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, most, files = json.loads(done.stdout)
    print(f"{before >> 20} MiB before, {most >> 20} MiB in the end, {files} files")
    assert files == FILES
    assert most - before < MEMORY // PART
