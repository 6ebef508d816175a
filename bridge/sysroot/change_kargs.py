"""Other kernel arguments: a deployment of the same commit with them, which boots next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import NotFound, UsageError
from bridge.pull.progress import Progress
from bridge.sysroot import kargs, staging
from bridge.sysroot.bootentry import without_prepare_root
from bridge.sysroot.deploy import KernelArguments
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import Sysroot
from bridge.sysroot.update import deploy_and_drop


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change, in this order."""

    delete: Sequence[str] = ()
    """`KEY=VALUE`, or `KEY` where it has one value only."""
    replace: Sequence[str] = ()
    append: Sequence[str] = ()

    def apply(self, arguments: kargs.Arguments) -> kargs.Arguments:
        """Return the arguments with the changes; `UsageError` for one to delete that is not there,
        or where one is the boot link, which is not the user's."""
        for text in (*self.delete, *self.replace, *self.append):
            if any(kargs.key(each) == "ostree" for each in kargs.split(text)):
                raise UsageError("ostree= says what is booted; use: bootc-py rollback --to")
        for each in self.delete:
            arguments = kargs.delete(arguments, each)
        for text in self.replace:
            for each in kargs.split(text):
                arguments = kargs.replace(arguments, each)
        return kargs.append(arguments, self.append)


@dataclass(frozen=True, slots=True)
class Changed:
    """What boots next, and with which arguments."""

    deployment: Deployment
    arguments: kargs.Arguments
    changed: bool


def change(path: str | Path, changes: Changes, *, progress: Progress | None = None) -> Changed:
    """Change the arguments of what boots next of the sysroot at `path`; `NotFound` without any.

    Where nothing changes, nothing is deployed. What boots next by now stays, to be rolled back to,
    unless it was only staged.
    """
    progress = progress or Progress()
    with Sysroot.open(path, writable=True) as sysroot, sysroot.locked():
        state = sysroot.load_to_change()
        first = state.next
        if first is None:
            raise NotFound(f"{sysroot.path} has no deployment; use: bootc-py switch IMAGE")
        current = without_prepare_root(first.kargs)
        wanted = changes.apply(current)
        if wanted == current:
            return Changed(first, wanted, False)
        origin = (first.origin or Origin("")).without_transient()
        done = deploy_and_drop(
            sysroot,
            first.checksum,
            origin,
            progress,
            stateroot=first.stateroot,
            arguments=KernelArguments(override=wanted),
            stage=staging.how(sysroot, progress.message),
        )
        return Changed(done.deployment, wanted, True)
