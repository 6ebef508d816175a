"""The images that a store should have, by all that tells of them, and their refs written again.

Told by the refs themselves, the origins of deployments, and the history of transfers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bridge.errors import BridgeError, UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference, Transport, parse_reference
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.refnames import IMAGES, LAYERS, image_ref, layer_ref, unescape
from bridge.pull.report import read_history
from bridge.pull.resolve import Resolved

Origins = Sequence[tuple[str, ImageReference]]
"""Commits of images with the references that they are from, in the order of preference."""


@dataclass(slots=True)
class KnownImage:
    """A commit that was made of an image, and where that is from."""

    commit: str
    references: list[ImageReference] = field(default_factory=list)
    digest: Digest | None = None
    """Of its manifest, by the history: for when the commit, which holds it, is lost."""
    resolved: Resolved | None = None
    """None while the commit cannot be read."""

    def pinned(self, reference: ImageReference) -> ImageReference:
        """Return the reference with the manifest's digest, where it can have one."""
        if self.digest is None or reference.transport is not Transport.REGISTRY:
            return reference
        return replace(reference, name=str(reference.registry.with_digest(self.digest)))


def known_images(repo: Repository, origins: Origins) -> list[KnownImage]:
    """Return the images that refs or `origins` name, by whatever is left of them."""
    found: dict[str, KnownImage] = {}
    for name, commit in refs.listing(repo).items():
        if not name.startswith(LAYERS):
            image = found.setdefault(commit, KnownImage(commit))
            if name.startswith(IMAGES) and (reference := _referred(name)) is not None:
                image.references.append(reference)
    for commit, reference in origins:
        found.setdefault(commit, KnownImage(commit)).references.append(reference)
    for commit, reference, digest in _history(repo):
        if commit in found:
            found[commit].references.append(reference)
            found[commit].digest = digest
    for image in found.values():
        image.references = list(dict.fromkeys(image.references))
        with suppress(BridgeError):
            stored = images.load(repo, "", image.commit)
            image.resolved = Resolved(stored.manifest.digest, stored.manifest, stored.config)
    return list(found.values())


def restore_refs(repo: Repository, origins: Origins) -> list[str]:
    """Write the images' refs that are missing or hold no checksum, where their commits are here.

    Returns the full names of refs that were written. One that is broken and that nothing tells of
    stays as it is.
    """
    broken = refs.broken(repo)
    wanted: dict[str, str] = {}
    for commit, reference, _digest in reversed(_history(repo)):
        name = image_ref(reference)
        if f"{refs.HEADS}/{name}" in broken and _is_image(repo, commit):
            wanted.setdefault(name, commit)
    for commit, reference in reversed(origins):
        name = image_ref(reference)
        if refs.current(repo, name) is None and _is_image(repo, commit):
            wanted[name] = commit
    for name, commit in wanted.items():
        refs.write(repo, name, commit)
    return [f"{refs.HEADS}/{name}" for name in wanted]


def remove_broken_layer_refs(repo: Repository, needed: set[str]) -> list[str]:
    """Remove the layers' refs that hold no checksum and that no image needs; return which."""
    gone = []
    for full in refs.broken(repo):
        name = full.removeprefix(f"{refs.HEADS}/")
        if name.startswith(LAYERS) and name not in needed:
            with suppress(UsageError):  # nothing that we or libostree would have written
                refs.delete(repo, name)
                gone.append(full)
    return gone


def missing_refs(repo: Repository, image: images.StoredImage) -> list[str]:
    """Return the names of layer refs that a stored image should have and has not."""
    names = [layer_ref(layer.digest) for layer in image.manifest.layers]
    return [name for name in dict.fromkeys(names) if refs.current(repo, name) is None]


def _is_image(repo: Repository, commit: str) -> bool:
    try:
        images.load(repo, "", commit)
    except BridgeError:
        return False
    return True


def _referred(name: str) -> ImageReference | None:
    try:
        return parse_reference(unescape(name.removeprefix(IMAGES)))
    except BridgeError:
        return None


def _history(repo: Repository) -> list[tuple[str, ImageReference, Digest]]:
    """Return commit, reference and manifest digest of each transfer, oldest first."""
    found = []
    for document in read_history(repo):
        image = document.get("image")
        if not isinstance(image, dict):
            continue
        with suppress(BridgeError):
            reference = parse_reference(str(image.get("reference")))
            digest = Digest.parse(str(image.get("manifestDigest")))
            found.append((str(image.get("commit")), reference, digest))
    return found
