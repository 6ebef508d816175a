"""Pin a deployment, as `ostree admin pin`, or give it another origin."""

from __future__ import annotations

import re

from bridge.errors import BridgeError, UsageError
from bridge.ostree import durable
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import Sysroot

_NAME = re.compile(r"(?!(?:[0-9a-f]|sha256:)+$)[A-Za-z][A-Za-z0-9._-]{0,62}")


def pin(
    sysroot: Sysroot, deployment: Deployment, pinned: bool = True, *, name: str | None = None
) -> None:
    """Keep the deployment whatever comes after it, or no longer. Takes the sysroot's lock.

    With a `name` it can be named by that; it loses its name with its pin. Raises `UsageError` for
    a name that could be taken for something else.
    """
    if deployment.origin is None:
        raise BridgeError(f"cannot pin {deployment.name}: {deployment.problem}")
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r:.100} is no name for a deployment: up to 63 letters, digits, '.', '_' and "
            "'-', the first a letter, and not all of them hexadecimal digits"
        )
    origin = deployment.origin.with_pinned(pinned)
    if name is not None or not pinned:
        origin = origin.with_name(name)
    write_origin(sysroot, deployment, origin)


def write_origin(sysroot: Sysroot, deployment: Deployment, origin: Origin) -> None:
    """Replace the deployment's origin file. Takes the sysroot's lock."""
    parent, _, name = deployment.path.rpartition("/")
    with sysroot.locked(), files.doing(f"writing the origin of {deployment.name}"):
        with files.directory(sysroot.ostree_fd, parent) as fd:
            durable.replace_file(f"{name}.origin", origin.text.encode(), fd)
        sysroot.bump()
