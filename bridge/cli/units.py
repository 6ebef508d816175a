"""Numbers for people: sizes in powers of ten, as registries and disks have them."""

from __future__ import annotations


def size_text(size: float) -> str:
    """Return a number of bytes in B, kB, MB or GB, with three digits that matter."""
    units = ["GB", "MB", "kB", "B"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop()
    unit = units[-1]
    if unit == "B" or size >= 99.95:
        return f"{size:.0f} {unit}"
    return f"{size:.1f} {unit}"


def count_text(count: int, noun: str) -> str:
    """Return `1 layer`, `2 layers`, `3 entries`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"
