"""What a transaction did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """What happened to the content objects that were handed in. Sizes: payload bytes."""

    new_objects: int = 0
    reused_objects: int = 0
    new_bytes: int = 0
    reused_bytes: int = 0

    @property
    def files(self) -> int:
        return self.new_objects + self.reused_objects

    def add(self, other: Stats) -> None:
        """Add the numbers of `other`."""
        self.new_objects += other.new_objects
        self.reused_objects += other.reused_objects
        self.new_bytes += other.new_bytes
        self.reused_bytes += other.reused_bytes
