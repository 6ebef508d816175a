"""Repairs on behalf of `fsck --repair` and `image repair`: of a repository, or of a whole host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text
from bridge.errors import DamagedRepository, NotFound

if TYPE_CHECKING:
    from bridge.oci.reference import ImageReference
    from bridge.ostree.fsck import Fault
    from bridge.ostree.repository import Repository
    from bridge.pull.repair import Repair
    from bridge.sysroot.deployed_files import DeployedFault
    from bridge.sysroot.sysroot import Sysroot


class Healing:
    """What the options name, opened and locked for changes: `--repo`, or a host with its lock."""

    def __init__(
        self,
        options: argparse.Namespace,
        repo: Repository,
        sysroot: Sysroot | None,
        stack: ExitStack,
    ) -> None:
        self._options = options
        self.repo = repo
        self._sysroot = sysroot
        self._stack = stack

    @classmethod
    def open(cls, options: argparse.Namespace) -> Healing:
        """Open it; `Busy` where another process changes the host."""
        from bridge.sysroot.sysroot import Sysroot

        with ExitStack() as stack:
            sysroot = None
            if options.repo is None:
                try:
                    sysroot = stack.enter_context(Sysroot.open(options.sysroot, writable=True))
                except NotFound:
                    pass  # a repository is there, perhaps, but nothing deployed from it
                else:
                    stack.enter_context(sysroot.locked())
            if sysroot is not None:
                repo = sysroot.repo
            else:
                repo = stack.enter_context(shared.open_repository(options))
            return cls(options, repo, sysroot, stack.pop_all())

    def __enter__(self) -> Healing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def name_deployments(self) -> None:
        """See to it that each deployed commit has its ref."""
        if self._sysroot is not None:
            from bridge.sysroot.cleanup import write_refs

            write_refs(self._sysroot, self._sysroot.load())

    def heal(
        self, faults: Iterable[Fault], only: Sequence[ImageReference] = ()
    ) -> tuple[Repair, list[DeployedFault]]:
        """Repair what can be repaired; return what became of it."""
        network = shared.network_options(self._options)
        with shared.progress(self._options) as progress:
            if self._sysroot is not None:
                from bridge.sysroot.heal import heal

                return heal(self._sysroot, faults, network=network, progress=progress, only=only)
            from bridge.pull.repair import repair

            return repair(self.repo, faults, network=network, progress=progress, only=only), []

    def conclude(self, done: Repair, files: Sequence[DeployedFault]) -> int:
        """Say what was done, as the options ask; `DamagedRepository` where something is left."""
        options = self._options
        if not options.json and not options.quiet:
            print(render(done, files, verbose=options.verbose))
        for problem in done.problems:
            print(f"warning: {problem}", file=sys.stderr)
        if not options.json:
            for each in (*done.unrepaired, *done.broken_refs.values()):
                print(f"not repaired: {each}", file=sys.stderr)
        left = len(done.unrepaired), len(done.broken_refs)
        if any(left):
            raise DamagedRepository(
                f"{self.repo.path}: {count_text(left[0], 'object')} and "
                f"{count_text(left[1], 'ref')} could not be repaired; pull or deploy the images "
                "anew, or remove them (`fsck --repair` tells again what is left)"
            )
        return 0


def document(done: Repair, files: Sequence[DeployedFault]) -> dict[str, Any]:
    """Return the members that tell of a repair in a JSON document."""
    return {
        "repaired": [
            {"checksum": each.checksum, "type": each.kind.value} for each in done.repaired
        ],
        "unrepaired": [
            {"checksum": each.checksum, "type": each.kind.value, "reason": each.reason}
            for each in done.unrepaired
        ],
        "refs": list(done.refs),
        "brokenRefs": [
            {"ref": name, "reason": reason} for name, reason in done.broken_refs.items()
        ],
        "deploymentFiles": [{"deployment": each.deployment, "path": each.path} for each in files],
        "receivedBytes": done.received_bytes,
        "requests": done.requests,
        "layers": [each.to_json() for each in done.layers],
        "problems": list(done.problems),
    }


def render(done: Repair, files: Sequence[DeployedFault], *, verbose: bool = False) -> str:
    """Return what was repaired as text."""
    lines = [
        f"repaired:    {count_text(len(done.repaired), 'object')}, "
        f"{count_text(len(done.refs), 'ref')}, "
        f"{count_text(len(files), 'file')} of deployments",
        f"received:    {size_text(done.received_bytes)} in {count_text(done.requests, 'request')}",
    ]
    lines += [
        f"  {each.plan.layer.digest}  {each.plan.mode.value:<8} "
        f"{size_text(each.received_bytes):>9} of {size_text(each.plan.layer.size)}"
        for each in done.layers
    ]
    if verbose:
        lines += [f"  {each}" for each in (*done.repaired, *done.refs, *files)]
    return "\n".join(lines)
