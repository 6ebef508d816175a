"""Passwords from where they are kept. What is read is never part of a message."""

from __future__ import annotations

import os

from bridge import limits
from bridge.errors import UsageError


def from_file(path: str) -> str:
    """Return a file's content without the white space around it; raises `UsageError`."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(limits.SYNC_SECRET_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(content) > limits.SYNC_SECRET_MAX:
        raise UsageError(f"{path} has more than {limits.SYNC_SECRET_MAX} bytes: no password has")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None
    if not text:
        raise UsageError(f"{path} is empty")
    return text


def from_environment(name: str) -> str:
    """Return an environment variable that is set; raises `UsageError`."""
    value = os.environ.get(name, "")
    if not value:
        raise UsageError(f"the environment variable {name!r:.100} is not set")
    return value
