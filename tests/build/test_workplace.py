"""The place where a build works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import file, image, write_layout

from bridge.build.workplace import workplace
from bridge.errors import UsageError
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.pull import pull

TOP = Path(__file__).parents[2]


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    with Repository.create(tmp_path / "repo", "bare-user") as made:
        yield made


def work_in(repo: Repository, path: str) -> None:
    """Do what a build does: have an image in there, and stored."""
    write_layout(Path(path) / "steps", image([file("a", "a")]))
    pull(repo, parse_reference(f"oci:{path}/steps"))


def stored(repo: Repository) -> list[str]:
    return [each.reference for each in images.listing(repo)[0]]


def left(repo: Repository) -> list[str]:
    return [name for name in os.listdir(Path(repo.path) / "tmp") if name.startswith("build-")]


def test_it_is_gone_when_the_build_has_ended(repo: Repository) -> None:
    with workplace(repo) as path:
        work_in(repo, path)
        assert stored(repo) == [f"oci:{path}/steps"]
    assert (stored(repo), left(repo)) == ([], [])
    with pytest.raises(ZeroDivisionError), workplace(repo) as path:
        work_in(repo, path)
        raise ZeroDivisionError
    assert (stored(repo), left(repo)) == ([], [])


KILLED = """
import os, sys
from bridge.build.workplace import workplace
from bridge.ostree.repository import Repository
with Repository.open(sys.argv[1]) as repo, workplace(repo) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_build_left_goes_with_the_next(repo: Repository) -> None:
    builds = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, repo.path],
            cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    paths = []
    for each in builds:
        assert each.stdout is not None
        paths.append(each.stdout.readline().strip())
        work_in(repo, paths[-1])
    builds[0].send_signal(signal.SIGKILL)
    builds[0].wait()
    with workplace(repo) as mine:
        # The other one is still at work.
        names = {os.path.basename(path) for path in (paths[1], mine)}
        assert (stored(repo), set(left(repo))) == ([f"oci:{paths[1]}/steps"], names)
    builds[1].communicate("")
    assert builds[1].returncode == 0
    assert (stored(repo), left(repo)) == ([], [])


def test_a_path_with_a_colon_is_refused(tmp_path: Path) -> None:
    with (
        Repository.create(tmp_path / "a:b", "bare-user") as repo,
        pytest.raises(UsageError, match="a colon in its path"),
        workplace(repo),
    ):
        pass
