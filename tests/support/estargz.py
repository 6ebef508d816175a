"""eStargz blobs for tests, after the format's description, without the package's own code."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

TOC = "stargz.index.json"
ANNOTATION = "containerd.io/snapshot/stargz/toc.digest"
LANDMARK = ".no.prefetch.landmark"
Toc = dict[str, Any]
_KINDS = {
    tarfile.REGTYPE: "reg",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


@dataclass(frozen=True)
class Stargz:
    blob: bytes
    toc_digest: str
    tar: bytes
    """What all of it unpacks to."""

    @property
    def annotations(self) -> dict[str, str]:
        return {ANNOTATION: self.toc_digest}


def entry(path: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: Any) -> Any:
    """Return an entry, as `estargz` takes them, with its content."""
    info = tarfile.TarInfo(path)
    info.type, info.size, info.mtime = kind, len(data), 1_700_000_000
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def ustar(info: tarfile.TarInfo) -> bytes:
    """Return a header as Go writes it: where there are no device numbers, zeros."""
    path, info.name = info.name, info.name.rstrip("/")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    info.name = path
    block[329:345] = b"0000000\0" * 2
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def footer(offset: int, *, old: bool = False) -> bytes:
    field = b"%016xSTARGZ" % offset
    if not old:
        field = b"SG" + len(field).to_bytes(2, "little") + field
    head = b"\x1f\x8b\x08\4" + bytes(5) + b"\xff" + len(field).to_bytes(2, "little")
    return head + field + b"\1\0\0\xff\xff" + bytes(8)


def estargz(
    entries: Sequence[Any],
    *,
    chunk: int = 4 << 20,
    header: Callable[[tarfile.TarInfo], bytes] = ustar,
    edit: Callable[[Toc], object] = lambda toc: None,
    old: bool = False,
) -> Stargz:
    """Return a blob of the entries, its landmark first; `edit` changes the table of contents."""
    blob, open_member, listed = bytearray(), bytearray(), []
    tar = bytearray()

    def close() -> None:
        if open_member:
            blob.extend(gzip.compress(bytes(open_member), mtime=0))
            open_member.clear()

    def write(data: bytes) -> None:
        open_member.extend(data)
        tar.extend(data)

    for info, data in (entry(LANDMARK, b"\x0f", mtime=0, mode=0), *entries):
        write(header(info))
        kind = _KINDS[info.type]
        said: Toc = {"name": info.name, "type": kind, "mode": info.mode}
        if info.mtime:
            said["modtime"] = datetime.fromtimestamp(info.mtime // 1, UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
        if info.linkname:
            said["linkName"] = info.linkname
        said |= {key: value for key in ("uid", "gid") if (value := getattr(info, key))}
        if kind == "reg":
            said |= {"size": len(data), "digest": _digest(data)}
        for at in range(0, len(data), chunk):
            close()
            piece = data[at : at + chunk]
            if at:
                listed.append(said)
                said = {"name": info.name, "type": "chunk", "chunkOffset": at}
            said |= {"offset": len(blob), "chunkDigest": _digest(piece)}
            if len(piece) == chunk:
                said["chunkSize"] = chunk
            write(piece)
        listed.append(said)
        write(bytes(-len(data) % 512))
    close()
    toc: Toc = {"version": 1, "entries": listed}
    edit(toc)
    text = json.dumps(toc, indent="\t").encode()
    position = len(blob)
    write(ustar(entry(TOC, text, mtime=0, mode=0)[0]))
    write(text + bytes(-len(text) % 512) + bytes(1024))
    close()
    return Stargz(bytes(blob) + footer(position, old=old), _digest(text), bytes(tar))


def gnu(info: tarfile.TarInfo) -> bytes:
    """Return a header in GNU tar's own format."""
    return info.tobuf(tarfile.GNU_FORMAT)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
