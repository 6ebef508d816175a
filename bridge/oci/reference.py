"""Image references: what users type, what origin files hold, what a registry is asked for.

Two values. `RegistryReference` is host, repository, tag and digest, in the grammar of
https://github.com/distribution/reference with the normalisation of Docker Hub names.
`ImageReference` is a transport, a name in that transport's own terms and how signatures are to
be treated: what ostree-ext writes into origin files. Its name stays as it was given, so that the
refs and origins made from it are those bootc makes. Everything here is text in, values out;
short names need configuration and are resolved in `bridge.registry.shortname`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import Self

from bridge.errors import MalformedImage, UsageError
from bridge.oci.digest import Digest

DEFAULT_TAG = "latest"
DOCKER_HUB = "docker.io"
NAME_MAX = 255
"""Characters in host and repository together, as distribution has it."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LAYOUT_NAME = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*"
)


class Transport(enum.Enum):
    """Where an image is; the names of containers-transports(5), `registry` as bootc has it."""

    REGISTRY = "registry"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    CONTAINERS_STORAGE = "containers-storage"
    DIR = "dir"
    DOCKER_DAEMON = "docker-daemon"

    @property
    def prefix(self) -> str:
        """The text before the name in skopeo's spelling, such as `docker://` or `oci:`."""
        return "docker://" if self is Transport.REGISTRY else f"{self.value}:"


_TRANSPORTS = {transport.value: transport for transport in Transport}


class Signature(enum.Enum):
    """How an origin wants signatures treated; the values are ostree-ext's prefixes."""

    UNVERIFIED = "ostree-unverified-image"
    """Whatever containers-policy.json says, which may be to accept anything."""
    SIGNED = "ostree-image-signed"
    """containers-policy.json, and its default may not be to accept anything."""


@dataclass(frozen=True, slots=True)
class RegistryReference:
    """An image in a registry. With a digest the tag only informs; one of the two is always set."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Host and repository, such as `quay.io/fedora/fedora-bootc`: the key of auth files."""
        return f"{self.host}/{self.repository}"

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_digest(self, digest: Digest) -> Self:
        """Return the same repository pinned to `digest`."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def is_host(text: str) -> bool:
    """Tell whether `text` is a registry's `HOST[:PORT]`."""
    matched = _HOST.fullmatch(text)
    return matched is not None and int(matched["port"] or 1) in range(1, 65536)


def is_tag(text: str) -> bool:
    """Tell whether `text` may be a tag."""
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Tell whether `text` may be a repository's name in a registry."""
    return len(text) <= NAME_MAX and _REPOSITORY.fullmatch(text) is not None


def is_short_name(text: str) -> bool:
    """Tell whether `text` has neither a transport nor a registry host (`alpine`, `a/httpd:1`)."""
    scheme, colon, _ = text.partition(":")
    if text.startswith("ostree-") or (colon and (scheme in _TRANSPORTS or scheme == "docker")):
        return False
    first, slash, _ = text.partition("/")
    return not slash or not _looks_like_host(first)


def parse_registry_reference(text: str) -> RegistryReference:
    """Parse `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`; raises `UsageError`.

    A name without a host is Docker Hub's, one without a slash is in its `library/`, and the tag is
    `latest` when neither tag nor digest is given, as docker and skopeo have it.
    """
    name, at, digest_text = text.partition("@")
    digest = None
    if at:
        try:
            digest = Digest.parse(digest_text)
        except MalformedImage as error:
            raise UsageError(f"image reference {text!r:.300}: {error}") from None
    first, slash, rest = name.partition("/")
    host, path = (first, rest) if slash and _looks_like_host(first) else (DOCKER_HUB, name)
    repository, colon, tag = path.partition(":")
    if host == "index.docker.io":
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not is_host(host):
        raise UsageError(f"image reference {text!r:.300}: {host!r:.200} is not a registry host")
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(
            f"image reference {text!r:.300}: {repository!r:.200} is not a repository name; those "
            "are in lower case, such as quay.io/fedora/fedora-bootc:42"
        )
    if len(host) + 1 + len(repository) > NAME_MAX:
        raise UsageError(f"image reference {text!r:.300}: longer than {NAME_MAX} characters")
    if colon and not _TAG.fullmatch(tag):
        raise UsageError(f"image reference {text!r:.300}: {tag!r:.200} is not a tag")
    if not colon and digest is None:
        tag = DEFAULT_TAG
    return RegistryReference(host.lower(), repository, tag or None, digest)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A transport, the name in its terms, and how signatures are to be treated."""

    transport: Transport
    name: str
    signature: Signature = Signature.UNVERIFIED

    @property
    def registry(self) -> RegistryReference:
        """The parsed name of an image in a registry; `UsageError` for another transport."""
        if self.transport is not Transport.REGISTRY:
            raise UsageError(f"{self} is not an image in a registry")
        return parse_registry_reference(self.name)

    @property
    def layout(self) -> tuple[str, str | None]:
        """Path and tag of an `oci:` or `oci-archive:` image; `UsageError` for another transport.

        The path ends at the first colon, as in skopeo: a path cannot have one, a tag can.
        """
        if self.transport not in (Transport.OCI, Transport.OCI_ARCHIVE):
            raise UsageError(f"{self} is not an OCI layout or archive")
        path, _, tag = self.name.partition(":")
        return path, tag or None

    def require_supported(self) -> None:
        """Raise `UsageError` for a transport that can be named but not read."""
        if self.transport not in (Transport.REGISTRY, Transport.OCI, Transport.OCI_ARCHIVE):
            raise UsageError(
                f"{self}: the transport {self.transport.value} is not supported; copy the image "
                f"first, for instance with: skopeo copy {self} oci:DIR:TAG"
            )

    def __str__(self) -> str:
        return f"{self.transport.prefix}{self.name}"


def parse_reference(text: str, transport: Transport | None = None) -> ImageReference:
    """Parse a reference of the command line; raises `UsageError`.

    `text` is `[TRANSPORT:]NAME` or one of ostree-ext's forms (`ostree-unverified-registry:…`).
    With `transport` (the option `--transport`) it is just the name. A name with neither a
    transport nor a host is a short name and refused here: `bridge.registry.shortname` resolves
    those.
    """
    if transport is not None:
        return _checked(transport, text)
    if text.startswith("ostree-"):
        return parse_origin(text)
    if found := _split_transport(text):
        return _checked(*found)
    if is_short_name(text):
        full = parse_registry_reference(text)
        raise UsageError(
            f"{text!r:.300} is a short name; say which registry is meant, for instance {full}"
        )
    return _checked(Transport.REGISTRY, text)


def parse_origin(text: str) -> ImageReference:
    """Parse the reference of an origin file, in any of ostree-ext's forms; raises `UsageError`."""
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise UsageError(f"image reference {text!r:.300} has no ':'")
    if scheme.startswith("ostree-remote-"):
        raise UsageError(
            f"image reference {text!r:.300}: signatures of an ostree remote are not supported; use "
            "ostree-image-signed: with a containers-policy.json"
        )
    if scheme == "ostree-unverified-registry":
        return _checked(Transport.REGISTRY, rest)
    try:
        signature = Signature(scheme)
    except ValueError:
        raise UsageError(
            f"image reference {text!r:.300}: {scheme!r:.100} is not a form of reference; use "
            "ostree-unverified-registry:, ostree-unverified-image: or ostree-image-signed:"
        ) from None
    found = _split_transport(rest)
    if found is None:
        raise UsageError(
            f"image reference {text!r:.300}: {rest!r:.200} does not begin with a transport such as "
            "docker:// or oci:"
        )
    return _checked(*found, signature)


def origin_form(reference: ImageReference) -> str:
    """Return the text for an origin file; `parse_origin` reads it back."""
    if (reference.transport, reference.signature) == (Transport.REGISTRY, Signature.UNVERIFIED):
        return f"ostree-unverified-registry:{reference.name}"
    return f"{reference.signature.value}:{reference}"


def _looks_like_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"


def _split_transport(text: str) -> tuple[Transport, str] | None:
    """Return transport and name; None when the text does not begin with a known transport."""
    if text.startswith("docker:"):
        if not text.startswith("docker://"):
            raise UsageError(f"image reference {text!r:.300}: write docker://HOST/REPOSITORY:TAG")
        return Transport.REGISTRY, text.removeprefix("docker://")
    scheme, colon, name = text.partition(":")
    transport = _TRANSPORTS.get(scheme)
    if not colon or transport is None:
        return None
    if transport is Transport.REGISTRY:  # containers-transports(5) also has `registry://`
        name = name.removeprefix("//")
    return transport, name


def _checked(
    transport: Transport, name: str, signature: Signature = Signature.UNVERIFIED
) -> ImageReference:
    reference = ImageReference(transport, name, signature)
    if any(not char.isprintable() for char in name):
        raise UsageError(f"image reference {str(reference)!r:.300}: unprintable characters")
    if transport is Transport.REGISTRY:
        parse_registry_reference(name)
        return reference
    path, _, tag = name.partition(":")
    if not path:
        raise UsageError(f"image reference {str(reference)!r:.300}: no name after the transport")
    if (
        transport in (Transport.OCI, Transport.OCI_ARCHIVE)
        and tag
        and (not _LAYOUT_NAME.fullmatch(tag))
    ):
        raise UsageError(f"image reference {str(reference)!r:.300}: {tag!r:.200} is not a tag")
    return reference
