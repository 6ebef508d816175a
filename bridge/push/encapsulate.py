"""Encapsulate: a stored commit becomes an image that ostree-ext, and we, import to that commit.

Labels, annotations and history: ostree-ext, `container/encapsulate.rs`; docs/encapsulated.md has
the whole of it. Equal commits, packings, configurations and compressions make equal manifests.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bridge.errors import DamagedRepository, NetworkError, NotFound, UsageError
from bridge.oci.artifact import described, dumps
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, ImageConfig, Platform
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree import lock, objects, refs
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.encapsulation import COMMIT_LABEL, FINAL_LABEL, Role, roles
from bridge.pull.progress import Progress, Stage
from bridge.push.commit_tar import commit_layer, content_layer, contents
from bridge.push.compress import Compression, Packed, check_level
from bridge.push.destination import Destination, open_destination
from bridge.push.export import joined
from bridge.push.packer import LayerPacker
from bridge.push.packing import Packing, by_directory, packed
from bridge.push.push import DEFAULT, PackedImage, scratch
from bridge.push.report import PushedLayer, PushReport
from bridge.registry.options import NetworkOptions

COMPONENTS = "ostree.components"
BOOTABLE, BOOTC = "ostree.bootable", "containers.bootc"
VERSION = "org.opencontainers.image.version"

_OF_METADATA = ("ostree.linux", "rpmostree.inputhash")
"""Texts in a commit's metadata that become labels of the same name."""
_OF_ANOTHER = (COMMIT_LABEL, FINAL_LABEL, "ostree.diffid", "ostree.encapsulated")
"""Labels of the image's old configuration that speak of other layers than these."""
_IS_KEPT = (BOOTABLE, BOOTC, "ostree.linux", VERSION)
"""Labels of the old configuration that are annotations, too."""


@dataclass(frozen=True, slots=True)
class Source:
    """A commit to be written, and the configuration of the image that it was, if it was one."""

    name: str
    commit: str
    config: ImageConfig | None = None


def source_of_image(repo: Repository, reference: ImageReference) -> Source:
    """Return what to write for a stored image: the commit that was encapsulated in it where that
    is all it has, else its own. `NotFound` where there is no such image."""
    image = images.find(repo, reference)
    commit, base = image.checksum, image.commit.parent
    if base is not None and Role.COMMIT in roles(image.config):
        below = repo.read_commit(base)
        if below.content_checksum == image.commit.content_checksum:
            commit = base
    return Source(str(reference), commit, image.config)


def source_named(repo: Repository, name: str) -> Source:
    """Return what to write for a stored image's reference, else for a ref or a commit's checksum;
    `NotFound` for none of these."""
    with suppress(NotFound, UsageError):
        return source_of_image(repo, parse_reference(name))
    commit = name if objects.is_checksum(name) else None
    with suppress(UsageError):
        commit = commit or refs.resolve(repo, name)
    if commit is None:
        raise NotFound(f"no image, ref or commit {name} in {repo.path}")
    return Source(name, commit)


def encapsulate(
    repo: Repository,
    source: Source,
    target: ImageReference,
    *,
    packing: Packing = by_directory,
    labels: Mapping[str, str] | None = None,
    compression: Compression = DEFAULT,
    level: int | None = None,
    network: NetworkOptions | None = None,
    progress: Progress | None = None,
) -> PushReport:
    """Write the commit to `target` as an image, its content in layers as `packing` has it.

    `labels` are put on top of those of the commit. Nothing names the image at the target until all
    of it is there. Raises `DamagedRepository` where an object is missing or not what it should be,
    `UsageError` for a packing that is none, and what the destination raises.
    """
    progress = progress or Progress()
    started = time.monotonic()
    with ExitStack() as stack:
        place = open_destination(target, network or NetworkOptions(), stack)
        try:
            made = encapsulate_to(
                repo, source, place, packing, compression, level, progress, labels=labels
            )
            digest = place.finish(made.manifest, OCI_MANIFEST)
        except NetworkError as error:
            raise NetworkError(f"{target}: {error}") from error
    return PushReport(
        reference=source.name,
        destination=str(target),
        compression=compression.value,
        digest=digest,
        config=made.config,
        layers=made.layers,
        requests=place.meter.requests,
        retries=place.meter.retries,
        seconds=time.monotonic() - started,
    )


def encapsulate_to(
    repo: Repository,
    source: Source,
    place: Destination,
    packing: Packing,
    compression: Compression,
    level: int | None,
    progress: Progress,
    *,
    labels: Mapping[str, str] | None = None,
) -> PackedImage:
    """Have the layers and the configuration of what `encapsulate` writes at `place`, and return
    its manifest, which is for the caller to put there under its names. Same errors."""
    check_level(compression, level)
    # Nobody prunes meanwhile.
    with lock.held(repo.fd, ".lock", repo.path, shared=True):
        commit = repo.read_commit(source.commit)
        found = contents(repo, source.commit)
        rest, chunks = packed(found, packing)
        progress.stage(Stage.PUSHING)
        layer = partial(content_layer, repo)
        streams = [
            partial(commit_layer, repo, source.commit, [(each, found[each]) for each in rest]),
            *(partial(layer, [(each, found[each]) for each in own]) for _, own in chunks),
        ]
        packer = LayerPacker(place, compression, level, progress, partial(scratch, repo))
        layers = tuple(packer.all([partial(_written, packer, each) for each in streams]))
        subject = commit.subject or f"ostree export of commit {source.commit}"
        steps = [subject, *(chunk.name for chunk, _ in chunks)]
        made = _document(source, commit, steps, layers, labels or {})
        config = _put(repo, place, made.config)
    components = [None, *(chunk.components for chunk, _ in chunks)]
    return PackedImage(_manifest(made, config, layers, components), config, layers)


def _written(
    packer: LayerPacker, stream: Callable[[], Iterator[bytes | memoryview]]
) -> PushedLayer:
    """Have the layer of a tar stream there, whose DiffID is known at its end."""
    digests: list[Any] = []

    def hashed() -> Iterator[bytes]:
        digest = hashlib.sha256()
        digests.append(digest)
        for chunk in joined(stream()):
            digest.update(chunk)
            yield chunk

    blob, outcome = packer.packed("a layer", hashed)
    return packer.told(Digest(f"sha256:{digests[-1].hexdigest()}"), blob, outcome)


def _put(repo: Repository, place: Destination, document: bytes) -> Digest:
    """Have a document there as a blob; return its digest."""
    digest = Digest.of(document)
    with scratch(repo) as (file, write):
        write(document)
        place.put(file.fileno(), digest, len(document))
    return digest


# -- documents ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Document:
    config: bytes
    labels: Mapping[str, str]


def _document(
    source: Source,
    commit: Commit,
    steps: list[str],
    layers: tuple[PushedLayer, ...],
    asked: Mapping[str, str],
) -> _Document:
    """Return the image's configuration, and the labels that are annotations of its manifest."""
    inner = _inner(source.config)
    old = {
        key: value for key, value in (inner.get("Labels") or {}).items() if key not in _OF_ANOTHER
    }
    labels = {key: old[key] for key in _IS_KEPT if key in old}
    labels |= _labels(commit) | dict(asked)
    labels |= {COMMIT_LABEL: source.commit, FINAL_LABEL: str(layers[-1].diff_id)}
    command = commit.metadata.get("ostree.container-cmd")
    if isinstance(command, list) and all(isinstance(each, str) for each in command):
        inner["Cmd"] = command
    inner["Labels"] = dict(sorted((old | labels).items()))
    created = _time(commit)
    platform = Platform.host() if source.config is None else source.config.platform
    document: dict[str, Any] = {
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
        "history": [{"created": created, "created_by": step} for step in steps],
    }
    if platform.variant:
        document["variant"] = platform.variant
    return _Document(dumps(document), dict(sorted(labels.items())))


def _inner(config: ImageConfig | None) -> dict[str, Any]:
    found = {} if config is None else json.loads(config.raw).get("config")
    return found if isinstance(found, dict) else {}


def _labels(commit: Commit) -> dict[str, str]:
    metadata = commit.metadata
    found: dict[str, str] = {}
    bootable = metadata.get(BOOTABLE)
    if isinstance(bootable, bool):
        found |= {BOOTABLE: str(bootable).lower(), BOOTC: "1"}
    for key, label in (*((key, key) for key in _OF_METADATA), ("version", VERSION)):
        if isinstance(value := metadata.get(key), str):
            found[label] = value
    return found


def _time(commit: Commit) -> str:
    try:
        return datetime.fromtimestamp(commit.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        raise DamagedRepository(f"a commit of the time {commit.timestamp}") from None


def _manifest(
    made: _Document,
    config: Digest,
    layers: tuple[PushedLayer, ...],
    components: list[tuple[str, ...] | None],
) -> bytes:
    entries = []
    for layer, names in zip(layers, components, strict=True):
        blob: Packed = layer.blob
        annotations = dict(blob.annotations)
        if names is not None:
            annotations[COMPONENTS] = ",".join(sorted(names))
        entries.append(described(Descriptor(blob.media_type, blob.digest, blob.size, annotations)))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(Descriptor(OCI_CONFIG, config, len(made.config))),
        "layers": entries,
        "annotations": made.labels,
    }
    return dumps(document)
