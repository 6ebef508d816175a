"""regsync's configuration, version 1, as regsync reads it.

Format: github.com/regclient/regclient, `cmd/regsync/config.go` and `config/host.go`. What differs:
keys that regsync would read over are mistakes, but for those at the top that begin with `x-`, and
so are keys that are there twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.errors import UsageError
from bridge.oci.reference import DOCKER_HUB, is_host, is_tag, parse_registry_reference
from bridge.sync import cron, regsync_ranges
from bridge.sync.config import backup, patterns, regsync_hosts, templates, values
from bridge.sync.config.document import Node
from bridge.sync.config.reading import Mistakes, Section
from bridge.sync.config.regsync_job import Keys, Values, inherited, read_keys
from bridge.sync.config.template_functions import Outside
from bridge.sync.model import (
    REGISTRIES,
    Config,
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

_LEAST_RETRY = 300.0
"""Seconds; regsync looks at a rate limit no more often."""
_TYPES = ("registry", "repository", "image")
_IGNORED = {
    "blobLimit": "blobs are streamed",
    "cacheCount": "nothing is asked for twice in a run",
    "cacheTime": "nothing is asked for twice in a run",
}


def read(root: Node, mistakes: Mistakes, *, with_secrets: bool = True) -> Config:
    """Return the configuration; mistakes are kept, and what is returned then is of no use.

    Without secrets, templates find neither files nor variables.
    """
    outside = backup.outside(lambda: datetime.now().astimezone())
    if not with_secrets:
        outside = Outside(lambda _: "", lambda _: "", outside.now)
    section = Section(root, "", mistakes, lenient=True)
    section.whole("version", 0, 1)
    hosts = regsync_hosts.read_hosts(
        section.sections("creds"), lambda each, key: _secret(each, key, outside)
    )
    defaults = section.section("defaults")
    common = Keys() if defaults is None else read_keys(defaults, with_platform=False)
    parallel, agent, skip = 1, None, False
    if defaults is not None:
        parallel = max(1, defaults.whole("parallel", -(2**31), 1000) or 1)
        agent = defaults.text("userAgent") or None
        skip = defaults.flag("skipDockerConfig") or False
        defaults.whole("blobLimit", -(2**63))
        defaults.whole("cacheCount", -(2**31))
        defaults.made("cacheTime", values.go_duration)
        for key, why in _IGNORED.items():
            if defaults.has(key):
                defaults.note(key, f"is ignored: {why}")
        defaults.end()
    retry = max(common.retry, _LEAST_RETRY)
    jobs: list[Job] = []
    for each in section.sections("sync"):
        job = _job(each, replace(common, retry=retry), outside)
        if job is not None:
            jobs.append(job)
    if not section.has("sync"):
        section.note(None, "nothing to sync")
    section.end(extensions=True)
    return Config(_named(jobs), hosts, parallel=parallel, docker_config=not skip, user_agent=agent)


def _named(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Return the jobs, each with a name of its own, which does not change if others come or go."""
    found: dict[str, Job] = {}
    for job in jobs:
        name = f"{job.source} to {job.target}"
        number = 2
        while name in found:
            name, number = f"{job.source} to {job.target} ({number})", number + 1
        found[name] = replace(job, name=name)
    return tuple(found.values())


def _secret(section: Section, key: str, outside: Outside) -> str | None:
    """Return the text of a credential; the message of a mistake does not have it."""
    text = section.text(key)
    if text is None:
        return None
    try:
        template = templates.parse(text)
        found = template.expand({}, outside)
    except UsageError:
        section.wrong(key, "the template is wrong, or wants what is not supported here")
        return None
    if not found and template.has_actions:
        section.note(key, "the template makes an empty text: is the variable or file there?")
    return found


def _job(section: Section, common: Keys, outside: Outside) -> Job | None:
    own = read_keys(section, with_platform=True)
    keys = inherited(own, common)
    sync: Values = keys.variables()
    kind = section.text("type") or ""
    sync["Type"] = kind
    tags = _tag_set(section.section("tags"), sync, "Tags")
    sets = [found for each in section.sections("tagSets") if (found := _tag_set(each, {}, ""))]
    repositories = _repositories(section, sync)
    sync["Source"], sync["Target"] = section.text("source") or "", section.text("target") or ""
    for key, name in (
        ("source", "Source"),
        ("referrerSource", "ReferrerSrc"),
        ("target", "Target"),
        ("referrerTarget", "ReferrerTgt"),
    ):
        try:
            sync[name] = templates.parse(str(sync[name])).expand({"Sync": sync}, outside)
        except UsageError as error:
            section.wrong(key, str(error))
            return None
    section.end()
    if kind not in _TYPES:
        section.wrong("type", f"{kind!r:.50} is none of {', '.join(_TYPES)}")
        return None
    source = _made(section, "source", lambda: _place(str(sync["Source"]), kind, is_source=True))
    target = _made(section, "target", lambda: _place(str(sync["Target"]), kind, is_source=False))
    places = {
        key: _made(section, key, lambda text=str(sync[name]): _repository(text))
        for key, name in (("referrerSource", "ReferrerSrc"), ("referrerTarget", "ReferrerTgt"))
        if sync[name]
    }
    if source is None or target is None:
        return None
    if source == target:
        section.wrong("target", f"source and target are the same: {source}")
    if source.kind is Kind.REGISTRY and target.kind is Kind.LAYOUT:
        section.note("target", "is one layout here, with images named REPOSITORY:TAG")
    if tags is not None:
        sets.append(tags)
    referrers = None
    if keys.flags["referrers"]:
        filters = tuple(ReferrerFilter(*each) for each in keys.filters)
        referrers = Referrers(filters, places.get("referrerSource"), places.get("referrerTarget"))
    job = Job(
        "",
        source,
        target,
        line=section.line,
        repositories=repositories,
        tags=tuple(sets) or (TagSet(digest_tags=True),),
        platforms=(keys.platform,) if keys.platform else keys.platforms,
        sparse=not keys.platform and bool(keys.platforms),
        referrers=referrers,
        digest_tags=keys.flags["digestTags"] or False,
        fast_check=keys.flags["fastCheck"] or False,
        force_recursive=keys.flags["forceRecursive"] or False,
        include_external=keys.flags["includeExternal"] or False,
        media_types=keys.media_types,
        backup=keys.backup or None,
        variables=sync,
        schedule=Schedule(keys.schedule or None, None if keys.schedule else keys.interval or None),
        reserve=RateLimitReserve(keys.least, max(keys.retry, _LEAST_RETRY)) if keys.least else None,
    )
    if keys.backup:
        _made(section, "backup", lambda: backup.place(job, _sample(target), outside.now))
    if keys.schedule:
        _made(section, "schedule", lambda: cron.parse(keys.schedule))
    return job


def _made(section: Section, key: str, make: Any) -> Any:
    try:
        return make()
    except UsageError as error:
        section.wrong(key, str(error))
        return None


def _sample(target: Place) -> Place:
    return target if target.kind is Kind.IMAGE else replace(target, tag="tag")


def _tag_set(section: Section | None, sync: Values, name: str) -> TagSet | None:
    """Return a set; None, if it says nothing, which regsync takes for no set at all."""
    found: dict[str, tuple[str, ...]] = {"Allow": (), "Deny": (), "SemverRange": ()}
    if name:
        sync[name] = found
    if section is None:
        return None
    allow, deny = section.each("allow", _anchored), section.each("deny", _anchored)
    ranges = section.each("semverRange", lambda text: regsync_ranges.parse_range(text or "0"))
    texts = section.texts("semverRange")
    section.end()
    found["Allow"] = section.texts("allow")
    found["Deny"] = section.texts("deny")
    found["SemverRange"] = texts
    # An empty range says nothing; where all are empty, nothing is said of versions.
    ranges = tuple(each for each, text in zip(ranges, texts, strict=False) if text)
    if name and not any(found.values()):
        return None
    return TagSet(Names(allow=allow, deny=deny), ranges, digest_tags=True)


def _repositories(section: Section, sync: Values) -> Names:
    inner = section.section("repos")
    found: dict[str, tuple[str, ...]] = {"Allow": (), "Deny": ()}
    sync["Repos"] = found
    if inner is None:
        return Names()
    names = Names(allow=inner.each("allow", _anchored), deny=inner.each("deny", _anchored))
    found["Allow"], found["Deny"] = inner.texts("allow"), inner.texts("deny")
    inner.end()
    return names


def _anchored(text: str) -> patterns.Pattern:
    # Without parentheses, as regsync does it: of `a|b`, either is held to one end alone.
    try:
        return patterns.found_in(f"^{text}$")
    except UsageError:
        patterns.found_in(text)  # whose message has what the user wrote
        raise


def _place(text: str, kind: str, *, is_source: bool) -> Place:
    """Return a source or target as regclient reads references."""
    if not text:
        raise UsageError("is empty, or was not given")
    scheme, mark, rest = text.partition("://")
    if mark:
        if scheme not in ("ocidir", "ocifile"):
            raise UsageError(f"{text!r:.200}: a scheme that is not known: {scheme!r:.50}")
        return _layout(text, rest, kind, is_source)
    if kind == "registry":
        return _registry(text, is_source)
    place = _image(text)
    if kind == "image":
        if not is_source and place.digest:
            raise UsageError(f"{text!r:.200}: a target has a tag, not a digest")
        return place
    if place.tag != "latest" or place.digest or text.endswith(":latest"):
        raise UsageError(f"{text!r:.200}: a repository is wanted, without tag or digest")
    return Place(Kind.REPOSITORY, place.name)


def _image(text: str) -> Place:
    reference = parse_registry_reference(text)
    name = reference.name
    if reference.host == "registry-1.docker.io":
        path = reference.repository
        name = f"{DOCKER_HUB}/{path if '/' in path else f'library/{path}'}"
    digest = str(reference.digest) if reference.digest else None
    return Place(Kind.IMAGE, name, reference.tag, digest)


def _registry(text: str, is_source: bool) -> Place:
    host, slash, _ = text.partition("/")
    if not is_host(host) or (slash and is_source):
        raise UsageError(f"{text!r:.200} is not a registry's HOST or HOST:PORT")
    if slash:
        # A target's path, which repositories are put below.
        return Place(Kind.REGISTRY, _image(f"{text.rstrip('/')}/name").name.rpartition("/")[0])
    return Place(Kind.REGISTRY, DOCKER_HUB if host == "registry-1.docker.io" else host.lower())


def _layout(text: str, rest: str, kind: str, is_source: bool) -> Place:
    path, at, _ = rest.partition("@")
    path, colon, tag = path.partition(":")
    if not path or at or (colon and not is_tag(tag)):
        raise UsageError(f"{text!r:.200} is not ocidir://PATH or ocidir://PATH:TAG")
    if kind == "registry" and is_source:
        raise UsageError(f"{text!r:.200}: a directory has no catalog of repositories")
    if kind != "image" and colon:
        raise UsageError(f"{text!r:.200}: a {kind} has no tag")
    if kind == "image" and not tag:
        raise UsageError(f"{text!r:.200}: an image in a directory needs a tag")
    return Place(Kind.LAYOUT, path, tag or None)


def _repository(text: str) -> Place:
    place = _place(text, "repository", is_source=True)
    if place.kind not in REGISTRIES:
        raise UsageError(f"{text!r:.200}: referrers are looked for, and kept, in registries")
    return place
