"""The transfer report on a page, for `image pull`, `switch` and `upgrade`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from bridge.cli.units import count_text, size_text
from bridge.errors import is_full
from bridge.ostree.repository import Repository
from bridge.pull.report import TransferReport, append_history

_DROPPED_SHOWN = 5


def show(
    command: str, options: argparse.Namespace, repo: Repository, report: TransferReport
) -> None:
    """Add the report to the history as that of `command`, and print it as the options ask."""
    try:
        append_history(repo, command, report)
    except OSError as error:
        if not is_full(error):
            raise
        # What was asked for is done; that it is not in the history does not undo it.
        print(f"warning: not added to the history: {error.strerror}", file=sys.stderr)
    if options.json:
        print(json.dumps(report.to_json(), indent=2))
    elif not options.quiet:
        print(render(report, verbose=options.verbose))


def render(report: TransferReport, *, verbose: bool = False) -> str:
    """Return the report as text."""
    store, seconds = report.store, report.seconds
    rows = [
        ("image", report.reference),
        ("digest", report.manifest_digest),
        ("commit", report.commit),
    ]
    if report.deployment is not None:
        deployed = f"{report.deployment.checksum[:16]}….{report.deployment.serial}"
        state = "boots next" if report.changed else "boots next already, nothing to do"
        rows.append(("deployment", f"{deployed} ({state})"))
    received = (
        f"{size_text(report.received_bytes)} of {size_text(report.image_bytes)}"
        f" in {count_text(report.requests, 'request')}"
    )
    if report.retries:
        received += f", {count_text(report.retries, 'retry')}"
    rows.append(("received", received))
    present = sum(layer.plan.mode.value == "present" for layer in report.layers)
    rows.append(
        (
            "layers",
            f"{len(report.layers)}: {present} here already "
            f"({size_text(report.avoided_layer_bytes)} not moved), "
            f"{len(report.layers) - present} pulled",
        )
    )
    rows.append(
        (
            "store",
            f"{count_text(store.files, 'file')}: {store.new_objects:,} new "
            f"({size_text(store.new_bytes)}), {store.reused_objects:,} shared with what was "
            f"there ({size_text(store.reused_bytes)} not stored again)",
        )
    )
    if report.space.tight:
        basis = " (an estimate)" if report.space.estimated else ""
        rows.append(
            (
                "space",
                f"{size_text(report.space.needed)} for all that was to be pulled{basis}, where "
                f"{size_text(report.space.available)} were available",
            )
        )
    phases = seconds.to_json()
    parts = [f"{name} {value:.1f}" for name, value in phases.items() if name != "total"]
    rows.append(("seconds", f"{seconds.total:.1f} ({', '.join(parts)})"))
    lines = [f"{name + ':':<12} {value}" for name, value in rows]
    if verbose:
        lines += [
            f"  {layer.plan.layer.digest}  {layer.plan.mode.value:<8} "
            f"{size_text(layer.received_bytes):>9} of {size_text(layer.plan.layer.size)}"
            for layer in report.layers
        ]
    return "\n".join(lines + _dropped(report, verbose))


def _dropped(report: TransferReport, verbose: bool) -> list[str]:
    if not report.dropped:
        return []
    reasons = Counter(each.reason for each in report.dropped)
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    lines = [f"{'left out:':<12} {count_text(len(report.dropped), 'entry')} ({summary})"]
    shown = report.dropped if verbose else report.dropped[:_DROPPED_SHOWN]
    lines += [f"  {each.path!r}: {each.reason}" for each in shown]
    if len(shown) < len(report.dropped):
        lines.append(f"  … and {len(report.dropped) - len(shown)} more; all with -v or --json")
    return lines
