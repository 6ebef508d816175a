"""The transfer report on a page, for `image pull`, `switch` and `upgrade`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from bridge.cli.units import count_text, size_text
from bridge.errors import is_full
from bridge.ostree.repository import Repository
from bridge.pull.plan import LayerPlan
from bridge.pull.report import LayerReport, TransferPlan, TransferReport, append_history

_DROPPED_SHOWN = 5
_AVOIDED = {
    "layerBytes": "layers that are here",
    "fileBytes": "files that are here",
    "chunkBytes": "pieces of files that are here",
}


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
    show_report(options, report)


def show_report(options: argparse.Namespace, report: TransferReport) -> None:
    """Print the report as the options ask."""
    if options.json:
        print(json.dumps(report.to_json(), indent=2))
    elif not options.quiet:
        print(render(report, verbose=options.verbose))


def show_plan(options: argparse.Namespace, plan: TransferPlan) -> None:
    """Print what would be moved, as the options ask."""
    if options.json:
        print(json.dumps(plan.to_json(), indent=2))
    elif not options.quiet:
        print(render_plan(plan))


def render_plan(plan: TransferPlan) -> str:
    """Return the plan as text."""
    requests = sum(each.transfer_requests for each in plan.layers)
    lines = [
        f"{'image:':<12} {plan.reference}",
        f"{'digest:':<12} {plan.manifest_digest}",
        f"{'to move:':<12} {size_text(plan.planned_bytes)} of {size_text(plan.image_bytes)} in "
        f"{count_text(requests, 'request')}",
        f"{'asked for:':<12} {size_text(plan.received_bytes)} in "
        f"{count_text(plan.requests, 'request')}, to find that out",
    ]
    return "\n".join(lines + [_layer(each, each.transfer_bytes) for each in plan.layers])


def _layer(plan: LayerPlan, moved: int) -> str:
    return (
        f"  {plan.layer.digest[:19]}  {plan.mode.value:<8} {size_text(moved):>9} of "
        f"{size_text(plan.layer.size):>9}" + (f"  {plan.reason}" if plan.reason else "")
    )


def _moved(layer: LayerReport) -> str:
    planned = layer.planned
    line = _layer(layer.plan, layer.received_bytes)
    if planned is not None and planned.transfer_bytes != layer.received_bytes:
        line += f" (planned: {planned.mode.value}, {size_text(planned.transfer_bytes)})"
    return line


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
        if report.deployment.locked:
            state = "staged, but not to boot next: upgrade --from-downloaded"
        elif report.deployment.staged:
            state += ", finished when the machine goes down"
        rows.append(("deployment", f"{deployed} ({state})"))
    received = (
        f"{size_text(report.received_bytes)} of {size_text(report.image_bytes)}"
        f" in {count_text(report.requests, 'request')}"
    )
    if report.retries:
        received += f", {count_text(report.retries, 'retry')}"
    rows.append(("received", received))
    modes = Counter(layer.plan.mode.value for layer in report.layers)
    rows.append(
        (
            "layers",
            f"{len(report.layers)}: {modes['present']} here already, {modes['partial']} in parts, "
            f"{modes['whole']} whole",
        )
    )
    avoided = report.avoided
    if any(avoided.values()):
        parts = [
            f"{size_text(avoided[key])} in {name}" for key, name in _AVOIDED.items() if avoided[key]
        ]
        rows.append(("not moved", ", ".join(parts)))
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
        lines += [_moved(layer) for layer in report.layers]
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
