"""Where a job's images come from: a registry, or a layout that holds many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from bridge import limits
from bridge.errors import MalformedImage, NotFound, UsageError
from bridge.oci.artifact import chosen, descriptor_of
from bridge.oci.digest import Digest
from bridge.oci.layout import REF_NAME, Archive, ImageLayout, Layout
from bridge.oci.model import INDEX_TYPES, MANIFEST_TYPES, Descriptor, parse_document
from bridge.oci.reference import (
    ImageReference,
    RegistryReference,
    Transport,
    parse_registry_reference,
)
from bridge.push.origin import Origin, layout_origin, registry_origin
from bridge.registry.client import Client
from bridge.registry.connection import Connection
from bridge.registry.meter import Meter
from bridge.sync.model import Kind, Place


class Head(NamedTuple):
    """What a name leads to."""

    digest: Digest
    media_type: str


class Source(Protocol):
    """Repositories by their names below the place, of which the place itself is the empty one; and
    in them images by tag or digest. Safe for several threads."""

    @property
    def host(self) -> str | None:
        """The registry, if it is one."""

    @property
    def connection(self) -> Connection | None:
        """The way to it."""

    def repositories(self, meter: Meter) -> Iterable[str]:
        """Return the names of all repositories, before any are chosen."""

    def tags(self, repository: str, meter: Meter) -> Iterable[str]:
        """Return a repository's tags; `NotFound` where there is none."""

    def head(self, repository: str, name: str, meter: Meter) -> Head:
        """Return what a tag or digest leads to; `NotFound` if there is no such."""

    def open(self, repository: str, name: str, meter: Meter) -> Origin:
        """Return an image as a place to read, by tag or digest."""

    def referrers(self, repository: str, subject: Digest, meter: Meter) -> tuple[Descriptor, ...]:
        """Return the manifests that are listed as referring to one."""

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        """Tell whether referrers are listed without a tag for it; it is asked once."""

    def image(self, repository: str, name: str, digest: str | None) -> ImageReference:
        """Return an image as others name it, by its tag, or where it is possible by a digest."""

    def full(self, repository: str) -> str:
        """Return a repository's whole name."""

    def close(self) -> None:
        """Close what is open."""


class RegistrySource:
    """A registry, what is below a path in one, or a repository of it."""

    def __init__(self, place: Place, connection: Connection) -> None:
        self.host, self._path = split(place)
        self.connection: Connection | None = connection
        self._shared = connection
        self._many = place.kind is Kind.REGISTRY

    def repositories(self, meter: Meter) -> Iterator[str]:
        if not self._many:
            yield ""
            return
        prefix = f"{self._path}/" if self._path else ""
        for name in self._client(meter).repositories(self.host):
            if name.startswith(prefix):
                yield name.removeprefix(prefix)

    def tags(self, repository: str, meter: Meter) -> Iterator[str]:
        return self._client(meter).tags(self._ref(repository))

    def head(self, repository: str, name: str, meter: Meter) -> Head:
        found = self._client(meter).current(self._ref(repository, name))
        if found.digest is None:
            raise MalformedImage(f"{self._ref(repository, name)} has no digest")
        return Head(found.digest, found.media_type)

    def open(self, repository: str, name: str, meter: Meter) -> Origin:
        return registry_origin(self._ref(repository, name), self._shared, meter)

    def referrers(self, repository: str, subject: Digest, meter: Meter) -> tuple[Descriptor, ...]:
        ref = self._ref(repository, subject)
        return self._client(meter).list_referrers(ref, subject)

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        return self._client(meter).has_referrers(self._ref(repository, subject), subject)

    def image(self, repository: str, name: str, digest: str | None) -> ImageReference:
        digest = name if ":" in name else digest
        end = f"@{digest}" if digest else f":{name}"
        return ImageReference(Transport.REGISTRY, f"{self.full(repository)}{end}")

    def full(self, repository: str) -> str:
        return f"{self.host}/{joined(self._path, repository)}"

    def close(self) -> None:
        """Leave the connection to those who share it."""

    def _client(self, meter: Meter) -> Client:
        return Client(meter=meter, connection=self._shared)

    def _ref(self, repository: str, name: str | None = None) -> RegistryReference:
        return reference(self.host, joined(self._path, repository), name)


class LayoutSource:
    """A layout's images by the names in its index: `TAG`, or `REPOSITORY:TAG`.

    Its index is read once.
    """

    host: str | None = None
    connection: Connection | None = None

    def __init__(self, place: Place) -> None:
        kind = Archive if place.kind is Kind.ARCHIVE else Layout
        self._layout: ImageLayout = kind.open(place.name)
        self._place = place
        self._images: dict[str, dict[str, Descriptor]] = {}
        self._referring: dict[Digest, list[Descriptor]] = {}
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        for entry in self._layout.index().manifests:
            if entry.media_type not in MANIFEST_TYPES + INDEX_TYPES:
                continue
            name = entry.annotations.get(REF_NAME)
            if name:
                repository, _, tag = name.rpartition(":")
                if self._place.tag is None or self._place.tag in (name, tag):
                    self._images.setdefault(repository, {})[tag] = entry
            document = parse_document(
                self._layout.read_blob(entry, limits.MANIFEST_MAX), entry.media_type
            )
            if document.subject is not None:
                described = descriptor_of(document)
                self._referring.setdefault(document.subject.digest, []).append(described)

    def repositories(self, meter: Meter) -> Iterable[str]:
        return list(self._images)

    def tags(self, repository: str, meter: Meter) -> Iterable[str]:
        if repository not in self._images:
            raise NotFound(f"{self._place}: it has no repository {repository!r:.300}")
        return list(self._images[repository])

    def head(self, repository: str, name: str, meter: Meter) -> Head:
        entry = self._entry(repository, name)
        return Head(entry.digest, entry.media_type)

    def open(self, repository: str, name: str, meter: Meter) -> Origin:
        return layout_origin(self._layout, self._entry(repository, name))

    def referrers(self, repository: str, subject: Digest, meter: Meter) -> tuple[Descriptor, ...]:
        return chosen(self._referring.get(subject, ()), None)

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        return True

    def image(self, repository: str, name: str, digest: str | None) -> ImageReference:
        tag = f"{repository}:{name}" if repository else name
        return ImageReference(Transport(self._place.kind.value), f"{self._place.name}:{tag}")

    def full(self, repository: str) -> str:
        return f"{self._place.kind.value}:{self._place.name}" + (
            f":{repository}" if repository else ""
        )

    def close(self) -> None:
        self._layout.close()

    def _entry(self, repository: str, name: str) -> Descriptor:
        tagged = self._images.get(repository, {})
        if name in tagged:
            return tagged[name]
        listed = (*tagged.values(), *(each for of in self._referring.values() for each in of))
        for entry in listed:
            if entry.digest == name:
                return entry
        raise NotFound(f"{self.full(repository)} has no {name}")


def split(place: Place) -> tuple[str, str]:
    """Return host and path of a place in a registry, the path empty for all of it; `UsageError`
    for a name that is none."""
    if place.kind is Kind.REGISTRY:
        host, _, path = place.name.partition("/")
        if path:
            parse_registry_reference(f"{host}/{path}")  # complains of what is none
        return host.lower(), path.rstrip("/")
    found = parse_registry_reference(place.name)
    if found.digest is not None:
        raise UsageError(f"{place.name} is not the name of a repository")
    return found.host, found.repository


def joined(path: str, repository: str) -> str:
    """Return the name of a repository below a path; both may be empty."""
    return "/".join(each for each in (path, repository) if each)


def reference(host: str, repository: str, name: str | None) -> RegistryReference:
    """Return a tag or digest of a repository as a reference."""
    if name is not None and ":" in name:
        return RegistryReference(host, repository, digest=Digest.parse(name))
    return RegistryReference(host, repository, name)
