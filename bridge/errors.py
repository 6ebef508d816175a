"""The one exception tree. Each class carries the exit code that the command line ends with.

A message says what was being done, to what, and what to do next where there is something to do.
Everything raised on purpose is a `BridgeError`; anything else that reaches the user is a defect.
"""

from __future__ import annotations

import errno


class BridgeError(Exception):
    """Failed for a reason that has no class of its own."""

    exit_code = 1


class UsageError(BridgeError):
    """The words of the command, a reference or a configuration file are wrong."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A configuration file is wrong: every mistake in it, each with its place."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class NotAuthorised(BridgeError):
    """The registry refused our credentials, or wants some that we do not have."""

    exit_code = 3


class NotFound(BridgeError):
    """There is no such image, tag, blob, ref or object."""

    exit_code = 4


class NetworkError(BridgeError):
    """A registry or the network failed, and went on failing through all retries."""

    exit_code = 5


class RangeRefused(BridgeError):
    """A host does not serve parts of a blob; all of it may still be had there."""

    exit_code = 5


class VerificationFailed(BridgeError):
    """Bytes do not have the digest, DiffID or size that they must have.

    `digest` is the one that content was held to, where another copy may have it.
    """

    exit_code = 6

    def __init__(self, message: str, digest: str | None = None) -> None:
        super().__init__(message)
        self.digest = digest


class Blocked(VerificationFailed):
    """registries.conf forbids to pull from there: a matter of policy, so no request was sent."""


class MalformedImage(BridgeError):
    """The image, or a part of it, breaks its specification or is of an unsupported kind."""

    exit_code = 7


class NoSpace(BridgeError):
    """The file system has no room for what was to be written.

    Where it was a pull that had no room, `wanted` are the refs of the image's layers, of which some
    may be in the store, and nobody's yet; `received` are the bytes, requests and retries it took.
    """

    exit_code = 8

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.wanted: tuple[str, ...] = ()
        self.received = (0, 0, 0)


class MayNotFit(NoSpace):
    """There may not be room enough, and who asked wants to make some before going on."""


def is_full(error: BaseException) -> bool:
    """Tell whether an error, ours or the system's, says that there is no room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, NoSpace)


class DamagedRepository(BridgeError):
    """An object that should be in the repository is missing or does not have its checksum."""

    exit_code = 9


class Busy(BridgeError):
    """Another process holds the lock."""

    exit_code = 10
