"""For all tests."""

from support.removable import removable

__all__ = ["removable"]
