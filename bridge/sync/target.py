"""Where a job's images go: a registry, or a layout."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from bridge.errors import BridgeError, MalformedImage, NotAuthorised, NotFound
from bridge.oci.digest import Digest
from bridge.oci.layout import REF_NAME, Archive, Layout
from bridge.oci.model import Descriptor
from bridge.oci.reference import RegistryReference
from bridge.push.bundle import Bundle
from bridge.push.destination import Destination, registry_destination
from bridge.push.layouts import LayoutWriter
from bridge.push.shared import Ledger, SharedDestination
from bridge.registry.client import Client, FetchedManifest
from bridge.registry.connection import Connection
from bridge.registry.meter import Meter
from bridge.registry.push import Pusher
from bridge.registry.untag import delete_tag, is_placeholder
from bridge.sync.model import Kind, Place
from bridge.sync.rehearsal import Rehearsal
from bridge.sync.source import joined, reference, split


class Target(Protocol):
    """Repositories by their names below the place, and images in them, as a `Source` has them."""

    takes_images_only: bool
    """It has no manifests and blobs: an image is imported as it lands."""

    @property
    def host(self) -> str | None:
        """The registry, if it is one."""

    @property
    def connection(self) -> Connection | None:
        """The way to it."""

    def tags(self, repository: str, meter: Meter) -> frozenset[str] | None:
        """Return the tags that are there; None where that cannot be told."""

    def head(self, repository: str, name: str, meter: Meter) -> Digest | None:
        """Return the digest that a tag or digest leads to, None if it is not there."""

    def still(self, repository: str, tag: str, digest: str, meter: Meter) -> bool:
        """Tell whether a tag leads to what was once written there."""

    def open(
        self, repository: str, name: str | None, meter: Meter, stack: ExitStack, lender: str | None
    ) -> Destination:
        """Return a tag as a place to write to; `lender` is a repository that may lend blobs."""

    def rehearse(self, repository: str, meter: Meter) -> Destination:
        """Return a repository as a place to which nothing is written."""

    def read(self, repository: str, digest: str, meter: Meter) -> FetchedManifest:
        """Return a manifest that is there."""

    def delete(self, repository: str, tag: str, meter: Meter) -> None:
        """Delete a tag, and nothing but that."""

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        """Tell whether referrers are listed without a tag for it; it is asked once."""

    def full(self, repository: str) -> str:
        """Return a repository's whole name."""

    def close(self) -> None:
        """Finish what is written."""


class RegistryTarget:
    """A registry, what is below a path in one, or a repository of it."""

    takes_images_only = False

    def __init__(self, place: Place, connection: Connection, ledger: Ledger) -> None:
        self.host, self._path = split(place)
        self.connection: Connection | None = connection
        self._shared = connection
        self._ledger = ledger

    def tags(self, repository: str, meter: Meter) -> frozenset[str] | None:
        try:
            return frozenset(self._client(meter).tags(self._ref(repository)))
        except NotFound:
            return frozenset()
        except BridgeError:
            return None  # if it matters, it is said where something is written

    def head(self, repository: str, name: str, meter: Meter) -> Digest | None:
        try:
            # A mirror of the target is not the target.
            return self._client(meter).current(self._ref(repository, name), itself=True).digest
        except NotFound:
            return None

    def still(self, repository: str, tag: str, digest: str, meter: Meter) -> bool:
        found = self.head(repository, tag, meter)
        if found is None:
            return False
        return found == digest or is_placeholder(found, self._name(repository), tag)

    def open(
        self, repository: str, name: str | None, meter: Meter, stack: ExitStack, lender: str | None
    ) -> Destination:
        ref = self._ref(repository, name)
        place = registry_destination(ref, self._shared, meter)
        lenders = (lender,) if lender is not None and lender != ref.repository else ()
        return SharedDestination(place, self._ledger, ref.repository, lenders)

    def rehearse(self, repository: str, meter: Meter) -> Destination:
        ref = self._ref(repository)
        pusher = Pusher(ref, meter=meter, connection=self._shared, actions="pull")

        def there(digest: Digest, size: int) -> bool:
            try:
                return pusher.has_blob(digest, size)
            except (NotFound, NotAuthorised):
                return False  # the repository is not there yet

        return Rehearsal(there, self._ledger, ref.repository, meter)

    def read(self, repository: str, digest: str, meter: Meter) -> FetchedManifest:
        return self._client(meter).get_manifest(self._ref(repository, digest))

    def delete(self, repository: str, tag: str, meter: Meter) -> None:
        ref = self._ref(repository, tag)
        actions = "pull,push,delete"
        delete_tag(Pusher(ref, meter=meter, connection=self._shared, actions=actions), tag)

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        try:
            return self._client(meter).has_referrers(self._ref(repository, subject), subject)
        except (NotFound, NotAuthorised):
            return False  # the repository is not there yet, perhaps

    def full(self, repository: str) -> str:
        return f"{self.host}/{self._name(repository)}"

    def close(self) -> None:
        """Leave the connection to those who share it."""

    def _client(self, meter: Meter) -> Client:
        return Client(meter=meter, connection=self._shared)

    def _name(self, repository: str) -> str:
        return joined(self._path, repository)

    def _ref(self, repository: str, name: str | None = None) -> RegistryReference:
        return reference(self.host, self._name(repository), name)


class LayoutTarget:
    """A layout directory, or an archive of one that is made anew at the end if anything changed.

    Images are named `TAG` in its index, or `REPOSITORY:TAG`.
    """

    host: str | None = None
    connection: Connection | None = None
    takes_images_only = False

    def __init__(self, place: Place, ledger: Ledger) -> None:
        self._place = place
        self._ledger = ledger
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._is_archive = place.kind is Kind.ARCHIVE
        self._bundle: Bundle | None = None
        """Made when there is something to write."""
        self._named: dict[str, Descriptor] | None = None

    def tags(self, repository: str, meter: Meter) -> frozenset[str] | None:
        found = (name.rpartition(":") for name in self._names())
        return frozenset(tag for of, _, tag in found if of == repository)

    def head(self, repository: str, name: str, meter: Meter) -> Digest | None:
        found = self._names()
        if ":" in name:
            return next((each.digest for each in found.values() if each.digest == name), None)
        entry = found.get(named(repository, name))
        return None if entry is None else entry.digest

    def still(self, repository: str, tag: str, digest: str, meter: Meter) -> bool:
        return self.head(repository, tag, meter) == digest

    def open(
        self, repository: str, name: str | None, meter: Meter, stack: ExitStack, lender: str | None
    ) -> Destination:
        tag = None if name is None or ":" in name else named(repository, name)
        place = stack.enter_context(self._writer(tag))
        place.attaches_at_once = True
        return _Naming(SharedDestination(place, self._ledger, ""), self, repository)

    def rehearse(self, repository: str, meter: Meter) -> Destination:
        return Rehearsal(self._has, self._ledger, "", meter)

    def _has(self, digest: Digest, size: int) -> bool:
        kind = Layout if self._bundle is None else Archive
        try:
            with (
                kind.open(self._place.name) as layout,
                layout.open_blob(Descriptor("", digest, size)),
            ):
                return True
        except BridgeError:
            return False

    def read(self, repository: str, digest: str, meter: Meter) -> FetchedManifest:
        for entry in self._names().values():
            if entry.digest == digest:
                with self._writer(None) as place:
                    return FetchedManifest(place.read(entry), entry.media_type, entry.digest)
        raise NotFound(f"{self._place} has no {digest}")

    def delete(self, repository: str, tag: str, meter: Meter) -> None:
        with self._lock, self._writer(None) as place:
            place.forget(named(repository, tag))
            self._named = None

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        return True

    def full(self, repository: str) -> str:
        return str(self._place) + (f":{repository}" if repository else "")

    def close(self) -> None:
        if self._bundle is not None:
            self._bundle.close()

    def wrote(self, name: str, entry: Descriptor) -> None:
        """Take that a name leads there now."""
        with self._lock:
            if self._named is not None:
                self._named[name] = entry

    def _writer(self, tag: str | None) -> LayoutWriter:
        if self._is_archive:
            with self._making:
                self._bundle = self._bundle or Bundle(self._place.name)
            return self._bundle.writer(tag)
        return LayoutWriter.open(self._place.name, tag)

    def _names(self) -> dict[str, Descriptor]:
        """Return what is named, as it was read once and changed here since."""
        with self._lock:
            if self._named is None:
                self._named = self._read_names()
            return self._named

    def _read_names(self) -> dict[str, Descriptor]:
        kind, path = Archive if self._is_archive else Layout, self._place.name
        if self._bundle is not None:
            kind, path = Layout, self._bundle.staging
        try:
            with kind.open(path) as layout:
                listed = layout.index().manifests
        except (NotFound, MalformedImage):
            return {}  # a new one; what is something else is told when it is written to
        names = ((each.annotations.get(REF_NAME), each) for each in listed)
        return {name: entry for name, entry in names if name}


class _Naming:
    """A place in a layout, whose names are those of several repositories."""

    def __init__(self, place: SharedDestination, target: LayoutTarget, repository: str) -> None:
        self._place = place
        self._target = target
        self._repository = repository
        self.meter, self.piece = place.meter, place.piece
        self.has, self.put, self.borrow = place.has, place.put, place.borrow
        self.gave_up, self.write, self.attach = place.gave_up, place.write, place.attach

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        names = [named(self._repository, each) for each in tags]
        digest = self._place.finish(document, media_type, names)
        for name in names:
            self._target.wrote(name, Descriptor(media_type, digest, len(document)))
        return digest


def named(repository: str, tag: str) -> str:
    """Return the name of a tag in a layout's index."""
    return f"{repository}:{tag}" if repository else tag
