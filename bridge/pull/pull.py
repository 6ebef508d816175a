"""Pull: an image becomes a commit in the store. Resolve, plan, fetch and ingest, merge, report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bridge.errors import NoSpace, is_full
from bridge.layer.blob_index import BlobIndex
from bridge.limits import PARALLEL_BLOBS
from bridge.oci.digest import Digest
from bridge.oci.model import Platform
from bridge.oci.reference import ImageReference
from bridge.ostree import lock, refs
from bridge.ostree.repository import Repository
from bridge.ostree.staging import remove_abandoned
from bridge.ostree.transaction import Transaction
from bridge.pull import layer, space
from bridge.pull.asked import Asked
from bridge.pull.catch_up import catch_up
from bridge.pull.content_index import ContentIndex
from bridge.pull.encapsulation import Role
from bridge.pull.image_commit import merge_layers
from bridge.pull.import_layer import LayerImporter
from bridge.pull.inside import look_inside, table_size
from bridge.pull.plan import Depth, LayerPlan, Mode, plan, to_depth
from bridge.pull.progress import Progress, Stage
from bridge.pull.refnames import image_ref, layer_ref
from bridge.pull.report import LayerReport, Seconds, TransferPlan, TransferReport
from bridge.pull.resolve import Resolved, resolve
from bridge.pull.source import open_source
from bridge.registry.options import NetworkOptions


def pull(
    repo: Repository,
    reference: ImageReference,
    *,
    network: NetworkOptions | None = None,
    platform: Platform | None = None,
    bootable: bool = False,
    labelled: bool = True,
    depth: Depth = Depth.CHUNKS,
    before_layers: Callable[[], None] | None = None,
    careful: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Bring the image that `reference` names into `repo`, under the refs that ostree-ext uses.

    Where the image carries an SELinux policy its commit is labelled by it, unless not
    `labelled`. With `bootable` an image without bootc's labels is refused before a layer is moved.
    Layers are fetched in parts to `depth`. What was not verified leaves no trace but unfinished
    downloads, and not even these where there was no space. `before_layers` is called when it is
    known that layers have to move, before the first of their bytes: what it raises ends the pull.
    Raises the `BridgeError`s of the registry, the formats and the store; `NoSpace` before a layer
    moves where the image cannot fit, and when told to be `careful` where it may not; `Busy` where
    another pull is under way.
    """
    with ExitStack() as stack:
        one = _Pull(repo, reference, network, platform, bootable, depth, progress, stack)
        return one.run(before_layers, careful=careful, labelled=labelled)


def preview(
    repo: Repository | None,
    reference: ImageReference,
    *,
    network: NetworkOptions | None = None,
    platform: Platform | None = None,
    bootable: bool = False,
    depth: Depth = Depth.CHUNKS,
    progress: Progress | None = None,
) -> TransferPlan:
    """Return what `pull` would move, and why; only documents and tables of contents are fetched.

    Without a repository it is what a new one would take. Same errors, but for those of the layers
    themselves.
    """
    with ExitStack() as stack:
        if repo is None:
            path = stack.enter_context(tempfile.TemporaryDirectory(prefix="bootc-py-"))
            repo = stack.enter_context(Repository.create(path, "archive"))
        one = _Pull(repo, reference, network, platform, bootable, depth, progress, stack)
        return one.preview()


class _Pull:
    """One pull, or what it would be; everything that it opens is closed with `stack`."""

    def __init__(
        self,
        repo: Repository,
        reference: ImageReference,
        network: NetworkOptions | None,
        platform: Platform | None,
        bootable: bool,
        depth: Depth,
        progress: Progress | None,
        stack: ExitStack,
    ) -> None:
        self._repo = repo
        self._reference = reference
        self._platform = platform or Platform.host()
        self._bootable = bootable
        self._depth = depth
        self._progress = progress or Progress()
        tell = self._progress.message
        stack.enter_context(lock.writing(repo))
        remove_abandoned(repo.fd)
        self._source = open_source(reference, network or NetworkOptions(), repo, stack, tell)
        self._contents = stack.enter_context(ContentIndex.open(repo, tell))
        self._importer = LayerImporter(
            repo, reference, self._source, self._progress, self._contents
        )

    def run(
        self, before_layers: Callable[[], None] | None, *, careful: bool, labelled: bool
    ) -> TransferReport:
        """Pull."""
        seconds = Seconds()
        started = time.monotonic()
        image = self._resolve()
        ref = image_ref(self._reference)
        before = refs.current(self._repo, ref)
        plans = plan(self._repo, image.manifest, image.config)
        if before_layers is not None and any(each.mode is Mode.WHOLE for each in plans):
            before_layers()
        with self._telling(plans):
            plans = self._in_parts(plans)
            room = space.check(self._repo, self._source, plans, self._progress, careful=careful)
            resolved = time.monotonic()
            seconds.resolve = resolved - started

            self._importer.last_read = resolved
            layers = self._import(plans)
            imported = time.monotonic()
            seconds.transfer = self._importer.last_read - resolved
            seconds.import_ = imported - self._importer.last_read

            commit, dropped = self._merge(image, ref, layers, labelled)
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
            store=self._importer.stats,
            space=room,
            dropped=dropped,
            seconds=seconds,
        )

    @contextmanager
    def _telling(self, plans: list[LayerPlan]) -> Iterator[None]:
        """Have `NoSpace` tell what who makes room has to know."""
        try:
            yield
        except NoSpace as error:
            meter = self._source.meter
            error.wanted = tuple(layer_ref(each.layer.digest) for each in plans)
            error.received = (meter.received_bytes, meter.requests, meter.retries)
            raise

    def preview(self) -> TransferPlan:
        """Resolve and plan, and leave it at that."""
        image = self._resolve()
        plans = self._in_parts(plan(self._repo, image.manifest, image.config))
        meter = self._source.meter
        return TransferPlan(
            reference=str(self._reference),
            digest=image.named,
            manifest_digest=image.manifest.digest,
            image_bytes=image.manifest.image_bytes,
            received_bytes=meter.received_bytes,
            requests=meter.requests,
            layers=plans,
        )

    def _resolve(self) -> Resolved:
        self._progress.stage(Stage.RESOLVING)
        image = resolve(self._source, self._platform, self._repo)
        if self._bootable:
            image.require_bootable(self._reference)
        return image

    def _in_parts(self, plans: list[LayerPlan]) -> list[LayerPlan]:
        """Return the plans with layers in parts where the registry, their blobs and what the store
        has make that possible."""
        if self._depth is Depth.NEVER:
            return plans
        fastest = self._depth is Depth.FASTEST
        if not self._source.keeps or not any(map(table_size, plans)):
            return look_inside(self._source, plans, self._importer.meter, fastest=fastest)
        asked = Asked(self._contents)
        with ThreadPoolExecutor(1, thread_name_prefix="catch-up") as beside:
            caught_up = beside.submit(catch_up, self._repo, self._contents)

            def ask(index: BlobIndex) -> None:
                caught_up.result()
                asked.find({file.digest for file in index.files})

            plans = look_inside(
                self._source, plans, self._importer.meter, fastest=fastest, on_index=ask
            )
        return to_depth(plans, asked, self._depth, self._source.link)

    # -- layers ----------------------------------------------------------------------------

    def _import(self, plans: list[LayerPlan]) -> list[LayerReport]:
        """Have every layer in the store and under its ref; return them with what it took."""
        self._progress.planned(plans)
        self._progress.stage(Stage.PULLING)
        wanted = [each for each in plans if each.mode is not Mode.PRESENT]
        # The largest first: whatever is last should be short.
        order = sorted(wanted, key=lambda each: -each.layer.size)
        # A commit comes after its content, so that there is none that lacks some.
        last = [each for each in order if each.role is Role.COMMIT]
        try:
            done = self._import_layers([each for each in order if each not in last])
            self._importer.elsewhere = self._content(plans, done)
            done |= self._import_layers(last)
        except (NoSpace, OSError) as error:
            if is_full(error):
                # What is kept for a resumption elsewhere is what fills the disk here.
                for each in order:
                    self._source.done(each.layer)
            raise
        reports: list[LayerReport] = []
        with Transaction(self._repo) as transaction:
            for each in plans:
                if each.mode is not Mode.PRESENT:
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

    def _content(self, plans: list[LayerPlan], done: dict[Digest, LayerReport]) -> set[str]:
        """Return the content objects that the layers of an encapsulated commit brought."""
        found: set[str] = set()
        for each in plans:
            if each.role is Role.OBJECTS:
                commit = each.commit or done[each.diff_id].plan.commit
                assert commit is not None
                found.update(self._repo.read_dirtree(self._repo.read_commit(commit).tree).files)
        return found

    def _import_layers(self, order: list[LayerPlan]) -> dict[Digest, LayerReport]:
        """Import the layers, several at once; when one fails, all others end too."""
        done: dict[Digest, LayerReport] = {}
        with ThreadPoolExecutor(PARALLEL_BLOBS, thread_name_prefix="layer") as pool:
            futures: dict[Future[LayerReport], LayerPlan] = {}
            try:
                futures = {pool.submit(self._importer.run, each): each for each in order}
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in finished:
                    done[futures[future].diff_id] = future.result()
            except BaseException:
                self._importer.cancel()
                for future in futures:
                    future.cancel()
                self._source.cancel()
                raise
        return done

    # -- the image -------------------------------------------------------------------------

    def _merge(
        self, image: Resolved, ref: str, layers: list[LayerReport], labelled: bool
    ) -> tuple[str, list[layer.Dropped]]:
        self._progress.stage(Stage.MERGING)
        commits = []
        for each in layers:
            assert each.plan.commit is not None
            commits.append(each.plan.commit)
        with Transaction(self._repo) as transaction:
            merged, dropped = merge_layers(
                self._repo, transaction, image, commits, labelled=labelled
            )
            commit = transaction.write_commit(merged)
            transaction.set_ref(ref, commit)
            self._importer.stats.add(transaction.publish())
        return commit, dropped
