"""What was changed in the `/etc` of a deployment, against what its image has there."""

from __future__ import annotations

from bridge.errors import NotFound
from bridge.sysroot import files
from bridge.sysroot.etc_diff import Changes, diff
from bridge.sysroot.sysroot import Sysroot


def config_diff(sysroot: Sysroot) -> Changes:
    """Return the changes in the current deployment's `/etc`; `NotFound` when there is none."""
    current = sysroot.load().current
    if current is None:
        raise NotFound(f"{sysroot.path} has no deployment")
    with (
        files.doing(f"comparing /etc of {current.name}"),
        files.directory(sysroot.ostree_fd, current.path) as tree,
        files.directory(tree, "usr/etc") as defaults,
        files.directory(tree, "etc") as etc,
    ):
        return diff(defaults, etc)
