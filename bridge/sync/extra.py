"""What sync jobs need beyond the rest of the project: the extra `sync`."""

from __future__ import annotations

import importlib
from types import ModuleType

from bridge.errors import BridgeError


def extra(module: str) -> ModuleType:
    """Return a module of the extra `sync`; raises `BridgeError` that says how it is installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise BridgeError(
            f"sync jobs need the Python module {module!r}, which is not installed; "
            "install it with: pip install 'bootc-py[sync]'"
        ) from None
