"""An image that is compared: what it names, and what its layers have, read once each."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from bridge.compare import view
from bridge.compare.encapsulated import Object
from bridge.compare.layer import LayerFacts, of_index, of_stream
from bridge.compare.spool import Spool
from bridge.compare.tree import Spot, Tree
from bridge.errors import MalformedImage, VerificationFailed
from bridge.layer import indexed
from bridge.layer.allowance import Allowance
from bridge.limits import PARTIAL_LEAST
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, ImageConfig, Manifest, Platform, layer_compression
from bridge.oci.reference import ImageReference, RegistryReference
from bridge.ostree.repository import Repository
from bridge.packages.installed import installed
from bridge.packages.package import Package
from bridge.pull.encapsulation import Role, roles
from bridge.pull.inside import look_inside
from bridge.pull.plan import LayerPlan, Mode, plan_layers
from bridge.pull.progress import Progress
from bridge.pull.resolve import resolve
from bridge.pull.source import Source, open_source
from bridge.pull.spool import spool_directory
from bridge.pull.streams import tar_stream
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions

_VERSIONS = ("org.opencontainers.image.version", "version")


@dataclass(frozen=True, slots=True)
class Identity:
    """What an image says of itself."""

    reference: str
    digest: Digest
    """What the reference named..."""
    manifest: Manifest
    """...and the manifest for the platform."""
    config: ImageConfig
    document_bytes: int
    """Bytes of all documents that a pull asks for: index, manifest, configuration."""

    @property
    def version(self) -> str | None:
        labels = self.config.labels
        return next((labels[key] for key in _VERSIONS if labels.get(key)), None)

    @property
    def roles(self) -> tuple[Role, ...]:
        """What each layer is to the image."""
        return roles(self.config)

    @property
    def may_come_in_parts(self) -> bool:
        """Whether some layer says where its table of contents is."""
        for layer in self.manifest.layers:
            try:
                compression = layer_compression(layer.media_type)
                if indexed.locate(layer.annotations, layer.size, compression) is not None:
                    return True
            except MalformedImage:
                continue
        return False


@dataclass(slots=True)
class Read:
    """What it took to know what is told."""

    received_bytes: int = 0
    requests: int = 0
    layers: int = 0
    """Layers of which all was read, for their blobs do not say what is inside them, but for those
    that are as small as a table of contents..."""
    layer_bytes: int = 0
    """...and the bytes of these blobs."""


class Session:
    """Opens images, and remembers the layers that it has read. A context manager.

    Without `download` no layer that comes over a network is read whole.
    """

    def __init__(
        self,
        network: NetworkOptions | None = None,
        platform: Platform | None = None,
        *,
        download: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self.download = download
        self.progress = progress or Progress()
        self.read = Read()
        self.pieces = False
        """Whether layers that are read whole are cut into pieces: some image to come has those."""
        self._network = network or NetworkOptions()
        self._platform = platform or Platform.host()
        self._stack = ExitStack()
        place = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="bootc-py-", dir=spool_directory())
        )
        self._repo = self._stack.enter_context(Repository.create(place, "archive"))
        self.spool = self._stack.enter_context(Spool())
        self.images: list[Image] = []
        """Those that are open."""
        self._facts: dict[Digest, LayerFacts] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, reference: ImageReference) -> Image:
        """Resolve a reference. Raises what `resolve` raises; the image is to be closed."""
        stack = ExitStack()
        try:
            source = open_source(reference, self._network, self._repo, stack, self.progress.message)
            found = resolve(source, self._platform, self._repo)
            plan_layers({}, found.manifest, found.config)  # refuse what nobody could pull
        except BaseException:
            stack.close()
            raise
        identity = Identity(
            str(reference), found.named, found.manifest, found.config, found.document_bytes
        )
        image = Image(self, identity, source, stack)
        self.images.append(image)
        return image

    def way(self, blob: Digest) -> tuple[Source, Descriptor] | None:
        """Return where a layer's blob can be had: from some image that is open."""
        for image in self.images:
            for layer in image.identity.manifest.layers:
                if layer.digest == blob:
                    return image.source, layer
        return None

    def tags(self, reference: RegistryReference) -> list[str]:
        """Return the tags of a repository; raises what `Client.tags` raises."""
        from bridge.registry.client import Client  # of no use for layouts, and slow to import

        meter = Meter()
        client = Client(self._network, meter, tell=self.progress.message)
        try:
            return list(client.tags(reference))
        finally:
            client.close()
            self.read.received_bytes += meter.received_bytes
            self.read.requests += meter.requests

    def facts(self, diff_id: Digest) -> LayerFacts | None:
        """Return what is known of a layer."""
        return self._facts.get(diff_id)

    def learn(self, diff_id: Digest, facts: LayerFacts) -> None:
        """Take what is known of a layer."""
        self._facts.setdefault(diff_id, facts)

    def total(self) -> Read:
        """Return what it took so far."""
        meters = [each.source.meter for each in self.images]
        return Read(
            self.read.received_bytes + sum(each.received_bytes for each in meters),
            self.read.requests + sum(each.requests for each in meters),
            self.read.layers,
            self.read.layer_bytes,
        )

    def forget_closed(self) -> None:
        """Forget the layers that no image has which is open."""
        needed = {each for image in self.images for each in image.identity.config.diff_ids}
        self._facts = {key: facts for key, facts in self._facts.items() if key in needed}


class Image:
    """An image of a session, with the way to it open. A context manager."""

    def __init__(
        self, session: Session, identity: Identity, source: Source, stack: ExitStack
    ) -> None:
        self.identity = identity
        self.source = source
        self._session = session
        self._stack = stack
        self._allowance = Allowance()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the way to the image go; what was read of it stays known."""
        if self in self._session.images:
            self._session.images.remove(self)
            self._stack.close()
            self._session.read.received_bytes += self.source.meter.received_bytes
            self._session.read.requests += self.source.meter.requests

    def plans(self, old: Identity) -> list[LayerPlan]:
        """Return what to move for a store that has the layers of `old`: whole layers, with what
        they say of their inside. Same errors as `plan_layers`."""
        identity = self.identity
        known = zip(old.roles, old.config.diff_ids, strict=True)
        here = {(role, str(diff_id)): "" for role, diff_id in known}
        return self._looked(plan_layers(here, identity.manifest, identity.config))

    def load(self) -> bool:
        """Learn of all layers that are not known yet; tell whether all are known now.

        Raises what reading a layer whole raises.
        """
        identity = self.identity
        pairs = zip(identity.config.diff_ids, identity.manifest.layers, strict=False)
        unknown = [
            LayerPlan(layer, diff_id, Mode.WHOLE)
            for diff_id, layer in dict(pairs).items()
            if self._session.facts(diff_id) is None
        ]
        complete = True
        for each in self._looked(unknown):
            if self._session.facts(each.diff_id) is not None:
                continue
            if self._may_read(each.layer):
                self._session.learn(each.diff_id, self._read(each))
            else:
                complete = False
        return complete

    def facts(self) -> list[LayerFacts] | None:
        """Return what is known of each layer, the lowest first; None unless all are known."""
        found = [self._session.facts(each) for each in self.identity.config.diff_ids]
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None

    @cached_property
    def tree(self) -> list[tuple[str, Spot]]:
        """All that the image has, by path. To be asked for once all is known; `MalformedImage`."""
        tree = Tree()
        for facts in self.facts() or ():
            tree.apply(facts)
        return list(tree.walk())

    @property
    def layers(self) -> list[tuple[LayerFacts, Role]]:
        """What is known of each layer, and what it is to the image; nothing unless all are."""
        return list(zip(self.facts() or (), self.identity.roles, strict=False))

    @property
    def objects(self) -> dict[Object, int]:
        """The files in its layers, as a store tells them apart, and how large each is."""
        return {each: size for facts, role in self.layers for each, size in facts.stored_as(role)}

    @cached_property
    def packages(self) -> list[Package]:
        """The packages that are installed, as `installed` has them. To be asked for once all is
        known; raises what `view.fetch` raises."""
        session = self._session
        view.fetch(self.facts() or (), self.tree, session.spool, session.way)
        return installed(view.View(self.tree, session.spool))

    def _looked(self, plans: Sequence[LayerPlan]) -> list[LayerPlan]:
        looked = look_inside(self.source, plans, lambda _plan: self.source.meter)
        for at, each in enumerate(looked):
            if each.inside is None or self._session.facts(each.diff_id) is not None:
                continue
            try:
                with self._allowance.layer() as allowance:
                    facts = of_index(each.inside.index, each.layer.digest, allowance)
            except MalformedImage as error:
                # The blob may still be good: a pull that finds this out fetches all of it.
                looked[at] = replace(each.whole(str(error)), inside=None)
            else:
                self._session.learn(each.diff_id, facts)
        return looked

    def _may_read(self, layer: Descriptor) -> bool:
        return self._session.download or not self.source.keeps or layer.size < PARTIAL_LEAST

    def _read(self, plan: LayerPlan) -> LayerFacts:
        layer, session = plan.layer, self._session
        if layer.size >= PARTIAL_LEAST:
            session.progress.message(
                f"layer {layer.digest[:19]} of {self.identity.reference} is read whole "
                f"({layer.size:,} bytes): {plan.reason or 'its index is of no use'}"
            )
            session.read.layers += 1
            session.read.layer_bytes += layer.size
        while True:
            try:
                with self._allowance.layer() as allowance:
                    blob = self.source.blob(layer, self.source.meter)
                    stream = tar_stream(blob, layer, plan.diff_id, allowance)
                    facts = of_stream(
                        stream,
                        allowance,
                        session.spool,
                        view.is_database,
                        pieces=session.pieces,
                    )
                self.source.done(layer)
                return facts
            except VerificationFailed as error:
                if error.digest != layer.digest or not self.source.distrust(layer):
                    raise
