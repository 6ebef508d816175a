"""`bootc-py fsck`: every object hashed again, every damaged one named; healed with `--repair`."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text
from bridge.errors import BridgeError, DamagedRepository

if TYPE_CHECKING:
    from bridge.ostree.fsck import FsckResult
    from bridge.sysroot.deployed_files import DeployedFault


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_repository(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="have what is damaged again from where the images came from",
    )
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verify; the exit code of a damaged repository when there is any fault, and it stays."""
    return _repair(options) if options.repair else _verify(options)


def _verify(options: argparse.Namespace) -> int:
    from bridge.ostree.fsck import fsck

    with shared.open_repository(options) as repo:
        result = fsck(repo)
        files = _deployed(options)
        path = repo.path
    if options.json:
        print(json.dumps(_document(result, files), indent=2))
    else:
        _name(result, files)
    if result.faults or result.broken_refs or files:
        parts = []
        if result.faults:
            count = count_text(len(result.faults), "object")
            parts.append(f"{count} of {result.objects} damaged or missing")
        if result.broken_refs:
            parts.append(f"{count_text(len(result.broken_refs), 'ref')} broken")
        if files:
            parts.append(f"{count_text(len(files), 'file')} of deployments damaged")
        raise DamagedRepository(f"{path}: {', '.join(parts)}")
    if not options.json and not options.quiet:
        print(
            f"{path}: {count_text(result.objects, 'object')} ({size_text(result.bytes)}) and "
            f"{count_text(result.refs, 'ref')} verified, no fault found"
        )
    return 0


def _repair(options: argparse.Namespace) -> int:
    from bridge.cli.repair import Healing, document
    from bridge.ostree.fsck import fsck

    with Healing.open(options) as healing:
        result = fsck(healing.repo)
        done = healing.heal(result.faults)
    if options.json:
        print(json.dumps(_document(result, done[1]) | {"repair": document(*done)}, indent=2))
    elif options.verbose:
        _name(result, done[1])
    return healing.conclude(*done)


def _deployed(options: argparse.Namespace) -> list[DeployedFault]:
    """Verify the deployments, where a host is asked for."""
    if options.repo is not None:
        return []
    from bridge.sysroot.deployed_files import verify
    from bridge.sysroot.sysroot import Sysroot

    with ExitStack() as stack:
        try:
            sysroot = stack.enter_context(Sysroot.open(options.sysroot))
            return verify(sysroot, sysroot.load())
        except BridgeError as error:
            print(f"warning: deployments are not verified: {error}", file=sys.stderr)
            return []


def _name(result: FsckResult, files: list[DeployedFault]) -> None:
    for each in (*result.faults, *result.broken_refs.values(), *files):
        print(each, file=sys.stderr)


def _document(result: FsckResult, files: list[DeployedFault]) -> dict[str, Any]:
    return {
        "apiVersion": "bootc-py/v1",
        "kind": "Fsck",
        "objects": result.objects,
        "bytes": result.bytes,
        "refs": result.refs,
        "faults": [
            {"checksum": each.checksum, "type": each.kind.value, "reason": each.reason}
            for each in result.faults
        ],
        "brokenRefs": [
            {"ref": name, "reason": reason} for name, reason in result.broken_refs.items()
        ],
        "deploymentFaults": [
            {"deployment": each.deployment, "path": each.path, "reason": each.reason}
            for each in files
        ],
    }
