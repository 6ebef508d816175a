"""Ingest of the layers that an encapsulated OSTree commit is made of, object by object.

The same seam as for ordinary layers: one tar stream that its caller verifies, objects staged in
one transaction. What differs is what is kept: the objects themselves, each of which must hash to
its name, and nothing of the tree of hard links around them.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from bridge import limits
from bridge.errors import DamagedRepository, MalformedImage, VerificationFailed
from bridge.layer.allowance import Allowance, LayerAllowance
from bridge.layer.encapsulated import Found, Kind, ObjectFinder
from bridge.layer.tar import Entry, EntryType, TarReader
from bridge.oci.digest import Digest
from bridge.ostree import objects, variant
from bridge.ostree.complete import check_complete
from bridge.ostree.objects import Commit, DirTree, FileMeta, ObjectType, Xattrs
from bridge.ostree.transaction import Transaction
from bridge.pull import verified_commits, xattrs
from bridge.pull.encapsulation import Role
from bridge.pull.ingest import IMPLIED_META, OnFile
from bridge.pull.layer import IMPORTER, IMPORTER_KEY

OBJECTS_KEY = "bootc-py.objects-diff-id"

_XATTRS_KEPT, _XATTRS_SMALL = 5_000, 512
"""Decoded xattrs that are remembered, and the bytes of each."""
_METADATA = {
    Kind.COMMIT: ObjectType.COMMIT,
    Kind.DIRTREE: ObjectType.DIRTREE,
    Kind.DIRMETA: ObjectType.DIRMETA,
}


@dataclass(slots=True)
class Objects:
    """What a layer brought."""

    files: set[str] = field(default_factory=set)
    """Its content objects."""
    metadata: set[str] = field(default_factory=set)
    """Its dirtrees and dirmetas."""
    commit: str | None = None
    """None where it is a layer of content alone."""
    elsewhere: Collection[str] | None = None
    """Content objects that the image's other layers have; None in a repair, where it was known
    before that they have all there is."""

    def store(self, transaction: Transaction, diff_id: Digest) -> str:
        """Have the layer known by its DiffID; return the commit that its ref is to have.

        For content that is one of a flat directory, each object by its checksum, as ostree-ext
        makes it. For the layer with the commit it is that commit, of which all has to be there:
        `MalformedImage` if it is not, or if the layer has content that is not the commit's.
        """
        if self.commit is None:
            tree = transaction.write_dirtree(DirTree({each: each for each in self.files}, {}))
            meta = transaction.write_dirmeta(IMPLIED_META)
            metadata = {IMPORTER_KEY: IMPORTER, OBJECTS_KEY: str(diff_id)}
            return transaction.write_commit(Commit(tree, meta, metadata))
        try:
            needed = check_complete(transaction, transaction.read_commit(self.commit), self._has)
        except DamagedRepository as error:
            raise MalformedImage(f"commit {self.commit}: {error}") from None
        if foreign := self.files - needed:
            raise MalformedImage(f"file {min(foreign)} is not one of commit {self.commit}")
        verified_commits.write(transaction, diff_id, self.commit)
        return self.commit

    def _has(self, checksum: str, kind: ObjectType) -> bool:
        if self.elsewhere is None:
            return True
        if kind is ObjectType.FILE:
            return checksum in self.files or checksum in self.elsewhere
        return checksum in self.metadata


def ingest_objects(
    role: Role,
    chunks: Iterable[bytes],
    transaction: Transaction,
    allowance: LayerAllowance | None = None,
    enough: Callable[[], bool] | None = None,
    on_file: OnFile | None = None,
    on_entry: Callable[[Entry | None], None] | None = None,
    on_skeleton: Callable[[bytes, int], None] | None = None,
) -> Objects | None:
    """Import a layer of an encapsulated commit; parameters and result as of `ingest`. What is
    expected of an object, its name says.

    Raises `VerificationFailed` for an object that does not hash to its name, `MalformedImage` for
    what is none, and for metadata where the `role` has no place for it.
    """
    allowance = allowance or Allowance().layer()
    reader = TarReader(chunks, on_hole=allowance.hole, on_skeleton=on_skeleton)
    finder = ObjectFinder(reader)
    taker = _Taker(role, reader, transaction, on_file)
    for entry in reader:
        if on_entry is not None:
            on_entry(entry)
        found = finder.find(entry)
        if found is None:
            continue
        allowance.name(found.checksum)
        taker.take(found, entry)
        if enough is not None and enough():
            return None
    if on_entry is not None:
        on_entry(None)
    finder.finish()
    if role is Role.COMMIT and taker.objects.commit is None:
        raise MalformedImage("the layer that should have the image's commit has none")
    reader.drain()
    return taker.objects


def objects_diff_id(commit: Commit) -> str | None:
    """Return the DiffID that a layer of content was verified against, None for other commits."""
    value = commit.metadata.get(OBJECTS_KEY)
    return value if isinstance(value, str) else None


def detached_path(commit: str) -> str:
    """Return where a commit's detached metadata lies in a repository."""
    return f"objects/{commit[:2]}/{commit[2:]}.commitmeta"


class _Taker:
    def __init__(
        self, role: Role, reader: TarReader, transaction: Transaction, on_file: OnFile | None
    ) -> None:
        self.objects = Objects()
        self._role = role
        self._reader = reader
        self._transaction = transaction
        self._on_file = on_file
        self._last: Kind | None = None
        self._known: dict[bytes, Xattrs] = {}

    def take(self, found: Found, entry: Entry) -> None:
        kind = found.kind
        if kind is Kind.FILE:
            self._file(found, entry)
        elif self._role is not Role.COMMIT:
            raise MalformedImage(f"{kind.value} {found.checksum} in a layer of content alone")
        elif kind is Kind.COMMITMETA:
            self._detached(found)
        else:
            self._metadata(found)
        self._last = kind

    def _metadata(self, found: Found) -> None:
        if (found.kind is Kind.COMMIT) is not (self.objects.commit is None):
            raise MalformedImage(
                f"{found.kind.value} {found.checksum}: one commit has to come before all else"
            )
        try:
            checksum = self._transaction.write_metadata(
                _METADATA[found.kind], self._reader.read_payload(stored=False)
            )
        except DamagedRepository as error:
            raise MalformedImage(f"{found.kind.value} {found.checksum}: {error}") from None
        self._check(found, checksum)
        if found.kind is Kind.COMMIT:
            self.objects.commit = checksum
        else:
            self.objects.metadata.add(checksum)

    def _detached(self, found: Found) -> None:
        if self._last is not Kind.COMMIT or found.checksum != self.objects.commit:
            raise MalformedImage(f"commitmeta {found.checksum} does not follow its commit")
        data = self._reader.read_payload(stored=False)
        try:
            variant.decode("a{sv}", data)
        except DamagedRepository as error:
            raise MalformedImage(f"commitmeta {found.checksum}: {error}") from None
        self._transaction.write_beside(detached_path(found.checksum)).write(data)

    def _file(self, found: Found, entry: Entry) -> None:
        if self._role is Role.COMMIT and self.objects.commit is None:
            raise MalformedImage(f"file {found.checksum}: one commit has to come before all else")
        attributes = self._attributes(found)
        _check_xattrs(found, entry, attributes)
        if entry.type is EntryType.SYMLINK:
            checksum = self._link(entry, attributes)
        else:
            meta = FileMeta(entry.uid, entry.gid, stat.S_IFREG | entry.mode, attributes)
            offset = self._reader.payload_offset
            checksum = self._regular(found, meta, entry)
            if self._on_file is not None and entry.size and offset is not None:
                self._on_file(offset, checksum)
        self._check(found, checksum)
        self.objects.files.add(checksum)

    def _attributes(self, found: Found) -> Xattrs:
        # Most files have one of a few labels, and nothing else.
        known = self._known.get(found.xattrs)
        if known is None:
            try:
                known = objects.decode_xattrs(found.xattrs)
            except DamagedRepository as error:
                raise MalformedImage(f"xattrs of {found.checksum}: {error}") from None
            if len(self._known) < _XATTRS_KEPT and len(found.xattrs) <= _XATTRS_SMALL:
                self._known[found.xattrs] = known
        return known

    def _regular(self, found: Found, meta: FileMeta, entry: Entry) -> str:
        if entry.size <= limits.SMALL_FILE:
            return self._transaction.write_payload(meta, self._reader.read_payload())
        return self._transaction.write_stream(
            meta, entry.size, self._reader.payload(), expected=found.checksum
        )

    def _link(self, entry: Entry, attributes: Xattrs) -> str:
        target = entry.target.encode("utf-8", "surrogateescape")
        if not target or b"\0" in target or len(target) > limits.LINK_TARGET_MAX:
            raise MalformedImage(f"symbolic link {entry.path!r:.300} has no usable target")
        return self._transaction.write_link(
            FileMeta(entry.uid, entry.gid, stat.S_IFLNK | 0o777, attributes, entry.target)
        )

    def _check(self, found: Found, checksum: str) -> None:
        if checksum != found.checksum:
            raise VerificationFailed(
                f"{found.kind.value} {found.checksum} hashes to {checksum}", found.checksum
            )


def _check_xattrs(found: Found, entry: Entry, attributes: Xattrs) -> None:
    """Nothing can be left out of an object, so what no file can have is refused."""
    bare = tuple(each for each in attributes if each[0] != xattrs.LABEL)
    _kept, dropped = xattrs.own(entry._replace(xattrs=bare))
    if dropped:
        raise MalformedImage(f"file {found.checksum} has the xattr {dropped[0]!r:.300}")
