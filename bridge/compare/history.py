"""The versions of a repository, and what each update from one to the next moves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bridge import limits
from bridge.compare.diff import compare
from bridge.compare.estimate import Strategy
from bridge.compare.image import Image, Read, Session
from bridge.compare.report import ImageDiff
from bridge.errors import MalformedImage, NotFound, UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference

_ATTACHED = re.compile(r"sha(?:256|512)-[0-9a-f]{64,128}(?:\..*)?")
"""Tags that are no versions: the referrers of a digest, and its signatures as cosign names them."""
_STRETCHES = re.compile(r"[0-9]+|[^0-9]+")
_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Release:
    """One image of the repository, under all its tags."""

    tags: tuple[str, ...]
    reference: ImageReference
    digest: Digest
    """Of the manifest for the platform."""
    version: str | None
    created: datetime | None
    image_bytes: int
    layers: int

    @property
    def name(self) -> str:
        """What to call it: its version, else the tag that looks most like one."""
        return self.version or self.tags[-1]


@dataclass(slots=True)
class History:
    """A repository's newest images, oldest first, and the updates between them."""

    repository: str
    strategy: Strategy
    releases: list[Release]
    diffs: list[ImageDiff] = field(default_factory=list)
    """Each from a release to the next one."""
    tags: int = 0
    """All tags of the repository that may be versions..."""
    unread: int = 0
    """...those of them that were not looked at, for there are too many..."""
    others: tuple[str, ...] = ()
    """...and those that are no image for the platform."""
    read: Read = field(default_factory=Read)

    def to_json(self) -> dict[str, Any]:
        """Return the images, and each update as a document of kind `ImageDiff`."""
        return {
            "tags": self.tags,
            "unreadTags": self.unread,
            "images": [
                {
                    "tags": list(each.tags),
                    "digest": each.digest,
                    "version": each.version,
                    "created": None if each.created is None else each.created.isoformat(),
                    "imageBytes": each.image_bytes,
                    "layers": each.layers,
                }
                for each in self.releases
            ],
            "updates": [each.to_json() for each in self.diffs],
        }


def history(
    repository: ImageReference,
    session: Session,
    most: int,
    strategy: Strategy = Strategy.CHUNKS,
) -> History:
    """Return the history of the `most` newest images, oldest first.

    Images are sorted by when they were created, and by version where that does not tell. Of more
    than `limits.TAGS_READ_MAX` tags those are looked at that look newest. Raises what comparing
    raises; `UsageError` for what is no repository, `NotFound` where there is no image in it.
    """
    where = repository.registry
    if where.digest is not None:
        raise UsageError(f"{repository}: name the repository, without a digest")
    tags = session.tags(where)
    names = sorted((each for each in tags if not _ATTACHED.fullmatch(each)), key=natural)
    read = names[-limits.TAGS_READ_MAX :]
    found, others = _releases(repository, read, session)
    releases = sorted(found, key=_age)[-most:]
    if not releases:
        raise NotFound(f"{where.name}: none of its {len(names)} tags is an image for this platform")
    result = History(where.name, strategy, releases, [], len(names), len(names) - len(read), others)
    result.diffs = list(_diffs(releases, session, strategy))
    result.read = session.total()
    return result


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key by which versions are sorted as people do: digits as numbers."""
    return [
        (1, int(each), "")
        if each.isascii() and each.isdigit() and len(each) <= _DIGITS
        else (0, 0, each)
        for each in _STRETCHES.findall(text)
    ]


def tagged(repository: ImageReference, tag: str) -> ImageReference:
    """Return the image of a repository under a tag."""
    found = repository.registry
    return replace(repository, name=f"{found.name}:{tag}")


def parse_time(text: str | None) -> datetime | None:
    """Return the time that RFC 3339 text names; None where it names none."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _releases(
    repository: ImageReference, tags: Sequence[str], session: Session
) -> tuple[list[Release], tuple[str, ...]]:
    found: dict[Digest, Release] = {}
    others: list[str] = []
    for tag in tags:
        reference = tagged(repository, tag)
        try:
            with session.open(reference) as image:
                identity = image.identity
        except (MalformedImage, NotFound):
            others.append(tag)  # an artifact, or of another platform, or gone by now
            continue
        session.pieces = session.pieces or identity.may_come_in_parts
        digest = identity.manifest.digest
        if digest in found:
            found[digest] = replace(found[digest], tags=(*found[digest].tags, tag))
            continue
        found[digest] = Release(
            (tag,),
            reference,
            digest,
            identity.version,
            parse_time(identity.config.created),
            identity.manifest.image_bytes,
            len(identity.manifest.layers),
        )
    return list(found.values()), tuple(others)


def _age(release: Release) -> tuple[float, list[tuple[int, int, str]], list[tuple[int, int, str]]]:
    created = 0.0 if release.created is None else release.created.timestamp()
    return created, natural(release.version or ""), natural(release.tags[-1])


def _diffs(
    releases: Sequence[Release], session: Session, strategy: Strategy
) -> Iterator[ImageDiff]:
    before: Image | None = None
    try:
        for release in releases:
            after = session.open(_pinned(release))
            if before is not None:
                session.progress.message(
                    f"comparing {before.identity.reference} and {after.identity.reference}"
                )
                try:
                    yield compare(before, after, session, strategy)
                finally:
                    before.close()
            before = after
            session.forget_closed()
    finally:
        for image in list(session.images):
            image.close()


def _pinned(release: Release) -> ImageReference:
    """Return the image by its digest: a tag may be moved while this runs."""
    pinned = release.reference.registry.with_digest(release.digest)
    return replace(release.reference, name=str(pinned))
