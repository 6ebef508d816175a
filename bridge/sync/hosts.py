"""The registries of a run: each is spoken to over one set of connections, by all jobs."""

from __future__ import annotations

import threading
from dataclasses import replace

from bridge.push.shared import Ledger
from bridge.registry.authfile import Credentials
from bridge.registry.conffiles import load_registries
from bridge.registry.connection import Connection, GivenCredentials, Uploads, with_mirrors
from bridge.registry.endpoint import Reached, api_host_of
from bridge.registry.meter import RateLimit
from bridge.registry.options import NetworkOptions
from bridge.registry.throttle import Throttle
from bridge.sync.homes import BlobHomes
from bridge.sync.model import REGISTRIES, Config, Host, Kind, Place
from bridge.sync.source import LayoutSource, RegistrySource, Source, split
from bridge.sync.target import LayoutTarget, RegistryTarget, Target


class HostLimits:
    """How much registries are asked, and how fast: held by all who share this, several runs of a
    configuration too. Safe for several threads."""

    def __init__(self, config: Config, options: NetworkOptions) -> None:
        self._config = config
        self._together = RateLimit(options.limit_rate) if options.limit_rate else None
        self._lock = threading.Lock()
        self._rates: dict[str, RateLimit | None] = {}
        self._throttles: dict[str, Throttle] = {}

    def rate(self, name: str) -> RateLimit | None:
        """Return the limit of a host's bandwidth."""
        with self._lock:
            if name not in self._rates:
                rates = [e for e in (self._together, _rate(self._config.host(name))) if e]
                self._rates[name] = _Both(*rates) if len(rates) == 2 else next(iter(rates), None)
            return self._rates[name]

    def throttle(self, name: str) -> Throttle:
        """Return the limit of a host's requests."""
        host = self._config.host(name)
        with self._lock:
            if name not in self._throttles:
                self._throttles[name] = Throttle(host.requests_at_once, host.requests_per_second)
            return self._throttles[name]


class Hosts:
    """Opens connections as they are needed. Safe for several threads; to be closed.

    `options` are the command line's: what the configuration says of a host is stronger, and `creds`
    are for hosts of which it says nothing. Bandwidth that both limit is limited by both: the
    command line's holds for all hosts together.
    """

    def __init__(
        self,
        config: Config,
        options: NetworkOptions,
        stop: threading.Event,
        limits: HostLimits | None = None,
        state_directory: str | None = None,
    ) -> None:
        """In the state directory is kept which repositories have which blobs; None: nowhere."""
        self._config = config
        self._directory = state_directory
        self._homes: list[BlobHomes] = []
        self._limits = limits or HostLimits(config, options)
        self._options = replace(
            options, limit_rate=None, user_agent=config.user_agent or options.user_agent
        )
        self._registries = load_registries()
        self._stop = stop
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._layouts: dict[Place, LayoutSource] = {}
        self._asking: dict[str | None, threading.Lock] = {}

    def connection(self, host: str) -> Connection:
        """Return the connection to a registry, by its name in references."""
        with self._lock:
            if host not in self._connections:
                self._connections[host] = self._opened(self._config.host(host))
            return self._connections[host]

    def ledger(self, place: str, *, remembers: bool = False) -> Ledger:
        """Return what is known of the blobs at a place: a registry, a layout. Of a registry it is
        kept for later runs."""
        with self._lock:
            if place not in self._ledgers:
                memory = None
                if remembers and self._directory is not None:
                    memory = BlobHomes(self._directory, place)
                    self._homes.append(memory)
                self._ledgers[place] = Ledger(self._stop.is_set, memory)
            return self._ledgers[place]

    def asking(self, host: str | None) -> threading.Lock:
        """Return the lock under which a registry is asked what it can do, so that one thread asks
        and the others know."""
        with self._lock:
            return self._asking.setdefault(host, threading.Lock())

    def source(self, place: Place) -> Source:
        """Return a place to read from; it stays open."""
        if place.kind in REGISTRIES:
            return RegistrySource(place, self.connection(split(place)[0]))
        with self._lock:
            if place not in self._layouts:
                self._layouts[place] = LayoutSource(place)
            return self._layouts[place]

    def target(self, place: Place) -> Target:
        """Return a place to write to, to be closed."""
        if place.kind in REGISTRIES:
            host = split(place)[0]
            return RegistryTarget(place, self.connection(host), self.ledger(host, remembers=True))
        if place.kind is Kind.OSTREE:
            # To import what pulls takes longer than many a job.
            from bridge.sync.ostree_target import OstreeTarget

            return OstreeTarget(place)
        return LayoutTarget(place, self.ledger(str(place)))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for layout in self._layouts.values():
                layout.close()
            self._layouts.clear()
            for each in self._connections.values():
                each.close()
            self._connections.clear()
            for kept in self._homes:
                kept.close()

    def network(self, host: str) -> NetworkOptions:
        """Return the options for a registry, without what only a connection can have."""
        known = self._config.host(host)
        options = _options(known, self._options)
        if known.username:
            options = replace(options, creds=f"{known.username}:{known.password or ''}")
        return options

    def _opened(self, host: Host) -> Connection:
        options = _options(host, self._options)
        registries = with_mirrors(
            self._registries, host.name, host.mirrors, insecure=options.tls_verify is False
        )
        return Connection(
            options,
            credentials=GivenCredentials(
                host.name,
                _credentials(host),
                options,
                helpers=registries.credential_helpers,
                files=self._config.docker_config,
            ),
            registries=registries,
            rate=self._limits.rate(host.name),
            throttle=self._limits.throttle(host.name),
            reached=_reached(host),
            uploads=_uploads(host),
        )


class _Both(RateLimit):
    """Two limits of which each holds."""

    def __init__(self, one: RateLimit, other: RateLimit) -> None:
        self._limits = (one, other)

    @property
    def chunk(self) -> int:
        return min(each.chunk for each in self._limits)

    def take(self, count: int) -> None:
        for each in self._limits:
            each.take(count)


def _rate(host: Host) -> RateLimit | None:
    return RateLimit(host.bandwidth) if host.bandwidth else None


def _options(host: Host, options: NetworkOptions) -> NetworkOptions:
    return replace(
        options,
        tls_verify=options.tls_verify if host.tls_verify is None else host.tls_verify,
        plain_http=host.plain_http,
        cert_dir=host.cert_dir or options.cert_dir,
        authority=host.authority,
        client_certificate=host.client_certificate,
        client_key=host.client_key,
    )


def _credentials(host: Host) -> Credentials | tuple[str, str] | None:
    source = "the configuration"
    if host.token:
        return Credentials(host.username or "", "", host.token, source)
    if host.username:
        return Credentials(host.username, host.password or "", source=source)
    if host.credential_helper:
        return host.credential_helper, host.credential_host or host.name
    return None


def _reached(host: Host) -> Reached | None:
    prefix = host.path_prefix.strip("/")
    if not host.address and not prefix:
        return None
    return Reached(
        host.name, host.address or api_host_of(host.name), f"{prefix}/" if prefix else ""
    )


def _uploads(host: Host) -> Uploads:
    usual = Uploads()
    return Uploads(host.upload_part or usual.part, host.upload_whole or usual.whole)
