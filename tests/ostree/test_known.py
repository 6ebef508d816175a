"""What is known of a repository's objects, while they become more."""

from __future__ import annotations

from pathlib import Path

from bridge.ostree.objects import FileMeta
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

META = FileMeta(0, 0, 0o100644)


def store(repo: Repository, payload: bytes) -> str:
    with Transaction(repo) as transaction:
        checksum = transaction.write_payload(META, payload)
        transaction.publish()
    return checksum


def test_everything_is_what_is_there_now(tmp_path: Path) -> None:
    with Repository.create(tmp_path / "repo", "bare-user") as repo:
        assert repo.known.everything() == set()
        one = store(repo, b"one")
        assert repo.known.everything() == {one}
        with Transaction(repo):  # as long as it is open, what was listed holds
            assert repo.known.everything() == {one}
            two = store(repo, b"two")
            assert repo.known.everything() == {one, two}
        repo.damaged.add(one)
        assert repo.known.everything() == {two}
        repo.damaged.clear()
        assert repo.known.everything() == {one, two}
        (tmp_path / "repo/objects" / one[:2] / f"{one[2:]}.file").unlink()
        repo.known.forget()
        assert repo.known.everything() == {two}
