"""The content index: what it finds, what it forgets, and every way in which its file may be bad."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from bridge.ostree.objects import FileMeta
from bridge.ostree.repository import EXTENSION, Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import index_file
from bridge.pull.content_index import ContentIndex, Place

META = FileMeta(0, 0, stat.S_IFREG | 0o644)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def stored(repo: Repository, *payloads: bytes, meta: FileMeta = META) -> list[str]:
    """Put files into the store; return their checksums."""
    with Transaction(repo) as transaction:
        checksums = [transaction.write_payload(meta, each) for each in payloads]
        transaction.publish()
    return checksums


def whole(repo: Repository, *payloads: bytes) -> dict[bytes, Place]:
    """Put files into the store; return the places that they make."""
    checksums = stored(repo, *payloads)
    return {
        sha256(each): Place(checksum, 0, len(each))
        for each, checksum in zip(payloads, checksums, strict=True)
    }


@pytest.fixture
def path(repo: Repository) -> Path:
    return Path(repo.path) / EXTENSION / index_file.NAME


def no_message(text: str) -> None:
    raise AssertionError(text)


def open_index(repo: Repository) -> ContentIndex:
    return ContentIndex.open(repo, no_message)


def test_what_was_added_is_found_again(repo: Repository, path: Path) -> None:
    places = whole(repo, b"one", b"two")
    (checksum,) = stored(repo, b"three and four")
    places[sha256(b"four")] = Place(checksum, 10, 4)
    with open_index(repo) as index:
        assert index.find(places) == {}
        index.add(places.items())
        assert index.find([*places, sha256(b"five")]) == places
    with open_index(repo) as index:
        assert index.find(places) == places
        assert index.find([]) == {}
        assert index.size().pieces == index.size().objects == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == [path.name]
