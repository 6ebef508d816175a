"""Certificates: the system's, containers' certs.d directories, `--cert-dir`.

As containers-certs.d(5): `*.crt` are further authorities, `X.cert` with `X.key` is a client's
pair. The first directory for `HOST[:PORT]` that exists is used, and with `--cert-dir` just that.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bridge.errors import UsageError
from bridge.registry.options import NetworkOptions


def tls_context(
    netloc: str,
    options: NetworkOptions,
    environ: Mapping[str, str] = os.environ,
    *,
    insecure: bool = False,
) -> ssl.SSLContext:
    """Return the TLS context for `HOST[:PORT]`; `UsageError` when a certificate is unusable.

    `insecure`: it takes any certificate of the peer's.
    """
    if insecure:
        # To read the system's authorities, which nobody asks then, takes as long as ten requests.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        # OpenSSL itself honours SSL_CERT_FILE and SSL_CERT_DIR here.
        context = ssl.create_default_context()
        bundles = {environ.get(each) for each in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        for bundle in filter(None, bundles):
            _load_authority(context, Path(bundle))
    if options.authority is not None:
        try:
            context.load_verify_locations(cadata=options.authority)
        except (ValueError, ssl.SSLError) as error:
            raise UsageError(f"the authority that is given for {netloc}: {error}") from None
    if options.client_certificate is not None:
        _load_pair(context, netloc, options.client_certificate, options.client_key or "")
    directory = cert_directory(netloc, options, environ)
    if directory is None:
        return context
    for path in sorted(directory.glob("*.crt")):
        _load_authority(context, path)
    for path in sorted(directory.glob("*.cert")):
        key = path.with_suffix(".key")
        try:
            context.load_cert_chain(path, key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"loading the client certificate {path} and {key}: {error}") from None
    return context


def cert_directory(netloc: str, options: NetworkOptions, environ: Mapping[str, str]) -> Path | None:
    """Return the directory with the certificates for `HOST[:PORT]`, or None."""
    if options.cert_dir is not None:
        directory = Path(options.cert_dir)
        if not directory.is_dir():
            raise UsageError(f"--cert-dir {options.cert_dir} is not a directory")
        return directory
    config = Path(environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME') or '/'}/.config")
    for parent in (config / "containers", Path("/etc/containers"), Path("/etc/docker")):
        directory = parent / "certs.d" / netloc
        if directory.is_dir():
            return directory
    return None


def _load_authority(context: ssl.SSLContext, path: Path) -> None:
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"loading the certificate authority {path}: {error}") from None


def _load_pair(context: ssl.SSLContext, netloc: str, certificate: str, key: str) -> None:
    """Load a client's certificate and key; ssl takes them from files only."""
    with tempfile.NamedTemporaryFile(prefix="bootc-py-") as file:  # for this user alone
        file.write(f"{certificate}\n{key}\n".encode())
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"the client certificate given for {netloc}: {error}") from None
