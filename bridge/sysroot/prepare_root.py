"""What an image asks of ostree-prepare-root, which mounts its deployment at boot.

`ostree/prepare-root.conf` in `/usr/lib`, overridden by `/etc`; see ostree-prepare-root(1).
"""

from __future__ import annotations

from bridge import limits
from bridge.errors import BridgeError, MalformedImage
from bridge.ostree.keyfile import KeyFile
from bridge.sysroot import files

_NEEDED = frozenset({"yes", "true", "1", "signed", "verity"})


def check(tree: int, what: str) -> None:
    """Raise `MalformedImage` when the image cannot boot without something that we do not make.

    That is composefs (`[composefs] enabled=yes`): ostree-prepare-root stops the boot when the
    deployment has no composefs image. With `maybe` it goes on without one.
    """
    enabled = "no"
    for parent in ("usr/lib/ostree", "etc/ostree"):
        try:
            with files.directory(tree, parent) as fd:
                text = files.read_bytes(fd, "prepare-root.conf", limits.ORIGIN_MAX).decode()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnicodeDecodeError:
            raise MalformedImage(f"{what}: prepare-root.conf is not text") from None
        try:
            enabled = KeyFile.parse(text).get("composefs", "enabled") or enabled
        except BridgeError as error:
            raise MalformedImage(f"{what}: prepare-root.conf: {error}") from None
    if enabled.strip().lower() in _NEEDED:
        raise MalformedImage(
            f"{what} boots with composefs only (prepare-root.conf has enabled={enabled}), which "
            "is not supported yet; an image with enabled=maybe would do"
        )
