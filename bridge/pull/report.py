"""The transfer report: what an image cost to move and to keep. Sizes are bytes, times seconds."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bridge.limits import HISTORY_READ_MAX, SPACE_TIGHT
from bridge.oci import strict_json
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository
from bridge.ostree.stats import Stats
from bridge.pull.layer import Dropped
from bridge.pull.plan import LayerPlan, Mode

API_VERSION = "bootc-py/v1"
HISTORY = "history.jsonl"


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer's plan."""

    plan: LayerPlan
    received_bytes: int = 0
    requests: int = 0
    unpacked_bytes: int | None = None
    """Bytes of the tar stream, where it was read now."""
    planned: LayerPlan | None = None
    """The plan that was begun with, where it may not be the one that was carried out."""

    def to_json(self) -> dict[str, Any]:
        layer = self.plan.layer
        return {
            "digest": layer.digest,
            "diffId": self.plan.diff_id,
            "mediaType": layer.media_type,
            "size": layer.size,
            "mode": self.plan.mode.value,
            "receivedBytes": self.received_bytes,
            "requests": self.requests,
            "unpackedBytes": self.unpacked_bytes,
            "reason": self.plan.reason,
            "planned": _planned(self.planned or self.plan),
        }


def _planned(plan: LayerPlan) -> dict[str, Any]:
    return {
        "mode": plan.mode.value,
        "bytes": plan.transfer_bytes,
        "requests": plan.transfer_requests,
        "reason": plan.reason,
    }


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What a pull would move, and what it took to find out."""

    reference: str
    digest: str
    manifest_digest: str
    image_bytes: int
    received_bytes: int
    requests: int
    layers: list[LayerPlan]

    @property
    def planned_bytes(self) -> int:
        """Layers' bytes that would be moved."""
        return sum(each.transfer_bytes for each in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the document of kind `TransferPlan`."""
        return {
            "apiVersion": API_VERSION,
            "kind": "TransferPlan",
            "image": {
                "reference": self.reference,
                "digest": self.digest,
                "manifestDigest": self.manifest_digest,
            },
            "transfer": {
                "imageBytes": self.image_bytes,
                "plannedBytes": self.planned_bytes,
                "plannedRequests": sum(each.transfer_requests for each in self.layers),
                "receivedBytes": self.received_bytes,
                "requests": self.requests,
                "avoided": _avoided(self.layers),
            },
            "layers": [
                {
                    "digest": each.layer.digest,
                    "diffId": each.diff_id,
                    "mediaType": each.layer.media_type,
                    "size": each.layer.size,
                }
                | _planned(each)
                for each in self.layers
            ],
        }


def _avoided(plans: Iterable[LayerPlan]) -> dict[str, int]:
    layers = files = chunks = 0
    for each in plans:
        layers += each.layer.size if each.mode is Mode.PRESENT else 0
        files += each.avoided_file_bytes
        chunks += each.avoided_chunk_bytes
    return {"layerBytes": layers, "fileBytes": files, "chunkBytes": chunks, "deltaBytes": 0}


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """What the layers to move seemed to need, and what could be written, before they moved."""

    needed: int = 0
    available: int = 0
    estimated: bool = False
    """Whether the size of some layer was not known but estimated."""

    @property
    def tight(self) -> bool:
        return self.needed * SPACE_TIGHT > self.available

    def to_json(self) -> dict[str, Any]:
        return {
            "neededBytes": self.needed,
            "availableBytes": self.available,
            "estimated": self.estimated,
        }


@dataclass(frozen=True, slots=True)
class Deployed:
    """The deployment that a switch or an upgrade made of the image."""

    checksum: str
    serial: int
    boot_entry: str | None
    """File name of its boot entry; None while there is none yet."""
    staged: bool = False
    """Whether it gets into the boot order when the machine goes down..."""
    locked: bool = False
    """...if it is unlocked before."""

    def to_json(self) -> dict[str, Any]:
        return {
            "checksum": self.checksum,
            "serial": self.serial,
            "bootEntry": self.boot_entry,
            "staged": self.staged,
            "downloadOnly": self.locked,
        }


@dataclass(slots=True)
class Seconds:
    """Wall time of each phase, one after the other. `transfer` lasts until the last blob byte was
    read, layers being imported meanwhile; `import_` is what that took beyond it."""

    total: float = 0.0
    resolve: float = 0.0
    transfer: float = 0.0
    import_: float = 0.0
    merge: float = 0.0
    deploy: float = 0.0

    def to_json(self) -> dict[str, float]:
        return {
            "total": round(self.total, 3),
            "resolve": round(self.resolve, 3),
            "transfer": round(self.transfer, 3),
            "import": round(self.import_, 3),
            "merge": round(self.merge, 3),
            "deploy": round(self.deploy, 3),
        }


@dataclass(slots=True)
class TransferReport:
    """One pull, from the reference to the commit (and, on a host, the deployment)."""

    reference: str
    digest: str
    """What the reference named: an index's digest where it named one."""
    manifest_digest: str
    commit: str
    content_checksum: str
    changed: bool
    image_bytes: int
    received_bytes: int
    requests: int
    retries: int
    layers: list[LayerReport] = field(default_factory=list)
    store: Stats = field(default_factory=Stats)
    space: SpaceReport = field(default_factory=SpaceReport)
    dropped: list[Dropped] = field(default_factory=list)
    deployment: Deployed | None = None
    seconds: Seconds = field(default_factory=Seconds)

    @property
    def avoided(self) -> dict[str, int]:
        """Blob bytes that were not moved, by what made that possible."""
        return _avoided(each.plan for each in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the document of kind `TransferReport`."""
        document: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": "TransferReport",
            "image": {
                "reference": self.reference,
                "digest": self.digest,
                "manifestDigest": self.manifest_digest,
                "commit": self.commit,
                "contentChecksum": self.content_checksum,
            },
            "changed": self.changed,
            "transfer": {
                "imageBytes": self.image_bytes,
                "receivedBytes": self.received_bytes,
                "requests": self.requests,
                "retries": self.retries,
                "plannedBytes": sum(
                    (each.planned or each.plan).transfer_bytes for each in self.layers
                ),
                "avoided": self.avoided,
            },
            "layers": [layer.to_json() for layer in self.layers],
            "store": {
                "files": self.store.files,
                "newObjects": self.store.new_objects,
                "reusedObjects": self.store.reused_objects,
                "newBytes": self.store.new_bytes,
                "reusedBytes": self.store.reused_bytes,
            },
            "space": self.space.to_json(),
            "dropped": [{"path": each.path, "reason": each.reason} for each in self.dropped],
        }
        if self.deployment is not None:
            document["deployment"] = self.deployment.to_json()
        document["seconds"] = self.seconds.to_json()
        return document


def recorded_sizes(repo: Repository) -> dict[str, int]:
    """Return the unpacked sizes of layers that the newest part of the history tells, by DiffID."""
    found: dict[str, int] = {}
    for document in read_history(repo, HISTORY_READ_MAX):
        try:
            for layer in document["layers"]:
                size = layer.get("unpackedBytes")
                if type(size) is int and size >= 0:
                    found[str(layer["diffId"])] = size
        except (LookupError, TypeError, AttributeError):
            continue
    return found


def read_history(repo: Repository, last: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the documents of `history.jsonl`, oldest first: all, or those in its `last` bytes.

    What is no document is passed over: a line that was cut off, say. It is only a file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(f"{EXTENSION}/{HISTORY}", flags, dir_fd=repo.fd)
    except OSError:
        return
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return
        if last is not None:
            file.seek(max(0, status.st_size - last))
        for line in file:
            try:
                document = strict_json.parse(line)
            except ValueError:
                continue
            if isinstance(document, dict):
                yield document


def append_history(repo: Repository, command: str, report: TransferReport) -> None:
    """Add the report to the repository's `history.jsonl`, one line each, oldest first."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": command}
    fd = durable.make_directories(EXTENSION, repo.fd)
    try:
        text = json.dumps(line | report.to_json(), ensure_ascii=False)
        durable.append_line(HISTORY, text, fd)
    finally:
        os.close(fd)
