"""`status`: bootc's document, its YAML and its text. Examples in the shape of bootc's fixtures."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.sysroot import block_yaml, image_metadata, status, status_text, timestamp
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.image_metadata import ImageMetadata
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import State
from bridge.sysroot.usr_overlay import Overlay

A, B, C = "a" * 64, "b" * 64, "c" * 64
ORIGIN = Origin.for_image("ostree-unverified-registry:quay.io/example/os:latest")
IMAGES = {
    A: ImageMetadata("sha256:" + "1" * 64, "arm64", "nightly", "2023-10-14T19:22:15.420Z"),
    B: ImageMetadata("sha256:" + "2" * 64, "arm64", None, "2023-09-30T19:22:16Z"),
}


def deployment(checksum: str, index: int, **given: Any) -> Deployment:
    return replace(Deployment("default", checksum, 0, "abc", origin=ORIGIN, index=index), **given)


def document(*deployments: Deployment) -> dict[str, Any]:
    return status.host(State(0, 0, deployments), IMAGES.get)


def test_a_booted_host_with_a_rollback() -> None:
    found = document(deployment(A, 0, booted=True), deployment(B, 1), deployment(C, 2))
    reference = {"image": "quay.io/example/os:latest", "transport": "registry"}
    assert found == {
        "apiVersion": "org.containers.bootc/v1",
        "kind": "BootcHost",
        "metadata": {"name": "host"},
        "spec": {"image": reference, "bootOrder": "default"},
        "status": {
            "staged": None,
            "booted": {
                "image": {
                    "image": reference,
                    "version": "nightly",
                    "timestamp": "2023-10-14T19:22:15.420Z",
                    "imageDigest": "sha256:" + "1" * 64,
                    "architecture": "arm64",
                },
                "cachedUpdate": None,
                "incompatible": False,
                "pinned": False,
                "softRebootCapable": False,
                "downloadOnly": False,
                "store": "ostreeContainer",
                "ostree": {"stateroot": "default", "checksum": A, "deploySerial": 0},
                "composefs": None,
            },
            "rollback": found["status"]["rollback"],
            "otherDeployments": found["status"]["otherDeployments"],
            "rollbackQueued": False,
            "type": "bootcHost",
            "usrOverlay": None,
            "readOnly": False,
        },
    }
    assert found["status"]["rollback"]["image"]["version"] is None
    assert found["status"]["otherDeployments"][0]["image"] is None, "a commit of no image"


def test_a_queued_rollback() -> None:
    found = document(deployment(B, 0), deployment(A, 1, booted=True))
    assert found["status"]["booted"]["ostree"]["checksum"] == A
    assert found["status"]["rollback"]["ostree"]["checksum"] == B
    assert found["status"]["rollbackQueued"] is True
    assert found["spec"]["bootOrder"] == "rollback"
    assert "otherDeployments" not in found["status"]


def test_a_sysroot_that_is_not_booted() -> None:
    found = document(deployment(A, 0), deployment(B, 1))
    entries = found["status"].pop("otherDeployments")
    assert [each["ostree"]["checksum"] for each in entries] == [A, B]
    assert found["status"] == {
        "staged": None,
        "booted": None,
        "rollback": None,
        "rollbackQueued": False,
        "type": None,
        "usrOverlay": None,
        "readOnly": False,
    }
    assert found["spec"]["image"]["image"] == "quay.io/example/os:latest"


def test_an_empty_sysroot_is_bootcs_default_host() -> None:
    found = document()
    assert found["spec"] == {"image": None, "bootOrder": "default"}
    assert "otherDeployments" not in found["status"]
    assert status_text.to_text(found) == "No deployments.\n"


def test_what_rpm_ostree_changed_is_incompatible() -> None:
    origin = Origin.parse(ORIGIN.text + "\n[packages]\nrequested=vim;\n")
    found = document(deployment(A, 0, booted=True, origin=origin))["status"]
    assert found["booted"]["incompatible"] is True
    assert found["booted"]["image"] is None
    assert found["type"] is None
    missing = document(deployment(A, 0, booted=True, origin=None))["status"]["booted"]
    assert (missing["image"], missing["incompatible"], missing["pinned"]) == (None, False, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("nonsense", None),
        (
            "ostree-unverified-registry:quay.io/a/b:t",
            {"image": "quay.io/a/b:t", "transport": "registry"},
        ),
        (
            "ostree-unverified-image:oci:/var/mnt/os",
            {"image": "/var/mnt/os", "transport": "oci"},
        ),
        (
            "ostree-image-signed:docker://quay.io/a/b",
            {"image": "quay.io/a/b", "transport": "registry", "signature": "containerPolicy"},
        ),
        (
            "ostree-remote-registry:fedora:quay.io/a/b:stable",
            {
                "image": "quay.io/a/b:stable",
                "transport": "registry",
                "signature": {"ostreeRemote": "fedora"},
            },
        ),
    ],
)
def test_image_references(text: str | None, expected: dict[str, Any] | None) -> None:
    assert status.image_reference(text) == expected


def test_json_is_canonical() -> None:
    found = document(deployment(A, 0, booted=True))
    text = status.to_json(found)
    assert text.startswith('{"apiVersion":"org.containers.bootc/v1","kind":"BootcHost",')
    assert json.loads(text) == found


def test_text_of_a_booted_host() -> None:
    pinned = deployment(C, 2, origin=ORIGIN.with_pinned(True))
    found = document(deployment(A, 0, booted=True), deployment(B, 1), pinned)
    assert status_text.to_text(found) == (
        "● Booted image: quay.io/example/os:latest\n"
        f"        Digest: sha256:{'1' * 64} (arm64)\n"
        "       Version: nightly (2023-10-14T19:22:15Z)\n"
        "\n"
        "  Rollback image: quay.io/example/os:latest\n"
        f"          Digest: sha256:{'2' * 64} (arm64)\n"
        "       Timestamp: 2023-09-30T19:22:16Z\n"
        "\n"
        "   Other ostree\n"
        f"         Commit: {C}\n"
        "         Pinned: yes\n"
    )


def test_text_of_a_sysroot_that_is_not_booted() -> None:
    origin = Origin.for_image("ostree-image-signed:oci:/srv/os")
    text = status_text.to_text(document(deployment(A, 0, origin=origin), deployment(B, 1)))
    assert text.startswith("  Default image: oci:/srv/os\n         Digest: sha256:1")
    assert "\n\n  Rollback image: quay.io/example/os:latest\n" in text
    verbose = status_text.to_text(document(deployment(A, 0, origin=origin)), verbose=True)
    assert verbose.endswith(
        "      StateRoot: default\n"
        "  Deploy serial: 0\n"
        "         Staged: no\n"
        f"         Commit: {A}\n"
        "      Signature: container-policy\n"
        "    Soft-reboot: no\n"
    )


def test_text_tells_what_the_document_has_no_place_for() -> None:
    now = datetime(2023, 10, 20, tzinfo=UTC)
    state = State(0, 0, (deployment(A, 0, booted=True), deployment(B, 1)))
    more = {
        f"{A}.0": status_text.More(
            0, 27_630_000, (now - timedelta(hours=3)).timestamp(), None, "quiet a=1"
        ),
        f"{B}.0": status_text.More(1, 999_000, now.timestamp() + 60, "before"),
    }
    shown = status.host(state, IMAGES.get, usr_overlay=Overlay.DEVELOPMENT)
    assert status_text.to_text(shown, more, now=now) == (
        "● Booted image: quay.io/example/os:latest\n"
        f"        Digest: sha256:{'1' * 64} (arm64)\n"
        "       Version: nightly (2023-10-14T19:22:15Z, 5 days ago)\n"
        "          Size: 27.6 MB to download\n"
        "      Deployed: 2023-10-19T21:00:00Z, 3 hours ago\n"
        "  /usr overlay: transient, read/write\n"
        "\n"
        "  Rollback image: quay.io/example/os:latest\n"
        f"          Digest: sha256:{'2' * 64} (arm64)\n"
        "       Timestamp: 2023-09-30T19:22:16Z, 19 days ago\n"
        "            Size: 999.0 kB to download\n"
        "        Deployed: 2023-10-20T00:01:00Z\n"
    )
    verbose = status_text.to_text(shown, more, now=now, verbose=True)
    assert "         Index: 0\n" in verbose.partition("Rollback")[0]
    assert "Kernel args: quiet a=1\n" in verbose


def test_text_of_a_staged_deployment() -> None:
    origin = ORIGIN.with_pinned(True)
    staged = deployment(B, 0, staged=True)
    state = State(0, 0, (deployment(A, 0, booted=True, origin=origin),), (), staged, True)
    text = status_text.to_text(
        status.host(state, IMAGES.get), {f"{A}.0": status_text.More(name="known-good")}
    )
    assert text.startswith("  Staged image: quay.io/example/os:latest\n")
    assert "Download-only: yes" in text and "Pinned: yes, as known-good\n" in text


@pytest.mark.parametrize(
    ("overlay", "shown", "text"),
    [
        (Overlay.DEVELOPMENT, ("readWrite", "transient"), "transient, read/write"),
        (Overlay.TRANSIENT, ("readOnly", "transient"), "transient, read-only"),
        (Overlay.HOTFIX, ("readWrite", "persistent"), "persistent, read/write"),
    ],
)
def test_what_lies_over_usr(overlay: Overlay, shown: tuple[str, str], text: str) -> None:
    state = State(0, 0, (deployment(A, 0, booted=True), deployment(B, 1)))
    found = status.host(state, IMAGES.get, usr_overlay=overlay)
    assert found["status"]["usrOverlay"] == dict(
        zip(("accessMode", "persistence"), shown, strict=True)
    )
    assert f"  /usr overlay: {text}\n" in status_text.to_text(found)


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-1), None),
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(minutes=119), "1 hour ago"),
        (timedelta(hours=47), "1 day ago"),
        (timedelta(days=29), "29 days ago"),
        (timedelta(days=30), "1 month ago"),
        (timedelta(days=364), "12 months ago"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_ages(ago: timedelta, text: str | None) -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert timestamp.age(timestamp.of((now - ago).timestamp()), now) == text


def test_text_of_a_cached_update() -> None:
    update = ImageMetadata("sha256:" + "3" * 64, "arm64", "next", "2024-01-01T00:00:00Z")

    def show(cached: ImageMetadata) -> str:
        images = {A: replace(IMAGES[A], cached_update=cached)}
        state = State(0, 0, (deployment(A, 0, booted=True),))
        return status_text.to_text(status.host(state, images.get))

    text = show(update)
    assert " UpdateVersion: next (2024-01-01T00:00:00Z)\n" in text
    assert f"  UpdateDigest: {update.digest}\n" in text
    assert "Update: Available" in show(replace(update, version=None))
    assert "Update" not in show(replace(update, digest=IMAGES[A].digest))


def test_text_shows_no_more_of_a_version_than_can_be_printed() -> None:
    image = replace(IMAGES[A], version="1\n\x1b]0;x\x07  Booted image: other")
    state = State(0, 0, (deployment(A, 0, booted=True),))
    text = status_text.to_text(status.host(state, {A: image}.get))
    assert "Version: 1??]0;x?  Booted image: other (" in text
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"version": "1"}, None),
        ({"ostree.manifest-digest": "sha256:x"}, ImageMetadata("sha256:x", "unknown")),
        (
            {"ostree.manifest-digest": "sha256:x", "ostree.container.image-config": "null"},
            ImageMetadata("sha256:x", "unknown"),
        ),
        (
            {"ostree.manifest-digest": "sha256:x", "ostree.container.image-config": "{nonsense"},
            ImageMetadata("sha256:x", "unknown"),
        ),
        (
            {
                "ostree.manifest-digest": "sha256:x",
                "ostree.container.image-config": json.dumps(
                    {"architecture": "amd64", "created": "2024-01-02T03:04:05+01:00"}
                ),
            },
            ImageMetadata("sha256:x", "amd64", None, "2024-01-02T02:04:05Z"),
        ),
        (
            {
                "ostree.manifest-digest": "sha256:x",
                "ostree.container.image-config": json.dumps(
                    {
                        "architecture": "amd64",
                        "created": "2024-01-02T03:04:05Z",
                        "config": {
                            "Labels": {
                                "version": "old",
                                "org.opencontainers.image.version": "1.2",
                                "org.opencontainers.image.created": "2025-01-01T00:00:00Z",
                            }
                        },
                    }
                ),
            },
            ImageMetadata("sha256:x", "amd64", "1.2", "2025-01-01T00:00:00Z"),
        ),
        (
            {
                "ostree.manifest-digest": "sha256:x",
                "ostree.container.image-config": rb'{"architecture": "\ud800"}'.decode(),
            },
            ImageMetadata("sha256:x", "unknown"),
        ),
        (
            {
                "ostree.manifest-digest": "sha256:x",
                "ostree.container.image-config": '{"config":{"Labels":[]},"architecture":1}',
            },
            ImageMetadata("sha256:x", "unknown"),
        ),
    ],
)
def test_image_metadata(metadata: dict[str, Any], expected: ImageMetadata | None) -> None:
    assert image_metadata.parse(metadata) == expected


def test_yaml_of_a_host() -> None:
    found = document(deployment(A, 0, booted=True), deployment(B, 1), deployment(C, 2))
    text = block_yaml.render(found)
    assert text.startswith(
        "apiVersion: org.containers.bootc/v1\n"
        "kind: BootcHost\n"
        "metadata:\n"
        "  name: host\n"
        "spec:\n"
        "  image:\n"
        "    image: quay.io/example/os:latest\n"
        "    transport: registry\n"
        "  bootOrder: default\n"
        "status:\n"
        "  staged: null\n"
        "  booted:\n"
    )
    assert '      timestamp: "2023-10-14T19:22:15.420Z"\n' in text
    assert "  otherDeployments:\n  - image: null\n    cachedUpdate: null\n" in text
