from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What stdout holds, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error."""
        last = self.err.splitlines()[-1]
        assert last.startswith("error: ") and self.err.endswith("\n")
        assert "Traceback" not in self.err and self.err.count("error: ") == 1
        return last


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as ended:  # argparse's way out
            code = int(ended.code or 0)
        found = capsys.readouterr()
        return Outcome(code, found.out, found.err)

    return call
