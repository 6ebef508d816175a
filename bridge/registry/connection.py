"""What all who speak to one registry share: connections, tokens, limits, and what was learned.

Where many repositories of a registry are read and written, each has a client of its own and counts
for itself, but none has to log in, or to connect, once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge import limits
from bridge.registry.auth import Authenticator
from bridge.registry.authfile import Credentials, CredentialStore
from bridge.registry.conffiles import load_registries
from bridge.registry.endpoint import Reached
from bridge.registry.meter import RateLimit
from bridge.registry.options import NetworkOptions
from bridge.registry.registriesconf import Location, RegistriesConf, Registry
from bridge.registry.support import Support
from bridge.registry.throttle import Throttle
from bridge.registry.transport import Transport


@dataclass(frozen=True, slots=True)
class Uploads:
    """How blobs are sent. In bytes."""

    part: int = field(default_factory=lambda: limits.UPLOAD_PART)
    """Of one request of a large upload."""
    whole: int = field(default_factory=lambda: limits.UPLOAD_WHOLE)
    """Up to which a blob is one request."""


class Connection:
    """One registry, for any number of clients and threads. To be closed after them."""

    def __init__(
        self,
        options: NetworkOptions,
        *,
        credentials: CredentialStore | None = None,
        registries: RegistriesConf | None = None,
        rate: RateLimit | None = None,
        throttle: Throttle | None = None,
        reached: Reached | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self.options = options
        self.registries = load_registries() if registries is None else registries
        if credentials is None:
            credentials = CredentialStore(options, helpers=self.registries.credential_helpers)
        self.transport = Transport(options, rate=rate, throttle=throttle)
        self.auth = Authenticator(credentials)
        self.support = Support()
        self.reached = reached
        self.uploads = uploads or Uploads()

    @property
    def throttle(self) -> Throttle:
        """The registry's limits."""
        return self.transport.throttle

    def close(self) -> None:
        """Close the idle connections."""
        self.transport.close()


class GivenCredentials(CredentialStore):
    """Credentials that are known for one host, or a helper that has them; else the usual ones."""

    def __init__(
        self,
        host: str,
        given: Credentials | tuple[str, str] | None,
        options: NetworkOptions,
        *,
        helpers: tuple[str, ...] | None = None,
        files: bool = True,
    ) -> None:
        """`given` are credentials, or the name of a helper and what it is asked for. Without
        `files` no file is read."""
        super().__init__(options, helpers=helpers)
        self._host = host
        self._known = given
        if not files:
            self.files = ()

    def find(self, host: str, repository: str, *, named: bool = True) -> Credentials | None:
        """Return the credentials for `host/repository`, or None."""
        if host == self._host and self._known is not None:
            if isinstance(self._known, Credentials):
                return self._known
            return self.asked(*self._known)
        return super().find(host, repository, named=named)


def with_mirrors(
    registries: RegistriesConf, host: str, mirrors: tuple[str, ...], *, insecure: bool
) -> RegistriesConf:
    """Return a configuration by which images of `host` are asked for at mirrors first."""
    if not mirrors:
        return registries
    places = tuple(Location(each, insecure) for each in mirrors)
    table = Registry(host, Location(host, insecure), places, path="the sync configuration")
    return registries.merged(RegistriesConf({host: table}))
