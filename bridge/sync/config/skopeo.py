"""The file of `skopeo sync --src yaml`, as skopeo reads it.

Format: skopeo's manual page skopeo-sync(1). Of what the file does not say, nothing is done that
skopeo would not do: referrers and signatures do not follow. What differs: skopeo reads over keys
that it does not know, and over repositories, tags, expressions and ranges that are wrong; here
they are mistakes. And an index is copied with all its images, as with skopeo's `--all`.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass, replace

from bridge.errors import MalformedImage, UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import (
    RegistryReference,
    is_host,
    is_tag,
    parse_registry_reference,
)
from bridge.sync import semver
from bridge.sync.config import patterns
from bridge.sync.config.document import Node
from bridge.sync.config.reading import Mistakes, Section
from bridge.sync.model import REGISTRIES, Config, Host, Job, Kind, Names, Place, TagSet

KEYS = frozenset(
    {
        "images",
        "images-by-tag-regex",
        "images-by-semver",
        "credentials",
        "tls-verify",
        "cert-dir",
    }
)
"""What a registry may have."""


@dataclass(frozen=True, slots=True)
class _Where:
    """What the command line says of the target."""

    target: Place
    scoped: bool
    suffix: str

    def place(self, reference: RegistryReference, digest: str | None = None) -> Place:
        """Return where a repository goes; with a digest one image of it."""
        name = reference.name if self.scoped else reference.repository.rpartition("/")[2]
        target = self.target
        if target.kind is Kind.LAYOUT:
            return replace(target, name=os.path.join(target.name, name))
        if target.kind not in REGISTRIES:
            return target
        whole = parse_registry_reference(f"{target.name}/{name}")
        return Place(Kind.IMAGE if digest else Kind.REPOSITORY, whole.name, digest=digest)


def read(
    root: Node, mistakes: Mistakes, target: Place, *, scoped: bool = False, suffix: str = ""
) -> Config:
    """Return the configuration; mistakes are kept, and what is returned then is of no use."""
    if target.tag or target.digest:
        raise UsageError(f"{target}: the target is what the images' names are put below")
    section = Section(root, "", mistakes, lenient=True)
    where = _Where(target, scoped, suffix)
    hosts: dict[str, Host] = {}
    jobs: list[Job] = []
    for key in section.given:
        node = section.node(key)
        if node is None:
            section.note(key, "no images")
            continue
        registry = Section(node, section.place(key)[1], mistakes, lenient=True)
        host = _host(registry, key)
        if host is not None:
            known = hosts.setdefault(host.name, host)
            if known != host or known.password != host.password:
                section.wrong(
                    key, f"something else for {host.name} than above; credentials are the host's"
                )
        jobs += _jobs(registry, key, where)
        registry.end()
    if target.kind is Kind.ARCHIVE and len({job.source.name for job in jobs}) > 1:
        section.wrong(None, f"{target} takes one repository, and here are more")
    return Config(tuple(jobs), tuple(hosts.values()))


def _host(registry: Section, key: str) -> Host | None:
    name = key.partition("/")[0]
    if not is_host(name):
        registry.wrong(None, f"{name!r:.100} is not a registry's host")
        return None
    host = Host(
        name.lower(),
        tls_verify=registry.flag("tls-verify", old=True),
        cert_dir=registry.text("cert-dir") or None,
    )
    credentials = registry.section("credentials")
    if credentials is None:
        return host
    host = replace(
        host,
        username=credentials.text("username") or None,
        password=credentials.text("password") or None,
        token=credentials.text("identitytoken") or None,
    )
    credentials.end()
    return host


class _Repositories:
    """The repositories of a registry, each with what is wanted of it."""

    def __init__(self, key: str, where: _Where) -> None:
        self.key = key
        self.where = where
        self.jobs: dict[str, Job] = {}

    def want(
        self,
        section: Section,
        repository: str,
        tags: TagSet | None = None,
        digest: str | None = None,
    ) -> None:
        """Add what one key says: a set of tags, or an image by its digest."""
        try:
            if ":" in repository or "@" in repository:
                raise UsageError(f"{repository!r:.150}: a repository has neither tag nor digest")
            reference = parse_registry_reference(f"{self.key}/{repository}")
            source = Place(Kind.IMAGE if digest else Kind.REPOSITORY, reference.name, digest=digest)
        except UsageError as error:
            section.wrong(repository, str(error))
            return
        try:
            target = self.where.place(reference, digest)
        except UsageError as error:
            section.wrong(repository, f"the target: {error}")
            return
        if source == target:
            section.wrong(repository, f"source and target are the same: {source}")
        known = self.jobs.get(str(source))
        sets = known.tags if known is not None else ()
        self.jobs[str(source)] = Job(
            str(source),
            source,
            target,
            line=known.line if known is not None else section.place(repository)[0],
            tags=(*sets, tags or TagSet()),
            referrers=None,
            digest_tags=False,
            suffix="" if digest else self.where.suffix,
        )


def _jobs(registry: Section, key: str, where: _Where) -> list[Job]:
    """Return a job for each repository, and one for each image that is given by its digest."""
    found = _Repositories(key, where)
    images = registry.section("images")
    for repository in images.given if images is not None else ():
        assert images is not None
        _images(images, repository, found)
    expressions = registry.section("images-by-tag-regex")
    for repository in expressions.given if expressions is not None else ():
        assert expressions is not None
        pattern = expressions.made(repository, patterns.found_in)
        if pattern is not None or not expressions.has(repository):
            allow = () if pattern is None else (pattern,)
            found.want(expressions, repository, TagSet(Names(allow=allow), digest_tags=True))
    ranges = registry.section("images-by-semver")
    for repository in ranges.given if ranges is not None else ():
        assert ranges is not None
        version = ranges.made(repository, semver.parse_range)
        if version is not None:
            found.want(ranges, repository, TagSet(versions=(version,)))
        elif not ranges.has(repository):
            ranges.wrong(repository, "no range of versions")
    if images is expressions is ranges is None:
        registry.note(None, "no images")
    return list(found.jobs.values())


def _images(images: Section, repository: str, found: _Repositories) -> None:
    """Add what one list of tags and digests wants; an empty one means all tags."""
    names: list[str] = []
    given = list(images.lines(repository))
    for text, wrong in given:
        digest = _digest(text)
        if digest is not None:
            if found.where.suffix:
                wrong("an image by its digest has no tag that something could be added to")
            found.want(images, repository, digest=digest)
        elif is_tag(text):
            names.append(text)
        else:
            wrong(f"{text!r:.150} is neither a tag nor a digest")
    if names or not given:
        found.want(images, repository, TagSet(Names(tuple(names)), digest_tags=True))


def _digest(text: str) -> str | None:
    try:
        return str(Digest.parse(text))
    except MalformedImage:
        return None
