"""All packages of an image, whatever its package manager."""

from __future__ import annotations

from bridge.contents.contents import Contents
from bridge.packages import dpkg, rpm
from bridge.packages.package import Package


def installed(contents: Contents) -> list[Package]:
    """Return the packages that are installed in an image, by name; none where it has no database
    that is known. Raises `MalformedImage` for a database that cannot be read."""
    found = [*dpkg.installed(contents), *rpm.installed(contents)]
    return sorted(found, key=lambda each: (each.name, each.architecture, each.version))
