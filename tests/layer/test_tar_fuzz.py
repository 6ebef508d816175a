"""A short, seeded run of the fuzz target, so that it stays alive."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_mutated_archives_are_read_or_refused() -> None:
    target = runpy.run_path(str(Path(__file__).parents[1] / "fuzz" / "fuzz_tar.py"))
    target["test_mutations"]()
