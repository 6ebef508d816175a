"""Repair: what is damaged or missing in the store is had again from where its images came from.

A layer is ingested once more, by the one way in, into a repository that takes the damaged objects
for not being there; so just these are written, and renamed over the bad ones. Objects are known
by what they hash to: whatever a source sends, nothing but the very same object comes in. Images
are merged again from their layers, which gives the very same commit, without any network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from bridge.errors import BridgeError, Busy, DamagedRepository, NetworkError, NoSpace, NotAuthorised
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import ImageReference
from bridge.ostree import durable, fsck, lock, refs
from bridge.ostree.fsck import Fault
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import Needs, reachable
from bridge.ostree.repository import Repository
from bridge.ostree.staging import remove_abandoned
from bridge.pull.cover import cheapest
from bridge.pull.encapsulation import Role, image_layers
from bridge.pull.import_layer import LayerImporter
from bridge.pull.merge_again import merge_again
from bridge.pull.plan import LayerPlan, Mode
from bridge.pull.progress import Progress, Stage
from bridge.pull.refnames import layer_ref
from bridge.pull.report import LayerReport
from bridge.pull.resolve import Resolved, resolve
from bridge.pull.restore_refs import (
    KnownImage,
    Origins,
    known_images,
    remove_broken_layer_refs,
    restore_refs,
)
from bridge.pull.source import Source, open_source
from bridge.pull.stored_layers import stored_layers
from bridge.registry.options import NetworkOptions

_Key = tuple[Role, str]
"""A layer's role in its images, and its DiffID."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did, what it could not do, and what that took. Sizes are bytes."""

    repaired: tuple[Fault, ...]
    unrepaired: tuple[Fault, ...]
    refs: tuple[str, ...]
    """Refs that were written again, or removed for nothing needs them; by full name."""
    broken_refs: Mapping[str, str]
    """Refs that still hold no checksum, with what is wrong."""
    layers: tuple[LayerReport, ...]
    received_bytes: int
    requests: int
    problems: tuple[str, ...]
    """Why something could not be had, one line each."""


def repair(
    repo: Repository,
    faults: Iterable[Fault],
    *,
    origins: Origins = (),
    network: NetworkOptions | None = None,
    progress: Progress | None = None,
    only: Iterable[ImageReference] = (),
) -> Repair:
    """Heal the repository of `faults`, which `fsck` found, and write missing refs again.

    `origins` are the deployed commits with the images that they were made from. With `only` no
    other images are looked after. Raises `Busy` and `NoSpace`; a source that fails is told in the
    result, and the rest is repaired.
    """
    with ExitStack() as stack:
        stack.enter_context(lock.writing(repo))
        stack.callback(repo.damaged.clear)
        remove_abandoned(repo.fd)
        refs.remove_unfinished(repo)
        run = _Repair(repo, network or NetworkOptions(), progress or Progress(), stack)
        return run.run({each.checksum: each.kind for each in faults}, origins, set(only))


@dataclass(slots=True)
class _Layer:
    """A layer of one or more images: its blobs (it may be there in several compressions), and
    where each can be had."""

    role: Role
    diff_id: Digest
    places: list[tuple[Descriptor, ImageReference]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """The refs that it is to have."""
    images: list[KnownImage] = field(default_factory=list)

    @property
    def key(self) -> _Key:
        return self.role, self.diff_id

    @property
    def size(self) -> int:
        return min((each.size for each, _ in self.places), default=0)


class _Repair:
    def __init__(
        self, repo: Repository, network: NetworkOptions, progress: Progress, stack: ExitStack
    ) -> None:
        self._repo = repo
        self._network = network
        self._progress = progress
        self._stack = stack
        self._suspects: dict[str, ObjectType] = {}
        self._faults: dict[str, Fault] = {}
        self._images: list[KnownImage] = []
        self._sources: dict[ImageReference, Source] = {}
        self._dead: set[ImageReference] = set()
        self._tried: set[tuple[_Key, Mode]] = set()
        self._merged: set[str] = set()
        self._needs = Needs(repo)
        self._layers: list[LayerReport] = []
        self._refs: list[str] = []
        self._problems: list[str] = []

    def run(
        self, suspects: dict[str, ObjectType], origins: Origins, only: set[ImageReference]
    ) -> Repair:
        repo = self._repo
        self._suspects = suspects
        self._look()
        found = dict(self._faults)
        there = {checksum for checksum, _ in repo.objects()}
        self._make_way()
        self._refs = restore_refs(repo, origins)
        self._images = [
            each
            for each in known_images(repo, origins)
            if not only or not only.isdisjoint(each.references)
        ]
        self._progress.stage(Stage.PULLING)
        self._find_lost_images()
        while self._fetch_layers() or self._merge_images():
            self._look()
            found = self._faults | found
        needed = {name for each in self._known_layers() for name in each.names}
        if not only:
            self._refs += remove_broken_layer_refs(repo, needed)
            self._drop_unreferenced({commit for commit, _ in origins})
        self._look()
        # Below what was lost more was missing than anybody could tell.
        for checksum, kind in repo.objects():
            if checksum not in there:
                found.setdefault(checksum, Fault(checksum, kind, "missing"))
        left = list(self._faults.values())
        if only:
            mine, _ = self._damage_below(*(each.commit for each in self._images))
            left = [each for each in left if each.checksum in mine]
        meters = [each.meter for each in self._sources.values()]
        return Repair(
            repaired=tuple(each for key, each in found.items() if key not in self._faults),
            unrepaired=tuple(left),
            refs=tuple(self._refs),
            broken_refs=refs.broken(repo),
            layers=tuple(self._layers),
            received_bytes=sum(each.received_bytes for each in meters),
            requests=sum(each.requests for each in meters),
            problems=tuple(dict.fromkeys(self._problems)),
        )

    # -- what is wrong ---------------------------------------------------------------------

    def _look(self) -> None:
        """See which of the faults are still there, and what is missing below what was healed."""
        repo = self._repo
        checked = [fsck.check(repo, checksum, kind) for checksum, kind in self._suspects.items()]
        there = [each for each in checked if each is not None]
        lost = fsck.missing(repo, lambda commits: self._needs.of(commits)[0])
        self._faults = {each.checksum: each for each in (*there, *lost)}
        self._suspects |= {each.checksum: each.kind for each in self._faults.values()}
        repo.damaged.clear()
        repo.damaged.update(self._faults)

    def _damage_below(self, *commits: str) -> tuple[set[str], bool]:
        """Return the damaged objects among those of the commits, and whether there may be more,
        because one of them says what others there are."""
        found, whole = self._needs.of(commits)
        return set().union(*found.values()) & self._faults.keys(), not whole

    def _make_way(self) -> None:
        """Remove what lies in an object's place and is a directory: nothing can replace it."""
        for each in self._faults.values():
            path = self._repo.object_path(each.checksum, each.kind)
            try:
                fd = durable.open_directory(path, self._repo.fd)
            except OSError:
                continue
            os.close(fd)
            durable.remove_tree(path, self._repo.fd)

    # -- layers ----------------------------------------------------------------------------

    def _known_layers(self) -> list[_Layer]:
        found: dict[_Key, _Layer] = {}
        for image in self._images:
            if image.resolved is None:
                continue
            layers = image_layers(image.resolved.manifest, image.resolved.config)
            for descriptor, diff_id, role in layers:
                each = found.setdefault((role, diff_id), _Layer(role, diff_id))
                each.names.add(layer_ref(descriptor.digest))
                each.images.append(image)
                each.places += [(descriptor, reference) for reference in image.references]
        return list(found.values())

    def _stored_layers(self) -> dict[_Key, str]:
        there = self._repo.objects()
        return stored_layers(
            self._repo, [checksum for checksum, kind in there if kind is ObjectType.COMMIT]
        )

    def _fetch_layers(self) -> bool:
        """Have layers again: whole ones first, whose trees then say what else is damaged.

        Returns whether anything was tried; each way to have a layer is tried once.
        """
        stored = self._stored_layers()
        layers = {each.key: each for each in self._known_layers() if each.places}
        content = [commit for (role, _), commit in stored.items() if role is Role.OBJECTS]
        whole: list[_Layer] = []
        parts: dict[_Key, set[str]] = {}
        for key, each in layers.items():
            commit = stored.get(key)
            damaged, more = self._damage_below(commit) if commit else (set[str](), True)
            if commit:
                self._name(each, commit)
            if more and (commit or self._is_wanted_whole(each)):
                whole.append(each)
            elif damaged:
                parts[key] = damaged
                if each.role is Role.COMMIT:  # other layers have most of its content
                    parts[key] = damaged - self._damage_below(*content)[0]
        parts = {key: damaged for key, damaged in parts.items() if damaged}
        untried = [each for each in whole if (each.key, Mode.WHOLE) not in self._tried]
        for each in untried:
            self._fetch(each, Mode.WHOLE, None, frozenset())
        if untried:
            return True
        parts = {key: parts[key] for key in parts if (key, Mode.PARTIAL) not in self._tried}
        for key, only in cheapest(parts, {key: layers[key].size for key in parts}).items():
            self._fetch(layers[key], Mode.PARTIAL, stored[key], frozenset(only))
        return bool(parts)

    def _is_wanted_whole(self, each: _Layer) -> bool:
        """Tell whether a layer has to be had that the store has no commit of ours for."""
        for name in each.names:
            # Another program's commit will do while it is whole.
            commit = refs.current(self._repo, name)
            if commit is None or any(self._damage_below(commit)):
                return True
        return any(self._is_broken(image) for image in each.images)

    def _name(self, each: _Layer, commit: str) -> None:
        for name in sorted(each.names):
            if refs.current(self._repo, name) is None:
                refs.write(self._repo, name, commit)
                self._refs.append(f"{refs.HEADS}/{name}")

    def _fetch(self, each: _Layer, mode: Mode, commit: str | None, only: frozenset[str]) -> None:
        self._tried.add((each.key, mode))
        named = {name for name in each.names if refs.current(self._repo, name) is None}
        for descriptor, reference in sorted(each.places, key=lambda place: place[0].size):
            try:
                plan = LayerPlan(descriptor, each.diff_id, mode, commit, only, role=each.role)
                source = self._source(reference)
                if source is None:
                    continue
                importer = LayerImporter(self._repo, reference, source, self._progress)
                report = importer.run(plan)
            except (Busy, NoSpace):
                raise
            except BridgeError as error:
                self._problems.append(str(error))
                if isinstance(error, NetworkError | NotAuthorised):
                    self._dead.add(reference)  # it would be no better with the next layer
                continue
            self._layers.append(report)
            self._refs += sorted(
                f"{refs.HEADS}/{name}" for name in named if refs.current(self._repo, name)
            )
            return

    def _source(self, reference: ImageReference) -> Source | None:
        if reference in self._dead:
            return None
        if reference not in self._sources:
            try:
                source = open_source(reference, self._network, self._repo, self._stack)
            except BridgeError:
                self._dead.add(reference)
                raise
            self._sources[reference] = source
        return self._sources[reference]

    # -- images ----------------------------------------------------------------------------

    def _is_broken(self, image: KnownImage) -> bool:
        """Tell whether some of what only the image itself has is damaged or missing."""
        damaged, more = self._damage_below(image.commit)
        kinds = {self._faults[each].kind for each in damaged}
        if more or ObjectType.DIRMETA in kinds:
            return True
        if ObjectType.FILE not in kinds or image.resolved is None:
            return False
        # Files with labels are no layer's.
        stored = self._stored_layers()
        layers = self._commits(image.resolved, stored)
        return not damaged <= self._damage_below(*(each for each in layers if each))[0]

    def _commits(self, image: Resolved, stored: dict[_Key, str]) -> list[str | None]:
        return [
            stored.get((role, diff_id))
            for _, diff_id, role in image_layers(image.manifest, image.config)
        ]

    def _find_lost_images(self) -> None:
        """Ask for the manifest and configuration of images whose commits are damaged."""
        stored = self._stored_layers()
        for image in self._images:
            if image.resolved is not None or image.commit not in self._faults:
                continue
            for reference in image.references:
                pinned = image.pinned(reference)
                try:
                    source = self._source(pinned)
                    if source is None:
                        continue
                    found = resolve(source, None, self._repo)
                except (Busy, NoSpace):
                    raise
                except BridgeError as error:
                    self._problems.append(str(error))
                    continue
                # Of what a tag names now only an image whose layers are here can be the lost one.
                if found.manifest.digest == image.digest or all(
                    (role, diff_id) in stored or refs.current(self._repo, layer_ref(each.digest))
                    for each, diff_id, role in image_layers(found.manifest, found.config)
                ):
                    image.resolved = found
                    break

    def _merge_images(self) -> bool:
        """Merge images again of which something is damaged that is no layer's; return whether one
        was."""
        stored = self._stored_layers()
        done = False
        for image in self._images:
            found = image.resolved
            if found is None or image.commit in self._merged or not self._is_broken(image):
                continue
            layers = self._commits(found, stored)
            commits = [each for each in layers if each is not None]
            if len(commits) != len(layers):
                continue
            self._merged.add(image.commit)
            try:
                merge_again(self._repo, image.commit, found, commits)
            except (Busy, NoSpace):
                raise
            except BridgeError as error:
                self._problems.append(str(error))
                continue
            done = True
        return done

    # -- what nobody wants -----------------------------------------------------------------

    def _drop_unreferenced(self, deployed: set[str]) -> None:
        """Remove damaged objects that no ref leads to, and commits that lack some.

        A pull would take them for good ones. Nothing goes while it is not known what is needed.
        """
        repo = self._repo
        if not self._faults:
            return
        with suppress(Busy, DamagedRepository), lock.held(repo.fd, ".lock", repo.path):
            keep = reachable(repo, deployed | set(refs.roots(repo).values()))
            there = list(repo.objects())
            for checksum, kind in there:
                lost = checksum in self._faults
                if kind is ObjectType.COMMIT and not fsck.is_partial(repo, checksum):
                    lost = lost or any(self._damage_below(checksum))
                if lost and checksum not in keep[kind]:
                    os.unlink(repo.object_path(checksum, kind), dir_fd=repo.fd)
