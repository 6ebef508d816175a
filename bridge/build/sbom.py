"""A bill of materials (SBOM): which packages an image has, for tools that look for known flaws.

The same image gives the same document: its number is made from the image's digest, its time is the
image's own. The formats are written by libraries that know them, which the extra `sbom` brings.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge import limits
from bridge.contents.contents import Contents
from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.packages.installed import installed
from bridge.packages.package import Package

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_SPACE = uuid.UUID("4b1dc8c8-4c0d-5c35-8c2b-1a3c6a0f5c11")
"""What the documents' numbers are derived from, beside what they are about."""


class Format(enum.Enum):
    """In which words, as the option `--sbom` has them."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


@dataclass(frozen=True, slots=True)
class Sbom:
    """A bill of materials, as an artifact has it."""

    data: bytes
    media_type: str
    """IANA's, or the one that the format's makers registered; also the artifact's type."""
    file_name: str


@dataclass(frozen=True, slots=True)
class Bill:
    """What a bill of materials says, in no format's words."""

    name: str
    """Of the image: its registry and repository, or what it is called otherwise."""
    digest: Digest
    created: datetime
    os_release: Mapping[str, str]
    packages: Sequence[Package]

    def number(self, kind: Format) -> uuid.UUID:
        """Return the document's number: another one for another image, or another format."""
        return uuid.uuid5(_SPACE, f"{kind.value} {self.digest}")

    def purl(self, package: Package) -> str:
        """Return a package's name in the words of https://github.com/package-url/purl-spec."""
        from packageurl import PackageURL

        version, more = package.version, {"arch": package.architecture}
        if package.kind == "rpm" and ":" in version:
            more["epoch"], _, version = version.partition(":")
        vendor = self.os_release.get("ID", "")
        release = self.os_release.get("VERSION_ID", "")
        if vendor:
            more["distro"] = f"{vendor}-{release}" if release else vendor
        given = {key: value for key, value in more.items() if value}
        return PackageURL(package.kind, vendor or None, package.name, version, given).to_string()


def make(bill: Bill, kind: Format) -> Sbom:
    """Return the document; `UsageError` where the libraries for it are not installed."""
    try:
        if kind is Format.SPDX:
            from bridge.build import spdx

            return Sbom(spdx.render(bill), "application/spdx+json", "sbom.spdx.json")
        from bridge.build import cyclonedx

        return Sbom(cyclonedx.render(bill), "application/vnd.cyclonedx+json", "sbom.cyclonedx.json")
    except ImportError as error:
        raise UsageError(
            f"a bill of materials in {kind.value} needs {error.name}; install what belongs to the "
            "extra: pip install 'bootc-py[sbom]'"
        ) from None


def bill_of(name: str, digest: Digest, created: datetime, contents: Contents) -> Bill:
    """Return what an image's package databases say; `MalformedImage` for one that is broken."""
    return Bill(name, digest, created, os_release(contents), installed(contents))


def os_release(contents: Contents) -> dict[str, str]:
    """Return what os-release(5) of an image says; nothing where it has none."""
    for path in _OS_RELEASE:
        node = contents.resolve(path)
        if node is not None and node.is_file:
            text = contents.read(node, limits.OS_RELEASE_MAX).decode("utf-8", "replace")
            pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
            return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    return {}


def time_of(created: str | None, epoch: int | None) -> datetime:
    """Return when an image was made: at SOURCE_DATE_EPOCH if that is set, else as the image says,
    which is RFC 3339; 1970 where neither tells."""
    if epoch is not None:
        return datetime.fromtimestamp(epoch, UTC)
    try:
        found = datetime.fromisoformat(created or "")
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return found.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
