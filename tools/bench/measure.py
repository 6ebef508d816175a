"""What a command costs, from what the kernel accounts to it."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU and of the wall clock, and the largest resident set in bytes.

    CPU time and memory include the command's own children, as far as it waited for them.
    """

    user: float
    system: float
    wall: float
    peak: float


def run(command: Sequence[str]) -> Cost:
    """Runs `command` to its end; `CalledProcessError`, with what it wrote, when it fails."""
    # Programs run as they are when installed: with their bytecode kept.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    os.sync()  # so that it does not pay for what others have written
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    return Cost(usage.ru_utime, usage.ru_stime, wall, usage.ru_maxrss * 1024)


def median(costs: Iterable[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(*map(statistics.median, zip(*map(astuple, costs), strict=True)))


def warm(files: Iterable[Path]) -> None:
    """Reads files, so that they are in the page cache."""
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.read(_BLOCK):
                pass
