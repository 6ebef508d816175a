"""Naming a deployment: by its place in the boot order, its name, its image's digest, its commit."""

from __future__ import annotations

import re

from bridge.errors import NotFound, UsageError
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.image_metadata import Lookup
from bridge.sysroot.sysroot import State

_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})(?:\.[0-9]+)?")


def select(state: State, text: str, lookup: Lookup) -> Deployment:
    """Return the one deployment in the boot order that `text` names.

    A number is its index in `status`; else it is the name somebody gave it, or the beginning, of
    four digits or more, of its image's digest or its commit. `NotFound` where there is none,
    `UsageError` where there are several.
    """
    if text.isascii() and text.isdigit() and len(text) < 4:
        found = [each for each in state.deployments if each.index == int(text)]
    else:
        found = [each for each in state.deployments if _is_named(each, text, lookup)]
    if len(found) > 1:
        # The same image, twice: the one that boots first is meant, if they are of one commit.
        if len({each.checksum for each in found}) > 1:
            names = ", ".join(each.name for each in found)
            raise UsageError(f"{text!r:.100} names several deployments: {names}; say more of it")
        exact = [each for each in found if each.name == text]
        found = exact or found[:1]
    if not found:
        raise NotFound(f"no deployment is named {text!r:.100}; `status --verbose` lists them")
    return found[0]


def _is_named(each: Deployment, text: str, lookup: Lookup) -> bool:
    if each.origin is not None and each.origin.name == text:
        return True
    digits = _HEX.fullmatch(text)
    if digits is None:
        return False
    if each.checksum.startswith(digits[1]):
        return "." not in text or each.name == text
    image = lookup(each.checksum)
    return image is not None and image.digest.removeprefix("sha256:").startswith(digits[1])
