"""Sources and targets in the words of our own format; text in, `model.Place` out."""

from __future__ import annotations

import os.path
from dataclasses import replace

from bridge.errors import UsageError
from bridge.oci.reference import is_host, is_tag, parse_registry_reference
from bridge.sync.model import REGISTRIES, Kind, Place

_FILES = {each.value: each for each in (Kind.LAYOUT, Kind.ARCHIVE, Kind.OSTREE)}
_REGISTRY_PREFIXES = ("docker://", "registry://", "registry:")


def place(text: str, directory: str) -> Place:
    """Parse `HOST[/PATH][:TAG][@DIGEST]`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `ostree:DIR`.

    Of a registry, a name with tag or digest is an image, one that is a host alone or ends in `/` is
    all that is below it, and any other is a repository. Paths are relative to `directory`. Raises
    `UsageError`.
    """
    if any(not char.isprintable() for char in text):
        raise UsageError(f"{text!r:.200}: characters that cannot be in a name")
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _FILES:
        return _file(_FILES[scheme], rest, directory, text)
    for prefix in _REGISTRY_PREFIXES:
        if text.startswith(prefix):
            return registry_place(text.removeprefix(prefix))
    return registry_place(text)


def _file(kind: Kind, rest: str, directory: str, text: str) -> Place:
    path, colon, tag = rest.partition(":")
    if not path:
        raise UsageError(f"{text!r:.200}: no path after {kind.value}:")
    if kind is Kind.OSTREE and colon:
        raise UsageError(f"{text!r:.200}: the path of an OSTree repository has no colon")
    if colon and not tag:
        raise UsageError(f"{text!r:.200}: no tag after the colon")
    if colon and not is_tag(tag):
        raise UsageError(f"{text!r:.200}: {tag!r:.100} is not a tag")
    return Place(kind, os.path.normpath(os.path.join(directory, path)), tag or None)


def registry_place(text: str) -> Place:
    """Parse `HOST`, `HOST/PATH/`, `HOST/REPOSITORY[:TAG][@DIGEST]`; raises `UsageError`."""
    host, slash, path = text.partition("/")
    if not is_host(host):
        raise UsageError(f"{text!r:.200} does not begin with the host of a registry")
    if not slash and not ("." in host or ":" in host or host == "localhost"):
        raise UsageError(
            f"{text!r:.200} might be a registry or a repository of another; "
            f"write {host}/ or, for Docker Hub, docker.io/library/{host}"
        )
    if not path:
        return Place(Kind.REGISTRY, host.lower())
    if not ("." in host or ":" in host or host == "localhost"):
        raise UsageError(
            f"{text!r:.200} does not begin with the host of a registry, which has a dot or a port; "
            f"for Docker Hub write docker.io/{text}"
        )
    if path.endswith("/"):
        _checked(text, text.rstrip("/"))
        return Place(Kind.REGISTRY, f"{host.lower()}/{path.rstrip('/')}")
    reference = _checked(text, text)
    tag = reference.tag if ":" in path.partition("@")[0] else None
    digest = str(reference.digest) if reference.digest else None
    kind = Kind.IMAGE if tag or digest else Kind.REPOSITORY
    return Place(kind, reference.name, tag, digest)


def _checked(text: str, name: str):  # type: ignore[no-untyped-def]
    reference = parse_registry_reference(name)
    if text != name and (reference.digest or ":" in name.partition("/")[2]):
        raise UsageError(f"{text!r:.200}: a tag or digest, and a slash after it")
    return reference


def with_target(source: Place, target: Place) -> Place:
    """Return the target as what it is for that source; raises `UsageError` if they do not go.

    What ends in `/` gets the source's path below it; an image without a tag gets the source's.
    """
    if source.kind is Kind.OSTREE:
        raise UsageError("an OSTree repository can be a target, not a source")
    if source == target:
        raise UsageError(f"source and target are the same: {source}")
    single = source.kind is Kind.IMAGE or bool(source.tag)
    if target.kind not in REGISTRIES:
        if target.tag and not single:
            raise UsageError(f"{target} is one image, and the source is more than that")
        return target
    if source.kind not in REGISTRIES:
        return target
    if source.kind is Kind.REGISTRY:
        if target.kind is Kind.IMAGE:
            raise UsageError(f"{target} is one image, and the source is many repositories")
        return replace(target, kind=Kind.REGISTRY)
    if target.kind is Kind.REGISTRY:
        path = source.name.partition("/")[2]
        target = Place(Kind.REPOSITORY, f"{target.name}/{path}")
    if source.kind is Kind.REPOSITORY:
        if target.kind is Kind.IMAGE:
            raise UsageError(f"{target} is one image, and the source is a repository")
        return target
    if target.kind is Kind.IMAGE:
        if target.digest:
            raise UsageError(f"{target}: what an image's digest will be is not said in a target")
        return target
    tag = source.tag
    return Place(Kind.IMAGE, target.name, tag, None if tag else source.digest)
