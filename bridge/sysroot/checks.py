"""Health checks as greenboot has them: programs in directories, an exit code each.

Contract: https://github.com/fedora-iot/greenboot-rs, README. Programs are in
`{/usr/lib,/etc}/greenboot/check/{required,wanted}.d`; those in `green.d` and `red.d` are run when
the verdict is known.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_STDERR = 2
_PLACES = ("usr/lib/greenboot", "etc/greenboot")


class Kind(Enum):
    """What programs are for, by the directory that they are in."""

    REQUIRED = "check/required.d"
    """The boot has failed when one of them fails."""
    WANTED = "check/wanted.d"
    """One that fails is told of."""
    GREEN = "green.d"
    RED = "red.d"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one program."""

    path: Path
    problem: str
    """Why it counts as failed; empty when it does not."""


def programs(kind: Kind, disabled: Collection[str] = (), *, root: Path = Path("/")) -> list[Path]:
    """Return the programs of a kind in the order they are run: those of /usr first, by name.

    What is neither executable nor named `*.sh`, or hidden, or named in `disabled`, is none.
    """
    found = []
    for place in _PLACES:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            directory = root / place / kind.value
            for name in sorted(os.listdir(directory)):
                if not name.startswith(".") and name not in disabled:
                    found.append(directory / name)
    return [each for each in found if each.is_file() and (_is_script(each) or _may_run(each))]


def run(paths: list[Path], timeout: float) -> Iterator[Result]:
    """Run programs one after the other, each as soon as the one before is asked for.

    What they print goes to our standard error. Who takes longer than `timeout` seconds has failed,
    and is killed with all that it has started in its process group.
    """
    for path in paths:
        yield Result(path, _run(path, timeout))


def _run(path: Path, timeout: float) -> str:
    # greenboot's scripts need no executable bit.
    command = ["bash", str(path)] if _is_script(path) else [str(path)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=_STDERR, start_new_session=True
        )
    except OSError as error:
        return f"it cannot be run: {error.strerror} ({error.filename})"
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        return f"it took longer than {timeout:g} seconds"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if code < 0:
        return f"it was ended by signal {-code}"
    return f"exit code {code}" if code else ""


def _is_script(path: Path) -> bool:
    return path.suffix == ".sh"


def _may_run(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)
