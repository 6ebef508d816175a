"""Deleting at the target what vanished at the source: only ever what this job wrote.

A tag is deleted if the state says that this job wrote it, the list of the source's tags was read to
its end, is not empty and has it no more, and the tag still leads to what was written. It is the tag
that is deleted: never a manifest by its digest, which other tags may name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from bridge.errors import BridgeError
from bridge.registry.meter import Meter
from bridge.sync.context import Context, Repository, flat
from bridge.sync.model import Deletion
from bridge.sync.report import Failure, Moved, TagOutcome, TagReport
from bridge.sync.state import Written


def vanished(
    written: Iterable[Written], tags: frozenset[str] | None, there: frozenset[str] | None
) -> list[Written]:
    """Return what may be deleted of what was written to a repository.

    `tags` are the source's, None where they could not be listed; `there` those of the target,
    None where they are not known.
    """
    if not tags:
        return []
    return [
        each
        for each in written
        if each.wrote
        and is_tag_row(each)
        and each.named not in tags
        and (there is None or each.tag in there)
    ]


def is_tag_row(written: Written) -> bool:
    """Tell whether a row of the state is a tag's, and not about a manifest without one."""
    return ":" not in written.tag and "@" not in written.tag and " " not in written.tag


class Deletions:
    """What is to be deleted at the end of a job."""

    def __init__(self, context: Context, deletion: Deletion) -> None:
        self._context = context
        self._most = deletion.most
        self._found: list[tuple[Repository, Written]] = []
        self._count = 0

    def look(self, repository: Repository) -> None:
        """Take what vanished from a repository."""
        known = self._context.state.tags(repository.target).values()
        for each in vanished(known, repository.tags, repository.there):
            self._count += 1
            if self._count <= self._most:
                self._found.append((repository, each))

    def run(self) -> list[TagReport]:
        """Delete it; `BridgeError` where it is more than may be, and nothing is deleted then."""
        if self._context.state.broken:
            return []
        if self._count > self._most:
            raise BridgeError(
                f"{self._count} tags vanished at {self._context.job.source}, and at most "
                f"{self._most} may be deleted in one run: nothing was deleted; if that is right, "
                "allow more once"
            )
        return [self._delete(repository, each) for repository, each in self._found]

    def _delete(self, repository: Repository, written: Written) -> TagReport:
        context = self._context
        meter, started = context.meter.child(), time.monotonic()
        failure = None
        try:
            outcome = self._deleted(repository, written, meter)
        except Exception as error:  # noqa: BLE001 - one tag must not end the others
            outcome = TagOutcome.FAILED
            what = f"deleting {context.target.full(repository.target)}:{written.tag}"
            failure = Failure.of(what, flat(error))
        return TagReport(
            repository=context.target.full(repository.target),
            tag=written.tag,
            digest=written.target,
            outcome=outcome,
            target_digest=written.target,
            moved=Moved(
                received=meter.received_bytes, requests=meter.requests, retries=meter.retries
            ),
            seconds=time.monotonic() - started,
            failure=failure,
        )

    def _deleted(self, repository: Repository, written: Written, meter: Meter) -> TagOutcome:
        context = self._context
        context.check()
        if not context.target.still(repository.target, written.tag, written.target, meter):
            # Somebody else's by now, or gone: it is none of ours any more.
            if not context.dry:
                context.state.forget(repository.target, written.tag)
            return TagOutcome.SKIPPED
        if context.dry:
            return TagOutcome.WOULD_DELETE
        context.target.delete(repository.target, written.tag, meter)
        context.state.forget(repository.target, written.tag)
        return TagOutcome.DELETED
