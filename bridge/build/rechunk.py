"""Rechunk: a stored image becomes one whose layers are components, not build steps.

The content is the same, but for times; the configuration says the same of how it runs. What is in
which layer stands in the manifest, where the next image finds it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bridge.build import layers
from bridge.build.components import Component, split
from bridge.build.packing import Group, Item, pack
from bridge.contents.contents import Contents, Node
from bridge.errors import MalformedImage
from bridge.oci.artifact import described, dumps
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from bridge.packages.installed import installed
from bridge.pull.images import StoredImage
from bridge.push.compress import Compression, Packed
from bridge.push.compress import pack as pack_blob
from bridge.push.export import joined
from bridge.push.layouts import LayoutWriter

COMPONENTS_KEY = "bootc-py.components"
"""Annotation of a layer: a JSON object, by component a digest of its content, builds, changes."""
LAYERS = 64
"""Layers at most, unless told otherwise: as chunkah and rpm-ostree."""
_NO_MORE_SO = ("ostree.commit", "ostree.final-diffid", "rpmostree.inputhash", "io.buildah.version")
"""Labels of the layers that were, and of the program that made them."""
_DIGITS = 16
"""Hex digits of a content's digest that are kept: enough to tell two builds apart."""


@dataclass(frozen=True, slots=True)
class Rechunked:
    """An image that was made: its manifest's digest, and what is in its layers."""

    digest: Digest
    groups: tuple[Group, ...]


def rechunk(
    image: StoredImage,
    contents: Contents,
    target: LayoutWriter,
    *,
    created: int,
    labels: Mapping[str, str] | None = None,
    budget: int = LAYERS,
    previous: Manifest | None = None,
) -> Rechunked:
    """Write an image, of which `contents` is what is in it, anew to a layout: uncompressed layers.

    `created`, in seconds since 1970, is when it says it was made; `labels` come on top of its
    own. `previous` is the manifest of the image before it. Equal content, times, labels and
    previous manifests make equal images. Raises `DamagedRepository`, and `MalformedImage` for a
    package database that cannot be read or a previous image that says nothing sensible.
    """
    components = {each.name: each for each in split(contents, installed(contents))}
    items = [item_of(each) for each in components.values()]
    groups = pack(items, budget, [] if previous is None else placed(previous))
    blobs = [_write(target, contents, group, components) for group in groups]
    config = _config(image, blobs, groups, created, labels or {})
    config_digest = _put(target, [config]).digest
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(Descriptor(OCI_CONFIG, config_digest, len(config))),
        "layers": [
            described(Descriptor(blob.media_type, blob.digest, blob.size, _annotations(group)))
            for blob, group in zip(blobs, groups, strict=True)
        ],
    }
    if image.manifest.annotations:
        manifest["annotations"] = dict(sorted(image.manifest.annotations.items()))
    return Rechunked(target.finish(dumps(manifest), OCI_MANIFEST), tuple(groups))


def placed(manifest: Manifest) -> list[Group]:
    """Return what is in which layer of an image that `rechunk` made, lowest first; none of any
    other image. `MalformedImage` where what it says is not of that form."""
    groups = []
    for layer in manifest.layers:
        text = layer.annotations.get(COMPONENTS_KEY)
        if text is None:
            return []
        try:
            groups.append(tuple(_placed(name, *of) for name, of in json.loads(text).items()))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MalformedImage(
                f"layer {layer.digest}: its annotation {COMPONENTS_KEY} is not valid"
            ) from error
    return groups


def _placed(name: str, content: object, builds: object, changes: object) -> Item:
    if not (isinstance(content, str) and isinstance(builds, int) and isinstance(changes, int)):
        raise TypeError
    if not 0 <= changes <= builds < 2**31:
        raise ValueError
    return Item(name, content, builds=builds, changes=changes)


def _annotations(group: Group) -> dict[str, str]:
    listed = {each.name: [each.content, each.builds, each.changes] for each in group}
    return {COMPONENTS_KEY: dumps(listed).decode()}


def item_of(component: Component) -> Item:
    """Return a component as the packing takes it."""
    return Item(component.name, _content(component.nodes), component.size, component.rate)


def _content(nodes: Iterable[Node]) -> str:
    """Return a digest of what a layer would have of these nodes."""
    digest = hashlib.sha256()
    for node in nodes:
        # A file's key covers its metadata.
        said = (node.path, node.key) if node.is_file else _said(node)
        digest.update(repr(said).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:_DIGITS]


def _said(node: Node) -> tuple[Any, ...]:
    return (
        node.path, node.type.value, node.mode, node.uid, node.gid, node.target, node.xattrs,
    )  # fmt: skip


def _write(
    target: LayoutWriter, contents: Contents, group: Group, components: Mapping[str, Component]
) -> Packed:
    nodes = [node for each in group for node in components[each.name].nodes]
    return _put(target, joined(layers.stream(contents, nodes)))


def _put(target: LayoutWriter, chunks: Iterable[bytes]) -> Packed:
    """Have the bytes there as a blob; return what it is."""
    return target.take(partial(pack_blob, chunks, Compression.NONE, None))


def _config(
    image: StoredImage,
    blobs: list[Packed],
    groups: list[Group],
    created: int,
    labels: Mapping[str, str],
) -> bytes:
    found: dict[str, Any] = json.loads(image.config.raw)
    moment = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = dict(found.get("config") or {})
    kept = {key: value for key, value in image.config.labels.items() if key not in _NO_MORE_SO}
    running["Labels"] = dict(sorted((kept | dict(labels)).items()))
    document = {
        key: found[key] for key in ("architecture", "variant", "os", "author") if found.get(key)
    }
    document |= {
        "created": moment,
        "config": dict(sorted(running.items())),
        "rootfs": {"type": "layers", "diff_ids": [each.digest for each in blobs]},
        "history": [
            {"created": moment, "created_by": "bootc-py build", "comment": comment(group)}
            for group in groups
        ],
    }
    return dumps(document)


def comment(group: Group) -> str:
    """Return what a layer's step in the history says that it has."""
    names = [each.name for each in sorted(group, key=lambda item: (-item.size, item.name))]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
