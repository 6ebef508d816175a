"""Runs `bootc-py` again and again, each time in a process of its own, forked from one that has
everything imported: an exhaustive series needs thousands of runs.

As a program: reads one JSON line for each command from stdin, answers with one on stdout.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rig.command import Done
    from rig.crash.shim import Disturbance

PATIENCE = 120
"""Seconds after which a command hangs."""
HUNG = 1000
"""The exit code of one that does."""
_MODULES = (
    *(f"bridge.cli.{name}" for name in ("image", "switch", "upgrade", "rollback", "fsck", "main")),
    *("bridge.cli.transfer", "bridge.cli.progress", "bridge.pull.download", "bridge.pull.pull"),
    *("bridge.registry.client", "bridge.sysroot.update", "bridge.sysroot.rollback"),
    *("requests", "zstandard", "isal.isal_zlib"),
)


class Zygote:
    """The process that commands are forked from."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, arguments: Sequence[str | Path], disturbance: Disturbance | None = None) -> Done:
        """Runs `bootc-py ARGUMENTS`; a code below zero is the signal that ended it."""
        from rig.command import Done

        environment = disturbance.environment if disturbance else {}
        request = {"arguments": [str(each) for each in arguments], "environment": environment}
        assert self._process.stdin and self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Done(**json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def run_zygote() -> Iterator[Zygote]:
    """A zygote with the shim in it."""
    from rig.crash import shim

    environment = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_CA_BUNDLE")},
        **{"LD_PRELOAD": str(shim.library()), "PYTHONDONTWRITEBYTECODE": "1"},
        # The registry has no TLS. To read all the authorities would take most of a run.
        **{"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull},
    }
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Zygote(process)
        assert process.stdin
        process.stdin.close()


def _serve() -> None:
    for module in _MODULES:
        importlib.import_module(module)
    gc.freeze()  # what is shared with the children stays so
    for line in sys.stdin:
        print(json.dumps(_run(**json.loads(line))), flush=True)


def _run(arguments: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    out, err = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out[1], 1)
        os.dup2(err[1], 2)
        os.closerange(3, 64)
        _be_the_command(arguments, environment)
    for pipe in (out, err):
        os.close(pipe[1])
    code = _wait(child)
    with open(out[0], encoding="utf-8") as stdout, open(err[0], encoding="utf-8") as stderr:
        return {"code": code, "out": stdout.read(), "err": stderr.read()}


def _be_the_command(arguments: Sequence[str], environment: dict[str, str]) -> None:
    from bridge.cli.main import main

    code = 1
    try:
        os.environ.update(environment)
        ctypes.CDLL(None).crash_start()
        code = main(arguments)
    except BaseException:  # noqa: BLE001 - shown as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(child: int) -> int:
    descriptor = os.pidfd_open(child)
    try:
        hangs = not select.select([descriptor], [], [], PATIENCE)[0]
        if hangs:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    finally:
        os.close(descriptor)
    return HUNG if hangs else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    _serve()
