"""What the content index is told of a layer: which objects its files and their pieces became.

Only digests that were computed here are told: a whole blob's stream is hashed in the spans that its
table of contents gives. In a stream that was rebuilt what was fetched was held to its digest; what
came from the store has the one by which the index found it, which was computed when that was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from bridge.errors import MalformedImage
from bridge.layer.blob_index import BlobIndex, Placed
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.plan import LayerPlan
from bridge.pull.spans import Span, SpanHasher


class ContentRows:
    """One layer's, while it is imported. Of a layer that says nothing of its content, none.

    `placed` is to have the layer's files as they come. Of a layer that is put together they do;
    of a whole one they are placed here.
    """

    def __init__(self, plan: LayerPlan, contents: ContentIndex | None, placed: Placed) -> None:
        self._contents = contents
        self._index = None if plan.inside is None or contents is None else plan.inside.index
        self._placed = placed
        self._known: Mapping[bytes, Place] = {} if plan.parts is None else plan.parts.places
        """What the index itself said, so that it need not be told: nearly all of an upgrade."""
        self._hasher: SpanHasher | None = None
        self._objects: dict[int, str] = {}
        if self._index is not None and plan.parts is None:
            self._hasher = SpanHasher(self._spans(self._index))

    @property
    def on_file(self) -> Callable[[int, str], None] | None:
        """A hook of `ingest`."""
        return None if self._index is None else self._objects.__setitem__

    def through(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the layer's tar stream, hashed where that was not done before."""
        return stream if self._hasher is None else self._hasher.through(stream)

    def keep(self, empty: Iterable[str]) -> None:
        """Tell the index, now that the layer is in the store; `empty` are those objects of it that
        have no content."""
        if self._contents is not None and self._index is not None:
            self._contents.add(self._rows(), empty)

    def _rows(self) -> Iterator[tuple[bytes, Place]]:
        known = self._known.get
        digests = None if self._hasher is None else self._hasher.digests
        for at, checksum in self._objects.items():
            file = self._placed.get(at)
            if file is None:  # the table of contents has something else there
                continue
            digest = file.digest if digests is None else digests.get((at, file.size))
            if digest is None:  # it would go beyond the stream
                continue
            if known(digest) == (checksum, 0, file.size):
                continue  # and so are its pieces, which were told with it
            yield digest, Place(checksum, 0, file.size)
            if len(file.pieces) == 1:
                continue
            offset = 0
            for piece in file.pieces:
                if not piece.zeros:
                    digest = piece.digest if digests is None else digests[at + offset, piece.size]
                    if known(digest) != (checksum, offset, piece.size):
                        yield digest, Place(checksum, offset, piece.size)
                offset += piece.size

    def _spans(self, index: BlobIndex) -> Iterator[Span]:
        """Yield the spans of files and their pieces, each file placed before."""
        at = 0
        try:
            for part in index.skeleton(self._placed):
                if isinstance(part, bytes):
                    at += len(part)
                    continue
                yield at, part.size
                if len(part.pieces) == 1:
                    at += part.size
                    continue
                for piece in part.pieces:
                    if not piece.zeros:
                        yield at, piece.size
                    at += piece.size
        except MalformedImage:
            self._index = None  # what it says means nothing; of the whole blob it need not
