"""Files that are others after each build, though nothing has changed: each is an update's bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.contents.contents import Node
from bridge.layer.tar import EntryType
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Kind, Subject
from bridge.lint.times import text

_PYC_HEADER = 16
_PYC_BY_HASH = 1


@dataclass(frozen=True, slots=True)
class _Pattern:
    path: re.Pattern[str]
    problem: str
    cure: str


def _pattern(path: str, problem: str, cure: str) -> _Pattern:
    return _Pattern(re.compile(path), problem, cure)


_PATTERNS = (
    _pattern(
        r"var/cache/ldconfig/aux-cache",
        "has inode numbers and times of the build",
        "end the step with: rm -f /var/cache/ldconfig/aux-cache",
    ),
    _pattern(
        r"var/lib/apt/lists/.+",
        "is a package list of the day",
        "end the step that runs apt-get update with: rm -rf /var/lib/apt/lists/*",
    ),
    # debconf's database lies there, too, and is the same for the same packages.
    _pattern(
        r"var/cache/(?!debconf/).+",
        "is a cache of the build",
        "end the step with: find /var/cache -type f -not -path '/var/cache/debconf/*' -delete",
    ),
    _pattern(
        r"var/tmp/.+",
        "is left from the build",
        "end the step with: rm -rf /var/tmp/*",
    ),
    _pattern(
        r"(var/lib/dbus|etc)/machine-id",
        "is the identity of one machine, and would be that of all",
        "end the build with: truncate -s 0 /etc/machine-id; rm -f /var/lib/dbus/machine-id",
    ),
    _pattern(
        r"var/lib/(systemd|urandom)/random-seed|var/lib/systemd/credential\.secret"
        r"|var/lib/NetworkManager/secret_key",
        "is random, and would be the same on all machines",
        "remove it at the end of the build: each machine makes its own",
    ),
    _pattern(
        r"etc/ssh/ssh_host_\w+_key(\.pub)?",
        "is made anew by each build, and would be the same on all machines",
        "remove it in the step that installs the server, and have machines make their own: "
        "ssh-keygen -A before it starts",
    ),
    _pattern(
        r"etc/ssl/(private/ssl-cert-snakeoil\.key|certs/ssl-cert-snakeoil\.pem)",
        "is made anew by each build, and would be the same on all machines",
        "remove it in the step that installs ssl-cert; make-ssl-cert generate-default-snakeoil "
        "makes one on the machine",
    ),
    _pattern(
        r"(usr/lib/sysimage|var/lib)/rpm/(rpmdb\.sqlite-(shm|wal)|__db\.\d+)",
        "is the package database's working file",
        "close the database before the layer ends: rpm --rebuilddb, or remove the file",
    ),
    _pattern(
        r"(usr/lib/sysimage/libdnf5|var/lib/dnf)/.*\.sqlite(-shm|-wal)?",
        "has the times and numbers of the build's transactions",
        "end the step with: rm -rf /var/lib/dnf /usr/lib/sysimage/libdnf5/*.sqlite*",
    ),
    _pattern(
        r"var/lib/(dhcp|dhclient|NetworkManager)/.*\.(leases?|lease6)|var/lib/logrotate(/|\.).*status"
        r"|var/lib/systemd/timers/stamp-.*",
        "is the state of a running machine",
        "remove it at the end of the build",
    ),
    _pattern(
        r"(var/roothome|root|var/home/[^/]+|home/[^/]+)/"
        r"\.(bash_history|ash_history|python_history|lesshst|viminfo|wget-hsts|sqlite_history)",
        "is the history of who built the image",
        "remove it at the end of the build",
    ),
)
_LEFT_EMPTY = ("", "uninitialized")
"""A machine id that says there is none, machine-id(5)."""


def _volatile_files(subject: Subject) -> Iterator[Finding]:
    for node in subject.nodes:
        path = node.path
        if node.type is not EntryType.FILE or not node.size:
            continue
        if path.endswith(".pyc"):
            yield from _byte_code(subject, node)
        elif path.startswith(_TOPS):
            match = next((each for each in _PATTERNS if each.path.fullmatch(path)), None)
            if match is not None and not _is_uninitialized(subject, node):
                yield Finding(f"/{path}", match.problem, match.cure)


_TOPS = ("var/", "etc/", "root/", "home/", "usr/lib/sysimage/")
"""Where such files are."""


def _is_uninitialized(subject: Subject, node: Node) -> bool:
    if not node.path.endswith("/machine-id") or node.size > 64:
        return False
    return subject.contents.read(node, 64).decode(errors="replace").strip() in _LEFT_EMPTY


def _byte_code(subject: Subject, node: Node) -> Iterator[Finding]:
    """Look at the time of its source that byte code has in it, PEP 552."""
    if subject.epoch is None or subject.kind is Kind.RUNNING or node.size < _PYC_HEADER:
        return
    head = next(iter(subject.contents.chunks(node)), b"")[:_PYC_HEADER]
    flags, mtime = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8))
    if not flags & _PYC_BY_HASH and mtime > subject.epoch:
        yield Finding(
            f"/{node.path}",
            "is byte code with the time of the build in it",
            "compile with SOURCE_DATE_EPOCH set, or: python3 -m compileall --invalidation-mode "
            "unchecked-hash DIR",
            text(mtime),
        )


LINTS = (
    Lint(
        "volatile-files",
        Level.WARNING,
        "Check for files that each build makes anew, or that belong to one machine: caches, "
        "package lists, machine id, seeds, host keys, byte code with a time. Logs: see var-log.",
        _volatile_files,
    ),
)
