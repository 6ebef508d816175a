"""Secrets: whoever can pull the image has them, also from a layer whose files a later one deletes.

What counts is name and content together: an example of a key without one is none. Tests and
documentation that a distribution ships in `/usr` are public, and passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bridge import limits
from bridge.contents.contents import Node
from bridge.layer.tar import EntryType
from bridge.lint import accounts
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Subject

_CURE = (
    "take it for known, and replace it. Give it to a step without leaving it in a layer: RUN "
    "--mount=type=secret,id=NAME; what machines need comes to each from outside of the image. A "
    "layer that has it stays as it is: build the image anew"
)
_PUBLIC = re.compile(
    r"usr/(?:share/(?:doc|man|perl|info)/.*"
    r"|(?:.*/)?(?:tests?|testing|testdata|test[-_]data|unittests?|examples?|demos?|samples?|docs?)"
    r"/.*)"
)
_PRIVATE_KEY = re.compile(
    rb"^(?:-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\r?$|PuTTY-User-Key-File-\d: "
    rb"|AGE-SECRET-KEY-1[0-9A-Z]{50})",
    re.MULTILINE,
)
_KEY_MARKS = (b"PRIVATE KEY", b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-1")


@dataclass(frozen=True, slots=True)
class _Kind:
    path: re.Pattern[str]
    content: Callable[[bytes], str | None]
    """Returns what is to be known of it; None where it holds no secret."""
    what: str


def _has(pattern: str) -> Callable[[bytes], str | None]:
    compiled = re.compile(pattern.encode(), re.MULTILINE)
    return lambda data: "" if compiled.search(data) else None


def _shadow(data: bytes) -> str | None:
    names = list(accounts.hashed(data))
    if not names:
        return None
    return "of " + ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def _kind(path: str, content: Callable[[bytes], str | None], what: str) -> _Kind:
    return _Kind(re.compile(rf"(?:.*/)?(?:{path})"), content, what)


_KINDS = (
    _kind(r"etc/ssh/ssh_host_\w+_key", lambda _: "", "a host key of an SSH server"),
    _kind(r"etc/g?shadow-?|etc/security/opasswd", _shadow, "hashes of passwords"),
    _kind(r"\.netrc", _has(r"\bpassword\s+\S"), "passwords for hosts"),
    _kind(
        r"(?:containers|ostree)/auth\.json|\.docker/config\.json|\.dockercfg",
        _has(r'"(?:auth|identitytoken|registrytoken)"\s*:\s*"[^"]+"'),
        "credentials for a container registry",
    ),
    _kind(r"\.aws/credentials", _has(r"^\s*aws_secret_access_key\s*=\s*\S"), "an AWS credential"),
    _kind(
        r"\.config/gcloud/.*\.json",
        _has(r'"(?:private_key|refresh_token|client_secret)"\s*:\s*"[^"]+"'),
        "a Google Cloud credential",
    ),
    _kind(
        r"\.azure/(?:accessTokens|msal_token_cache)\.json|\.azure/service_principal_entries\.json",
        _has(r'"(?:accessToken|secret|client_secret)"\s*:\s*"[^"]+"'),
        "an Azure credential",
    ),
    _kind(
        r"\.kube/config|etc/kubernetes/\w+\.conf",
        _has(r"^\s*-?\s*(?:client-key-data|token|password):\s*\S"),
        "a credential for Kubernetes",
    ),
    _kind(r"\.git-credentials", _has(r"^https?://[^\s/:]*:[^\s/@]+@"), "passwords for Git"),
    _kind(r"\.pypirc", _has(r"^\s*password\s*[:=]\s*\S"), "a password for a package index"),
    _kind(r"\.npmrc", _has(r"_(?:authToken|auth|password)\s*=\s*[^\s$]"), "a token for npm"),
    _kind(r"\.cargo/credentials(?:\.toml)?", _has(r'^\s*token\s*=\s*"'), "a token for Cargo"),
    _kind(r"\.pgpass", _has(r"^[^#\s].*:.*:.*:.*:\S"), "a password for PostgreSQL"),
    _kind(
        r"\.my\.cnf|etc/mysql/debian\.cnf", _has(r"^\s*password\s*=\s*\S"), "a password for MySQL"
    ),
    _kind(r"etc/apt/auth\.conf(?:\.d/.*\.conf)?", _has(r"\bpassword\s+\S"), "a password for apt"),
    _kind(
        r"etc/NetworkManager/system-connections/.*",
        _has(r"^\s*(?:psk|password|wep-key\d|private-key-password)\s*=\s*\S"),
        "a password for a network",
    ),
    _kind(
        r"etc/wpa_supplicant/.*\.conf",
        _has(r"^\s*(?:psk|password)\s*=\s*\S"),
        "a password for a network",
    ),
    _kind(
        r"etc/wireguard/.*\.conf",
        _has(r"^\s*P(?:rivate|reshared)Key\s*=\s*\S"),
        "a WireGuard key",
    ),
    _kind(r"\.vault-token", _has(r"\S"), "a token for Vault"),
)


def found_in(path: str, size: int, head: Callable[[int], bytes]) -> tuple[str, str] | None:
    """Return what a file at `path` (without slash in front) gives away, and what is to be known of
    it; None where it is nothing. `head` returns the first bytes of its content."""
    if not size or _PUBLIC.fullmatch(path):
        return None
    data: bytes | None = None
    for kind in _KINDS:
        if kind.path.fullmatch(path):
            data = head(limits.SECRET_READ)
            detail = kind.content(data)
            if detail is not None:
                return kind.what, detail
    if size <= limits.SECRET_READ:
        data = head(limits.SECRET_READ) if data is None else data
        if any(mark in data for mark in _KEY_MARKS) and _PRIVATE_KEY.search(data):
            return "a private key", ""
    return None


def _secrets(subject: Subject) -> Iterator[Finding]:
    if subject.layers is None:
        for node in subject.nodes:
            found = _found_at(subject, node)
            if found is not None:
                yield _finding(node.path, *found)
        return
    told: set[tuple[str, str, str]] = set()
    for each in subject.layers:
        if each.entry.type is not EntryType.FILE:
            continue
        found = found_in(each.path, each.entry.size, each.head)
        if found is None or (each.path, *found) in told:
            continue
        told.add((each.path, *found))
        visible = subject.contents.resolve(each.path)
        where = f"layer {each.layer}"
        if visible is None or _found_at(subject, visible) != found:
            where += ", hidden by a later one"
        yield _finding(each.path, found[0], f"{found[1]}, {where}".lstrip(", "))


def _found_at(subject: Subject, node: Node) -> tuple[str, str] | None:
    if node.type is not EntryType.FILE:
        return None

    def head(size: int) -> bytes:
        return next(subject.contents.chunks(node), b"")[:size]

    return found_in(node.path, node.size, head)


def _finding(path: str, what: str, detail: str) -> Finding:
    return Finding(f"/{path}", f"has {what}", _CURE, detail)


LINTS = (
    Lint(
        "secrets",
        Level.FATAL,
        "Check for private keys, host keys, hashes of passwords and stored credentials, in an "
        "image's layers also where a later one hides them: what is published cannot be taken back.",
        _secrets,
    ),
)
