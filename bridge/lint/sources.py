"""Ways in: what is to be linted, made of a directory, a stored image, or one that is pulled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.contents.commit import of_commit
from bridge.contents.directory import of_directory
from bridge.contents.pulled import pulled
from bridge.errors import BridgeError, NotFound
from bridge.lint import mounts
from bridge.lint.layers import Layers
from bridge.lint.subject import Kind, Subject
from bridge.lint.times import layers_made, parse_created
from bridge.oci.reference import ImageReference
from bridge.ostree.repository import Repository
from bridge.pull.images import StoredImage, find
from bridge.pull.progress import Progress
from bridge.registry.options import NetworkOptions


@contextmanager
def directory(path: str, epoch: int | None = None) -> Iterator[Subject]:
    """Look at what is below a directory; `/` is the running root. Raises `BridgeError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"--rootfs {path}: there is no such directory") from None
    except OSError as error:
        raise BridgeError(f"--rootfs {path}: {error.strerror}") from error
    try:
        kind = Kind.RUNNING if _is_root(fd) else Kind.DIRECTORY
        yield Subject(of_directory(fd), kind, epoch, mounted=mounts.below(path))
    finally:
        os.close(fd)


def stored(
    repo: Repository,
    reference: ImageReference,
    epoch: int | None = None,
    packed: frozenset[str] = frozenset(),
) -> Subject:
    """Look at an image of a repository, which must stay open; `NotFound` where it has none of that
    name. `packed` is what `Subject` says."""
    return _image(repo, find(repo, reference), epoch, packed)


@contextmanager
def remote(
    reference: ImageReference,
    network: NetworkOptions,
    progress: Progress | None = None,
    epoch: int | None = None,
) -> Iterator[Subject]:
    """Look at an image of a registry or a layout. It is pulled, and gone when the context ends."""
    with pulled(reference, network=network, progress=progress) as found:
        yield _image(found.repo, found.image, epoch)


def _image(
    repo: Repository,
    image: StoredImage,
    epoch: int | None,
    packed: frozenset[str] = frozenset(),
) -> Subject:
    try:
        layers = Layers.of(repo, image.config.diff_ids)
    except NotFound:
        layers = None
    made: tuple[int | None, ...] = ()
    if epoch is None:
        epoch = parse_created(image.config.created)
        made = layers_made(image.config.history)
    contents = of_commit(repo, image.checksum)
    return Subject(contents, Kind.IMAGE, epoch, layers, made, packed=packed)


def _is_root(fd: int) -> bool:
    here, top = os.fstat(fd), os.stat("/")
    return (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino)
