"""What follows an image: manifests that refer to it, and tags that name its digest.

Signatures, bills of materials and the like. They are brought before the image's tag is moved, so
that whoever finds the image finds them. Digest tags (`sha256-HEX.sig`) are found in the list of
the repository's tags. So is the tag under which a registry without the referrers API lists what
refers to an image: where the target has no such API either it is copied like an image, and leads to
the same bytes; unless somebody else has added to the target's, to which ours are then added.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from bridge import limits
from bridge.errors import NotFound
from bridge.oci.artifact import fallback_tag, require_subject
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.push.copy import Part, move
from bridge.push.destination import Destination
from bridge.push.report import CopiedBlob
from bridge.push.shared import SharedDestination
from bridge.registry.meter import Meter
from bridge.sync.context import Context, Repository
from bridge.sync.model import Place
from bridge.sync.source import Source
from bridge.sync.state import Written
from bridge.sync.target import Target


class Followers:
    """The followers of one image, and what they cost."""

    def __init__(self, context: Context, repository: Repository, meter: Meter) -> None:
        self.count = 0
        self.blobs: list[CopiedBlob] = []
        self._context = context
        self._repository = repository
        self._meter = meter

    def bring(self, subject: Digest, depth: int = 0, *, tags_only: bool = False) -> None:
        """Have all at the target that follows a manifest; with `tags_only` what is not found by a
        tag is not looked for. Raises what `move` raises."""
        context, repository = self._context, self._repository
        listing = fallback_tag(subject)
        for tag in repository.digest_tags.get(subject, ()):
            if tag != listing and context.job.digest_tags:
                self._tag(tag)
        if context.job.referrers is None or depth >= limits.INDEX_DEPTH_MAX:
            return
        if not repository.begin(f"referrers of {subject}"):
            return
        if tags_only and listing not in repository.digest_tags.get(subject, ()):
            return
        if context.job.referrers.source or context.job.referrers.target:
            self._listed(subject, depth)
            return
        with context.hosts.asking(context.source.host):  # so that one asks, and the others know
            source = repository.source
            lists = context.source.lists_referrers(source, subject, self._meter)
        if lists or (
            (repository.tags is None or listing in repository.tags)
            and not self._as_it_is(subject, listing)
        ):
            self._listed(subject, depth)

    def _as_it_is(self, subject: Digest, listing: str) -> bool:
        """Copy the index that lists referrers; False where it has to be made."""
        context = self._context
        referrers = context.job.referrers
        if referrers is None or referrers.filters or self._repository.tags is None:
            return False
        target = self._repository.target
        if context.state.tag(target, listing) is None:  # else it was copied as it was before
            with context.hosts.asking(context.target.host):
                if context.target.lists_referrers(target, subject, self._meter):
                    return False
        return self._tag(listing, alone=True)

    def _tag(self, tag: str, *, alone: bool = False) -> bool:
        """Bring a tag as it is. If `alone`, not in place of what somebody else put there: False."""
        context, repository = self._context, self._repository
        if not repository.begin(f"tag {tag}"):
            return True
        try:
            head = context.source.head(repository.source, tag, self._meter)
        except NotFound:
            return True  # it was in the list, and is gone
        known = context.state.tag(repository.target, tag)
        listed = repository.there is None or tag in repository.there
        if listed and known is not None and known.source == head.digest and known.wrote != 1:
            return True
        there = None
        if listed:
            there = context.target.head(repository.target, tag, self._meter)
            if there == head.digest:
                wrote = 2 if known is not None and known.target == there and known.wrote else 0
                self._keep(Written(repository.target, tag, tag, head.digest, there, wrote))
                return True
        if alone and there is not None and (known is None or known.target != there):
            return False
        with ExitStack() as stack:
            origin = context.source.open(repository.source, head.digest, self._meter)
            place = opened(context, repository, tag, self._meter, stack)
            if alone and isinstance(place, SharedDestination):
                place.copies_listing()
            top = origin.top()
            part = Part(external=context.job.include_external, check=context.check)
            moved = move(origin, top, place, context.progress.detail, part)
            written = Written(repository.target, tag, tag, head.digest, head.digest, 1)
            self._keep(written)
            place.finish(top.raw, top.media_type, [tag])
        self._keep(written, wrote=2)
        self.blobs += moved.blobs
        self.count += 1
        return True

    def _listed(self, subject: Digest, depth: int) -> None:
        """Bring what is listed as referring to a manifest, and what refers to that."""
        context = self._context
        referrers = context.job.referrers
        assert referrers is not None
        source, repository = _elsewhere_read(context, self._repository, referrers.source)
        for each in source.referrers(repository.source, subject, self._meter):
            if referrers.wanted(each.artifact_type or None, each.annotations):
                context.check()
                self._referrer(source, repository, subject, each)
                self.bring(each.digest, depth + 1)

    def _referrer(
        self, source: Source, repository: Repository, subject: Digest, listed: Descriptor
    ) -> None:
        context = self._context
        referrers = context.job.referrers
        assert referrers is not None
        target, to = _elsewhere_written(context, repository, referrers.target)
        name = f"@{listed.digest}"
        key = to.target if referrers.target is None else target.full(to.target)
        known = context.state.tag(key, name)
        if known is not None and known.wrote != 1:
            return
        if known is None and self._has(target, to, subject, listed):
            self._keep(Written(key, name, "", listed.digest, listed.digest, 0))
            return
        origin = source.open(repository.source, subject, self._meter)
        document = origin.document(listed)
        require_subject(document, subject)
        with ExitStack() as stack:
            place = opened(context, to, None, self._meter, stack, target)
            part = Part(external=context.job.include_external, check=context.check)
            moved = move(origin, document, place, context.progress.detail, part)
            self._keep(Written(key, name, "", listed.digest, listed.digest, 1))
            place.attach(document.raw, document.media_type)
        self._keep(Written(key, name, "", listed.digest, listed.digest, 2))
        self.blobs += moved.blobs
        self.count += 1

    def _has(self, target: Target, to: Repository, subject: Digest, listed: Descriptor) -> bool:
        """Tell whether the target has and lists a referrer: where it lists them by itself."""
        with self._context.hosts.asking(target.host):
            if not target.lists_referrers(to.target, subject, self._meter):
                return False
        return target.head(to.target, listed.digest, self._meter) is not None

    def _keep(self, written: Written, wrote: int | None = None) -> None:
        if not self._context.dry:
            kept = written if wrote is None else replace(written, wrote=wrote)
            self._context.state.put(kept)


def opened(
    context: Context,
    repository: Repository,
    tag: str | None,
    meter: Meter,
    stack: ExitStack,
    target: Target | None = None,
) -> Destination:
    """Return a tag of the target as a place to write to: in a dry run one that takes nothing."""
    target = target or context.target
    if context.dry:
        return target.rehearse(repository.target, meter)
    lender = None
    if context.source.host is not None and context.source.host == target.host:
        lender = context.source.full(repository.source).partition("/")[2]
    return target.open(repository.target, tag, meter, stack, lender)


def _elsewhere_read(
    context: Context, repository: Repository, place: Place | None
) -> tuple[Source, Repository]:
    if place is None:
        return context.source, repository
    return context.hosts.source(place), Repository("", repository.target)


def _elsewhere_written(
    context: Context, repository: Repository, place: Place | None
) -> tuple[Target, Repository]:
    if place is None:
        return context.target, repository
    return context.hosts.target(place), Repository(repository.source, "")
