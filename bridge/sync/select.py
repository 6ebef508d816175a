"""Which repositories and tags a job wants of those that there are. Names in, names out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.sync import versions
from bridge.sync.model import Names, TagSet

_DIGEST_TAG = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(?:[._-][A-Za-z0-9_.-]*)?")


def digest_tag_of(tag: str) -> str | None:
    """Return the digest that a tag names: the image's to which it belongs. None of other tags.

    `sha256-HEX` is where OCI registries without a referrers API list what refers to an image, and
    `sha256-HEX.sig`, `.att`, `.sbom` and the like are what cosign attaches to it.
    """
    matched = _DIGEST_TAG.fullmatch(tag)
    return matched[1].replace("-", ":", 1) if matched else None


def digest_tags(tags: Iterable[str]) -> dict[str, list[str]]:
    """Return the tags that name a digest, by that digest, each in the order of `tags`."""
    found: dict[str, list[str]] = {}
    for tag in tags:
        digest = digest_tag_of(tag)
        if digest is not None:
            found.setdefault(digest, []).append(tag)
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """A tag that is wanted, perhaps only if its image is young enough."""

    tag: str
    younger_than: float | None = None
    """Seconds since the image was made; None: it is wanted whatever its age."""


def named(sets: Sequence[TagSet]) -> tuple[str, ...] | None:
    """Return the names of tags if a job wants none but these, so that no list has to be asked for.

    None: a list is needed.
    """
    if not all(each.which.names for each in sets):
        return None
    return tuple(dict.fromkeys(name for each in sets for name in each.which.names))


def choose(tags: Iterable[str], sets: Sequence[TagSet]) -> list[Choice]:
    """Return the tags that any of the sets wants, each once, in the order of `tags`.

    Tags that a set names are wanted whether or not they are in `tags`; those that are not come
    last. Of a set, `names`, `allow`, `versions` and `deny` hold together, `newest` counts what
    these leave, and `younger_than` is of those, in the result.
    """
    listed = list(dict.fromkeys(tags))
    limits: dict[str, float | None] = {}
    for each in sets:
        for tag in _of(listed, each):
            if tag in limits:
                limits[tag] = _wider(limits[tag], each.younger_than)
            else:
                limits[tag] = each.younger_than
    known = dict.fromkeys(listed)
    order = [
        *(tag for tag in listed if tag in limits),
        *(tag for tag in limits if tag not in known),
    ]
    return [Choice(tag, limits[tag]) for tag in order]


def wanted(tags: Sequence[str], sets: Sequence[TagSet]) -> list[str]:
    """Return the tags of `choose`, before anybody has looked at an image's age."""
    return [choice.tag for choice in choose(tags, sets)]


def young(
    choices: Iterable[Choice], created: Iterable[tuple[str, datetime | None]], now: datetime
) -> list[str]:
    """Return the tags of `choices` that are wanted given when their images were made.

    `created` has them, with their time zones, for at least the choices that have `younger_than`. An
    image that does not say when it was made is wanted: what cannot be told is rather copied.
    """
    times = dict(created)
    found = []
    for choice in choices:
        made = times.get(choice.tag)
        if choice.younger_than is None or made is None or now - made < _delta(choice.younger_than):
            found.append(choice.tag)
    return found


def repositories(names: Iterable[str], which: Names, below: str = "") -> list[str]:
    """Return the repositories that are wanted, each once, without `below` and the slash after it.

    `names` are a catalog's. Those not below that path are none of the job's. What `which` names is
    wanted whether or not it is in the catalog; `allow` and `deny` are told the names below the
    path.
    """
    prefix = f"{below.strip('/')}/" if below.strip("/") else ""
    # A layout may have images without a repository's name, in none below a path.
    listed = which.names or tuple(
        name[len(prefix) :]
        for name in names
        if name.startswith(prefix) and (name != prefix or not prefix)
    )
    return [name for name in dict.fromkeys(listed) if _allowed(name, which)]


def _of(listed: list[str], each: TagSet) -> list[str]:
    """Return what one set wants, whatever the age."""
    tags = list(dict.fromkeys(each.which.names)) or [
        tag for tag in listed if each.digest_tags or digest_tag_of(tag) is None
    ]
    tags = [tag for tag in tags if _allowed(tag, each.which)]
    if each.versions:
        tags = [tag for tag in tags if any(matches(tag) for matches in each.versions)]
    if each.newest is not None:
        tags = sorted(tags, key=versions.key)[-each.newest :] if each.newest else []
    return tags


def _allowed(name: str, which: Names) -> bool:
    if which.allow and not any(matches(name) for matches in which.allow):
        return False
    return not any(matches(name) for matches in which.deny)


def _wider(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _delta(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, timedelta.max.total_seconds() / 2))
