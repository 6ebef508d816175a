"""What is mounted below a directory: a build mounts files and directories that are in no layer.

Format: proc_pid_mountinfo(5): fields between spaces, the fifth is the mount point, in which spaces,
tabs, newlines and backslashes stand as three octal digits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_OCTAL = re.compile(r"\\([0-7]{3})")


def below(directory: str) -> frozenset[str]:
    """Return the mount points below a directory, relative to it; none where that is not known."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = list(parse(file.read()))
    except OSError:
        return frozenset()
    top = os.path.realpath(directory).rstrip("/") + "/"
    return frozenset(
        point.removeprefix(top) for point in points if point.startswith(top) and point != top
    )


def parse(text: str) -> Iterator[str]:
    """Yield the mount points of a mountinfo file."""
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            yield _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
