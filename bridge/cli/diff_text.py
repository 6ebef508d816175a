"""What an update moves and changes, on a terminal."""

from __future__ import annotations

from bridge.cli.escape import printable
from bridge.cli.units import count_text, size_text
from bridge.compare.causes import Cause
from bridge.compare.changes import FileChange, PackageChange
from bridge.compare.estimate import Strategy
from bridge.compare.image import Identity
from bridge.compare.report import CAUSES_SHOWN, ImageDiff, layer_counts

_PACKAGES_SHOWN = 20
_FILES_SHOWN = 10
_UNKNOWN = "not known"
STRATEGY_NAMES = {
    Strategy.LAYERS: "whole layers",
    Strategy.FILES: "files",
    Strategy.CHUNKS: "chunks",
}


def render(diff: ImageDiff, *, verbose: bool = False) -> str:
    """Return the report as text; all packages and files with `verbose`."""
    shared, new = layer_counts(diff)
    lines = [
        f"{'from:':<12} {identity(diff.before)}",
        f"{'to:':<12} {identity(diff.after)}",
        f"{'image:':<12} {size_text(diff.after.manifest.image_bytes)} in "
        f"{count_text(shared + new, 'layer')}, {shared} of which the first image has",
    ]
    for strategy in Strategy:
        marked = " *" if strategy is diff.strategy else ""
        lines.append(f"{STRATEGY_NAMES[strategy] + ':':<14} {_moved(diff, strategy)}{marked}")
    lines.append(f"{'delta:':<14} not available")
    if diff.stored is not None:
        stored = diff.stored
        lines.append(
            f"{'to store:':<14} {size_text(stored.bytes)} in {count_text(stored.files, 'new file')}"
        )
    lines += _causes(diff) + _packages(diff, verbose) + _files(diff, verbose)
    lines.append(f"{'read:':<14} {read_text(diff)}")
    return "\n".join(lines + [f"note: {reason}" for reason in diff.reasons])


def identity(image: Identity) -> str:
    """Return what an image is, in a line."""
    version = f", version {printable(image.version)}" if image.version else ""
    return f"{printable(image.reference)} ({image.manifest.digest[:19]}{version})"


def read_text(diff: ImageDiff) -> str:
    """Return what it took to know all this."""
    read = diff.read
    text = (
        f"{size_text(read.received_bytes)} received in {count_text(read.requests, 'request')} to "
        "find this out"
    )
    if read.layers:
        text += (
            f"; {count_text(read.layers, 'layer')} ({size_text(read.layer_bytes)}) had to be read "
            "whole"
        )
    return text


def cause_name(cause: Cause) -> str:
    """Return what to call a cause; it is not yet made printable."""
    if cause.kind == "package":
        return f"{cause.name} ({count_text(cause.files, 'file')})"
    return f"/{cause.name}" if cause.kind == "path" else cause.name


def package_text(change: PackageChange) -> str:
    """Return a package's change, but for its name; it is not yet made printable."""
    return " → ".join(each for each in (change.before, change.after) if each is not None)


def file_text(change: FileChange) -> str:
    """Return what became of a file."""
    return f"{change.kind.value}: {', '.join(change.what)}" if change.what else change.kind.value


def _moved(diff: ImageDiff, strategy: Strategy) -> str:
    estimate = diff.estimates[strategy]
    if estimate is None:
        return _UNKNOWN
    requests = count_text(estimate.requests, "request")
    return f"{size_text(estimate.bytes):>9} in {requests}"


def _causes(diff: ImageDiff) -> list[str]:
    if not diff.causes:
        return []
    lines = [f"what moves ({STRATEGY_NAMES[diff.strategy]}):"]
    for cause in diff.causes[:CAUSES_SHOWN]:
        about = "about " if cause.estimated else ""
        lines.append(f"  {about + size_text(cause.bytes):>14}  {printable(cause_name(cause))}")
    rest = diff.causes[CAUSES_SHOWN:]
    if rest:
        lines.append(f"  {size_text(sum(each.bytes for each in rest)):>14}  {len(rest):,} others")
    return lines


def _packages(diff: ImageDiff, verbose: bool) -> list[str]:
    if diff.packages is None:
        return [f"packages: {_UNKNOWN}"]
    lines = [f"packages: {count_text(len(diff.packages), 'change')}"]
    shown = diff.packages if verbose else diff.packages[:_PACKAGES_SHOWN]
    for each in shown:
        text = f"{each.name} {package_text(each)} ({each.direction})"
        lines.append(f"  {printable(text)}")
    if len(shown) < len(diff.packages):
        lines.append(f"  … and {len(diff.packages) - len(shown)} more; all with -v or --json")
    return lines


def _files(diff: ImageDiff, verbose: bool) -> list[str]:
    if diff.files is None:
        return [f"files: {_UNKNOWN}"]
    counts = ", ".join(f"{count:,} {kind.value}" for kind, count in diff.counts().items())
    lines = [f"files: {counts}"]
    shown = diff.listed_files(len(diff.files) if verbose else _FILES_SHOWN)
    for change, moved in shown:
        lines.append(f"  {size_text(moved):>14}  /{printable(change.path)} ({file_text(change)})")
    if len(shown) < len(diff.files):
        lines.append(f"  … and {len(diff.files) - len(shown):,} more; all with -v")
    return lines
