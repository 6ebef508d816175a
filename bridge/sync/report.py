"""What a run of sync jobs did: for each job and tag, what moved and what was there already."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from bridge.errors import BridgeError


class TagOutcome(enum.Enum):
    """What became of one tag at the target."""

    COPIED = "copied"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    BACKED_UP = "backed-up"
    """What another tag named before is now called so, too."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not looked at: the run was stopped, or it is for what is missing only."""
    WOULD_COPY = "would-copy"
    WOULD_DELETE = "would-delete"


@dataclass(frozen=True, slots=True)
class Moved:
    """What something cost. Bytes are those of blobs, but for `received`."""

    sent: int = 0
    """That went to the target; in a dry run: that would."""
    reused: int = 0
    """That the target had."""
    mounted: int = 0
    """That another repository of the target lent."""
    received: int = 0
    """Of all answers' bodies, as they came over the network."""
    requests: int = 0
    retries: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(Moved))
        )

    def to_json(self) -> dict[str, int]:
        """Return it as reports have it."""
        return {
            "sentBytes": self.sent,
            "reusedBytes": self.reused,
            "mountedBytes": self.mounted,
            "receivedBytes": self.received,
            "requests": self.requests,
            "retries": self.retries,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that went wrong, and went on without it."""

    what: str
    """A tag, a repository, or the job."""
    error: str
    exit_code: int

    @classmethod
    def of(cls, what: str, error: BridgeError) -> Failure:
        """Return an error as a failure of `what`."""
        return cls(what, str(error), error.exit_code)

    def to_json(self) -> dict[str, Any]:
        """Return it as reports have it."""
        return {"what": self.what, "error": self.error, "exitCode": self.exit_code}


@dataclass(frozen=True, slots=True)
class TagReport:
    """One tag of one repository of the target."""

    repository: str
    """At the target."""
    tag: str
    digest: str | None
    """That the tag has at the source; of one that is deleted, the one it had at the target."""
    outcome: TagOutcome
    target_digest: str | None = None
    """That it has at the target: another one where images are converted."""
    moved: Moved = Moved()
    """Referrers and digest tags that followed it included."""
    followers: int = 0
    """Referrers and digest tags that were copied with it."""
    seconds: float = 0.0
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as reports have it."""
        found: dict[str, Any] = {
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "targetDigest": self.target_digest or self.digest,
            "outcome": self.outcome.value,
            **self.moved.to_json(),
            "followers": self.followers,
            "seconds": round(self.seconds, 3),
        }
        if self.failure is not None:
            found |= {"error": self.failure.error, "exitCode": self.failure.exit_code}
        return found


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over tags; `moved` has listings and the like, too, which are no tag's."""

    tags: dict[str, int] = field(default_factory=dict)
    """By outcome, as reports have it; each is there."""
    moved: Moved = Moved()

    def to_json(self) -> dict[str, Any]:
        """Return it as reports have it."""
        return {"tags": dict(self.tags), **self.moved.to_json()}

    @classmethod
    def sum(cls, parts: Iterable[Totals]) -> Totals:
        """Return what all parts come to."""
        tags = {each.value: 0 for each in TagOutcome}
        moved = Moved()
        for part in parts:
            moved += part.moved
            for outcome, count in part.tags.items():
                tags[outcome] += count
        return cls(tags, moved)


@dataclass(frozen=True, slots=True)
class JobReport:
    """One job."""

    name: str
    source: str
    target: str
    tags: tuple[TagReport, ...]
    """All of them, but for unchanged ones beyond `limits.SYNC_TAGS_REPORTED`."""
    omitted: int
    """Tags that are only counted."""
    failures: tuple[Failure, ...]
    """Of tags and of what is no tag: a repository whose tags could not be listed, say."""
    totals: Totals
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as reports have it."""
        return {
            "name": self.name,
            "source": self.source,
            "target": self.target,
            "totals": self.totals.to_json(),
            "tags": [each.to_json() for each in self.tags],
            "omitted": self.omitted,
            "failures": [each.to_json() for each in self.failures],
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class SyncReport:
    """One run of a configuration."""

    config: str
    """What the configuration is called: its file's path, as it was given."""
    started: str
    """UTC, as RFC 3339 has it."""
    dry: bool
    """Nothing was written: what would be copied is said."""
    shard: tuple[int, int] | None
    """Number, from 0, and count."""
    jobs: tuple[JobReport, ...]
    seconds: float
    stopped: bool = False
    """It was told to end before all was done."""

    @property
    def totals(self) -> Totals:
        """The sums over all jobs."""
        return Totals.sum(each.totals for each in self.jobs)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Those of all jobs."""
        return tuple(failure for job in self.jobs for failure in job.failures)

    @property
    def exit_code(self) -> int:
        """0 where nothing failed; the failures' code where it is one and the same; else 1."""
        codes = {each.exit_code for each in self.failures}
        if not codes:
            return 1 if self.stopped else 0
        return codes.pop() if len(codes) == 1 else 1

    def to_json(self) -> dict[str, Any]:
        """Return the report as its JSON form has it."""
        return {
            "apiVersion": "bootc-py/v1",
            "kind": "SyncReport",
            "config": self.config,
            "started": self.started,
            "dryRun": self.dry,
            "shard": None if self.shard is None else f"{self.shard[0]}/{self.shard[1]}",
            "stopped": self.stopped,
            "totals": self.totals.to_json(),
            "jobs": [each.to_json() for each in self.jobs],
            "exitCode": self.exit_code,
            "seconds": round(self.seconds, 3),
        }
