"""Whether an image fits, asked before a byte of its layers moves.

What is needed at most is easy to say: all layers unpacked, and beside them the blobs that are
under way. What is needed at least is not: a file that the store has is not stored again, and
neither is one that the image has twice. So a pull is refused where not even the least fits, and
where it may or may not, it goes on with a warning; `ostree.space` then stops it in time.

The closer look (figures of earlier pulls, a few bytes of each blob, the size of the store) is
taken only where it is tight.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from bridge.errors import BridgeError, MayNotFit, NoSpace
from bridge.layer import unpacked
from bridge.limits import (
    PARALLEL_BLOBS,
    SPACE_HINTS_MAX,
    SPACE_SCARCE,
    SPACE_TIGHT,
    UNPACKED_RATIO,
)
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, layer_compression
from bridge.ostree.repository import Repository
from bridge.ostree.space import measure, stored_bytes
from bridge.ostree.staging import remove_abandoned
from bridge.pull import kept
from bridge.pull.plan import LayerPlan, Mode
from bridge.pull.progress import Progress
from bridge.pull.report import SpaceReport, recorded_sizes
from bridge.pull.source import Source


class Figure(enum.Enum):
    """Where a layer's unpacked size is known from."""

    CONTENTS = "contents"
    """Its table of contents, or what of it the store lacks."""
    EXACT = "exact"
    HISTORY = "history"
    TRAILER = "trailer"
    """The compression's own word, unverified."""
    ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer that is going to be moved, and the bytes of its tar stream."""

    layer: Descriptor
    diff_id: Digest
    bytes: int
    figure: Figure

    @property
    def known(self) -> bool:
        return self.figure is not Figure.ESTIMATE


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a pull is going to write: as much as it seems, and in any case."""

    expected: int
    least: int


def first_figure(plan: LayerPlan) -> Unpacked:
    """Return the unpacked size of what a layer brings, by what is known without asking."""
    layer = plan.layer
    if plan.parts is not None:
        # What is fetched is all that is kept of the blob.
        fetched = replace(layer, size=plan.transfer_bytes)
        return Unpacked(fetched, plan.diff_id, plan.parts.missing.bytes, Figure.CONTENTS)
    if plan.inside is not None:
        return Unpacked(layer, plan.diff_id, plan.inside.index.least_size, Figure.CONTENTS)
    if layer_compression(layer.media_type) == "none":
        return Unpacked(layer, plan.diff_id, layer.size, Figure.EXACT)
    return Unpacked(layer, plan.diff_id, layer.size * UNPACKED_RATIO, Figure.ESTIMATE)


def need(
    layers: Sequence[Unpacked],
    *,
    archive: bool = False,
    compresses: bool = False,
    keeps: bool = True,
    shared: int = 0,
) -> Need:
    """Return what the layers need in a repository, one of mode `archive` or another.

    Where the file system `compresses`, less may do. With `keeps` the blobs lie on the disk, too,
    while they are imported. At most `shared` bytes of their content are in the store already.
    """
    packed = archive or compresses
    blobs = sorted((each.layer.size if keeps else 0 for each in layers), reverse=True)
    expected = sum(_stored(each, archive) for each in layers) + sum(blobs[:PARALLEL_BLOBS])
    least = max(0, sum(_least(each, packed) for each in layers) - shared)
    for each in layers:
        alone = each.layer.size if keeps else 0
        least = max(least, alone + max(0, _least(each, packed) - shared))
    return Need(expected, least)


def _stored(each: Unpacked, archive: bool) -> int:
    """What a layer seems to take. Integers: sizes in a manifest go up to 2^63."""
    if archive:  # which compresses each file by itself
        compressed = layer_compression(each.layer.media_type) != "none"
        return each.layer.size if compressed else each.layer.size // UNPACKED_RATIO
    # A file's last block is half empty on average: 5 % of a Debian image.
    return each.bytes * 21 // 20


def _least(each: Unpacked, packed: bool) -> int:
    """What a layer takes unless the store has a part of it.

    Headers and files that are in the image twice make 5 % of a Debian image; a quarter is taken
    off. Nothing is known to get smaller than it is as a blob.
    """
    if packed or not each.known:
        compressed = layer_compression(each.layer.media_type) != "none"
        return each.layer.size * 3 // 4 if compressed else 0
    return each.bytes * 3 // 4


def is_tight(layers: Sequence[Unpacked], found: Need, available: int) -> bool:
    """Tell whether the figures at hand do not settle it that there is room enough."""
    if found.expected * SPACE_TIGHT > available:
        return True
    return available < SPACE_SCARCE and sum(_most(each) for each in layers) > available


def _most(each: Unpacked) -> int:
    if each.known:
        return 0
    return each.layer.size * unpacked.LARGEST_RATIO[layer_compression(each.layer.media_type)]


def check(
    repo: Repository,
    source: Source,
    plans: Sequence[LayerPlan],
    progress: Progress,
    *,
    careful: bool = False,
) -> SpaceReport:
    """See whether the layers that have to move will fit; the lock of our writers is held.

    What is ours to give back (downloads of other images, abandoned staging directories) is given
    back before anything is refused. Raises `NoSpace`; `MayNotFit` in place of a warning when told
    to be `careful`.
    """
    return _Check(repo, source, plans, progress).run(careful)


class _Check:
    def __init__(
        self, repo: Repository, source: Source, plans: Sequence[LayerPlan], progress: Progress
    ) -> None:
        self._repo = repo
        self._source = source
        self._progress = progress
        self._layers = [first_figure(each) for each in plans if each.mode is not Mode.PRESENT]
        self._kept = {each.layer.digest for each in self._layers if source.keeps}
        self._stored = cache(lambda: stored_bytes(repo))

    def run(self, careful: bool) -> SpaceReport:
        if self._layers:
            self._refuse_without_inodes()
        if self._layers and is_tight(self._layers, self._need(), self._available()):
            self._refuse()
            self._look_closer()
            self._refuse()
            if self._need().expected > self._available():
                self._give_back()
            if self._need().expected > self._available():
                if careful:
                    raise MayNotFit(self._doubt())
                self._progress.message(
                    f"warning: {self._doubt()}; going on, for what is there already is not stored "
                    "again"
                )
        estimated = not all(each.known for each in self._layers)
        return SpaceReport(self._need().expected, max(0, self._available()), estimated)

    def _need(self, shared: int = 0) -> Need:
        return need(
            self._layers,
            archive=self._repo.mode == "archive",
            compresses=measure(self._repo).compresses,
            keeps=self._source.keeps,
            shared=shared,
        )

    def _available(self) -> int:
        """What may be written, and what goes as this pull goes on: its own kept downloads."""
        sizes = kept.sizes(self._repo)
        return measure(self._repo).bytes + sum(
            sizes.get(kept.name(digest), 0) for digest in self._kept
        )

    def _look_closer(self) -> None:
        recorded = recorded_sizes(self._repo)
        self._layers = [
            replace(each, bytes=recorded[each.diff_id], figure=Figure.HISTORY)
            if not each.known and each.diff_id in recorded
            else each
            for each in self._layers
        ]
        # Asked for where it can matter; what cannot be had stays an estimate.
        asked = [each.layer for each in self._layers if _most(each) > self._available() // 10]
        asked = sorted(asked, key=lambda layer: -layer.size)[:SPACE_HINTS_MAX]
        said = {layer.digest: self._hint(layer) for layer in asked}
        self._layers = [
            each
            if each.known or (size := said.get(each.layer.digest)) is None
            else replace(each, bytes=size, figure=Figure.TRAILER)
            for each in self._layers
        ]

    def _hint(self, layer: Descriptor) -> int | None:
        with suppress(BridgeError):
            if layer_compression(layer.media_type) == "gzip":
                start = max(0, layer.size - unpacked.GZIP_TAIL)
                tail = self._source.hint(layer, start, layer.size - start)
                return unpacked.gzip_size(tail or b"", layer.size)
            head = self._source.hint(layer, 0, min(layer.size, unpacked.ZSTD_HEAD))
            return unpacked.zstd_size(head or b"", layer.size)
        return None

    def _give_back(self) -> None:
        kept.remove_others(self._repo, self._kept)
        remove_abandoned(self._repo.fd)

    def _refuse_without_inodes(self) -> None:
        """Each layer is a commit at least."""
        for last in (False, True):
            inodes = measure(self._repo).inodes
            if inodes is None or inodes > len(self._layers):
                return
            if last:
                raise NoSpace(
                    f"no inode is left on the file system of {self._repo.path}; remove files, or "
                    "images with `image remove` and `image prune`"
                )
            self._give_back()

    def _refuse(self) -> None:
        """Raise `NoSpace` where not even the least fits, whatever of it is in the store."""
        if self._need().least <= self._available():
            return
        self._give_back()
        least, available = self._need(self._stored()).least, self._available()
        if least > available:
            raise NoSpace(
                f"{self._repo.path} has no room for the image: it needs at least {_mb(least)} more "
                f"({_mb(self._need().expected)} as {self._basis()}), and {self._tell(available)}; "
                "free some, remove images with `image remove` and `image prune`, or lower "
                "min-free-space-percent in its config"
            )

    def _doubt(self) -> str:
        return (
            f"{self._repo.path} may have no room for the image: it needs "
            f"{_mb(self._need().expected)} as {self._basis()}, and {self._tell(self._available())}"
        )

    def _basis(self) -> str:
        known = all(each.known for each in self._layers)
        return "its layers say" if known else "an estimate"

    def _tell(self, available: int) -> str:
        keep = measure(self._repo).must_stay_free
        return f"{_mb(max(0, available))} are available, {_mb(keep)} having to stay free"


def _mb(size: int) -> str:
    return f"{-(-size // 1_000_000)} MB"
