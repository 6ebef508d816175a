"""Files that are replaced or appended to, also after a process that was cut off doing so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.ostree import durable


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_replacing_goes_on_with_what_was_left(fd: int, tmp_path: Path) -> None:
    (tmp_path / ".ref.new").write_text("left by a process that was killed, and longer")
    durable.replace_file("ref", b"new\n", fd, 0o640)
    assert os.listdir(tmp_path) == ["ref"]
    assert (tmp_path / "ref").read_text() == "new\n"
    assert (tmp_path / "ref").stat().st_mode & 0o7777 == 0o640


def test_a_replacement_that_fails_leaves_nothing(fd: int, tmp_path: Path) -> None:
    (tmp_path / "ref").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.replace_file("ref", b"new\n", fd)
    assert os.listdir(tmp_path) == ["ref"]


def test_a_name_may_be_decided_at_the_end(fd: int, tmp_path: Path) -> None:
    (tmp_path / "last").write_text("old")
    with durable.new_file("first", fd) as file:
        durable.write_all(file.fd, b"new")
        assert (tmp_path / "last").read_text() == "old"
        file.name = "last"
    assert os.listdir(tmp_path) == ["last"]
    assert (tmp_path / "last").read_text() == "new"


def test_a_file_that_is_not_finished_is_gone(fd: int, tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("old")
    with pytest.raises(ValueError, match="cut"), durable.new_file("ref", fd) as file:
        durable.write_all(file.fd, b"new")
        raise ValueError("cut")
    assert os.listdir(tmp_path) == ["ref"]
    assert (tmp_path / "ref").read_text() == "old"


def test_one_file_may_be_replaced_by_many(fd: int, tmp_path: Path) -> None:
    """At once: it always holds all of what one of them wrote."""
    contents = [bytes([65 + number]) * (1000 * number + 1) for number in range(4)]

    def replace(data: bytes) -> None:
        for _ in range(5):
            durable.replace_file("ref", data, fd)
            assert (tmp_path / "ref").read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(replace, contents))
    assert os.listdir(tmp_path) == ["ref"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "new\n"), ("one\n", "one\nnew\n"), ("one\ncut sh", "one\ncut sh\nnew\n")],
)
def test_a_line_is_added(fd: int, tmp_path: Path, before: str, after: str) -> None:
    if before:
        (tmp_path / "history").write_text(before)
    durable.append_line("history", "new", fd)
    assert (tmp_path / "history").read_text() == after
