"""`bootc-py container lint`: look for what is wrong in an image, before it is published."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bridge.cli import options as shared
from bridge.errors import BridgeError, UsageError

if TYPE_CHECKING:
    from bridge.lint.model import Finding, Report
    from bridge.lint.subject import Subject

SHOWN = 5
"""Paths of one kind that are shown, as bootc does, unless all are asked for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        help="[TRANSPORT:]NAME; it is pulled for as long as it takes, or with --repo or "
        "--sysroot, looked at where it is stored (default: look at --rootfs)",
    )
    shared.add_transport(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--rootfs", metavar="DIR", help="look at the image's root, unpacked (default: /)"
    )
    group.add_argument("--repo", metavar="DIR", help="look at a stored image of this repository")
    group.add_argument("--sysroot", metavar="DIR", help="look at a stored image of this host")
    parser.add_argument(
        "--skip", metavar="NAME", action="append", default=[], help="leave this lint out"
    )
    parser.add_argument("--fatal-warnings", action="store_true", help="fail at warnings too")
    parser.add_argument("--list", action="store_true", help="list the lints, and look at nothing")
    parser.add_argument(
        "--no-truncate", action="store_true", help=f"show all paths, not {SHOWN} of each kind"
    )
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=_lint)


def _lint(options: argparse.Namespace) -> int:
    from bridge.lint.run import check_names, run

    if options.list:
        print(_listing(as_json=options.json), end="")
        return 0
    check_names(options.skip)
    with ExitStack() as stack:
        report = run(_subject(options, stack), options.skip)
    if options.json:
        print(json.dumps(document(report), indent=2))
    else:
        shown = None if options.no_truncate else SHOWN
        show(report, shown=shown, quiet=options.quiet, verbose=options.verbose)
    require(report, fatal_warnings=options.fatal_warnings)
    return 0


def require(report: Report, *, fatal_warnings: bool) -> None:
    """Raise `BridgeError` where a lint that is fatal found something, or any of them if told so."""
    from bridge.lint.model import Level

    failed = report.failed(Level.FATAL) + (report.failed(Level.WARNING) if fatal_warnings else 0)
    if failed:
        raise BridgeError(
            f"checks failed: {failed}; cure what was found, or leave a check out with --skip NAME"
        )


def _subject(options: argparse.Namespace, stack: ExitStack) -> Subject:
    from bridge.lint import sources
    from bridge.oci.epoch import source_date_epoch

    epoch = source_date_epoch()
    is_stored = options.repo is not None or options.sysroot is not None
    if options.image is None:
        if is_stored or options.transport is not None:
            raise UsageError("--repo, --sysroot and --transport want an IMAGE")
        return stack.enter_context(sources.directory(options.rootfs or "/", epoch))
    if options.rootfs is not None:
        raise UsageError("look either at IMAGE or at --rootfs DIR")
    reference = shared.image_reference(options.image, options.transport)
    if is_stored:
        repo = stack.enter_context(shared.open_repository(options))
        return sources.stored(repo, reference, epoch)
    network = shared.network_options(options)
    with shared.progress(options) as progress:
        return stack.enter_context(sources.remote(reference, network, progress, epoch))


def show(
    report: Report, *, shown: int | None = SHOWN, quiet: bool = False, verbose: bool = False
) -> None:
    """Print a report as bootc does, `shown` paths of each kind, all for None; if `quiet`, findings
    alone, if `verbose` why lints were skipped, too."""
    from bridge.lint.model import Level

    for result in report.results:
        is_fatal = result.lint.level is Level.FATAL
        head = f"{'Failed lint' if is_fatal else 'Lint warning'}: {result.lint.name}: "
        findings = sorted(result.findings, key=_kind)  # which keeps the order of paths
        for (problem, cure), group in groupby(findings, key=_kind):
            print(f"{head}{_plain(problem)}:")
            found = list(group)
            for each in found[:shown]:
                print("  " + _plain(each.path + (f" ({each.detail})" if each.detail else "")))
            if shown is not None and len(found) > shown:
                print(f"  ...and {len(found) - shown:,} more")
            print(f"  cure: {cure}")
    if quiet:
        return
    print(f"Checks passed: {report.passed}")
    if report.skipped:
        print(f"Checks skipped: {report.skipped}")
    for result in report.results:
        if result.skipped and verbose:
            print(f"  {result.lint.name}: {result.skipped}")
    for level, text in ((Level.WARNING, "Warnings"), (Level.FATAL, "Fatal")):
        if report.failed(level):
            print(f"{text}: {report.failed(level)}")


def _kind(finding: Finding) -> tuple[str, str]:
    return finding.problem, finding.cure


def _plain(text: str) -> str:
    """Return text of an image so that no terminal obeys it."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def document(report: Report) -> dict[str, Any]:
    """Return a report as a `LintReport`, docs/lint.md."""
    from bridge.lint.model import Level

    return {
        "apiVersion": "bootc-py/v1",
        "kind": "LintReport",
        "passed": report.passed,
        "skipped": report.skipped,
        "warnings": report.failed(Level.WARNING),
        "fatal": report.failed(Level.FATAL),
        "lints": [
            {
                "name": each.lint.name,
                "type": each.lint.level.value,
                "outcome": "skipped" if each.skipped else "failed" if each.findings else "passed",
                "reason": each.skipped or None,
                "findings": [
                    {
                        "path": finding.path,
                        "problem": finding.problem,
                        "detail": finding.detail or None,
                        "cure": finding.cure,
                    }
                    for finding in each.findings
                ],
            }
            for each in report.results
        ],
    }


def _listing(*, as_json: bool) -> str:
    from bridge.lint.registry import LINTS

    known = [
        {"name": lint.name, "type": lint.level.value, "description": lint.description}
        for lint in LINTS
    ]
    if as_json:
        return json.dumps(known, indent=2) + "\n"
    lines = []
    for each in known:
        lines.append(f"- name: {each['name']}\n  type: {each['type']}\n")
        lines.append(f"  description: {json.dumps(each['description'])}\n")
    return "".join(lines)
