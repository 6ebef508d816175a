from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.lint import Look, Tree, build

from bridge.lint import sources
from bridge.lint.subject import Subject


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    """Makes a subject of a tree."""
    with ExitStack() as stack:
        count = 0

        def made(tree: Tree, epoch: int | None = None) -> Subject:
            nonlocal count
            count += 1
            top = build(tmp_path / f"root{count}", tree)
            return stack.enter_context(sources.directory(str(top), epoch))

        yield made
