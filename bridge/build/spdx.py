"""A bill of materials in SPDX 2.3, as JSON.

Source: https://spdx.github.io/spdx-spec/v2.3/
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from bridge import __version__

if TYPE_CHECKING:
    from bridge.build.sbom import Bill
    from bridge.packages.package import Package as Installed

_DOCUMENT, _IMAGE = "SPDXRef-DOCUMENT", "SPDXRef-Image"
_ALGORITHMS = {"sha256": ChecksumAlgorithm.SHA256, "sha512": ChecksumAlgorithm.SHA512}


def render(bill: Bill) -> bytes:
    """Return the document."""
    from bridge.build.sbom import Format

    image = Package(
        spdx_id=_IMAGE,
        name=bill.name,
        version=str(bill.digest),
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(_ALGORITHMS[bill.digest.algorithm], bill.digest.hex)],
        primary_package_purpose=PackagePurpose.CONTAINER,
    )
    packages = [_package(bill, each, number) for number, each in enumerate(bill.packages)]
    created = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=bill.name,
        document_namespace=f"https://spdx.org/spdxdocs/bootc-py-{bill.number(Format.SPDX)}",
        creators=[Actor(ActorType.TOOL, f"bootc-py-{__version__}")],
        created=bill.created.replace(tzinfo=None),  # the library takes it for UTC
    )
    relations = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    relations += [
        Relationship(_IMAGE, RelationshipType.CONTAINS, each.spdx_id) for each in packages
    ]
    out = io.StringIO()
    document = Document(created, packages=[image, *packages], relationships=relations)
    write_document_to_stream(document, out, validate=False)
    return f"{out.getvalue().rstrip()}\n".encode()


def _package(bill: Bill, package: Installed, number: int) -> Package:
    # Letters, digits, dots and hyphens are all that an identifier may have.
    name = re.sub(r"[^A-Za-z0-9.-]", "-", f"{package.kind}-{package.name}-{package.architecture}")
    said = package.license
    return Package(
        spdx_id=f"SPDXRef-Package-{number}-{name}",
        name=package.name,
        version=package.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        source_info=f"built from: {package.source}",
        # What a database says is rarely an expression of SPDX, which a declaration has to be.
        license_comment=f"the package says: {said}" if said else None,
        external_references=[
            ExternalPackageRef(
                ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", bill.purl(package)
            )
        ],
    )
