"""Boot loaders that do not read libostree's boot entries where they lie.

`none`        whatever reads BLS entries from `/boot/loader`: nothing to do
`grub-menu`   a GRUB without `blscfg`: a menu of its own beside the entries, which flips with them
`systemd`     systemd-boot, which reads FAT only: entries and kernels are copied to the ESP

The repository's config says which: `[bootc-py] bootloader`. For libostree there is nothing to do
then (`sysroot.bootloader=none`), so what it finalises by itself would be missing here: with the
last two a deployment is not staged but written at once (`Loader.follows_entries`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import UsageError
from bridge.sysroot import bls, files
from bridge.sysroot.loaders import grub_menu, systemd_boot

KEY = ("bootc-py", "bootloader")


@dataclass(frozen=True, slots=True)
class Loader:
    """What has to be done for one of them as the boot order changes."""

    name: str

    @property
    def follows_entries(self) -> bool:
        """Whether boot entries alone are enough, whoever writes them."""
        return self.name == "none"

    def prepare(self, boot_fd: int, directory: int, entries: Sequence[bls.Entry]) -> None:
        """Add what the loader needs before `directory`, which is `loader.N`, becomes live.

        Where that does not fit, nothing has changed for it.
        """
        if self.name == "grub-menu":
            grub_menu.write(directory, entries)
        elif self.name == "systemd":
            systemd_boot.copy_kernels(boot_fd, entries)

    def publish(self, boot_fd: int, entries: Sequence[bls.Entry]) -> None:
        """Take over entries that have become live; those of before can still be booted.

        What the old ones need is removed only afterwards. Entries are in boot order. Done once
        more, it does nothing: so it finishes what was cut off.
        """
        if self.name == "systemd":
            systemd_boot.copy(boot_fd, entries)
        elif self.name == "grub-menu":
            # There already, unless it was libostree that has written the entries.
            with files.directory(boot_fd, files.read_link(boot_fd, "loader") or "") as fd:
                grub_menu.write(fd, entries)


def named(name: str) -> Loader:
    """Return the loader of that name; `UsageError` where there is none."""
    if name not in ("none", "grub-menu", "systemd"):
        raise UsageError(f"the repository's config names the boot loader {name!r:.100}")
    return Loader(name)
