"""The command under test, as users run it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# For registries without TLS.
PLAIN_HTTP = "--tls-verify=false"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The message of a failure that keeps the contract: one line, no output, no traceback."""
        assert self.code != 0, self
        assert "Traceback" not in self.err, self.err
        errors = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and self.err.endswith(f"{errors[0]}\n"), self.err
        assert self.out == ""
        return errors[0]


def bootc_py(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Done:
    """Runs `bootc-py` with `arguments`; `env` is added to this process's environment."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    return Done(done.returncode, done.stdout, done.stderr)


# The kernel counts a process's memory from before it became the program: that of a small parent.
_MEASURE = """
import json, resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
open(sys.argv[1], "w").write(json.dumps([peak, time.monotonic() - start]))
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """The largest resident set in bytes, and seconds of the wall clock."""

    peak: int
    seconds: float


def measured(work: Path, *arguments: str | Path) -> tuple[Done, Cost]:
    """Runs `bootc-py` with `arguments`; how it ended, and what it took. `work` is scratch space."""
    figures = work / "figures"
    command = [sys.executable, "-m", "bridge", *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", _MEASURE, str(figures), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return Done(done.returncode, done.stdout, done.stderr), Cost(*json.loads(figures.read_text()))


def report(*arguments: str | Path, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs a command with `--json`, which must succeed, and returns its document."""
    done = bootc_py(*arguments, "--json", "--quiet", env=env)
    assert done.code == 0, done.err
    document: dict[str, Any] = done.json
    return document


def pull(
    reference: str, repo: Path, *options: str, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The report of `image pull`, which must succeed, without TLS."""
    return report("image", "pull", reference, "--repo", repo, PLAIN_HTTP, *options, env=env)
