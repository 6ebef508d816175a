"""What the bytes that move are for: files, put together by the package that they belong to.

Where a layer moves whole without saying what is inside it, its bytes are shared out among its files
by their sizes: an estimate. Where it is not known at all, the layer itself is the cause.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bridge.compare.encapsulated import file_at, is_in_repository
from bridge.compare.estimate import Estimate
from bridge.compare.layer import LayerFacts
from bridge.errors import MalformedImage
from bridge.layer.tar import EntryType
from bridge.oci.digest import Digest
from bridge.packages.package import Package
from bridge.pull.coalesce import Range
from bridge.pull.paths import components
from bridge.pull.plan import LayerPlan, Mode

OVERHEAD = "tables of contents, headers, and gaps between what is wanted"
METADATA = "the commit in the image: directories, and what is said of files"
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """Something for which bytes move; those are compressed bytes."""

    kind: str
    """`package`, `path` for a file that no package owns, `layer`, `metadata` for that of an
    encapsulated commit, or `overhead`."""
    name: str
    bytes: int
    files: int
    """Files that it has among those that move."""
    paths: tuple[str, ...]
    """The largest of them."""
    estimated: bool
    """Whether the bytes are shared out by the sizes of files."""


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes that move for one path; without a path for what is none."""

    path: str | None
    bytes: int
    estimated: bool = False
    kind: str = "overhead"
    """Of what is no path, like..."""
    name: str = OVERHEAD
    """...what to call it."""


def shares(estimate: Estimate, facts: Callable[[Digest], LayerFacts | None]) -> list[Share]:
    """Return what each path in a layer takes, the largest first. The bytes add up to those of the
    layers that the estimate moves."""
    found: dict[str | None, int] = defaultdict(int)  # None: of an encapsulated commit
    estimated: set[str | None] = set()
    others: list[Share] = []
    for plan in estimate.plans:
        if plan.mode is Mode.PRESENT:
            continue
        known = facts(plan.diff_id)
        left = plan.transfer_bytes
        if plan.inside is not None or (known is not None and known.blob == plan.layer.digest):
            for path, size in _of_pieces(plan, known):
                found[path] += size
                left -= size
        elif known is not None and any(item.entry.size for item in known.items):
            for path, size in _shared_out(known, left):
                found[path] += size
                estimated.add(path)
            left = 0
        elif known is None:
            others.append(Share(None, left, kind="layer", name=str(plan.layer.digest)))
            left = 0
        if left > 0:
            others.append(Share(None, left))
    for path, size in found.items():
        if size and path is None:
            others.append(Share(None, size, None in estimated, "metadata", METADATA))
        elif size:
            others.append(Share(path, size, path in estimated))
    return sorted(others, key=lambda each: (-each.bytes, each.path or each.name))


def grouped(found: Iterable[Share], installed: Iterable[Package] | None) -> list[Cause]:
    """Return the causes, the largest first: files of one package are one."""
    owners: dict[str, str] = {}
    for package in installed or ():
        for path in package.paths:
            owners.setdefault(path, package.name)
    groups: Mapping[tuple[str, str], list[Share]] = defaultdict(list)
    for share in found:
        groups[_key(share, owners)].append(share)
    causes = [
        Cause(
            kind,
            name,
            sum(each.bytes for each in members),
            sum(each.path is not None for each in members),
            tuple(each.path for each in members[:_EXAMPLES] if each.path is not None),
            any(each.estimated for each in members),
        )
        for (kind, name), members in groups.items()
    ]
    return sorted(causes, key=lambda each: (-each.bytes, each.kind, each.name))


def _key(share: Share, owners: Mapping[str, str]) -> tuple[str, str]:
    if share.path is not None:
        owner = owners.get(share.path)
        return ("path", share.path) if owner is None else ("package", owner)
    return share.kind, share.name


def _of_pieces(plan: LayerPlan, known: LayerFacts | None) -> Iterator[tuple[str | None, int]]:
    """Yield paths, and what is moved of their content: each stretch of the blob counts once."""
    index = plan.inside.index if plan.inside is not None else known.index if known else None
    assert index is not None
    wanted = None if plan.parts is None else plan.parts.missing.pieces
    counted: set[Range] = set()
    for file in index.files:
        size = 0
        for piece in file.pieces:
            where = piece.start, piece.end
            if where in counted or (wanted is not None and wanted.get(piece.digest) != where):
                continue
            counted.add(where)
            size += piece.end - piece.start
        yield _path(file.path, known), size


def _shared_out(known: LayerFacts, blob: int) -> Iterator[tuple[str | None, int]]:
    files = [each.entry for each in known.items if each.entry.type is EntryType.FILE]
    total = sum(each.size for each in files)
    done = taken = 0
    for each in files:
        if not each.size:
            continue
        done += each.size
        until = blob * done // total
        yield _path(each.path, known), until - taken
        taken = until


def _path(path: str, known: LayerFacts | None) -> str | None:
    """Return the path in the image of what an archive has at `path`. That is the first name of an
    object of an encapsulated commit, and None for what has none."""
    if known is not None and is_in_repository(path):
        named = file_at(path)
        path = known.names.get(named, "") if named is not None else ""
        if not path:
            return None
    try:
        return "/".join(components(path))
    except MalformedImage:
        return path
