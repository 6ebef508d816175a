"""For all tests."""

from hypothesis import settings
from support.removable import removable

__all__ = ["removable"]

# How long an example takes is nothing that a test asserts.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
