"""Accounts of an image, `/etc/passwd`, `/etc/group` and `/etc/shadow`, and those of sysusers.d.

Formats: passwd(5), group(5), shadow(5), sysusers.d(5). A line that is none is passed over, as the
C library does.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from bridge import limits
from bridge.layer.tar import EntryType
from bridge.lint.subject import Subject

_SYSUSERS = "usr/lib/sysusers.d"


class Account(NamedTuple):
    """A user or a group."""

    name: str
    id: int


def users(subject: Subject) -> list[Account]:
    """Return the users of `/etc/passwd`; none where there is no such file."""
    return _accounts(subject, "etc/passwd", 7)


def groups(subject: Subject) -> list[Account]:
    """Return the groups of `/etc/group`; none where there is no such file."""
    return _accounts(subject, "etc/group", 4)


def _accounts(subject: Subject, path: str, fields: int) -> list[Account]:
    text = subject.text(path, limits.ACCOUNTS_MAX) or ""
    return list(_parsed(text, fields))


def _parsed(text: str, fields: int) -> Iterator[Account]:
    for line in text.split("\n"):
        if not line or line[0] in "#+-":  # what begins with a sign is for NIS
            continue
        parts = line.split(":", fields - 1)
        if len(parts) == fields and parts[2].isascii() and parts[2].isdigit():
            yield Account(parts[0], int(parts[2]))


def hashed(shadow: bytes) -> Iterator[str]:
    """Yield who has a password by a shadow file: its hash is there, and not locked."""
    for line in shadow.decode(errors="replace").split("\n"):
        name, _, rest = line.partition(":")
        password, colon, _ = rest.partition(":")
        # `*` and `!` are no hash; `!` before one locks it.
        if name and colon and (password.startswith("$") or password.startswith("_")):
            yield name


def declared(subject: Subject) -> tuple[set[str], set[str]]:
    """Return the names of users and of groups that `/usr/lib/sysusers.d` declares."""
    found_users: set[str] = set()
    found_groups: set[str] = set()
    for node in subject.children(_SYSUSERS):
        if not node.path.endswith(".conf"):
            continue
        file = subject.contents.resolve(node.path)
        if file is None or file.type is not EntryType.FILE:
            continue
        text = subject.contents.read(file, limits.ACCOUNTS_MAX).decode(errors="replace")
        for kind, name in sysusers(text):
            if kind == "u":
                found_users.add(name)
            found_groups.add(name)  # a user's own group has its name
    return found_users, found_groups


def sysusers(text: str) -> Iterator[tuple[str, str]]:
    """Yield (`u` or `g`, name) of each user and group that a file of sysusers.d declares."""
    for line in text.split("\n"):
        line = line.strip()
        if not line or line[0] == "#":
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue  # a quote without its end
        if len(words) > 1 and words[0].rstrip("!") in ("u", "g"):
            yield words[0].rstrip("!"), words[1]
