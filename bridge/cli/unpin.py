"""`bootc-py unpin`: a deployment may go when others come."""

from __future__ import annotations

from bridge.cli.pin import configure_unpin as configure

__all__ = ["configure"]
