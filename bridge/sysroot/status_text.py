"""`status` for people to read, as bootc's humanreadable format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.sysroot import kargs, timestamp
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.image_metadata import Lookup

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class More:
    """What the document has no place for, of one deployment."""

    index: int | None = None
    """Its place in the boot order; None while it is staged."""
    size: int | None = None
    """Bytes of the image's layers, compressed."""
    since: float | None = None
    """When it was deployed, in seconds since 1970."""
    name: str | None = None
    kargs: str = ""


def describe(deployment: Deployment, lookup: Lookup) -> More:
    """Return what the document has no place for."""
    image = lookup(deployment.checksum)
    return More(
        None if deployment.staged else deployment.index,
        None if image is None else image.size,
        deployment.since,
        None if deployment.origin is None else deployment.origin.name,
        kargs.join(deployment.kargs),
    )


def to_text(
    document: Document,
    more: Mapping[str, More] | None = None,
    *,
    now: datetime | None = None,
    verbose: bool = False,
) -> str:
    """Return the text of a `BootcHost` document, with `more` by `CHECKSUM.SERIAL`.

    Ages count from `now`; without it there are none. On a sysroot that is not booted the first
    deployment is named `Default`, the second `Rollback`.
    """
    show = _Show(more or {}, now, verbose)
    status = document["status"]
    slots = [
        ("  Staged", status["staged"]),
        ("● Booted", status["booted"]),
        ("  Rollback", status["rollback"]),
    ]
    others = status.get("otherDeployments", [])
    if status["booted"] is None:
        if not others:
            return "No deployments.\n"
        names = ["  Default", "  Rollback"]
        slots = [*zip(names, others, strict=False)]
        others = others[len(names) :]
    slots += [("   Other", entry) for entry in others]
    overlay = status["usrOverlay"]
    blocks = [
        _block(name, entry, show, overlay if entry is status["booted"] else None)
        for name, entry in slots
        if entry is not None
    ]
    text = "\n".join(blocks)
    if status["rollbackQueued"]:
        text += "\nThe rollback boots next.\n"
    return text


@dataclass(frozen=True, slots=True)
class _Show:
    more: Mapping[str, More]
    now: datetime | None
    verbose: bool

    def of(self, entry: Document) -> More:
        ostree = entry["ostree"]
        return self.more.get(f"{ostree['checksum']}.{ostree['deploySerial']}", More())

    def built(self, image: Document) -> str:
        """Return when an image was built, and how long ago that is; empty if it does not say."""
        stamp = image["timestamp"]
        if not stamp:
            return ""
        return timestamp.without_fraction(stamp) if self.now is None else _dated(stamp, self.now)


def _dated(stamp: str, now: datetime) -> str:
    ago = timestamp.age(stamp, now)
    return timestamp.without_fraction(stamp) + (f", {ago}" if ago else "")


def _size(count: int) -> str:
    for power, unit in ((9, "GB"), (6, "MB")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count / 1000:.1f} kB"


def _block(name: str, entry: Document, show: _Show, overlay: Document | None) -> str:
    image = entry["image"]
    more = show.of(entry)
    if image is None:
        heading = f"{name} ostree"
        width = len(heading)
        lines = [heading, _row("Commit", entry["ostree"]["checksum"], width)]
    else:
        heading = f"{name} image"
        width = len(heading)
        lines = [f"{heading}: {_reference(image['image'])}", *_image_rows(image, width, show)]
    if more.size is not None:
        lines.append(_row("Size", f"{_size(more.size)} to download", width))
    if show.now is not None and more.since is not None:
        lines.append(_row("Deployed", _dated(timestamp.of(more.since), show.now), width))
    if entry["pinned"]:
        lines.append(_row("Pinned", f"yes, as {more.name}" if more.name else "yes", width))
    if entry["downloadOnly"]:
        lines.append(_row("Download-only", "yes: it does not boot next", width))
    if image is not None and entry["cachedUpdate"] is not None:
        lines += _update_rows(entry["cachedUpdate"], image, width, show)
    if overlay is not None:
        access = "read-only" if overlay["accessMode"] == "readOnly" else "read/write"
        lines.append(_row("/usr overlay", f"{overlay['persistence']}, {access}", width))
    if show.verbose:
        lines += _verbose_rows(entry, more, name.strip() == "Staged", width)
    return "".join(f"{line}\n" for line in lines)


def _row(name: str, value: str, width: int) -> str:
    # A version, say, is whatever the image says.
    printable = "".join(char if char.isprintable() else "?" for char in value)
    return f"{name:>{width}}: {printable}"


def _reference(reference: Document) -> str:
    name = str(reference["image"])
    transport = reference["transport"]
    return name if transport == "registry" else f"{transport}:{name}"


def _image_rows(image: Document, width: int, show: _Show) -> list[str]:
    rows = [_row("Digest", f"{image['imageDigest']} ({image['architecture']})", width)]
    built = show.built(image)
    if image["version"] is not None:
        rows.append(_row("Version", image["version"] + (f" ({built})" if built else ""), width))
    elif built:
        rows.append(_row("Timestamp", built, width))
    return rows


def _update_rows(cached: Document, image: Document, width: int, show: _Show) -> list[str]:
    if cached["imageDigest"] == image["imageDigest"]:
        return []
    built = show.built(cached)
    if cached["version"] is not None:
        version = cached["version"] + (f" ({built})" if built else "")
        rows = [_row("UpdateVersion", version, width)]
    else:
        rows = [_row("Update", "Available", width)]
    return [*rows, _row("UpdateDigest", cached["imageDigest"], width)]


def _verbose_rows(entry: Document, more: More, staged: bool, width: int) -> list[str]:
    ostree, image = entry["ostree"], entry["image"]
    rows = [] if more.index is None else [_row("Index", str(more.index), width)]
    rows += [
        _row("StateRoot", ostree["stateroot"], width),
        _row("Deploy serial", str(ostree["deploySerial"]), width),
        _row("Staged", "yes" if staged else "no", width),
    ]
    if image is not None:
        rows.append(_row("Commit", ostree["checksum"], width))
        signature = image["image"].get("signature")
        if isinstance(signature, dict):
            rows.append(_row("Signature", f"ostree-remote:{signature['ostreeRemote']}", width))
        elif signature == "containerPolicy":
            rows.append(_row("Signature", "container-policy", width))
    rows.append(_row("Soft-reboot", "yes" if entry["softRebootCapable"] else "no", width))
    if more.kargs:
        rows.append(_row("Kernel args", more.kargs, width))
    return rows
