"""The verb: two images compared."""

from __future__ import annotations

from contextlib import ExitStack

from bridge.compare import changes
from bridge.compare.causes import grouped, shares
from bridge.compare.estimate import Held, Strategy, estimates
from bridge.compare.image import Image, Session
from bridge.compare.report import ImageDiff, Stored
from bridge.compare.stored import StoredImage
from bridge.errors import MalformedImage, RangeRefused
from bridge.oci.reference import ImageReference
from bridge.pull.coalesce import Link
from bridge.pull.plan import Lookup

_UNREAD = (
    "some layers do not say what is inside them, and were not to be downloaded: what is not known "
    "takes a run without --no-download"
)


def diff(
    before: ImageReference | StoredImage,
    after: ImageReference,
    session: Session,
    strategy: Strategy = Strategy.CHUNKS,
) -> ImageDiff:
    """Return what an update from `before` to `after` moves, stores and changes.

    Raises what resolving an image raises, and what reading layers raises where that is necessary.
    """
    with ExitStack() as stack:
        old: Image | StoredImage
        if isinstance(before, StoredImage):
            old = before
        else:
            old = stack.enter_context(session.open(before))
        new = stack.enter_context(session.open(after))
        return compare(old, new, session, strategy)


def compare(
    old: Image | StoredImage, new: Image, session: Session, strategy: Strategy = Strategy.CHUNKS
) -> ImageDiff:
    """Return what `diff` returns, of images that are open; same errors."""
    reasons: list[str] = []
    identity = new.identity
    stored_layers = frozenset(old.identity.config.diff_ids)
    session.pieces = session.pieces or identity.may_come_in_parts
    looked = new.plans(old.identity)
    complete = all([old.load(), new.load()])
    if not complete:
        reasons.append(_UNREAD)
    held: Lookup | None = old.lookup if isinstance(old, StoredImage) else None
    if isinstance(old, Image) and old.facts() is not None:
        held = Held(old.layers)
    documents = identity.document_bytes
    if identity.manifest.config.digest == old.identity.manifest.config.digest:
        documents -= identity.manifest.config.size
    link = new.source.link if new.source.keeps else Link()
    found = estimates(looked, held, link, documents)

    files = packages = installed = stored = None
    if complete:
        files = changes.files(old.tree, new.tree)
        stored = _stored(old, new)
        try:
            installed = new.packages
            packages = changes.packages(old.packages, installed)
        except (MalformedImage, RangeRefused) as error:
            reasons.append(f"the package database cannot be read: {error}")
    chosen = found[strategy]
    parts = [] if chosen is None else shares(chosen, session.facts)
    return ImageDiff(
        before=old.identity,
        after=identity,
        stored_layers=stored_layers,
        estimates=found,
        strategy=strategy,
        shares=parts,
        causes=grouped(parts, installed),
        files=files,
        packages=packages,
        stored=stored,
        read=session.total(),
        reasons=tuple(reasons),
    )


def _stored(old: Image | StoredImage, new: Image) -> Stored | None:
    """Return what the layers of `new` add to the store: files that no layer of `old` has alike."""
    if new.facts() is None:
        return None
    known = old.objects
    added = [size for each, size in new.objects.items() if size and each not in known]
    return Stored(len(added), sum(added))
