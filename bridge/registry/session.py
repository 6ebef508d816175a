"""One origin's connection, as `requests` keeps it, with nothing of its own ideas.

Hundreds of ranges may be asked for, one request each. `requests` makes of every one anew what is
the same for all of them; here that is kept.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from bridge.registry.wire import POOLS


class Session:
    """One origin's connection, without cookies, environment, or redirects.

    `context` is for TLS; `verify` False where no certificate is looked at. `proxies` are what
    `requests` takes.
    """

    def __init__(
        self, context: ssl.SSLContext | None, *, verify: bool, proxies: dict[str, str]
    ) -> None:
        self.warm = False  # whether its connection is there, as far as we know
        self._adapter = _Adapter(context)
        self._verify = verify
        self._proxies = proxies
        self._last: requests.PreparedRequest | None = None  # without a body
        self._asked = ("", "")  # its method, and its URL as it was given

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any,
        timeout: tuple[float, float],
    ) -> requests.Response:
        """Send a request and return its answer, of which the body was not read yet.

        `timeout` is for connecting and for each read, in seconds. Raises what `requests` and
        `urllib3` do.
        """
        if body is None and self._last is not None and self._asked == (method, url):
            prepared = self._last.copy()
            prepared.prepare_headers(headers)
        else:
            prepared = requests.Request(method, url, dict(headers), data=body).prepare()
            if body is None:
                self._last, self._asked = prepared.copy(), (method, url)
        return self._adapter.send(
            prepared, stream=True, timeout=timeout, verify=self._verify, proxies=self._proxies
        )

    def close(self) -> None:
        """Close the connection."""
        self._adapter.close()


class _Adapter(HTTPAdapter):
    """Uses our bounded connections, and our TLS context where requests would use its own.

    For one origin: what makes its connections is looked up once.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._tls: dict[str, Any] = {} if context is None else {"ssl_context": context}
        self._pool: Any = None
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **options, **self._tls)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, **self._tls)
        if not proxy.lower().startswith("socks"):  # which has connections of its own
            manager.pool_classes_by_scheme = POOLS
        return manager

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool of the one origin."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*arguments, **options)
        return self._pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the authorities to the context."""

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._pool = None
        super().close()
