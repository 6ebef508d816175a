"""All packages of an image, whatever its package manager."""

from __future__ import annotations

from bridge.contents.contents import Contents
from bridge.packages import dpkg
from bridge.packages.package import Package


def installed(contents: Contents) -> list[Package]:
    """Return the packages that are installed in an image, by name; none where it has no database
    that is known. Raises `MalformedImage` for a database that cannot be read."""
    return sorted(dpkg.installed(contents), key=lambda each: (each.name, each.architecture))
