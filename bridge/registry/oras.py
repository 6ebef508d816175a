"""The one adapter to oras-py. Nothing on the data path goes through it.

oras-py does not check what it downloads, keeps one token for all repositories and does not know
ranges, so `Client` does all reading. What it does serve for is Docker's login store as other
tools of the ORAS family see it: programs built on both can compare what they would log in with.
"""

from __future__ import annotations

from bridge.errors import UsageError


def load_auths(path: str) -> dict[str, str]:
    """Return host → base64 `user:password` of the login store at `path`, as oras-py reads it.

    oras-py adds what is in `~/.docker/config.json`. Raises `UsageError` when it cannot read it.
    """
    from oras.auth.utils import load_configs  # its imports take a quarter of a second

    try:
        auths = load_configs([path])["auths"]
        return {host: entry["auth"] for host, entry in auths.items() if entry.get("auth")}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"reading the login store {path}: {error}") from None
