"""What a sync configuration says, whichever of the formats it was written in.

Values only: read by `bridge.sync.config`, carried out by `bridge.sync.run`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bridge import limits
from bridge.push.compress import Compression


class Kind(enum.Enum):
    """What a place is."""

    REGISTRY = "registry"
    """A registry, or what is below a path in one: repositories are found in its catalog."""
    REPOSITORY = "repository"
    """One repository of a registry."""
    IMAGE = "image"
    """One tag or digest of a repository."""
    LAYOUT = "oci"
    """A directory in OCI image layout: of one repository by tag, of many as `REPOSITORY:TAG`."""
    ARCHIVE = "oci-archive"
    """A file: the tar of such a directory."""
    OSTREE = "ostree"
    """An OSTree repository: an image is imported as it lands. A target only."""


@dataclass(frozen=True, slots=True)
class Place:
    """A source or a target."""

    kind: Kind
    name: str
    """`host[:port][/path]` of a registry, without a tag; the path of anything else."""
    tag: str | None = None
    """Of an image; of a layout's source, if it is to be that one alone."""
    digest: str | None = None

    def __str__(self) -> str:
        prefix = "" if self.kind in REGISTRIES else f"{self.kind.value}:"
        tag = f":{self.tag}" if self.tag else ""
        return f"{prefix}{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


REGISTRIES = frozenset({Kind.REGISTRY, Kind.REPOSITORY, Kind.IMAGE})


class Matcher(Protocol):
    """Tells whether a name is one of those that are meant: a regular expression, a range."""

    def __call__(self, name: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Names:
    """Names of repositories or tags: all, but for what is said here."""

    names: tuple[str, ...] = ()
    """Exactly these, which are then not asked for in a list; what is said below holds, too."""
    allow: tuple[Matcher, ...] = ()
    """Any of these; empty: all."""
    deny: tuple[Matcher, ...] = ()
    """None of these."""


@dataclass(frozen=True, slots=True)
class TagSet:
    """Tags of one repository that are wanted: those that everything said here leaves."""

    which: Names = Names()
    versions: tuple[Matcher, ...] = ()
    """Ranges of versions, of which one has to have the tag; empty: any tag."""
    newest: int | None = None
    """Only so many, the highest by version."""
    younger_than: float | None = None
    """Seconds since the image was made, by its configuration; looked at after `newest`."""
    digest_tags: bool = False
    """Whether `sha256-….sig` and the like are tags as others are. If not, they are wanted where
    they are named only, and else follow the image whose digest they name (`Job.digest_tags`)."""


@dataclass(frozen=True, slots=True)
class ReferrerFilter:
    """Manifests that refer to an image, by what is in the descriptors that list them."""

    artifact_type: str | None = None
    """None: any."""
    annotations: tuple[tuple[str, str], ...] = ()
    """All of these; an empty value: whatever it is."""

    def __call__(self, artifact_type: str | None, annotations: Mapping[str, str]) -> bool:
        """Tell whether a manifest with that artifact type and these annotations is meant."""
        if self.artifact_type is not None and artifact_type != self.artifact_type:
            return False
        return all(
            key in annotations and value in ("", annotations[key])
            for key, value in self.annotations
        )


@dataclass(frozen=True, slots=True)
class Referrers:
    """Which manifests that refer to an image follow it."""

    filters: tuple[ReferrerFilter, ...] = ()
    """Those that any of these means; empty: all."""
    source: Place | None = None
    """Another repository in which they are looked for."""
    target: Place | None = None
    """Another repository to which they go."""

    def wanted(self, artifact_type: str | None, annotations: Mapping[str, str]) -> bool:
        """Tell whether a manifest with that artifact type and these annotations follows."""
        return not self.filters or any(each(artifact_type, annotations) for each in self.filters)


@dataclass(frozen=True, slots=True)
class Conversion:
    """How images are changed on their way."""

    compression: Compression = Compression.ZSTD_CHUNKED
    level: int | None = None
    rechunk: bool = False
    """Whether content is put into layers anew; if not, every layer keeps its DiffID."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """That tags which vanished at the source are deleted at the target: what this job wrote."""

    most: int
    """In one run. If there were more, none is deleted, and the run fails."""


@dataclass(frozen=True, slots=True)
class Hook:
    """What is told of an event, and how."""

    kind: str
    """`exec`: a program is run; others as their formats have them."""
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is done before an image is copied, after that, and when it was there."""

    pre: Hook | None = None
    post: Hook | None = None
    unchanged: Hook | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job runs in the server. One of `cron` and `interval` is given, or none: never."""

    cron: str | None = None
    interval: float | None = None
    """Seconds between the begins of two runs."""
    jitter: float = 0.0
    """Each run begins up to so many seconds late, at random."""


@dataclass(frozen=True, slots=True)
class RateLimitReserve:
    """How much of what a registry's rate limit leaves is not ours."""

    least: int
    """Requests that must be left; if fewer are, the job waits."""
    retry: float
    """Seconds that it waits then, unless the registry says when there are more."""


@dataclass(frozen=True, slots=True)
class Job:
    """Images that go from one place to another. Paths in a registry keep what is below its path."""

    name: str
    """Unique in the file; state and reports are kept by it. Any printable text."""
    source: Place
    target: Place
    line: int = 0
    """Where it stands in its file."""
    repositories: Names = Names()
    """Of a source that is a registry; below the path in its name."""
    tags: tuple[TagSet, ...] = (TagSet(),)
    """What any of these wants."""
    platforms: tuple[str, ...] = ()
    """`os/arch[/variant]`: these of an index; none: the index as it is. Of one its manifest."""
    sparse: bool = False
    """Whether an index stays as it is where there are `platforms`, one or more: it then lists
    images that are not copied, which many registries refuse."""
    referrers: Referrers | None = Referrers()
    digest_tags: bool = True
    """Whether `sha256-….sig` and the like follow the image whose digest they name."""
    fast_check: bool = False
    """An image that the target has: what refers to it is not looked at."""
    force_recursive: bool = False
    """An image that the target has: all that it lists is looked at all the same."""
    include_external: bool = False
    """Whether layers that are kept elsewhere (`urls`) are copied, too."""
    media_types: tuple[str, ...] = ()
    """Of manifests that are copied; empty: all that are known."""
    backup: str | None = None
    """What the image that a tag named before is called then: a tag, or another reference, with
    `{{.Ref.Tag}}` and the like in it: `bridge.sync.config.backup` says which."""
    variables: Mapping[str, object] = field(default_factory=dict, compare=False)
    """What `.Sync` has in such a template."""
    suffix: str = ""
    """Added to each tag at the target."""
    hooks: Hooks = Hooks()
    schedule: Schedule = Schedule()
    reserve: RateLimitReserve | None = None
    conversion: Conversion | None = None
    deletion: Deletion | None = None
    parallel: int | None = None
    """Images at once; None: as the configuration has it."""


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of a registry before it is asked."""

    name: str
    """As in references: host, with its port."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    """An identity token (OAuth 2) in place of a password."""
    credential_helper: str | None = None
    """The NAME of a program `docker-credential-NAME`."""
    credential_host: str | None = None
    """What that program is asked for in place of the name."""
    address: str | None = None
    """Host (and port) that is asked in place of the name."""
    tls_verify: bool | None = None
    """As `NetworkOptions.tls_verify`."""
    plain_http: bool = False
    cert_dir: str | None = None
    authority: str | None = None
    """Certificates in PEM that it may be signed by, beside the system's."""
    client_certificate: str | None = None
    client_key: str | None = field(default=None, repr=False)
    path_prefix: str = ""
    """Put before each repository that is asked for there."""
    mirrors: tuple[str, ...] = ()
    """`HOST[/PATH]` of others that have the same below that path, in the order in which they are
    asked before this one; what the configuration says of such a HOST holds for it."""
    requests_at_once: int = limits.SYNC_REQUESTS_AT_ONCE
    requests_per_second: float | None = None
    bandwidth: int | None = None
    """Bytes per second, both directions together."""
    upload_part: int | None = None
    """Bytes of one request of a large upload."""
    upload_whole: int | None = None
    """Bytes up to which an upload is one request."""


@dataclass(frozen=True, slots=True)
class Config:
    """A file of jobs."""

    jobs: tuple[Job, ...]
    hosts: tuple[Host, ...] = ()
    parallel: int = limits.SYNC_IMAGES_AT_ONCE
    """Images at once, of all jobs that run."""
    state: str | None = None
    """Directory of what is kept between runs; None: the usual place."""
    listen: str | None = None
    """`host:port` of the server's health and metrics; None: the usual one, on loopback."""
    docker_config: bool = True
    """Whether credentials are looked for where docker and podman keep them, too."""
    user_agent: str | None = None
    notes: tuple[str, ...] = ()
    """What whoever wrote the file should know of how it was understood, each with its line."""

    def host(self, name: str) -> Host:
        """Return what is known of a registry."""
        return next((each for each in self.hosts if each.name == name), Host(name))
