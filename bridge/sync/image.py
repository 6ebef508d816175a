"""One tag: is it what the source has, and if not, it is brought. Names come last.

The order is what makes it safe to be killed at any moment: blobs, manifests by their digests, what
refers to the image, then the note that the tag is about to be written, the tag, and the note that
it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bridge.oci.digest import Digest
from bridge.oci.model import INDEX_TYPES, Index, Manifest, parse_config
from bridge.push.copy import Part, blobs_of, documents_below, move
from bridge.push.origin import Origin
from bridge.push.report import CopiedBlob
from bridge.registry.meter import Meter
from bridge.registry.outcome import Outcome
from bridge.sync import hooks
from bridge.sync.context import Context, Repository, Stopped, Unread, flat
from bridge.sync.follow import Followers, opened
from bridge.sync.model import Kind, Place
from bridge.sync.narrow import Narrowed, narrow, parsed
from bridge.sync.report import Failure, Moved, TagOutcome, TagReport
from bridge.sync.source import Head
from bridge.sync.state import Written


def sync_tag(
    context: Context, repository: Repository, tag: str, younger_than: float | None = None
) -> list[TagReport]:
    """Have a tag, or a digest, of the source at the target; report that, and what else was done
    for it. Whatever fails is in the report."""
    started = time.monotonic()
    meter = context.meter.child()
    work = _Work(context, repository, tag, meter, younger_than)
    failure = None
    try:
        outcome = work.run()
    except Stopped:
        outcome = TagOutcome.SKIPPED
    except Exception as error:  # noqa: BLE001 - one tag must not end the others
        outcome = TagOutcome.FAILED
        if context.stop.is_set():  # one way or another it was that which ended it
            outcome = TagOutcome.SKIPPED
        else:
            what = f"{context.source.full(repository.source)}{_named(tag)}"
            failure = Failure.of(what, flat(error))
    report = TagReport(
        repository=context.target.full(repository.target),
        tag=work.name or tag,
        digest=work.digest,
        outcome=outcome,
        target_digest=work.target_digest,
        moved=moved_of(work.blobs, meter) + Moved(*work.landed),
        followers=work.followers.count,
        seconds=time.monotonic() - started,
        failure=failure,
    )
    return [*work.backed_up, report]


def moved_of(blobs: Iterable[CopiedBlob], meter: Meter) -> Moved:
    """Return what blobs and requests come to."""
    sums = dict.fromkeys(Outcome, 0)
    for each in blobs:
        sums[each.outcome] += each.blob.size
    return Moved(
        sent=sums[Outcome.PUSHED],
        reused=sums[Outcome.SKIPPED],
        mounted=sums[Outcome.MOUNTED],
        received=meter.received_bytes,
        requests=meter.requests,
        retries=meter.retries,
    )


class _Work:
    def __init__(
        self,
        context: Context,
        repository: Repository,
        tag: str,
        meter: Meter,
        younger_than: float | None,
    ) -> None:
        self.digest: str | None = None
        self.target_digest: str | None = None
        self.blobs: list[CopiedBlob] = []
        self.backed_up: list[TagReport] = []
        self.landed = 0, 0
        """Bytes of objects that were new to an OSTree repository, and that it had."""
        self.followers = Followers(context, repository, meter)
        self.name = _name(context, tag)
        """The tag at the target; None: the image is put there by its digest."""
        self._context = context
        self._repository = repository
        self._tag = tag
        self._meter = meter
        self._younger_than = younger_than
        self._wanted: Narrowed | None = None
        self._origin: Origin | None = None

    def run(self) -> TagOutcome:
        """Do all of it."""
        context, job = self._context, self._context.job
        context.check()
        key = self.name or self._tag
        if context.missing_only and self._is_there(key):
            return TagOutcome.SKIPPED
        context.keep_reserve()
        head = context.source.head(self._repository.source, self._tag, self._meter)
        self.digest = head.digest
        if job.media_types and head.media_type not in job.media_types:
            return TagOutcome.SKIPPED
        known = context.state.tag(self._repository.target, key)
        same, old = self._compare(key, head, known)
        if same and not job.force_recursive:
            self._unchanged(key, head)
            return TagOutcome.UNCHANGED
        if self._is_too_old(head):
            return TagOutcome.SKIPPED
        return self._copy(key, head, old)

    def _is_there(self, key: str) -> bool:
        there = self._repository.there
        if there is not None and ":" not in key:
            return key in there
        target, repository = self._context.target, self._repository.target
        return target.head(repository, key, self._meter) is not None

    def _compare(self, key: str, head: Head, known: Written | None) -> tuple[bool, Digest | None]:
        """Tell whether the target has what it is to have, and what it has if that is known."""
        repository = self._repository
        if ":" not in key and repository.there is not None and key not in repository.there:
            return False, None
        current = known is not None and known.source == head.digest
        if known is not None and current and known.wrote != 1:
            self.target_digest = known.target
            return True, None
        there = self._context.target.head(repository.target, key, self._meter)
        if there is None:
            return False, None
        if known is not None and current:
            expected: str | None = known.target
        else:
            expected = self._expected(head)
        if there != expected:
            return False, there
        self.target_digest = there
        wrote = 2 if known is not None and known.target == there and known.wrote else 0
        self._keep(Written(repository.target, key, self._tag, head.digest, there, wrote))
        return True, there

    def _expected(self, head: Head) -> str | None:
        """Return the digest that the target is to have; None where only the copy can tell."""
        job = self._context.job
        if job.conversion is not None or job.platforms:
            kept = self._context.state.converted(head.digest)
            if kept is not None:
                return Digest.of(kept[0])
            if job.conversion is not None:
                return None
            return self._narrowed(head).top.digest
        return head.digest

    def _narrowed(self, head: Head) -> Narrowed:
        """Return what of the image is wanted; it is fetched once."""
        if self._wanted is None:
            name = head.digest if ":" not in self._tag else self._tag
            self._origin = self._context.source.open(self._repository.source, name, self._meter)
            top = self._origin.top()
            self._wanted = narrow(self._context.job, self._origin, top)
        return self._wanted

    def _unchanged(self, key: str, head: Head) -> None:
        job = self._context.job
        if not job.fast_check and self._follows:
            self.followers.bring(head.digest)
            self._bring_below(key, head)
            self.blobs += self.followers.blobs
        if not self._context.dry:
            hooks.run(job.hooks.unchanged, "unchanged", self._about(key))

    def _bring_below(self, key: str, head: Head) -> None:
        """Bring the digest tags of what an index lists, if that is known; else it is for later."""
        repository = self._repository
        if head.media_type not in INDEX_TYPES or not repository.digest_tags:
            return
        known = self._context.state.tag(repository.target, key)
        if known is None or not known.below:
            repository.unread.append(Unread(key, head.digest))
            return
        for each in known.below:
            self.followers.bring(Digest.parse(each), tags_only=True)

    @property
    def _follows(self) -> bool:
        """Whether anything may follow: what was converted has other digests."""
        job = self._context.job
        if self._context.target.takes_images_only:
            return False
        return job.conversion is None and (job.referrers is not None or job.digest_tags)

    def _is_too_old(self, head: Head) -> bool:
        if self._younger_than is None:
            return False
        made = self._made(head)
        age = timedelta(seconds=min(self._younger_than, timedelta.max.total_seconds() / 2))
        return made is not None and self._context.now - made >= age

    def _made(self, head: Head) -> datetime | None:
        """Return when the image was made, by the first configuration in it; it is remembered."""
        state, name = self._context.state, f"made {head.digest}"
        if (kept := state.tag(self._repository.target, name)) is not None:
            return datetime.fromisoformat(kept.named) if kept.named else None
        top = self._narrowed(head).top
        assert self._origin is not None
        while isinstance(top, Index) and top.manifests:
            top = self._origin.document(top.manifests[0])
        if not isinstance(top, Manifest):
            return None
        raw = b"".join(self._origin.blob(top.config))
        made = _time(parse_config(raw).created)
        text = made.isoformat() if made else ""
        self._keep(Written(self._repository.target, name, text, head.digest, "", 0))
        return made

    def _copy(self, key: str, head: Head, old: Digest | None) -> TagOutcome:
        context, job, repository = self._context, self._context.job, self._repository
        if not context.dry:
            hooks.run(job.hooks.pre, "pre", self._about(key))
        if context.target.takes_images_only:
            return self._land(key, head)
        wanted = self._narrowed(head)
        assert self._origin is not None
        if old is not None and job.backup is not None and self.name is not None:
            self._back_up(old)
        with ExitStack() as stack:
            place = opened(context, repository, self.name or self._tag, self._meter, stack)
            raw, media_type = wanted.top.raw, wanted.top.media_type
            if job.conversion is not None and not context.dry:
                from bridge.sync.convert import convert

                reference = context.source.image(repository.source, self._tag, head.digest)
                made = convert(context, job.conversion, self._origin, wanted, place, reference)
                raw, media_type = made.document, made.media_type
                self.blobs += made.blobs
                subjects: tuple[str, ...] = ()
            else:
                part = Part(wanted.wants, job.include_external, context.check)
                moved = move(self._origin, wanted.top, place, context.progress.detail, part)
                self.blobs += moved.blobs
                subjects = moved.documents
            if self._follows and subjects:
                place.write(raw, media_type)
                for each in subjects:
                    self.followers.bring(Digest.parse(each))
                self.blobs += self.followers.blobs
            digest = Digest.of(raw)
            self.target_digest = digest
            if context.dry:
                return TagOutcome.WOULD_COPY
            if digest != head.digest:
                context.state.put_converted(head.digest, raw, media_type)
            below = tuple(each for each in subjects if each != wanted.top.digest)
            written = Written(repository.target, key, self._tag, head.digest, digest, 1, below)
            self._keep(written)
            place.finish(raw, media_type, [self.name] if self.name else [])
        self._keep(replace(written, wrote=2))
        hooks.run(job.hooks.post, "post", self._about(key))
        return TagOutcome.COPIED

    def _land(self, key: str, head: Head) -> TagOutcome:
        """Import the image."""
        from bridge.sync.ostree_target import OstreeTarget

        context, job, repository = self._context, self._context.job, self._repository
        if context.dry:
            wanted = self._narrowed(head)
            assert self._origin is not None
            below = (wanted.top, *documents_below(self._origin, wanted.top, wanted.wants))
            blobs = {each.digest: each for of in below for each in blobs_of(of)}
            self.blobs += [CopiedBlob(each, Outcome.PUSHED) for each in blobs.values()]
            return TagOutcome.WOULD_COPY
        host = context.source.host
        target = context.target
        assert isinstance(target, OstreeTarget)
        done = target.land(
            repository.target,
            key,
            context.source.image(repository.source, self._tag, None),
            None if host is None else context.hosts.network(host),
            parsed(job.platforms[0]) if job.platforms else None,
            context.progress.detail,
        )
        self._meter.add(received=done.received_bytes, requests=done.requests, retries=done.retries)
        self.digest, self.target_digest = done.digest, f"commit:{done.commit}"
        self.landed = done.store.new_bytes, done.store.reused_bytes
        self._keep(Written(repository.target, key, self._tag, done.digest, self.target_digest, 2))
        hooks.run(job.hooks.post, "post", self._about(key))
        return TagOutcome.COPIED if done.changed else TagOutcome.UNCHANGED

    def _back_up(self, old: Digest) -> None:
        """Have the tag's old image under its other name. It is the one time that a manifest is
        fetched from the target."""
        from bridge.sync.config import backup

        context, repository = self._context, self._repository
        here = _place(context, repository, self.name or "")
        to = backup.place(context.job, here, lambda: context.now.astimezone())
        if to is None:
            return
        if not context.dry:
            found = context.target.read(repository.target, old, self._meter)
            with ExitStack() as stack:
                if to.name == here.name:
                    target, name = context.target, repository.target
                else:
                    target, name = context.hosts.target(to), ""
                place = target.open(name, to.tag, self._meter, stack, None)
                place.finish(found.raw, found.media_type, [to.tag or ""])
        self.backed_up.append(
            TagReport(to.name, to.tag or "", old, TagOutcome.BACKED_UP, target_digest=old)
        )

    def _keep(self, written: Written) -> None:
        if not self._context.dry:
            self._context.state.put(written)

    def _about(self, key: str) -> dict[str, str]:
        context, repository = self._context, self._repository
        return {
            "job": context.job.name,
            "source": f"{context.source.full(repository.source)}{_named(self._tag)}",
            "target": f"{context.target.full(repository.target)}{_named(key)}",
            "digest": self.digest or "",
            "target_digest": self.target_digest or "",
        }


def _name(context: Context, tag: str) -> str | None:
    """Return the tag that the image gets at the target; None: none."""
    target = context.job.target
    if target.kind is Kind.IMAGE and target.tag:
        return f"{target.tag}{context.job.suffix}"
    return None if ":" in tag else f"{tag}{context.job.suffix}"


def _place(context: Context, repository: Repository, tag: str) -> Place:
    target = context.job.target
    if context.target.host is None:
        return replace(target, tag=tag, digest=None)
    return Place(Kind.IMAGE, context.target.full(repository.target), tag)


def _named(name: str) -> str:
    return f"@{name}" if ":" in name else f":{name}"


def _time(created: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(created or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
