"""Pull: an image becomes a commit in the store. Resolve, plan, fetch and ingest, merge, report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime

from bridge.errors import BridgeError, MalformedImage, NoSpace, VerificationFailed, is_full
from bridge.layer.allowance import Allowance
from bridge.limits import PARALLEL_BLOBS, REPAIR_AHEAD
from bridge.oci.digest import Digest
from bridge.oci.model import (
    CONFIG_TYPES,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    parse_config,
)
from bridge.oci.reference import ImageReference
from bridge.ostree import lock, refs
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.ostree.staging import remove_abandoned
from bridge.ostree.transaction import Stats, Transaction
from bridge.pull import images, layer, skeleton, space
from bridge.pull.ingest import IMPLIED_META, ingest
from bridge.pull.merge import Merge
from bridge.pull.plan import LayerPlan, Mode, plan
from bridge.pull.progress import Progress, Stage
from bridge.pull.refnames import image_ref, layer_ref
from bridge.pull.report import LayerReport, Seconds, TransferReport
from bridge.pull.source import Source, open_source
from bridge.pull.streams import ReadAhead, tar_stream
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions

_BOOTABLE_LABELS = ("containers.bootc", "ostree.bootable")


@dataclass(frozen=True, slots=True)
class Resolved:
    """An image that a reference names: its manifest for one platform, and its configuration."""

    named: Digest
    manifest: Manifest
    config: ImageConfig

    def require_bootable(self, reference: ImageReference) -> None:
        """Raise `MalformedImage` unless the image says of itself that it can be booted."""
        if not any(label in self.config.labels for label in _BOOTABLE_LABELS):
            raise MalformedImage(
                f"{reference} is not a bootable image: it has neither of the labels "
                f"{' and '.join(_BOOTABLE_LABELS)}"
            )


def resolve(source: Source, platform: Platform | None, repo: Repository) -> Resolved:
    """Follow a reference to a manifest and a configuration for `platform`, all verified.

    Without a platform it is this machine's where an index gives the choice, and else any. A
    configuration that an image in `repo` has is not fetched again.
    """
    top = source.top()
    manifest = top
    if isinstance(manifest, Index):
        manifest = source.manifest(manifest.select(platform or Platform.host()))
        if isinstance(manifest, Index):
            raise MalformedImage(f"index {top.digest} lists another index for {platform}")
    if manifest.config.media_type not in CONFIG_TYPES:
        raise MalformedImage(
            f"{manifest.digest} is not an image but an artifact of type "
            f"{manifest.config.media_type!r:.200}"
        )
    raw = images.find_config(repo, manifest.config)
    try:
        config = parse_config(source.config(manifest.config) if raw is None else raw)
    except MalformedImage as error:
        raise MalformedImage(f"config {manifest.config.digest}: {error}") from None
    if platform is not None and not platform.accepts(config.platform):
        raise MalformedImage(
            f"{manifest.digest} is an image for {config.platform}, not for {platform}"
        )
    return Resolved(top.digest, manifest, config)


def pull(
    repo: Repository,
    reference: ImageReference,
    *,
    network: NetworkOptions | None = None,
    platform: Platform | None = None,
    bootable: bool = False,
    before_layers: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Bring the image that `reference` names into `repo`, under the refs that ostree-ext uses.

    With `bootable` an image without bootc's labels is refused before a layer is moved. What was
    not verified leaves no trace but unfinished downloads, and not even these where there was no
    space. `before_layers` is called when it is known that layers have to move, before the first
    of their bytes: what it raises ends the pull. Raises the `BridgeError`s of the registry, the
    formats and the store; `NoSpace` before a layer moves where the image cannot fit; `Busy` where
    another pull is under way.
    """
    progress = progress or Progress()
    with ExitStack() as stack:
        stack.enter_context(lock.writing(repo))
        remove_abandoned(repo.fd)
        source = open_source(reference, network or NetworkOptions(), repo, stack, progress.message)
        one = _Pull(repo, reference, source, progress)
        return one.run(platform or Platform.host(), bootable, before_layers)


def import_layer(
    repo: Repository,
    reference: ImageReference,
    source: Source,
    wanted: LayerPlan,
    progress: Progress,
) -> LayerReport:
    """Bring one layer of the image into `repo`, as a pull does; the lock for writing is held.

    Of a partial one no more is read than it takes to have the objects that are wanted.
    """
    return _Pull(repo, reference, source, progress).import_layer(wanted)


def merge_layers(
    repo: Repository, transaction: Transaction, image: Resolved, layers: Iterable[str]
) -> tuple[Commit, list[layer.Dropped]]:
    """Put the layers (their commits, lowest first) together in `transaction`; return the image's
    commit, which is still to be written, and what was left out of all its layers."""
    # The implied directory's metadata is in the store with the first layer, if any is.
    merge = Merge(repo, transaction.write_dirmeta(IMPLIED_META))
    dropped: list[layer.Dropped] = []
    for each in layers:
        loaded = layer.load(repo, each)
        dropped += loaded.dropped
        merge.apply(loaded)
    dropped += merge.finish()
    commit = Commit(
        tree=merge.tree.write(transaction),
        meta=merge.tree.meta,
        metadata={
            images.MANIFEST_DIGEST_KEY: str(image.manifest.digest),
            # As they came, so that their digests can be checked at any time.
            images.MANIFEST_KEY: image.manifest.raw.decode(),
            images.CONFIG_KEY: image.config.raw.decode(),
            layer.IMPORTER_KEY: layer.IMPORTER,
        },
        timestamp=_timestamp(image),
    )
    return commit, dropped


class _Pull:
    def __init__(
        self, repo: Repository, reference: ImageReference, source: Source, progress: Progress
    ) -> None:
        self._repo = repo
        self._reference = reference
        self._source = source
        self._progress = progress
        self._stats = Stats()
        self._stats_lock = threading.Lock()
        self._allowance = Allowance()
        self._cancelled = threading.Event()
        self._last_read = 0.0
        self._read: dict[Digest, int] = {}
        """Bytes of each blob that were read so far."""

    def run(
        self, platform: Platform, bootable: bool, before_layers: Callable[[], None] | None
    ) -> TransferReport:
        seconds = Seconds()
        started = time.monotonic()
        self._progress.stage(Stage.RESOLVING)
        image = resolve(self._source, platform, self._repo)
        if bootable:
            image.require_bootable(self._reference)
        ref = image_ref(self._reference)
        before = refs.current(self._repo, ref)
        plans = plan(self._repo, image.manifest, image.config)
        if before_layers is not None and any(each.mode is Mode.WHOLE for each in plans):
            before_layers()
        room = space.check(self._repo, self._source, plans, self._progress)
        resolved = time.monotonic()
        seconds.resolve = resolved - started

        self._last_read = resolved
        layers = self._import(plans)
        imported = time.monotonic()
        seconds.transfer = self._last_read - resolved
        seconds.import_ = imported - self._last_read

        commit, dropped = self._merge(image, ref, layers)
        seconds.merge = time.monotonic() - imported
        seconds.total = time.monotonic() - started
        meter = self._source.meter
        return TransferReport(
            reference=str(self._reference),
            digest=image.named,
            manifest_digest=image.manifest.digest,
            commit=commit,
            content_checksum=self._repo.read_commit(commit).content_checksum,
            changed=commit != before,
            image_bytes=image.manifest.image_bytes,
            received_bytes=meter.received_bytes,
            requests=meter.requests,
            retries=meter.retries,
            layers=layers,
            store=self._stats,
            space=room,
            dropped=dropped,
            seconds=seconds,
        )

    # -- layers ----------------------------------------------------------------------------

    def _import(self, plans: list[LayerPlan]) -> list[LayerReport]:
        """Have every layer in the store and under its ref; return them with what it took."""
        self._progress.planned(plans)
        self._progress.stage(Stage.PULLING)
        wanted = [each for each in plans if each.mode is Mode.WHOLE]
        # The largest first: whatever is last should be short.
        order = sorted(wanted, key=lambda each: -each.layer.size)
        try:
            done = self._import_layers(order)
        except (NoSpace, OSError) as error:
            if is_full(error):
                # What is kept for a resumption elsewhere is what fills the disk here.
                for each in order:
                    self._source.done(each.layer)
            raise
        reports: list[LayerReport] = []
        with Transaction(self._repo) as transaction:
            for each in plans:
                if each.mode is Mode.WHOLE:
                    reports.append(done[each.diff_id])
                    continue
                commit = each.commit or done[each.diff_id].plan.commit
                assert commit is not None
                self._source.done(each.layer)  # a run that was cut off may have left its blob
                reports.append(LayerReport(replace(each, commit=commit)))
                name = layer_ref(each.layer.digest)
                if refs.current(self._repo, name) != commit:
                    transaction.set_ref(name, commit)
            transaction.publish()
        return reports

    def _import_layers(self, order: list[LayerPlan]) -> dict[Digest, LayerReport]:
        """Import the layers, several at once; when one fails, all others end too."""
        done: dict[Digest, LayerReport] = {}
        with ThreadPoolExecutor(PARALLEL_BLOBS, thread_name_prefix="layer") as pool:
            futures: dict[Future[LayerReport], LayerPlan] = {}
            try:
                futures = {pool.submit(self.import_layer, each): each for each in order}
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in finished:
                    done[futures[future].diff_id] = future.result()
            except BaseException:
                self._cancelled.set()
                for future in futures:
                    future.cancel()
                self._source.cancel()
                raise
        return done

    def import_layer(self, wanted: LayerPlan) -> LayerReport:
        """Bring one layer in, verified to its end unless only some of its objects are wanted."""
        meter = Meter(self._source.meter)
        while True:
            try:
                commit, stats, unpacked = self._import_blob(wanted, meter)
                break
            except BridgeError as error:
                if error.exit_code in (6, 7):
                    self._source.done(wanted.layer)  # what lies there is wrong, not unfinished
                wrong = isinstance(error, VerificationFailed) and error.digest
                if wrong != wanted.layer.digest or not self._source.distrust(wanted.layer):
                    raise type(error)(f"{self._reference}: {error}") from error
                self._progress.advance(wanted, -self._read[wanted.diff_id])
            except OSError as error:
                if not is_full(error):
                    raise
                raise NoSpace(
                    f"{self._reference}: the file system of {self._repo.path} is full; free some "
                    "space and try again"
                ) from error
        self._source.done(wanted.layer)
        with self._stats_lock:
            self._stats.add(stats)
        self._progress.layer_done(wanted)
        return LayerReport(
            replace(wanted, commit=commit), meter.received_bytes, meter.requests, unpacked
        )

    def _import_blob(self, wanted: LayerPlan, meter: Meter) -> tuple[str | None, Stats, int]:
        """Import a layer; return its commit, what was stored, and the size of its tar stream."""
        count = _Count()
        ahead = REPAIR_AHEAD if wanted.only else None
        blob = self._watched(wanted, self._source.blob(wanted.layer, meter, ahead))
        with (
            self._allowance.layer() as allowance,
            Transaction(self._repo) as transaction,
            ReadAhead(tar_stream(blob, wanted.layer, wanted.diff_id, allowance)) as chunks,
        ):
            only = wanted.only
            record = None if only else skeleton.Recorder(transaction, wanted.diff_id)
            imported = ingest(
                count.through(chunks),
                transaction,
                allowance,
                (lambda: transaction.holds(only)) if only else None,
                on_file=record.file if record else None,
                on_skeleton=record.rest if record else None,
            )
            if imported is None:
                transaction.keep_only(only)
                return wanted.commit, transaction.publish(), count.bytes
            # The stream has ended and raised nothing: all of it is what it should be.
            if record is not None:
                record.finish(imported)
            commit = imported.store(transaction, wanted.diff_id)
            transaction.set_ref(layer_ref(wanted.layer.digest), commit)
            return commit, transaction.publish(), count.bytes

    def _watched(self, wanted: LayerPlan, chunks: Iterator[bytes]) -> Iterator[bytes]:
        self._read[wanted.diff_id] = 0
        for chunk in chunks:
            if self._cancelled.is_set():
                raise BridgeError("cancelled, because another layer failed")
            self._progress.advance(wanted, len(chunk))
            self._read[wanted.diff_id] += len(chunk)
            yield chunk
        self._last_read = max(self._last_read, time.monotonic())

    # -- the image -------------------------------------------------------------------------

    def _merge(
        self, image: Resolved, ref: str, layers: list[LayerReport]
    ) -> tuple[str, list[layer.Dropped]]:
        self._progress.stage(Stage.MERGING)
        commits = []
        for each in layers:
            assert each.plan.commit is not None
            commits.append(each.plan.commit)
        with Transaction(self._repo) as transaction:
            merged, dropped = merge_layers(self._repo, transaction, image, commits)
            commit = transaction.write_commit(merged)
            transaction.set_ref(ref, commit)
            transaction.publish()
        return commit, dropped


class _Count:
    """Counts the bytes of what passes through."""

    def __init__(self) -> None:
        self.bytes = 0

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk


def _timestamp(image: Resolved) -> int:
    """Return when the image says it was made, 0 if it does not: never the time of the import."""
    created = (
        image.manifest.annotations.get("org.opencontainers.image.created") or image.config.created
    )
    if created is None:
        return 0
    try:
        moment = datetime.fromisoformat(created)
        return max(0, int(moment.timestamp())) if moment.tzinfo else 0
    except (ValueError, OverflowError):
        return 0
