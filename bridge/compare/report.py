"""The report on two images: what an update from one to the other moves, stores and changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge import limits
from bridge.compare.causes import Cause, Share
from bridge.compare.changes import FileChange, Kind, PackageChange
from bridge.compare.estimate import Estimate, Strategy
from bridge.compare.image import Identity, Read
from bridge.oci.digest import Digest
from bridge.pull.plan import Mode

API_VERSION = "bootc-py/v1"
CAUSES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Stored:
    """What the second image adds to a store that has the first."""

    files: int
    bytes: int
    """Unpacked."""


@dataclass(frozen=True, slots=True)
class ImageDiff:
    """All that is known of an update. What is None is not known, for `reasons`."""

    before: Identity
    after: Identity
    stored_layers: frozenset[Digest]
    """DiffIDs of the first image."""
    estimates: Mapping[Strategy, Estimate | None]
    strategy: Strategy
    """What the causes are told for."""
    shares: Sequence[Share]
    causes: Sequence[Cause]
    files: Sequence[FileChange] | None
    packages: Sequence[PackageChange] | None
    stored: Stored | None
    read: Read
    reasons: tuple[str, ...]

    @property
    def chosen(self) -> Estimate | None:
        """What the chosen strategy moves."""
        return self.estimates[self.strategy]

    def counts(self) -> dict[Kind, int]:
        """Return how many paths were added, removed and changed."""
        found = Counter(each.kind for each in self.files or ())
        return {kind: found[kind] for kind in Kind}

    def listed_files(self, most: int) -> list[tuple[FileChange, int]]:
        """Return at most so many changes of files, with what moves for each: the dearest first."""
        moved = {each.path: each.bytes for each in self.shares if each.path is not None}
        pairs = [(each, moved.get(each.path, 0)) for each in self.files or ()]
        pairs.sort(key=lambda pair: (-pair[1], -pair[0].after, pair[0].path))
        return pairs[:most]

    def to_json(self) -> dict[str, Any]:
        """Return the document of kind `ImageDiff`."""
        return {
            "apiVersion": API_VERSION,
            "kind": "ImageDiff",
            "from": _identity(self.before),
            "to": _identity(self.after),
            "strategies": {
                **{each.value: _estimate(self.estimates[each]) for each in Strategy},
                "delta": None,
            },
            "layers": self._layers(),
            "store": None
            if self.stored is None
            else {"newFiles": self.stored.files, "newBytes": self.stored.bytes},
            "packages": None if self.packages is None else [_package(p) for p in self.packages],
            "files": self._files(),
            "causes": {
                "strategy": self.strategy.value,
                "total": len(self.causes),
                "largest": [_cause(each) for each in self.causes[:CAUSES_SHOWN]],
            },
            "read": {
                "receivedBytes": self.read.received_bytes,
                "requests": self.read.requests,
                "layers": self.read.layers,
                "layerBytes": self.read.layer_bytes,
            },
            "reasons": list(self.reasons),
        }

    def _layers(self) -> list[dict[str, Any]]:
        layers = self.after.manifest.layers
        found = []
        for number, (layer, diff_id) in enumerate(
            zip(layers, self.after.config.diff_ids, strict=True)
        ):
            plans = {
                each: None if estimate is None else estimate.plans[number]
                for each, estimate in self.estimates.items()
            }
            chosen = plans[self.strategy]
            found.append(
                {
                    "digest": layer.digest,
                    "diffId": diff_id,
                    "mediaType": layer.media_type,
                    "size": layer.size,
                    "shared": diff_id in self.stored_layers,
                    "mode": None if chosen is None else chosen.mode.value,
                    "bytes": {
                        each.value: None if plan is None else plan.transfer_bytes
                        for each, plan in plans.items()
                    },
                    "reason": "" if chosen is None else chosen.reason,
                }
            )
        return found

    def _files(self) -> dict[str, Any] | None:
        if self.files is None:
            return None
        listed = self.listed_files(limits.FILES_LISTED_MAX)
        return {
            **{kind.value: count for kind, count in self.counts().items()},
            "listed": len(listed),
            "list": [
                {
                    "path": _text(change.path),
                    "change": change.kind.value,
                    "what": list(change.what),
                    "sizeBefore": change.before,
                    "sizeAfter": change.after,
                    "bytes": moved,
                }
                for change, moved in listed
            ],
        }


def layer_counts(diff: ImageDiff) -> tuple[int, int]:
    """Return how many of the second image's layers the first has too, and how many it has not."""
    estimate = diff.estimates[Strategy.LAYERS]
    assert estimate is not None
    shared = sum(each.mode is Mode.PRESENT for each in estimate.plans)
    return shared, len(estimate.plans) - shared


def _identity(image: Identity) -> dict[str, Any]:
    return {
        "reference": image.reference,
        "digest": image.digest,
        "manifestDigest": image.manifest.digest,
        "version": image.version,
        "created": image.config.created,
        "imageBytes": image.manifest.image_bytes,
        "layers": len(image.manifest.layers),
    }


def _estimate(estimate: Estimate | None) -> dict[str, int] | None:
    if estimate is None:
        return None
    return {
        "bytes": estimate.bytes,
        "layerBytes": estimate.layer_bytes,
        "documentBytes": estimate.document_bytes,
        "requests": estimate.requests,
    }


def _package(change: PackageChange) -> dict[str, Any]:
    return {
        "name": _text(change.name),
        "architecture": _text(change.architecture),
        "change": change.direction,
        "from": None if change.before is None else _text(change.before),
        "to": None if change.after is None else _text(change.after),
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "kind": cause.kind,
        "name": _text(cause.name),
        "bytes": cause.bytes,
        "files": cause.files,
        "paths": [_text(path) for path in cause.paths],
        "estimated": cause.estimated,
    }


def _text(text: str) -> str:
    """Return a text without what is no character: names that are not UTF-8 have such."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
