from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.ostree.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    with Repository.create(tmp_path / "repo", "bare-user") as made:
        yield made
