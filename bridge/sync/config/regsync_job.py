"""Keys that regsync has for an entry of `sync` and for `defaults`, and what is inherited."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bridge.sync.config import values
from bridge.sync.config.reading import Section

_FLAGS = (
    "digestTags",
    "referrers",
    "referrerSlow",
    "fastCheck",
    "forceRecursive",
    "includeExternal",
)
_MEDIA_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
"""What regsync copies unless it is told otherwise."""

Values = dict[str, object]
Filter = tuple[str | None, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Keys:
    """What an entry, or `defaults`, says. What it does not say is empty, or None."""

    backup: str = ""
    interval: float = 0.0
    schedule: str = ""
    least: int = 0
    retry: float = 0.0
    flags: dict[str, bool | None] = field(default_factory=lambda: dict.fromkeys(_FLAGS))
    filters: tuple[Filter, ...] = ()
    has_filters: bool = False
    referrer_source: str = ""
    referrer_target: str = ""
    media_types: tuple[str, ...] = ()
    platform: str = ""
    platforms: tuple[str, ...] = ()

    def variables(self) -> Values:
        """Return what `.Sync` has of it in templates."""
        return {
            "Backup": self.backup,
            "Schedule": self.schedule,
            "Platform": self.platform,
            "Platforms": list(self.platforms),
            "MediaTypes": list(self.media_types),
            "ReferrerSrc": self.referrer_source,
            "ReferrerTgt": self.referrer_target,
        }


def read_keys(section: Section, *, with_platform: bool) -> Keys:
    """Return what a section says."""
    limit = section.section("ratelimit")
    least, retry = 0, 0.0
    if limit is not None:
        least = limit.whole("min") or 0
        retry = limit.made("retry", values.go_positive) or 0.0
        limit.end()
    flags = {key: section.flag(key) for key in _FLAGS}
    if flags["referrerSlow"]:
        section.note("referrerSlow", "is ignored: lists are filtered here always")
    _hooks(section)
    return Keys(
        backup=section.text("backup") or "",
        interval=section.made("interval", values.go_positive) or 0.0,
        schedule=section.text("schedule") or "",
        least=least,
        retry=retry,
        flags=flags,
        filters=tuple(_filter(each) for each in section.sections("referrerFilters")),
        has_filters=section.has("referrerFilters"),
        referrer_source=section.text("referrerSource") or "",
        referrer_target=section.text("referrerTarget") or "",
        media_types=section.each("mediaTypes", values.media_type),
        platform=(section.made("platform", _platform) or "") if with_platform else "",
        platforms=section.each("platforms", values.platform) if with_platform else (),
    )


def inherited(own: Keys, common: Keys) -> Keys:
    """Return what holds for an entry: its own, and what the defaults say where it says nothing."""
    timed = bool(own.schedule or own.interval)
    flags: dict[str, bool | None] = {
        key: value if value is not None else common.flags[key] or False
        for key, value in own.flags.items()
    }
    return replace(
        own,
        backup=own.backup or common.backup,
        schedule=own.schedule if timed else common.schedule,
        interval=own.interval if timed else (0.0 if common.schedule else common.interval),
        least=own.least or common.least,
        retry=own.retry or common.retry,
        flags=flags,
        filters=own.filters if own.has_filters else common.filters,
        referrer_source=own.referrer_source or common.referrer_source,
        referrer_target=own.referrer_target or common.referrer_target,
        media_types=own.media_types or common.media_types or _MEDIA_TYPES,
    )


def _platform(text: str) -> str:
    return values.platform(text) if text else ""


def _filter(section: Section) -> Filter:
    annotations = section.section("annotations")
    wanted: tuple[tuple[str, str], ...] = ()
    if annotations is not None:
        wanted = tuple((key, annotations.text(key) or "") for key in annotations.given)
    artifact_type = section.text("artifactType") or None
    section.end()
    return artifact_type, wanted


def _hooks(section: Section) -> None:
    """Look at hooks as regsync does: it reads them, and runs none of them."""
    hooks = section.section("hooks")
    if hooks is None:
        return
    for key in ("pre", "post", "unchanged"):
        hook = hooks.section(key)
        if hook is not None:
            hook.text("type")
            hook.texts("params")
            hook.end()
    hooks.end()
    section.note("hooks", "are ignored: regsync reads them, and runs none of them either")
