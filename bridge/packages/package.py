"""A package that is installed in an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """What a package database says of one package."""

    kind: str
    """`deb` or `rpm`."""
    name: str
    version: str
    """Whole: with epoch and release, where there are such."""
    architecture: str
    source: str
    """The name of what it was built from; packages of one source change together."""
    paths: tuple[str, ...]
    """What it owns, as an image's view names it: files, links, and directories, which others may
    own too."""
    changes: tuple[int, ...] = ()
    """When it was changed, in seconds since 1970, newest first, where that is known."""
    license: str = ""
    """As the database has it; empty where it does not."""

    @property
    def identity(self) -> str:
        """What tells it from all others that may be installed beside it."""
        return f"{self.name}:{self.architecture}"
