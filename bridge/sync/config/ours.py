"""Our own format, version 1: docs/sync-config.md describes it key by key."""

from __future__ import annotations

import os.path
import re
from dataclasses import replace
from typing import Any

from bridge import limits
from bridge.errors import UsageError
from bridge.oci.reference import is_host, is_tag
from bridge.push.compress import Compression, check_level
from bridge.sync import cron, semver
from bridge.sync.config import backup, hosts, patterns, places, values
from bridge.sync.config.document import Node
from bridge.sync.config.reading import Mistakes, Section
from bridge.sync.model import (
    REGISTRIES,
    Config,
    Conversion,
    Deletion,
    Hook,
    Hooks,
    Job,
    Kind,
    Names,
    Place,
    RateLimitReserve,
    ReferrerFilter,
    Referrers,
    Schedule,
    TagSet,
)

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_SUFFIX = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_RETRY = 300.0
"""Seconds until a rate limit is looked at again, unless something else is said."""

Settings = dict[str, Any]
"""Fields of a `Job` that a section gives a value."""


def read(root: Node, mistakes: Mistakes, directory: str, *, with_secrets: bool) -> Config:
    """Return the configuration; mistakes are kept, and what is returned then is of no use."""
    section = Section(root, "", mistakes)
    section.whole("version", 1, 1)
    if "version" not in section.given:
        section.wrong(None, "no version; write version: 1")
    registries = section.section("registries")
    found = () if registries is None else hosts.read_hosts(registries, directory, with_secrets)
    server = section.section("server")
    listen = None
    if server is not None:
        listen = server.made("listen", _listen)
        server.end()
    state = section.text("state")
    parallel = section.whole("parallel", 1, 1000)
    defaults = section.section("defaults")
    common: Settings = {}
    if defaults is not None:
        common = _settings(defaults, directory)
        defaults.end()
    jobs: list[Job] = []
    for each in section.sections("jobs"):
        job = _job(each, common, directory)
        if job is not None:
            if any(job.name == other.name for other in jobs):
                each.wrong("name", f"the name {job.name!r:.100} again; state is kept by it")
            jobs.append(job)
    if not section.has("jobs"):
        section.wrong(None, "no jobs")
    section.end(extensions=True)
    return Config(
        tuple(jobs),
        found,
        parallel or limits.SYNC_IMAGES_AT_ONCE,
        None if state is None else os.path.join(directory, state),
        listen,
    )


def _job(section: Section, common: Settings, directory: str) -> Job | None:
    name = section.made("name", _name)
    source = section.made("source", lambda text: places.place(text, directory))
    target = section.made("target", lambda text: places.place(text, directory))
    for key in ("name", "source", "target"):
        if key not in section.given:
            section.wrong(None, f"no {key}")
    repositories = section.section("repositories")
    which = Names() if repositories is None else _names(repositories)
    if repositories is not None:
        repositories.end()
    settings = {**common, **_settings(section, directory)}
    section.end()
    if source is None or target is None:
        return None
    if which != Names() and source.kind is Kind.REPOSITORY:
        source = replace(source, kind=Kind.REGISTRY)
    try:
        target = places.with_target(source, target)
    except UsageError as error:
        section.wrong("target", str(error))
    if which != Names() and source.kind not in (Kind.REGISTRY, Kind.LAYOUT, Kind.ARCHIVE):
        section.wrong("repositories", f"{source} is no more than one")
    schedule = Schedule(
        settings.pop("cron", None), settings.pop("interval", None), settings.pop("jitter", 0.0)
    )
    job = Job(
        name or "",
        source,
        target,
        line=section.line,
        repositories=which,
        schedule=schedule,
        **settings,
    )
    _check(section, job)
    return job


def _check(section: Section, job: Job) -> None:
    """Keep as mistakes what cannot go together."""
    if job.source.kind is Kind.IMAGE and job.tags != (TagSet(),):
        section.wrong("tags", f"{job.source} is one image already")
    if job.target.kind is Kind.OSTREE:
        for key, given in (("convert", job.conversion), ("backup", job.backup)):
            if given:
                section.wrong(key, "images are imported into an OSTree repository as they are")
    if job.conversion and job.source.kind not in REGISTRIES | {Kind.LAYOUT, Kind.ARCHIVE}:
        section.wrong("convert", f"{job.source} is not where images are")
    if job.deletion and job.source.kind is Kind.IMAGE and job.source.digest:
        section.wrong("delete", "an image by digest does not vanish")


def _settings(section: Section, directory: str) -> Settings:
    """Return the fields of a job that a job, or `defaults`, gives a value."""
    found: Settings = {}
    if section.has("tags") or section.has("tag-sets"):
        found["tags"] = _tags(section)
    for key, field, value in (
        ("platforms", "platforms", section.each("platforms", values.platform, single=True)),
        ("media-types", "media_types", section.each("media-types", values.media_type)),
        ("sparse", "sparse", section.flag("sparse")),
        ("digest-tags", "digest_tags", section.flag("digest-tags")),
        ("fast-check", "fast_check", section.flag("fast-check")),
        ("force-recursive", "force_recursive", section.flag("force-recursive")),
        ("include-external", "include_external", section.flag("include-external")),
        ("backup", "backup", section.made("backup", backup.checked)),
        ("suffix", "suffix", section.made("suffix", _suffix)),
        ("parallel", "parallel", section.whole("parallel", 1, 1000)),
        ("jitter", "jitter", section.made("jitter", values.duration)),
    ):
        if section.has(key) and value is not None:
            found[field] = value
    _when(section, found)
    if section.has("referrers"):
        found["referrers"] = _referrers(section, directory)
    hooks = section.section("hooks")
    if hooks is not None:
        found["hooks"] = Hooks(*(_hook(hooks, key) for key in ("pre", "post", "unchanged")))
        hooks.end()
    limit = section.section("rate-limit")
    if limit is not None:
        least = limit.whole("reserve", 1)
        retry = limit.made("retry", values.some_duration)
        if not limit.has("reserve"):
            limit.wrong(None, "no reserve")
        found["reserve"] = RateLimitReserve(least or 1, retry or _RETRY)
        limit.end()
    if section.has("convert"):
        found["conversion"] = _conversion(section)
    if section.has("delete"):
        found["deletion"] = _deletion(section)
    return found


def _when(section: Section, found: Settings) -> None:
    text, interval = section.text("schedule"), section.made("interval", values.some_duration)
    if text is not None and section.has("interval"):
        section.wrong("interval", "one of schedule and interval, not both")
    if text is not None:
        section.made("schedule", cron.parse)
        found["cron"], found["interval"] = text, None
    elif interval is not None:
        found["cron"], found["interval"] = None, interval


def _tags(section: Section) -> tuple[TagSet, ...]:
    sections = section.sections("tag-sets")
    one = section.section("tags")
    if one is not None:
        sections = [one, *sections]
    if section.has("tag-sets") and not sections:
        section.wrong("tag-sets", "none of them: no tag would be wanted")
    found = []
    for each in sections:
        tags = TagSet(
            _names(each, is_tag),
            each.each("semver", semver.parse_range, single=True),
            each.whole("newest", 1),
            each.made("younger-than", values.some_duration),
        )
        each.end()
        found.append(tags)
    return tuple(found)


def _names(section: Section, valid: Any = None) -> Names:
    def name(text: str) -> str:
        if valid is not None and not valid(text):
            raise UsageError(f"{text!r:.100} is not a tag; expressions go under allow")
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", text):
            raise UsageError(f"{text!r:.100} is not a name; expressions go under allow")
        return text

    return Names(
        section.each("names", name, single=True),
        section.each("allow", patterns.whole, single=True),
        section.each("deny", patterns.whole, single=True),
    )


def _referrers(section: Section, directory: str) -> Referrers | None:
    node = section.node("referrers")
    if node is not None and node.entries is None:
        return Referrers() if section.flag("referrers") else None
    inner = section.section("referrers")
    if inner is None:
        return None
    types = inner.texts("artifact-types", single=True)
    wanted = inner.section("annotations")
    annotations: tuple[tuple[str, str], ...] = ()
    if wanted is not None:
        annotations = tuple((key, wanted.text(key) or "") for key in wanted.given)
    filters = tuple(ReferrerFilter(each, annotations) for each in types)
    if annotations and not filters:
        filters = (ReferrerFilter(None, annotations),)

    def repository(text: str) -> Place:
        found = places.place(text, directory)
        if found.kind is not Kind.REPOSITORY:
            raise UsageError(f"{text!r:.100} is not a repository")
        return found

    source, target = inner.made("source", repository), inner.made("target", repository)
    inner.end()
    return Referrers(filters, source, target)


def _hook(section: Section, key: str) -> Hook | None:
    if not section.has(key):
        section.node(key)
        return None
    words = section.texts(key)
    if not words:
        section.wrong(key, "the program to run, and its arguments, are wanted as a list")
    return Hook("exec", words)


def _conversion(section: Section) -> Conversion | None:
    inner = section.section("convert")
    if inner is None:
        return None
    compression = inner.made("compression", _compression) or Compression.ZSTD_CHUNKED
    level = inner.whole("level", 1, 99)
    rechunk = inner.flag("rechunk") or False
    try:
        check_level(compression, level)
    except UsageError as error:
        inner.wrong("level", str(error))
    inner.end()
    return Conversion(compression, level, rechunk)


def _compression(text: str) -> Compression:
    try:
        return Compression(text)
    except ValueError:
        known = ", ".join(each.value for each in Compression)
        raise UsageError(f"{text!r:.100} is none of {known}") from None


def _deletion(section: Section) -> Deletion | None:
    inner = section.section("delete")
    if inner is None:
        return None
    most = inner.whole("at-most", 1)
    if not inner.has("at-most"):
        inner.wrong(None, "no at-most: how many tags one run may delete")
    inner.end()
    return Deletion(most or 1)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise UsageError(f"{text!r:.100} is not a name: up to 64 letters, digits, '.', '_' and '-'")
    return text


def _suffix(text: str) -> str:
    if not _SUFFIX.fullmatch(text):
        raise UsageError(f"{text!r:.100} cannot be the end of a tag")
    return text


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    valid = is_host(text) or (host == "" and is_host(f"localhost:{port}"))
    if not colon or not valid:
        raise UsageError(f"{text!r:.100} is not HOST:PORT, such as 127.0.0.1:9464")
    return text
