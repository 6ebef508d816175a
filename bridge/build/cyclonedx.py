"""A bill of materials in CycloneDX 1.6, as JSON.

Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bridge import __version__

if TYPE_CHECKING:
    from bridge.build.sbom import Bill
    from bridge.packages.package import Package


def render(bill: Bill) -> bytes:
    """Return the document."""
    from bridge.build.sbom import Format

    image = Component(
        name=bill.name,
        version=str(bill.digest),
        type=ComponentType.CONTAINER,
        bom_ref=f"image@{bill.digest}",
    )
    packages = [_component(bill, each) for each in bill.packages]
    tool = Component(name="bootc-py", version=__version__, type=ComponentType.APPLICATION)
    document = Bom(
        serial_number=bill.number(Format.CYCLONEDX),
        metadata=BomMetaData(
            component=image, timestamp=bill.created, tools=ToolRepository(components=[tool])
        ),
        components=packages,
        dependencies=[
            Dependency(image.bom_ref, [Dependency(each.bom_ref) for each in packages]),
        ],
    )
    return f"{JsonV1Dot6(document).output_as_string(indent=2)}\n".encode()


def _component(bill: Bill, package: Package) -> Component:
    name = bill.purl(package)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=name,
        purl=PackageURL.from_string(name),
        licenses=[DisjunctiveLicense(name=package.license)] if package.license else (),
        properties=[Property(name="bootc-py:source", value=package.source)],
    )
