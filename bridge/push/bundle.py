"""An archive of many images that is kept up: `oci-archive:` for what no network leads to.

While it is being changed, what is new lies in a layout directory beside it, `.NAME.parts`, whose
index is what the archive's is going to be. At the end both become a new archive, which takes the
old one's place. A run that is cut off leaves the old archive, and the directory, so that the next
one need not move again what is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from bridge import limits
from bridge.errors import NotFound, UsageError, VerificationFailed
from bridge.oci.artifact import dumps
from bridge.oci.digest import Digest, Verifier
from bridge.oci.layout import Archive, ImageLayout, Layout
from bridge.oci.model import INDEX_TYPES, MANIFEST_TYPES, Descriptor, Index, parse_document
from bridge.ostree import durable
from bridge.push.copy import blobs_of
from bridge.push.layouts import (
    INDEX,
    MARKER,
    MARKER_TEXT,
    LayoutWriter,
    blob_path,
    new_index,
    tar_header,
    tar_member,
)


class Bundle:
    """An archive at a path, and what it is going to be. Safe for several threads."""

    def __init__(self, path: str) -> None:
        """`UsageError` for what cannot be an archive's path."""
        parent, _, self._name = path.rpartition("/")
        if os.path.isdir(path) or not self._name:
            raise UsageError(f"{path} is a directory; write oci:{path}")
        self._path = path
        self._parent = parent or "."
        self.staging = f"{self._parent}/.{self._name}.parts"
        """The layout's path."""
        try:
            self._old: Archive | None = Archive.open(path)
        except NotFound:
            self._old = None
        self._before = dumps(new_index()) if self._old is None else self._old.index().raw
        with LayoutWriter.open(self.staging, None) as writer:
            writer.replace_index(self._before)

    def writer(self, tag: str | None) -> LayoutWriter:
        """Return the layout as a place to write to, where what the archive has is there."""
        writer = _Writer.open(self.staging, tag)
        writer.old = self._old
        return writer

    def close(self) -> None:
        """Have the archive be what the layout's index says."""
        with ExitStack() as stack:
            fd = os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            if self._old is not None:
                stack.callback(self._old.close)
            layout = stack.enter_context(Layout.open(self.staging))
            index = layout.index()
            if self._old is None or index.raw != self._before:
                durable.replace_file(self._name, self._members(layout, index), fd)
            durable.remove_tree(f".{self._name}.parts", fd)

    def _members(self, layout: Layout, index: Index) -> Iterator[bytes]:
        yield from tar_member(MARKER, MARKER_TEXT)
        yield from tar_member(INDEX, index.raw)
        places = [each for each in (layout, self._old) if each is not None]
        wanted: dict[Digest, Descriptor] = {}
        for entry in index.manifests:
            _collect(places, entry, wanted, 0)
        for digest in sorted(wanted):
            yield from _member(places, wanted[digest])
        yield bytes(2 * 512)


class _Writer(LayoutWriter):
    """The layout beside an archive: what the archive has need not be written again."""

    old: Archive | None = None

    def holds(self, digest: Digest, size: int) -> bool:
        """Tell whether a blob is in the layout or in the archive, and is what its name says."""
        if super().holds(digest, size):
            return True
        if self.old is None:
            return False
        verifier = Verifier(f"blob {digest}", digest, size)
        try:
            with self.old.open_blob(Descriptor("", digest, size)) as file:
                while chunk := file.read(limits.BLOB_BUFFER):
                    verifier.update(chunk)
            verifier.finish()
        except (NotFound, VerificationFailed):
            return False
        return True

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document that is in either, verified."""
        try:
            return super().read(descriptor)
        except NotFound:
            if self.old is None:
                raise
            return self.old.read_blob(descriptor)


def _collect(
    places: Sequence[ImageLayout], entry: Descriptor, wanted: dict[Digest, Descriptor], depth: int
) -> None:
    """Add an image, and all of it that is there, to what is wanted."""
    if entry.digest in wanted or depth > limits.INDEX_DEPTH_MAX:
        return
    for place in places:
        try:
            raw = place.read_blob(entry)
        except NotFound:
            continue
        break
    else:
        return  # a sparse index lists what nobody brought
    wanted[entry.digest] = entry
    if entry.media_type not in MANIFEST_TYPES + INDEX_TYPES:
        return
    document = parse_document(raw, entry.media_type)
    if isinstance(document, Index):
        for each in document.manifests:
            _collect(places, each, wanted, depth + 1)
    for blob in blobs_of(document, external=False):
        wanted.setdefault(blob.digest, blob)


def _member(places: Sequence[ImageLayout], blob: Descriptor) -> Iterator[bytes]:
    for place in places:
        try:
            file = place.open_blob(blob)
        except NotFound:
            continue
        verifier = Verifier(f"{place.path}: blob {blob.digest}", blob.digest, blob.size)
        with file:
            yield from tar_header(blob_path(blob.digest), blob.size)
            while chunk := file.read(limits.BLOB_BUFFER):
                verifier.update(chunk)
                yield chunk
        verifier.finish()
        yield bytes(-blob.size % 512)
        return
    raise NotFound(f"blob {blob.digest} is gone; begin the archive anew")
