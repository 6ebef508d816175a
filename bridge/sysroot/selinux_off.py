"""The kernel argument that turns SELinux off where files were left without labels."""

from __future__ import annotations

from bridge.ostree.repository import Repository
from bridge.ostree.selinux import COMMIT_KEY
from bridge.sysroot.deploy import KernelArguments
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import Sysroot

ARGUMENT = "selinux=0"
"""bootc sets it, too, where SELinux is to be off."""


def is_labelled(deployment: Deployment) -> bool:
    """Return whether a deployment is to have labels where its image has a policy."""
    return deployment.origin is None or deployment.origin.labelled


def is_unlabelled(repo: Repository, commit: str) -> bool:
    """Return whether a commit's files were left without labels though it has a policy."""
    return repo.read_commit(commit).metadata.get(COMMIT_KEY) == ""


def arguments(sysroot: Sysroot, commit: str, origin: Origin) -> KernelArguments:
    """Return what turns SELinux off where the files have no labels, and on again where they do.

    With a policy that is enforced, and no labels, a system would not come up.
    """
    state = sysroot.load()
    current = state.current
    before = state.merge_deployment(current.stateroot) if current is not None else None
    off = before is not None and ARGUMENT in before.kargs
    if is_unlabelled(sysroot.repo, commit):
        return KernelArguments(append=() if off else (ARGUMENT,))
    if before is not None and off and origin.labelled and not is_labelled(before):
        return KernelArguments(delete=(ARGUMENT,))
    return KernelArguments()
