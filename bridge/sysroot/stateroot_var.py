"""The stateroot's `/var`, which all its deployments share and no upgrade touches.

As libostree since 2024.3, and like a container engine's volumes: while it is empty, the first
deployment fills it with the `/var` of its image; after that nothing is ever merged into it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from bridge.errors import NotFound
from bridge.ostree import checkout, durable
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import Sysroot

_UNFINISHED = ".bootc-py-initial-var"


def initialise(sysroot: Sysroot, deployment: Deployment, tree: int) -> None:
    """Fill the deployment's stateroot's `var` from its image when it is empty.

    An image without systemd's tmpfiles.d, which would make them at boot, also gets the standard
    directories. The content is made in a directory inside `var` first (`var` may be a file system
    of its own) and moved up from there: a run that was cut off is finished by the next.
    """
    image_var = files.lstat(tree, "var")
    with files.directory(sysroot.ostree_fd, f"deploy/{deployment.stateroot}/var") as var:
        present = os.listdir(var)
        if (present and _UNFINISHED not in present) or image_var is None:
            return
        if not stat.S_ISDIR(image_var.st_mode):
            return
        durable.remove_tree(_UNFINISHED, var)
        with contextlib.suppress(NotFound):
            checkout.checkout(
                sysroot.repo, deployment.checksum, var, _UNFINISHED, subpath="var", hardlink=False
            )
            # On disk before the first piece moves up, for no later run looks at it again.
            durable.syncfs(var)
            with files.directory(var, _UNFINISHED) as made:
                for name in os.listdir(made):
                    if files.lstat(var, name) is None:
                        os.rename(name, name, src_dir_fd=made, dst_dir_fd=var)
        if files.lstat(tree, "usr/lib/tmpfiles.d") is None:
            _make_standard_directories(var)
        durable.remove_tree(_UNFINISHED, var)


def _make_standard_directories(var: int) -> None:
    for name, mode in (("tmp", 0o1777), ("lib", 0o755), ("log", 0o755)):
        if files.lstat(var, name) is None:
            os.mkdir(name, 0o755, dir_fd=var)
            os.chmod(name, mode, dir_fd=var)
    for name, target in (("run", "../run"), ("lock", "../run/lock")):
        if files.lstat(var, name) is None:
            os.symlink(target, name, dir_fd=var)
