"""Names: an OSTree store takes those that are UTF-8, and no others."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Subject


def _utf8(subject: Subject) -> Iterator[Finding]:
    for node in subject.nodes:
        path = node.path
        if not _is_utf8(node.name):
            yield Finding(
                f"/{_readable(path)}", "has a name that is not UTF-8", "rename it, or remove it"
            )
        if not _is_utf8(node.target):
            yield Finding(
                f"/{_readable(path)}",
                "is a link whose target is not UTF-8",
                "rename what it leads to, or remove it",
                f"leads to {_readable(node.target)}",
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(text: str) -> str:
    """Return it with `\\xFF` where a byte is not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


LINTS = (
    Lint(
        "utf8",
        Level.FATAL,
        "Check for names, and targets of links, that are not UTF-8: an OSTree store cannot hold "
        "them.",
        _utf8,
    ),
)
