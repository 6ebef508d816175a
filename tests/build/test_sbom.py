"""Bills of materials: the same each time, and what the formats' own libraries take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.build import sbom
from bridge.build.sbom import Bill, Format, make, time_of
from bridge.contents.directory import of_directory
from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.packages.package import Package

DIGEST = Digest.of(b"image")
CREATED = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
DEBIAN = {"ID": "debian", "VERSION_ID": "12"}


def package(name: str, version: str = "1-2", kind: str = "deb", **more: Any) -> Package:
    given = {"architecture": "amd64", "source": f"src-{name}", "paths": ()}
    return Package(kind=kind, name=name, version=version, **{**given, **more})


PACKAGES = [
    package("bash", "5:1.2~rc1-3+b1"),
    package("libstdc++6", "12.2"),
    package("müsli", "1 2"),
    package("bash", "5:1.2~rc1-3+b1", architecture="arm64"),
    package("rpm-one", "2:1.0-3.fc42", "rpm", license="MIT and GPLv2+"),
    package("nothing", "1", architecture=""),
]
BILL = Bill("quay.io/a/b", DIGEST, CREATED, DEBIAN, PACKAGES)


@pytest.mark.parametrize(
    ("one", "release", "expected"),
    [
        (PACKAGES[0], DEBIAN, "pkg:deb/debian/bash@5:1.2~rc1-3%2Bb1?arch=amd64&distro=debian-12"),
        (PACKAGES[1], {"ID": "debian"},
         "pkg:deb/debian/libstdc%2B%2B6@12.2?arch=amd64&distro=debian"),
        (PACKAGES[4], {"ID": "fedora", "VERSION_ID": "42"},
         "pkg:rpm/fedora/rpm-one@1.0-3.fc42?arch=amd64&distro=fedora-42&epoch=2"),
        (PACKAGES[5], {}, "pkg:deb/nothing@1"),
    ],
)  # fmt: skip
def test_package_urls(one: Package, release: dict[str, str], expected: str) -> None:
    assert Bill("x", DIGEST, CREATED, release, [one]).purl(one) == expected


def test_spdx(tmp_path: Path) -> None:
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    made = make(BILL, Format.SPDX)
    assert (made.media_type, made.file_name) == ("application/spdx+json", "sbom.spdx.json")
    (tmp_path / made.file_name).write_bytes(made.data)
    parsed = parse_file(str(tmp_path / made.file_name))
    assert validate_full_spdx_document(parsed) == []
    found = json.loads(made.data)
    assert found["spdxVersion"] == "SPDX-2.3"
    assert found["creationInfo"]["created"] == "2024-05-06T07:08:09Z"
    image, *packages = found["packages"]
    assert image["checksums"] == [{"algorithm": "SHA256", "checksumValue": DIGEST.hex}]
    assert [each["name"] for each in packages] == [each.name for each in PACKAGES]
    assert [each["externalRefs"][0]["referenceLocator"] for each in packages] == [
        BILL.purl(each) for each in PACKAGES
    ]
    assert len({each["SPDXID"] for each in packages}) == len(PACKAGES)
    assert packages[0]["sourceInfo"] == "built from: src-bash"
    assert packages[4]["licenseComments"] == "the package says: MIT and GPLv2+"


def test_cyclonedx() -> None:
    made = make(BILL, Format.CYCLONEDX)
    assert made.media_type == "application/vnd.cyclonedx+json"
    found = json.loads(made.data)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["timestamp"] == "2024-05-06T07:08:09+00:00"
    assert found["metadata"]["component"]["version"] == DIGEST
    assert {each["purl"] for each in found["components"]} == {BILL.purl(e) for e in PACKAGES}
    (licensed,) = (each for each in found["components"] if "licenses" in each)
    assert licensed["licenses"] == [{"license": {"name": "MIT and GPLv2+"}}]


SCRIPT = """
import sys
from bridge.build import sbom
from test_sbom import BILL
for kind in sbom.Format:
    sys.stdout.buffer.write(sbom.make(BILL, kind).data)
"""


def test_one_image_has_one_bill() -> None:
    """In another process, whose sets are in another order, and in another time zone."""
    found = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "PYTHONPATH": str(Path(__file__).parent),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr.decode()
        found.append(done.stdout)
    assert found[0] == found[1]
    assert found[0] == b"".join(make(BILL, kind).data for kind in Format)


def test_another_image_has_another_number() -> None:
    other = Bill("quay.io/a/b", Digest.of(b"other"), CREATED, DEBIAN, PACKAGES)
    numbers = {each.number(kind) for each in (BILL, other) for kind in Format}
    assert len(numbers) == 4


@pytest.mark.parametrize("kind", Format)
def test_an_image_without_packages(kind: Format) -> None:
    assert json.loads(make(Bill("x", DIGEST, CREATED, {}, []), kind).data)


@pytest.mark.parametrize(
    ("created", "epoch", "expected"),
    [
        ("2024-05-06T07:08:09Z", None, "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09.123456789Z", None, "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09.1+02:00", None, "2024-05-06T05:08:09+00:00"),
        ("2024-05-06T07:08:09", None, "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09Z", 1, "1970-01-01T00:00:01+00:00"),
        (None, None, "1970-01-01T00:00:00+00:00"),
        ("yesterday", None, "1970-01-01T00:00:00+00:00"),
        ("9999-99-99T00:00:00Z", None, "1970-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59-14:00", None, "1970-01-01T00:00:00+00:00"),
    ],
)
def test_times(created: str | None, epoch: int | None, expected: str) -> None:
    assert time_of(created, epoch).isoformat() == expected


def test_without_the_library_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name, module in (
        (Format.SPDX, "spdx_tools.spdx.model", "spdx"),
        (Format.CYCLONEDX, "cyclonedx.model", "cyclonedx"),
    ):
        monkeypatch.delitem(sys.modules, f"bridge.build.{module}", raising=False)
        monkeypatch.delattr(sys.modules["bridge.build"], module, raising=False)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageError, match=r"pip install 'bootc-py\[sbom\]'"):
            make(BILL, kind)


def test_what_an_image_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert sbom.os_release(of_directory(fd)) == {}
    text = '# no=field\nID=debian\nVERSION_ID="12"\nNAME=\'A "B"\'\nbroken\n'
    (tmp_path / "usr/lib/os-release").write_text(text)
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    found = sbom.os_release(of_directory(fd))
    assert (found["ID"], found["VERSION_ID"]) == ("debian", "12")
    bill = sbom.bill_of("x", DIGEST, CREATED, of_directory(fd))
    assert bill.packages == [] and bill.os_release == found
    os.close(fd)
