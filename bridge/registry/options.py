"""What a user may say about the network: one value, handed to `Client`."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge import limits


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle` is the time for all headers, and that without a single byte of a body."""

    connect: float = limits.CONNECT_TIMEOUT
    idle: float = limits.IDLE_TIMEOUT


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """The network flags of the command line, with skopeo's names and meanings."""

    authfile: str | None = None
    """Path of the one auth file to read, instead of the usual places."""
    creds: str | None = field(default=None, repr=False)
    """`USER:PASSWORD`: used for every registry that the user names, before any auth file."""
    tls_verify: bool | None = None
    """False accepts any certificate, and plain HTTP where there is no TLS. None: as
    registries.conf has it for each place, and True where that says nothing."""
    cert_dir: str | None = None
    """Directory with `*.crt`, `*.cert` and `*.key`, instead of the certs.d directories."""
    retry_times: int = limits.RETRIES
    """Tries after the first one."""
    limit_rate: int | None = None
    """Bytes per second, over all bodies of all requests together."""
    timeouts: Timeouts = Timeouts()
    plain_http: bool = False
    """There is no TLS, so that none is tried."""
    user_agent: str | None = None
    authority: str | None = field(default=None, repr=False)
    """Certificates in PEM that hosts may be signed by, beside the system's."""
    client_certificate: str | None = field(default=None, repr=False)
    """In PEM, with `client_key`: who we are."""
    client_key: str | None = field(default=None, repr=False)
