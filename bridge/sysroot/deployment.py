"""What a deployment is, and the boot link that names it on the kernel command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bridge.errors import BridgeError
from bridge.sysroot import bls, kargs
from bridge.sysroot.origin import Origin

_BOOT_LINK = re.compile(r"/ostree/boot\.([01])/([^/\0]+)/([^/\0]+)/([0-9]{1,9})")
_DEPLOY_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployed commit. Its directory is `ostree/deploy/STATEROOT/deploy/CHECKSUM.SERIAL`."""

    stateroot: str
    checksum: str
    """The commit, 64 hex digits."""
    serial: int
    """Tells deployments of the same commit apart."""
    bootcsum: str
    """Checksum over kernel and initramfs; names their directory in `/boot/ostree`."""
    entry: bls.Entry = field(default_factory=bls.Entry)
    """The boot entry it was read from, or that it is to have."""
    origin: Origin | None = None
    index: int = 0
    """Place in the boot order; 0 boots next."""
    booted: bool = False
    staged: bool = False
    """Whether it is only going to be in the boot order when the machine goes down."""
    since: float | None = field(default=None, compare=False)
    """When it was made, in seconds since 1970; None where that is not known."""
    problem: str = ""
    """Why a part of it could not be read; empty when all could."""

    @property
    def name(self) -> str:
        """`CHECKSUM.SERIAL`."""
        return f"{self.checksum}.{self.serial}"

    @property
    def path(self) -> str:
        """The deployment's directory below the `ostree` directory of the sysroot."""
        return f"deploy/{self.stateroot}/deploy/{self.name}"

    @property
    def kargs(self) -> kargs.Arguments:
        """Kernel arguments without the one that names the deployment."""
        return kargs.without(kargs.split(self.entry.get("options") or ""), "ostree")

    @property
    def pinned(self) -> bool:
        """Whether somebody wants it kept whatever comes after it."""
        return self.origin is not None and self.origin.pinned and not self.origin.kept

    @property
    def image_reference(self) -> str | None:
        """The image it was made from, as its origin has it."""
        return None if self.origin is None else self.origin.image_reference

    def is_same(self, other: Deployment | None) -> bool:
        """Whether both are the same directory on disk."""
        return other is not None and self.path == other.path


@dataclass(frozen=True, slots=True)
class BootLink:
    """The value of `ostree=`: `/ostree/boot.BOOTVERSION/STATEROOT/BOOTCSUM/BOOTSERIAL`."""

    bootversion: int
    stateroot: str
    bootcsum: str
    bootserial: int

    @classmethod
    def parse(cls, text: str) -> BootLink:
        """Parse the value of `ostree=`; `BridgeError` when it has another form."""
        match = _BOOT_LINK.fullmatch(text)
        if match is None or ".." in (match[2], match[3]) or "." in (match[2], match[3]):
            raise BridgeError(f"{text!r:.200} is no boot link of OSTree")
        return cls(int(match[1]), match[2], match[3], int(match[4]))

    def __str__(self) -> str:
        return f"/ostree/boot.{self.bootversion}/{self.stateroot}/{self.bootcsum}/{self.bootserial}"


def parse_name(name: str) -> tuple[str, int] | None:
    """Split a directory's name `CHECKSUM.SERIAL`; `None` when it is none."""
    match = _DEPLOY_NAME.fullmatch(name)
    return None if match is None else (match[1], int(match[2]))
