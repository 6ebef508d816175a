"""What a tree asks of ostree-prepare-root, which mounts its deployment at boot.

Format: key file `ostree/prepare-root.conf` in `/usr/lib`; where `/etc` has one that is read
instead, see ostree-prepare-root(1). Values are taken as libostree's otcore-prepare-root.c does.
"""

from __future__ import annotations

import enum

from bridge import limits
from bridge.errors import BridgeError, MalformedImage
from bridge.ostree.composefs import Objects
from bridge.ostree.keyfile import KeyFile
from bridge.ostree.tree import Tree

_PLACES = ("etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf")


class Composefs(enum.Enum):
    """Whether a deployment is booted from its composefs image."""

    NO = "no"
    MAYBE = "maybe"
    """If there is one."""
    YES = "yes"
    VERITY = "verity"
    """And every file in it is verified when it is read."""
    SIGNED = "signed"
    """And the image's digest stands in a commit with a signature."""

    @property
    def is_verified(self) -> bool:
        """Whether it boots only with fs-verity."""
        return self in (Composefs.VERITY, Composefs.SIGNED)


_VALUES = {each.value: each for each in Composefs} | {
    "true": Composefs.YES,
    "1": Composefs.YES,
    "false": Composefs.NO,
    "0": Composefs.NO,
}


def parse(text: str) -> Composefs:
    """Return what a prepare-root.conf has as `[composefs] enabled`; `BridgeError` for no key file
    and for a value that would stop the boot."""
    value = KeyFile.parse(text).get("composefs", "enabled")
    if value is None:
        return Composefs.NO
    try:
        return _VALUES[value]
    except KeyError:
        raise BridgeError(
            f"[composefs] enabled={value!r:.80} is none of {', '.join(_VALUES)}"
        ) from None


def read(objects: Objects, tree: Tree) -> Composefs:
    """Return what a tree asks for; `MalformedImage` where that cannot be told."""
    for place in _PLACES:
        found = tree.find(place)
        if isinstance(found, str):
            _meta, payload = objects.open_file(found)
            if payload is None:
                raise MalformedImage(
                    f"/{place} is a link; ostree-prepare-root may not find its way"
                )
            with payload:
                data = payload.read(limits.ORIGIN_MAX + 1)
            try:
                if len(data) > limits.ORIGIN_MAX:
                    raise BridgeError(f"larger than {limits.ORIGIN_MAX} bytes")
                return parse(data.decode())
            except UnicodeDecodeError:
                raise MalformedImage(f"/{place} is not text") from None
            except BridgeError as error:
                raise MalformedImage(f"/{place}: {error}") from None
    return Composefs.NO
