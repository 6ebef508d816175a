"""Directories of tests that pytest can remove: the top of a deployment is immutable."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def make_removable(top: Path) -> None:
    """Takes the flag from all deployments below `top`."""
    deployments = ["-type", "d", "-path", "*/ostree/deploy/*/deploy/*", "-prune"]
    subprocess.run(
        ["find", top, *deployments, "-exec", "chattr", "-f", "-i", "{}", "+"],
        check=False,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session", autouse=True)
def removable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For a conftest to import."""
    yield
    make_removable(tmp_path_factory.getbasetemp())
