"""The state of a host as bootc's document `BootcHost`, org.containers.bootc/v1.

Shape: docs/src/host-v1.schema.json of bootc; every key that bootc writes is there, null where
there is nothing. On a sysroot that is not the running system's bootc shows nothing at all. We
show its deployments in boot order as `otherDeployments`, with `spec.image` the one that boots
next; `booted`, `rollback` and `type` stay null, for nothing there is booted.
"""

from __future__ import annotations

import json
from typing import Any

from bridge.errors import UsageError
from bridge.oci.reference import Signature, parse_origin
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.image_metadata import ImageMetadata, Lookup
from bridge.sysroot.rollback import rollback_deployment
from bridge.sysroot.sysroot import State
from bridge.sysroot.usr_overlay import Overlay

Document = dict[str, Any]

_OVERLAYS = {
    Overlay.DEVELOPMENT: {"accessMode": "readWrite", "persistence": "transient"},
    Overlay.TRANSIENT: {"accessMode": "readOnly", "persistence": "transient"},
    Overlay.HOTFIX: {"accessMode": "readWrite", "persistence": "persistent"},
}


def host(
    state: State, lookup: Lookup, *, read_only: bool = False, usr_overlay: Overlay | None = None
) -> Document:
    """Return the document of a sysroot in `state`; `lookup` tells a commit's image.

    `read_only` is whether the system lies on a medium that cannot be written, `usr_overlay` what
    lies over `/usr` of the running system.
    """
    booted = state.booted
    rollback = rollback_deployment(state) if booted is not None else None
    others = [each for each in state.deployments if each is not booted and each is not rollback]
    staged = state.staged
    queued = booted is not None and rollback is not None and rollback.index < booted.index
    shown = {id(each): boot_entry(each, lookup) for each in state.all}
    if staged is not None:
        shown[id(staged)]["downloadOnly"] = state.staged_locked
    first = shown[id(state.current)] if state.current is not None else None
    image = first["image"]["image"] if first is not None and first["image"] else None
    status: Document = {
        "staged": None if staged is None else shown[id(staged)],
        "booted": None if booted is None else shown[id(booted)],
        "rollback": None if rollback is None else shown[id(rollback)],
    }
    if others:
        status["otherDeployments"] = [shown[id(each)] for each in others]
    is_bootc = booted is not None and image is not None
    status |= {
        "rollbackQueued": queued,
        "type": "bootcHost" if is_bootc else None,
        "usrOverlay": None if usr_overlay is None else _OVERLAYS[usr_overlay],
        "readOnly": read_only,
    }
    # bootc fills in the boot order only beside an image: without one the spec is its default.
    order = "rollback" if queued and image is not None else "default"
    return {
        "apiVersion": "org.containers.bootc/v1",
        "kind": "BootcHost",
        "metadata": {"name": "host"},
        "spec": {"image": image, "bootOrder": order},
        "status": status,
    }


def boot_entry(deployment: Deployment, lookup: Lookup) -> Document:
    """Return the document's `BootEntry` of a deployment."""
    origin = deployment.origin
    incompatible = origin is not None and origin.incompatible
    image = cached = None
    reference = image_reference(deployment.image_reference)
    if reference is not None and not incompatible:
        found = lookup(deployment.checksum)
        if found is not None:
            image = _image_status(reference, found)
            if found.cached_update is not None:
                cached = _image_status(reference, found.cached_update)
    return {
        "image": image,
        "cachedUpdate": cached,
        "incompatible": incompatible,
        "pinned": deployment.pinned,
        "softRebootCapable": False,
        "downloadOnly": False,
        "store": "ostreeContainer",
        "ostree": {
            "stateroot": deployment.stateroot,
            "checksum": deployment.checksum,
            "deploySerial": deployment.serial,
        },
        "composefs": None,
    }


def image_reference(origin_text: str | None) -> Document | None:
    """Return the document's `ImageReference`; `None` for no reference or one we cannot parse."""
    if origin_text is None:
        return None
    remote = _ostree_remote(origin_text)
    try:
        parsed = parse_origin(remote[1] if remote else origin_text)
    except UsageError:
        return None
    document: Document = {"image": parsed.name, "transport": parsed.transport.value}
    if remote:
        document["signature"] = {"ostreeRemote": remote[0]}
    elif parsed.signature is Signature.SIGNED:
        document["signature"] = "containerPolicy"
    return document


def to_json(document: Document) -> str:
    """Return the document as bootc prints it: canonical JSON, keys sorted, no spaces."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _image_status(reference: Document, found: ImageMetadata) -> Document:
    return {
        "image": reference,
        "version": found.version,
        "timestamp": found.timestamp,
        "imageDigest": found.digest,
        "architecture": found.architecture,
    }


def _ostree_remote(text: str) -> tuple[str, str] | None:
    """Split ostree-ext's forms that name a remote: its name, and the reference without it."""
    for scheme, plain in (
        ("ostree-remote-registry:", "ostree-unverified-registry:"),
        ("ostree-remote-image:", "ostree-unverified-image:"),
    ):
        if text.startswith(scheme):
            remote, colon, rest = text.removeprefix(scheme).partition(":")
            return (remote, plain + rest) if colon else None
    return None
