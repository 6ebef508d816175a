"""The initramfs that a build packs, and what its lint then need not try again."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.images import directory, file, image, symlink, write_layout
from support.lint import check, files

from bridge.build.initramfs import with_packed_initramfs
from bridge.initramfs.pack import packed
from bridge.lint import sources
from bridge.lint.subject import Subject
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import Repository
from bridge.pull.progress import Progress
from bridge.pull.pull import pull

MODULES = "usr/lib/modules"
SHELL = b"shell" * 1000
RAW = gzip.compress(files({"usr/bin/sh": SHELL}), mtime=0)
PROBLEM = "cannot be packed again bit by bit"


def again(data: bytes) -> bytes:
    return b"".join(packed(lambda: iter([data]), io.BytesIO()))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def stored(
    tmp_path: Path, initramfs: dict[str, bytes]
) -> Iterator[tuple[Repository, ImageReference]]:
    """An image with a kernel and an initramfs for each version."""
    members = [directory("usr"), directory("usr/bin"), file("usr/bin/sh", SHELL)]
    for version, data in initramfs.items():
        members += [
            file(f"{MODULES}/{version}/vmlinuz", "kernel"),
            file(f"{MODULES}/{version}/initramfs.img", data),
        ]
    members += [symlink(f"{MODULES}/link", "1"), file("usr/share/initramfs.img", RAW)]
    write_layout(tmp_path / "layout", image(members))
    reference = parse_reference(f"oci:{tmp_path}/layout")
    with Repository.create(tmp_path / "repo", "archive") as repo:
        pull(repo, reference)
        yield repo, reference


def test_each_initramfs_is_packed_and_told_of(tmp_path: Path) -> None:
    there = {"1": RAW, "2": b"no initramfs", "3": again(RAW), "4": files({"init": b"other"})}
    messages: list[str] = []

    class Told(Progress):
        def message(self, text: str) -> None:
            messages.append(text)

    with stored(tmp_path, there) as (repo, reference), ExitStack() as stack:
        before = sources.stored(repo, reference).contents
        contents, digests = with_packed_initramfs(before, str(tmp_path), stack, Told())
        assert contents.nodes.keys() == before.nodes.keys()
        found = {
            version: contents.read(contents.nodes[f"{MODULES}/{version}/initramfs.img"], 1 << 20)
            for version in there
        }
        assert contents.read(contents.nodes["usr/share/initramfs.img"], 1 << 20) == RAW
    assert found == {
        "1": again(RAW),
        "2": there["2"],
        "3": there["3"],
        "4": again(there["4"]),
    }
    assert digests == {digest(found[version]) for version in ("1", "3", "4")}
    assert len(messages) == 1
    assert messages[0].startswith(f"/{MODULES}/2/initramfs.img stays as it is: ")


def problems(subject: Subject) -> list[str]:
    return [each.path for each in check("initramfs", subject) if each.problem == PROBLEM]


BY_HAND = gzip.compress(files({"usr/bin/sh": SHELL, "x": b""}), mtime=0)
PATHS = [f"/{MODULES}/{version}/initramfs.img" for version in ("1", "2")]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (frozenset(), PATHS),
        # What the caller packed is taken at his word...
        ({digest(RAW)}, PATHS[1:]),
        ({digest(RAW), digest(BY_HAND)}, []),
        # ...and nothing else is: other bytes at the same path, above all.
        ({digest(again(RAW))}, PATHS),
        ({digest(SHELL), digest(b"")}, PATHS),
    ],
    ids=["none", "one", "both", "of other bytes", "of other files"],
)
def test_only_the_bytes_that_were_packed_are_not_tried_again(
    tmp_path: Path, known: set[str] | frozenset[str], expected: list[str]
) -> None:
    with stored(tmp_path, {"1": RAW, "2": BY_HAND}) as (repo, reference):
        assert problems(sources.stored(repo, reference, packed=frozenset(known))) == expected


def test_what_else_is_wrong_with_it_is_found_all_the_same(tmp_path: Path) -> None:
    """A digest spares the packing, not the lint."""
    stale = again(files({"usr/bin/sh": b"stale" * 1000}))
    with stored(tmp_path, {"1": stale}) as (repo, reference):
        subject = sources.stored(repo, reference, packed=frozenset({digest(stale)}))
        assert [each.problem for each in check("initramfs", subject)] == [
            "has files that differ from those of the image",
            "is not made of the image's files: over 20 % of it is nowhere else",
        ]
