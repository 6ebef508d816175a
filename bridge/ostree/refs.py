"""Refs: names for commits, one file each below `refs/heads`. Remote refs are read, not written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, DamagedRepository, NotFound, UsageError
from bridge.ostree import durable
from bridge.ostree.objects import check_checksum, is_checksum

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository

HEADS = "refs/heads"
_KINDS = (HEADS, "refs/remotes", "refs/mirrors")
_PART = re.compile(r"[A-Za-z0-9_][-._A-Za-z0-9]*")


def check_ref(name: str) -> str:
    """Return `name` if it is a valid ref (libostree's grammar), else raise `UsageError`."""
    if not name or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise UsageError(f"{name!r:.200} is not a valid ref name")
    if is_checksum(name):
        raise UsageError(f"{name} cannot be a ref name: it looks like a commit's checksum")
    return name


def resolve(repo: Repository, name: str) -> str | None:
    """Return the commit that `name` points at, or None when there is no such ref.

    `DamagedRepository` where the ref is there and holds no checksum.
    """
    found = _read(repo.fd, f"{HEADS}/{check_ref(name)}")
    if isinstance(found, DamagedRepository):
        raise found
    return found


def current(repo: Repository, name: str) -> str | None:
    """Return the commit that `name` points at; None also where it is to be written anew: it holds
    no checksum."""
    found = _read(repo.fd, f"{HEADS}/{check_ref(name)}")
    return found if isinstance(found, str) else None


def require(repo: Repository, name: str) -> str:
    """Return the commit that `name` points at; `NotFound` when there is no such ref."""
    commit = resolve(repo, name)
    if commit is None:
        raise NotFound(f"no ref {name} in {repo.path}")
    return commit


def listing(repo: Repository, prefix: str = "") -> dict[str, str]:
    """Return all local refs that start with `prefix`, by name, sorted.

    Those that hold no checksum are left out: who deletes by this list asks `broken` first.
    """
    found = {name: each for name, each in _walk(repo.fd, HEADS) if isinstance(each, str)}
    return {name: found[name] for name in sorted(found) if name.startswith(prefix)}


def roots(repo: Repository) -> dict[str, str]:
    """Return every ref of every kind (heads, remotes, mirrors): what a prune must keep.

    `DamagedRepository` where one holds no checksum: what it keeps is unknown.
    """
    found = {}
    try:
        os.close(durable.open_directory(HEADS, repo.fd))
    except (FileNotFoundError, NotADirectoryError):
        # As good as no refs, by which everything would be nobody's.
        raise DamagedRepository(f"{repo.path} has no directory {HEADS}") from None
    for name, each in _all(repo):
        if isinstance(each, DamagedRepository):
            raise DamagedRepository(f"{each}; `fsck --repair` writes it again where it can")
        found[name] = each
    return found


def readable(repo: Repository) -> dict[str, str]:
    """Return every ref of every kind that holds a checksum."""
    return {name: each for name, each in _all(repo) if isinstance(each, str)}


def broken(repo: Repository) -> dict[str, str]:
    """Return every ref of every kind that holds no checksum, with what is wrong with it."""
    return {name: str(each) for name, each in _all(repo) if isinstance(each, DamagedRepository)}


def write(repo: Repository, name: str, commit: str) -> None:
    """Point `name` at `commit`, durably and at once; a ref holds its old or its new value.

    `BridgeError` where a part of the name is a ref itself, or there are refs below the name.
    """
    parent, _, base = f"{HEADS}/{check_ref(name)}".rpartition("/")
    text = f"{check_checksum(commit)}\n".encode()
    try:
        fd = durable.make_directories(parent, repo.fd)
    except NotADirectoryError:
        raise BridgeError(
            f"cannot write ref {name}: a part of its name is a ref already; delete that one first"
        ) from None
    try:
        try:
            durable.replace_file(base, text, fd)
        except IsADirectoryError:
            below = next(_walk(repo.fd, HEADS, name), None)
            if below is not None:
                raise BridgeError(
                    f"cannot write ref {name}: there is a ref {below[0]}; delete that one first"
                ) from None
            durable.remove_tree(base, fd)  # left behind by an interrupted `delete`
            durable.replace_file(base, text, fd)
    finally:
        os.close(fd)


def delete(repo: Repository, name: str) -> None:
    """Remove the ref and the directories that it leaves empty. No such ref is done already."""
    path = f"{HEADS}/{check_ref(name)}"
    try:
        os.unlink(path, dir_fd=repo.fd)
    except FileNotFoundError:
        return
    parent = path.rpartition("/")[0]
    while parent != HEADS:
        try:
            os.rmdir(parent, dir_fd=repo.fd)
        except OSError:
            break
        parent = parent.rpartition("/")[0]
    durable.sync_directory(parent, repo.fd)


def remove_unfinished(repo: Repository, below: str = HEADS) -> None:
    """Remove what writers of refs that were cut off left among them."""
    try:
        fd = durable.open_directory(below, repo.fd)
    except (FileNotFoundError, NotADirectoryError):
        return  # removed meanwhile; or broken, which whoever reads refs will say
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in found:
            if is_directory:
                remove_unfinished(repo, f"{below}/{name}")
            elif (ref := durable.unfinished(name)) is not None:
                durable.remove_unfinished(ref, fd)
    finally:
        os.close(fd)


def _all(repo: Repository) -> Iterator[tuple[str, str | DamagedRepository]]:
    for kind in _KINDS:
        for name, each in _walk(repo.fd, kind):
            yield f"{kind}/{name}", each


def _walk(dir_fd: int, top: str, below: str = "") -> Iterator[tuple[str, str | DamagedRepository]]:
    try:
        fd = durable.open_directory(f"{top}/{below}" if below else top, dir_fd)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        if not below:
            raise
        return  # replaced since its parent was listed
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    finally:
        os.close(fd)
    for name, is_directory in found:
        if name.startswith("."):  # a replacement that was never finished
            continue
        path = f"{below}/{name}" if below else name
        if is_directory:
            yield from _walk(dir_fd, top, path)
        elif (commit := _read(dir_fd, f"{top}/{path}")) is not None:
            yield path, commit


def _read(dir_fd: int, path: str) -> str | DamagedRepository | None:
    """Return what the ref's file holds; None where there is none, an error where it is no ref."""
    # A ref may be a link to another one. Nothing that is no regular file may keep us waiting.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
        try:
            text = os.read(fd, 256).decode("ascii").strip()
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except UnicodeDecodeError:
        text = "(not text)"
    except OSError as error:
        return DamagedRepository(f"ref {path} cannot be read: {error.strerror}")
    if is_checksum(text):
        return text
    return DamagedRepository(f"ref {path} holds {text[:80]!r}, not a checksum")
