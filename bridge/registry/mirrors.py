"""Mirrors: the endpoints that an image may be asked for, and the way along them.

What registries.conf says of a reference becomes a list of endpoints: its mirrors, and last the
place it stands for. A request goes to the first of them that is left and is handed over to the next
one when that fails; the error is the last one's. As in containers/image, the reference that the
user gave decides the list for everything that belongs to the image, and whoever had its manifest
is asked for the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

from bridge.errors import (
    Blocked,
    BridgeError,
    MalformedImage,
    NetworkError,
    NotAuthorised,
    NotFound,
    UsageError,
    VerificationFailed,
)
from bridge.oci.digest import Digest
from bridge.oci.reference import RegistryReference, parse_registry_reference
from bridge.registry.registriesconf import Location, RegistriesConf, Registry

Answer = TypeVar("Answer")
FAILURES = (NotFound, NotAuthorised, NetworkError, VerificationFailed, MalformedImage)
"""What is an endpoint's fault, perhaps, so that the next one is asked. A configuration that is
wrong is not: somebody has to mend that."""


@dataclass(frozen=True, slots=True)
class Endpoint(RegistryReference):
    """An image at the place where it is asked for, and how to speak to that place."""

    insecure: bool = False
    """Any certificate will do there, and plain HTTP."""
    named: bool = True
    """The user named this host, so that `--creds` are for it."""


def endpoint(ref: RegistryReference, insecure: bool = False, named: bool = True) -> Endpoint:
    """Return `ref` as a place to ask."""
    return Endpoint(ref.host, ref.repository, ref.tag, ref.digest, insecure, named)


def endpoints(
    ref: RegistryReference, conf: RegistriesConf, tls_verify: bool | None = None
) -> tuple[Endpoint, ...]:
    """Return where `ref` is asked for, in order: mirrors, and last the place that it stands for.

    A place that is blocked is not among them: with mirrors that others keep, an image is had from
    these alone, as with containers/image (and as OpenShift writes it, NeverContactSource).
    `tls_verify`, unless None, overrides what `conf` says of each. Raises `Blocked` when nothing is
    left, and `UsageError` when a location does not make a reference.
    """
    asked = replace(ref, tag=None) if ref.digest else ref
    table = conf.find(str(asked))
    if table is None:
        return (endpoint(ref, tls_verify is False),)
    mirrors = [
        _at(each, table, asked, tls_verify) for each in table.mirrors if each.pull_from.accepts(ref)
    ]
    left = tuple(each for each in mirrors if not _is_blocked(each, conf))
    try:
        _allowed(asked, conf)
        primary = _at(table.primary, table, asked, tls_verify)
        _allowed(primary, conf)
    except Blocked:
        if left:
            return left
        raise
    return (*left, primary)


def only_endpoint(
    ref: RegistryReference, conf: RegistriesConf, tls_verify: bool | None = None
) -> Endpoint:
    """Return where to ask for what is no image: never a mirror, nor another location."""
    table = _allowed(ref, conf)
    insecure = (
        table is not None and table.primary.insecure if tls_verify is None else not tls_verify
    )
    return endpoint(ref, insecure)


def _allowed(ref: RegistryReference, conf: RegistriesConf) -> Registry | None:
    """Return the table for `ref`, if there is one; raise `Blocked` if it forbids to pull."""
    table = conf.find(str(ref))
    if table is not None and table.blocked:
        raise Blocked(
            f"{ref}: pulling from {table.prefix!r:.200} is forbidden ('blocked' in {table.path}); "
            "nothing was asked"
        )
    return table


def _is_blocked(ref: RegistryReference, conf: RegistriesConf) -> bool:
    table = conf.find(str(ref))
    return table is not None and table.blocked


def _at(
    place: Location, table: Registry, ref: RegistryReference, tls_verify: bool | None
) -> Endpoint:
    insecure = place.insecure if tls_verify is None else not tls_verify
    if not place.location:
        return endpoint(ref, insecure)
    rest = table.rest(str(ref))
    assert rest is not None
    text = f"{place.location}{rest}"
    what = f"{table.path}: location {place.location!r:.200} makes {text!r:.300} of {ref}"
    try:
        found = parse_registry_reference(text)
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None
    # What was added while parsing (a tag, library/) nobody has asked for.
    if str(found) != text or found.digest != ref.digest:
        raise UsageError(f"{what}, which is not the whole name of that image")
    return endpoint(found, insecure, found.host == ref.host)


class Route:
    """The endpoints of one reference, and what was learned of them. Safe for several threads.

    `tell` takes a line for the user whenever something is handed over.
    """

    def __init__(
        self, ref: RegistryReference, places: tuple[Endpoint, ...], tell: Callable[[str], None]
    ) -> None:
        self.endpoints = places
        self._ref = ref
        self._tell = tell
        self._lock = threading.Lock()
        self._first = 0
        self._source: Endpoint | None = None
        self._begin: dict[Digest, int] = {}
        self._parts: dict[Digest, int] = {}

    def ask(self, request: Callable[[Endpoint], Answer]) -> Answer:
        """Return the first answer there is. Whoever gave it is the first to be asked from now on.

        Raises what the last endpoint raised, with what the others did.
        """
        turn = self.turn()
        while True:
            try:
                answer = request(turn.endpoint)
            except FAILURES as error:
                turn.hand_over(error)
            else:
                break
        with self._lock:
            self._first = max(self._first, turn.index)
            news = self._source is None and turn.endpoint is not self.endpoints[-1]
            self._source = self._source or turn.endpoint
        if news:
            self._tell(f"{self._ref} comes from the mirror {turn.endpoint.name}")
        return answer

    def turn(self, blob: Digest | None = None) -> Turn:
        """Begin a request; for a blob not where its bytes were found to be wrong."""
        with self._lock:
            begin = self._begin.get(blob, 0) if blob else 0
            return Turn(self, max(self._first, begin))

    def came(self, blob: Digest, index: int) -> None:
        """Take that bytes of a blob came from an endpoint."""
        with self._lock:
            self._parts.setdefault(blob, index)

    def distrust(self, blob: Digest) -> bool:
        """Take that a blob's bytes were wrong; tell whether there is another endpoint for them.

        That is the one after the first that had a part in them: it is asked for all of them then.
        """
        with self._lock:
            index = self._parts.pop(blob, None)
            if index is None or index + 1 == len(self.endpoints):
                return False
            self._begin[blob] = index + 1
        self._tell(
            f"mirror {self.endpoints[index].name}: wrong bytes for blob {blob[:19]}; asking "
            f"{self.endpoints[index + 1].name} for all of it"
        )
        return True

    def failed(self, index: int, error: BridgeError) -> None:
        """Take that a request was handed over: what cannot be reached is not asked again."""
        gone = isinstance(error, NetworkError | NotAuthorised)
        with self._lock:
            known = index < self._first
            if gone:
                self._first = max(self._first, index + 1)
        if not known:
            going_on = self.endpoints[index + 1].name
            self._tell(f"mirror {self.endpoints[index].name}: {error}; going on with {going_on}")


class Turn:
    """One request on its way along the endpoints."""

    def __init__(self, route: Route, index: int) -> None:
        self.index = index
        self._route = route
        self._failed: list[str] = []

    @property
    def endpoint(self) -> Endpoint:
        """The one to ask now."""
        return self._route.endpoints[self.index]

    def hand_over(self, error: BridgeError) -> None:
        """Go on with the next endpoint; raise `error` if there is none, with those before it."""
        if self.index + 1 == len(self._route.endpoints):
            if not self._failed:
                raise error
            raise type(error)(f"{error}; before that, {'; '.join(self._failed)}") from error
        self._failed.append(f"mirror {self.endpoint.name}: {str(error)[:300]}")
        self._route.failed(self.index, error)
        self.index += 1


def along(
    route: Route,
    turn: Turn,
    blob: Digest,
    start: int,
    body: Callable[[Endpoint, int], Generator[bytes, None, None]],
) -> Generator[bytes, None, None]:
    """Yield what `body` gives at an endpoint from an offset on, and go on at the next endpoint."""
    done = start
    while True:
        try:
            with closing(body(turn.endpoint, done)) as chunks:
                for chunk in chunks:
                    route.came(blob, turn.index)
                    done += len(chunk)
                    yield chunk
            return
        except FAILURES as error:
            turn.hand_over(error)
