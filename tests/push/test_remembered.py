"""A layer that was packed before, and is where it goes, is not packed again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.images import directory, file, image, write_layout

from bridge.errors import DamagedRepository
from bridge.oci.layout import Layout
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import EXTENSION, Repository
from bridge.pull import images
from bridge.pull.pull import pull
from bridge.push.compress import Compression
from bridge.push.push import push
from bridge.push.remembered import NAME, Remembered
from bridge.push.report import PushReport
from bridge.registry.outcome import Outcome

LAYERS = [[directory("usr"), file("usr/a", b"a" * 9000)], [file("usr/b", b"b" * 9000)]]


@pytest.fixture
def stored(repo: Repository, tmp_path: Path) -> ImageReference:
    write_layout(tmp_path / "source", image(*LAYERS))
    reference = parse_reference(f"oci:{tmp_path}/source:latest")
    pull(repo, reference)
    return reference


def pushed(repo: Repository, reference: ImageReference, target: Path, level: int = 3) -> PushReport:
    place = parse_reference(f"oci:{target}:v")
    return push(repo, reference, place, compression=Compression.ZSTD, level=level)


def damage(repo: Repository) -> None:
    """Have no file of the store what it was."""
    for path in (Path(repo.path) / "objects").glob("*/*.file"):
        path.chmod(0o644)
        path.write_bytes(b"x" * path.stat().st_size)


def test_what_is_there_is_not_packed_again(
    repo: Repository, stored: ImageReference, tmp_path: Path
) -> None:
    first = pushed(repo, stored, tmp_path / "out")
    assert {each.outcome for each in first.layers} == {Outcome.PUSHED}
    damage(repo)  # so that packing cannot work
    again = pushed(repo, stored, tmp_path / "out")
    assert {each.outcome for each in again.layers} == {Outcome.SKIPPED}
    assert again.digest == first.digest
    with pytest.raises(DamagedRepository):
        pushed(repo, stored, tmp_path / "elsewhere")
    with pytest.raises(DamagedRepository):
        pushed(repo, stored, tmp_path / "out", level=4)


def test_what_is_there_no_more_is_packed_again(
    repo: Repository, stored: ImageReference, tmp_path: Path
) -> None:
    first = pushed(repo, stored, tmp_path / "out")
    lost = first.layers[0].blob.digest
    (tmp_path / "out/blobs/sha256" / lost.hex).write_bytes(b"damaged")
    again = pushed(repo, stored, tmp_path / "out")
    assert [each.outcome for each in again.layers] == [Outcome.PUSHED, Outcome.SKIPPED]
    with Layout.open(str(tmp_path / "out")) as layout:
        assert layout.resolve("v").digest == first.digest


@pytest.mark.parametrize("data", [b"", b"x", b"bootc-py packed 1\n" + bytes(40)])
def test_a_file_that_was_damaged_is_none(
    repo: Repository, stored: ImageReference, tmp_path: Path, data: bytes
) -> None:
    first = pushed(repo, stored, tmp_path / "out")
    (Path(repo.path) / EXTENSION / NAME).write_bytes(data)
    again = pushed(repo, stored, tmp_path / "out")
    assert again.digest == first.digest
    assert {each.outcome for each in again.layers} == {Outcome.SKIPPED}


def test_layers_that_went_are_forgotten(
    repo: Repository, stored: ImageReference, tmp_path: Path
) -> None:
    diff_ids = [each.diff_id for each in pushed(repo, stored, tmp_path / "out").layers]
    images.remove(repo, stored)
    images.prune(repo)
    found = Remembered(repo)
    assert found.find(diff_ids[0], Compression.ZSTD, 3) is not None
    write_layout(tmp_path / "other", image([file("c", "c")]))
    other = parse_reference(f"oci:{tmp_path}/other:latest")
    pull(repo, other)
    pushed(repo, other, tmp_path / "out")
    assert Remembered(repo).find(diff_ids[0], Compression.ZSTD, 3) is None
