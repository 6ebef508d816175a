"""Ingest: one layer's tar stream becomes objects and a tree. There is no other way in.

`layer_tree` has the rules of what goes where.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from dataclasses import replace

from bridge import limits
from bridge.layer.allowance import Allowance, LayerAllowance
from bridge.layer.tar import Entry, TarReader
from bridge.ostree.objects import DirMeta, FileMeta, Xattrs
from bridge.ostree.transaction import Transaction
from bridge.pull.layer import Layer
from bridge.pull.layer_tree import LayerTree

OnFile = Callable[[int, str], None]
"""Takes a payload's offset in the tar stream, and its object's checksum."""
Expected = Callable[[int], str | None]
"""Takes a payload's offset in the tar stream; returns the object that the store has its content
from, which is the one that it becomes unless its metadata is another."""
IMPLIED_META = DirMeta(0, 0, 0o40755)
"""What a directory is that no layer has an entry for."""


def ingest(
    chunks: Iterable[bytes],
    transaction: Transaction,
    allowance: LayerAllowance | None = None,
    enough: Callable[[], bool] | None = None,
    on_file: OnFile | None = None,
    on_entry: Callable[[Entry | None], None] | None = None,
    on_skeleton: Callable[[bytes, int], None] | None = None,
    expected: Expected | None = None,
) -> Layer | None:
    """Import a layer's tar stream to its end; `MalformedImage` where it is not to be had.

    The caller verifies the stream: it has to raise, at the latest, at its end. `allowance` is
    what the layer's image may still cost, by default that of an image of its own. After each
    entry `enough` is asked whether all that is wanted has come: then there is an end, and no
    layer.

    `on_file` is told where in the stream a file's payload began, and the checksum of the object
    that it became: of each regular file that has content and is kept, but for sparse ones, which
    do not stand in the stream as they are. `on_entry` is given each entry before it is imported,
    left out or not, and None when there are no more; what it raises ends the import.
    `on_skeleton` gets the bytes that are no file's content, as of `TarReader`. Large files that are
    `expected` are not written to be seen to be here already; `VerificationFailed` where one is not
    what was expected.
    """
    allowance = allowance or Allowance().layer()
    reader = TarReader(chunks, on_hole=allowance.hole, on_skeleton=on_skeleton)
    tree = LayerTree(_Written(reader, transaction, on_file, expected), allowance)
    count, add = allowance.name, tree.add
    for entry in reader:
        count(entry.path)
        if on_entry is not None:
            on_entry(entry)
        add(entry)
        if enough is not None and enough():
            return None
    if on_entry is not None:
        on_entry(None)
    reader.drain()
    return tree.layer


class _Written:
    """Writes entries to a transaction, each as the reader comes to it."""

    def __init__(
        self,
        reader: TarReader,
        transaction: Transaction,
        on_file: OnFile | None,
        expected: Expected | None,
    ) -> None:
        self._reader = reader
        self._transaction = transaction
        self._on_file = on_file
        self._expected = expected
        self._file_metas: dict[tuple[int, int, int], FileMeta] = {}
        self._dir_metas: dict[tuple[int, int, int, Xattrs], str] = {}

    def file(self, entry: Entry, xattrs: Xattrs) -> str:
        key = (entry.uid, entry.gid, entry.mode)
        meta = self._file_metas.get(key)
        if meta is None:
            meta = self._file_metas[key] = FileMeta(*key[:2], stat.S_IFREG | entry.mode)
        if xattrs:
            meta = replace(meta, xattrs=xattrs)
        offset = self._reader.payload_offset
        if entry.size <= limits.SMALL_FILE:
            checksum = self._transaction.write_payload(meta, self._reader.read_payload())
        else:
            expected = None
            if self._expected is not None and offset is not None:
                expected = self._expected(offset)
            checksum = self._transaction.write_stream(
                meta, entry.size, self._reader.payload(), expected=expected
            )
        if self._on_file is not None and entry.size and offset is not None:
            self._on_file(offset, checksum)
        return checksum

    def link(self, entry: Entry, xattrs: Xattrs) -> str:
        meta = FileMeta(entry.uid, entry.gid, stat.S_IFLNK | 0o777, xattrs, entry.target)
        return self._transaction.write_link(meta)

    def directory(self, entry: Entry, xattrs: Xattrs) -> str:
        key = (entry.uid, entry.gid, entry.mode, xattrs)
        checksum = self._dir_metas.get(key)
        if checksum is None:
            meta = DirMeta(entry.uid, entry.gid, stat.S_IFDIR | entry.mode, xattrs)
            checksum = self._dir_metas[key] = self._transaction.write_dirmeta(meta)
        return checksum

    def implied(self) -> str:
        return self._transaction.write_dirmeta(IMPLIED_META)

    def whiteout(self) -> str:
        # Its content, owner and kind mean nothing: one object serves all whiteouts.
        return self._transaction.write_payload(FileMeta(0, 0, stat.S_IFREG | 0o644), b"")
