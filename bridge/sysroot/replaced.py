"""What a switch replaces is dropped after it: deployments, their images, layers and objects.

The images are noted in the repository's corner before the boot order changes. A run that is cut
off after that leaves the note, and the next update finishes what it was at.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from bridge import limits
from bridge.errors import BridgeError
from bridge.oci.reference import parse_origin
from bridge.ostree import durable, refs
from bridge.ostree.repository import EXTENSION, Repository
from bridge.pull import images
from bridge.pull.refnames import image_ref
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import Sysroot

_NOTE = "replaced"


def note(sysroot: Sysroot, deployments: Iterable[Deployment]) -> bool:
    """Note the images of `deployments`, some of which are about to go.

    Returns whether there was a note already, of an update that is not finished; it is kept to.
    """
    before = noted(sysroot.repo)
    names = {each.image_reference for each in deployments if each.image_reference is not None}
    with files.doing(f"noting the images of {sysroot.path}"):
        fd = durable.make_directories(EXTENSION, sysroot.repo.fd)
        try:
            text = "".join(f"{name}\n" for name in sorted(names.union(before or ())))
            durable.replace_file(_NOTE, text.encode(), fd)
        finally:
            os.close(fd)
    return before is not None


def noted(repo: Repository) -> list[str] | None:
    """Return the noted images, by the text of their origins; `None` when there is no note."""
    try:
        data = files.read_bytes(repo.fd, f"{EXTENSION}/{_NOTE}", limits.MIB)
    except FileNotFoundError:
        return None
    return data.decode("utf-8", "replace").splitlines()


def forget_note(repo: Repository) -> None:
    """Take back the note: nothing is left to be done."""
    with files.doing("removing a note that is done with"):
        durable.remove_tree(f"{EXTENSION}/{_NOTE}", repo.fd)


def drop(sysroot: Sysroot, spare: Collection[str] = ()) -> int:
    """Drop the noted images that no deployment follows, and what nothing needs; the bytes freed.

    `spare` are refs of layers that stay all the same. Raises `Busy` while another process adds or
    removes images. Until all is done the note stays.
    """
    kept = {each.image_reference for each in sysroot.load().all}
    with files.doing("dropping what was replaced"):
        for text in noted(sysroot.repo) or ():
            if text in kept:
                continue
            try:
                name = image_ref(parse_origin(text))
            except BridgeError:
                continue  # an origin in a form that is not ours: its ref is not ours to drop
            refs.delete(sysroot.repo, name)
        _layers, pruned = images.prune(sysroot.repo, spare)
    forget_note(sysroot.repo)
    return pruned.bytes
