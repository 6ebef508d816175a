"""User names and passwords."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True)
class Credentials:
    """A user name and password."""

    user: str
    password: str

    @property
    def basic(self) -> str:
        """As HTTP basic authentication and the `auth` field of an auth file have it."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
