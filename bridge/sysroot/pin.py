"""Pin a deployment, as `ostree admin pin`, or give it another origin."""

from __future__ import annotations

from bridge.errors import BridgeError
from bridge.ostree import durable
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import Sysroot


def pin(sysroot: Sysroot, deployment: Deployment, pinned: bool = True) -> None:
    """Keep the deployment whatever comes after it, or no longer. Takes the sysroot's lock."""
    if deployment.origin is None:
        raise BridgeError(f"cannot pin {deployment.name}: {deployment.problem}")
    write_origin(sysroot, deployment, deployment.origin.with_pinned(pinned))


def write_origin(sysroot: Sysroot, deployment: Deployment, origin: Origin) -> None:
    """Replace the deployment's origin file. Takes the sysroot's lock."""
    parent, _, name = deployment.path.rpartition("/")
    with sysroot.locked(), files.doing(f"writing the origin of {deployment.name}"):
        with files.directory(sysroot.ostree_fd, parent) as fd:
            durable.replace_file(f"{name}.origin", origin.text.encode(), fd)
        sysroot.bump()
