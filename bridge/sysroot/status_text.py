"""`status` for people to read, as bootc's humanreadable format."""

from __future__ import annotations

from typing import Any

from bridge.sysroot import timestamp

Document = dict[str, Any]


def to_text(document: Document, *, verbose: bool = False) -> str:
    """Return the text of a `BootcHost` document.

    On a sysroot that is not booted the first deployment is named `Default`, the second
    `Rollback`.
    """
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
    blocks = [_block(name, entry, verbose) for name, entry in slots if entry is not None]
    return "\n".join(blocks)


def _block(name: str, entry: Document, verbose: bool) -> str:
    image = entry["image"]
    if image is None:
        heading = f"{name} ostree"
        width = len(heading)
        lines = [heading, _row("Commit", entry["ostree"]["checksum"], width)]
    else:
        heading = f"{name} image"
        width = len(heading)
        lines = [f"{heading}: {_reference(image['image'])}", *_image_rows(image, width)]
    if entry["pinned"]:
        lines.append(_row("Pinned", "yes", width))
    if image is not None and entry["cachedUpdate"] is not None:
        lines += _update_rows(entry["cachedUpdate"], image, width)
    if verbose:
        lines += _verbose_rows(entry, width)
    return "".join(f"{line}\n" for line in lines)


def _row(name: str, value: str, width: int) -> str:
    # A version, say, is whatever the image says.
    printable = "".join(char if char.isprintable() else "?" for char in value)
    return f"{name:>{width}}: {printable}"


def _reference(reference: Document) -> str:
    name = str(reference["image"])
    transport = reference["transport"]
    return name if transport == "registry" else f"{transport}:{name}"


def _image_rows(image: Document, width: int) -> list[str]:
    rows = [_row("Digest", f"{image['imageDigest']} ({image['architecture']})", width)]
    built = image["timestamp"] and timestamp.without_fraction(image["timestamp"])
    if image["version"] is not None:
        rows.append(_row("Version", image["version"] + (f" ({built})" if built else ""), width))
    elif built:
        rows.append(_row("Timestamp", built, width))
    return rows


def _update_rows(cached: Document, image: Document, width: int) -> list[str]:
    if cached["imageDigest"] == image["imageDigest"]:
        return []
    built = cached["timestamp"] and timestamp.without_fraction(cached["timestamp"])
    if cached["version"] is not None:
        version = cached["version"] + (f" ({built})" if built else "")
        rows = [_row("UpdateVersion", version, width)]
    else:
        rows = [_row("Update", "Available", width)]
    return [*rows, _row("UpdateDigest", cached["imageDigest"], width)]


def _verbose_rows(entry: Document, width: int) -> list[str]:
    ostree, image = entry["ostree"], entry["image"]
    rows = [
        _row("StateRoot", ostree["stateroot"], width),
        _row("Deploy serial", str(ostree["deploySerial"]), width),
        _row("Staged", "no", width),
    ]
    if image is not None:
        rows.append(_row("Commit", ostree["checksum"], width))
        signature = image["image"].get("signature")
        if isinstance(signature, dict):
            rows.append(_row("Signature", f"ostree-remote:{signature['ostreeRemote']}", width))
        elif signature == "containerPolicy":
            rows.append(_row("Signature", "container-policy", width))
    rows.append(_row("Soft-reboot", "yes" if entry["softRebootCapable"] else "no", width))
    return rows
