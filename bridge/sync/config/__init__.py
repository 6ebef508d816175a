"""Files that say what is synced, in three formats, as `model.Config`.

`ours` is the project's own format, `skopeo` what `skopeo sync --src yaml` reads, `regsync` the
configuration of regsync. Which one a file has is told by its keys.
"""

from __future__ import annotations

import os.path
from dataclasses import replace

from bridge import limits
from bridge.errors import UsageError
from bridge.sync.config import ours, regsync, skopeo
from bridge.sync.config.document import Malformed, Node, parse
from bridge.sync.config.places import place
from bridge.sync.config.reading import Mistakes
from bridge.sync.model import Config, Place

__all__ = ["load", "read"]

_OURS = {"jobs", "registries"}
_REGSYNC = {"sync", "creds"}


def load(
    path: str,
    *,
    target: Place | str | None = None,
    scoped: bool = False,
    suffix: str = "",
    with_secrets: bool = True,
) -> Config:
    """Read a configuration file.

    `target`, `scoped` and `suffix` are for skopeo's format, which does not say where to: the place
    below which images go (a text is read as in our own format, relative to the working directory),
    whether they keep host and path there, and what is added to each tag.
    Without secrets, nothing that the file refers to is read. Raises `ConfigurationError`, which is
    a `UsageError`, with all mistakes in it; `UsageError` where target and format do not go
    together; `BridgeError` if the extra `sync` is not installed.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(limits.SYNC_CONFIG_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return read(
        content, path, target=target, scoped=scoped, suffix=suffix, with_secrets=with_secrets
    )


def read(
    content: bytes,
    path: str,
    *,
    target: Place | str | None = None,
    scoped: bool = False,
    suffix: str = "",
    with_secrets: bool = True,
) -> Config:
    """Do what `load` does with the content of a file that was read already."""
    mistakes = Mistakes(path)
    if len(content) > limits.SYNC_CONFIG_MAX:
        raise UsageError(f"{path}: more than {limits.SYNC_CONFIG_MAX} bytes")
    try:
        root = parse(content)
    except Malformed as error:
        mistakes.add(error.line, "", str(error))
        mistakes.check()
        raise
    form = _format(root, mistakes)
    mistakes.check()
    if form != "skopeo" and (target is not None or scoped or suffix):
        raise UsageError(f"{path}: the file itself says where images go; --dest is for skopeo's")
    if form == "ours":
        directory = os.path.dirname(os.path.abspath(path))
        config = ours.read(root, mistakes, directory, with_secrets=with_secrets)
    elif form == "regsync":
        config = regsync.read(root, mistakes, with_secrets=with_secrets)
    else:
        if target is None:
            raise UsageError(f"{path}: a file of skopeo's, which does not say where to; use --dest")
        where = place(target, os.getcwd()) if isinstance(target, str) else target
        config = skopeo.read(root, mistakes, where, scoped=scoped, suffix=suffix)
    mistakes.check()
    return replace(config, notes=mistakes.notes)


def _format(root: Node, mistakes: Mistakes) -> str:
    """Return which format a document has; what is none of them is a mistake."""
    if root.entries is None:
        empty = root.text is None and root.items is None
        what = "empty" if empty else f"{root.kind}, not a mapping"
        mistakes.add(root.line, "", f"not a sync configuration: the file is {what}")
        return ""
    keys = set(root.entries)
    if keys & _OURS:
        return "ours"
    if keys & _REGSYNC:
        return "regsync"
    registries = [node for key, node in root.entries.items() if not key.startswith("x-")]
    if "version" not in keys and all(node.items is None for node in registries):
        known = [node for node in registries if set(node.entries or {}) & skopeo.KEYS]
        if known or all("." in key or ":" in key for key in keys):
            return "skopeo"
    if "version" in keys:
        return "ours"
    mistakes.add(
        root.line,
        "",
        "not a sync configuration: no jobs as in ours, no sync as in regsync's, and no images of "
        "registries as in skopeo's",
    )
    return ""
