"""Many small images in many repositories, as a mirror has them: made the same each time.

Layers are shared among images and repositories, some tags name indexes, some images are signed as
cosign does it (a tag made from the digest), some have referrers, listed by the tag that the
specification has for registries without its API. `store` puts them where
a docker-registry keeps what it has, `write` into any registry.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.client
import json
import os
import random
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.images import directory, file, tar

from rig.registry import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"
SBOM = "application/spdx+json"
REPOSITORIES, TAGS = 20, 25
_POOL = 40
"""Layers that images have in common."""
_REPOSITORIES = "docker/registry/v2/repositories"

Blob = tuple[str, bytes]
"""A media type and the bytes."""


@dataclass
class Repository:
    """What one repository has."""

    tags: dict[str, str] = field(default_factory=dict)
    """Digests, by the tags that somebody gave them."""
    digest_tags: dict[str, str] = field(default_factory=dict)
    """Digests, by tags that are made from the digest of another."""
    manifests: dict[str, Blob] = field(default_factory=dict)
    """By digest; what is listed comes before what lists it."""
    blobs: set[str] = field(default_factory=set)
    referrers: dict[str, list[str]] = field(default_factory=dict)
    """Digests of what refers to a digest."""

    @property
    def all_tags(self) -> dict[str, str]:
        return {**self.tags, **self.digest_tags}


@dataclass
class Corpus:
    """Repositories, by name, and the blobs of all, by digest."""

    repositories: dict[str, Repository]
    blobs: dict[str, bytes]

    @property
    def tag_count(self) -> int:
        return sum(len(each.tags) for each in self.repositories.values())

    @property
    def blob_bytes(self) -> int:
        return sum(map(len, self.blobs.values()))


def made(
    repositories: int = REPOSITORIES,
    tags: int = TAGS,
    *,
    changed: Iterable[tuple[str, str]] = (),
    layer: int = 2_000,
) -> Corpus:
    """The corpus; its tags `changed`, pairs of repository and tag, have a newer layer of their own.

    Layers have about `layer` bytes.
    """
    corpus = Corpus({}, {})
    newer = set(changed)
    for number in range(repositories):
        name = f"os/repository-{number:02}"
        found = corpus.repositories[name] = Repository()
        for place in range(tags):
            tag = f"v1.{place}"
            _tag(corpus, name, found, number, place, 1 if (name, tag) in newer else 0, layer)
    return corpus


def _tag(
    corpus: Corpus, name: str, found: Repository, number: int, place: int, age: int, layer: int
) -> None:
    seed = f"{name}:{place}:{age}"
    if place % 5 == 4:
        children = []
        for architecture in ("amd64", "arm64"):
            digest = _image(corpus, found, f"{seed}:{architecture}", number + place, layer)
            raw = found.manifests[digest][1]
            children.append(
                _descriptor(MANIFEST, raw)
                | {"platform": {"os": "linux", "architecture": architecture}}
            )
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
        digest = _manifest(found, INDEX, index)
    else:
        digest = _image(corpus, found, seed, number + place, layer)
    found.tags[f"v1.{place}"] = digest
    if place % 5 in (0, 4) and place % 2:
        _sign(corpus, found, digest)
    if place % 5 == 1:
        _refer(corpus, found, digest, seed)


def _image(corpus: Corpus, found: Repository, seed: str, shared: int, size: int) -> str:
    layers = [
        _pool(shared % _POOL, size),
        _pool((shared * 7 + 3) % _POOL, size),
        _layer(seed, size),
    ]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Labels": {"seed": seed}},
        "rootfs": {"type": "layers", "diff_ids": [_digest(gzip.decompress(e)) for e in layers]},
    }
    raw = json.dumps(config).encode()
    for each in (raw, *layers):
        corpus.blobs[_digest(each)] = each
        found.blobs.add(_digest(each))
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, raw),
        "layers": [_descriptor(LAYER, each) for each in layers],
    }
    return _manifest(found, MANIFEST, document)


def _sign(corpus: Corpus, found: Repository, digest: str) -> None:
    payload = json.dumps({"critical": {"image": {"docker-manifest-digest": digest}}}).encode()
    config = b"{}"
    for each in (payload, config):
        corpus.blobs[_digest(each)] = each
        found.blobs.add(_digest(each))
    signature = _descriptor(SIGNATURE, payload)
    signature["annotations"] = {"dev.cosignproject.cosign/signature": "MEUCIQ=="}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [signature],
    }
    found.digest_tags[f"{digest.replace(':', '-')}.sig"] = _manifest(found, MANIFEST, document)


def _refer(corpus: Corpus, found: Repository, digest: str, seed: str) -> None:
    payload, config = json.dumps({"spdx": seed}).encode(), b"{}"
    for each in (payload, config):
        corpus.blobs[_digest(each)] = each
        found.blobs.add(_digest(each))
    subject = found.manifests[digest]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SBOM,
        "config": _descriptor(EMPTY, config),
        "layers": [_descriptor(SBOM, payload)],
        "subject": _descriptor(*subject),
    }
    referrer = _manifest(found, MANIFEST, document)
    found.referrers.setdefault(digest, []).append(referrer)
    listed = _descriptor(*found.manifests[referrer]) | {"artifactType": SBOM}
    listing = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}
    found.digest_tags[digest.replace(":", "-")] = _manifest(found, INDEX, listing)


def _manifest(found: Repository, media_type: str, document: Mapping[str, Any]) -> str:
    raw = json.dumps(document, indent=2).encode()
    digest = _digest(raw)
    found.manifests[digest] = media_type, raw
    return digest


def _descriptor(media_type: str, raw: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(raw), "size": len(raw)}


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@functools.cache
def _pool(number: int, size: int) -> bytes:
    return _layer(f"shared {number}", size)


def _layer(seed: str, size: int) -> bytes:
    content = random.Random(seed).randbytes(size)
    return gzip.compress(tar([directory("usr"), file("usr/data", content)]), 1, mtime=0)


# -- docker-registry's storage ---------------------------------------------------------------


def store(corpus: Corpus, storage: Path) -> None:
    """Puts all of it where a docker-registry keeps what it has; one that runs sees it, too."""
    for name, found in corpus.repositories.items():
        place = storage / _REPOSITORIES / name
        for digest in found.blobs:
            _store_blob(storage, digest, corpus.blobs[digest])
            _link(place / "_layers" / digest.replace(":", "/"), digest)
        for digest, (_, raw) in found.manifests.items():
            _store_blob(storage, digest, raw)
            _link(place / "_manifests/revisions" / digest.replace(":", "/"), digest)
        for tag, digest in found.all_tags.items():
            tagged = place / "_manifests/tags" / tag
            _link(tagged / "index" / digest.replace(":", "/"), digest)
            _link(tagged / "current", digest)


def _store_blob(storage: Path, digest: str, raw: bytes) -> None:
    place = storage / _blob(digest)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw)


def _blob(digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return Path("docker/registry/v2/blobs", algorithm, value[:2], value, "data")


def _link(directory: Path, digest: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "link").write_text(digest)


def differences(corpus: Corpus, storage: Path, prefix: str = "") -> list[str]:
    """What a docker-registry has otherwise than the corpus: tags, manifests, blobs, bytes.

    Repositories have the corpus's names, after `prefix`.
    """
    found = []
    for name, wanted in corpus.repositories.items():
        place = storage / _REPOSITORIES / f"{prefix}{name}"
        there = tags(place)
        for tag in [each for each in there if each.startswith("sha256-")]:
            if tag not in wanted.digest_tags:  # of an image that a tag named before
                del there[tag]
        if there != wanted.all_tags:
            odd = set(there.items()) ^ set(wanted.all_tags.items())
            found.append(f"{name}: tags: {sorted(odd)}")
        for kind, digests in (
            ("_manifests/revisions", wanted.manifests),
            ("_layers", wanted.blobs),
        ):
            for digest in digests:
                if not (place / kind / digest.replace(":", "/") / "link").exists():
                    found.append(f"{name}: {kind}: {digest} is missing")
    for digest in {*corpus.blobs, *(d for r in corpus.repositories.values() for d in r.manifests)}:
        data = storage / _blob(digest)
        if not data.exists() or _digest(data.read_bytes()) != digest:
            found.append(f"{digest}: not there, or not whole")
    return found


def holes(storage: Path) -> list[str]:
    """What tags of a docker-registry lead to that it has not: each is followed to its blobs.

    Nothing is taken for granted of which images are there: those that are have to be whole.
    """
    found: list[str] = []
    for repository in repositories(storage):
        seen: set[str] = set()
        for tag, digest in tags(repository).items():
            found += [
                f"{repository.name}:{tag}: {why}" for why in _follow(repository, digest, seen)
            ]
    return found


def repositories(storage: Path) -> list[Path]:
    """The directory of each repository of a docker-registry that has manifests, in order.

    Their own directories begin with `_`, which no name does; what a registry does in those of
    uploads, it may do while this looks.
    """
    found = []
    for place, below, _ in os.walk(storage / _REPOSITORIES):
        if "_manifests" in below:
            found.append(Path(place))
        below[:] = [each for each in below if not each.startswith("_")]
    return sorted(found)


def tags(repository: Path) -> dict[str, str]:
    """Which digest each tag of a repository names, by its directory."""
    # A tag that is being written has a directory, and no link yet.
    links = repository.glob("_manifests/tags/*/current/link")
    return {each.parts[-3]: each.read_text() for each in links}


def _follow(repository: Path, digest: str, seen: set[str]) -> Iterator[str]:
    if digest in seen:
        return
    seen.add(digest)
    # `repositories/a/b` may be of any depth.
    storage = next(each for each in repository.parents if each.name == "repositories")
    data = storage.parents[3] / _blob(digest)
    if not (repository / "_manifests/revisions" / digest.replace(":", "/") / "link").exists():
        yield f"{digest} is no manifest of the repository"
        return
    raw = data.read_bytes()
    if _digest(raw) != digest:
        yield f"{digest} has other bytes"
        return
    document = json.loads(raw)
    for each in document.get("manifests", ()):
        yield from _follow(repository, each["digest"], seen)
    for each in [document["config"], *document["layers"]] if "config" in document else []:
        blob = each["digest"]
        if blob in seen:
            continue
        seen.add(blob)
        linked = (repository / "_layers" / blob.replace(":", "/") / "link").exists()
        data = storage.parents[3] / _blob(blob)
        if not linked or not data.exists() or data.stat().st_size != each["size"]:
            yield f"blob {blob} is missing"


# -- any registry ----------------------------------------------------------------------------


def write(corpus: Corpus, registry: Registry) -> None:
    """Puts all of it into a registry by its protocol."""
    connection = http.client.HTTPConnection(registry.host, timeout=60)
    for name, found in corpus.repositories.items():
        for digest in sorted(found.blobs):
            start = _ask(connection, "POST", f"/v2/{name}/blobs/uploads/")
            place = urllib.parse.urlsplit(start.headers["Location"])
            query = f"{place.query}&" if place.query else ""
            path = f"{place.path}?{query}digest={digest}"
            assert _ask(connection, "PUT", path, corpus.blobs[digest]).status == 201
        named = {digest: tag for tag, digest in found.all_tags.items()}
        for digest, (media_type, raw) in found.manifests.items():
            path = f"/v2/{name}/manifests/{named.get(digest, digest)}"
            assert _ask(connection, "PUT", path, raw, media_type).status == 201
    connection.close()


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    media_type: str = "application/octet-stream",
) -> http.client.HTTPResponse:
    connection.request(method, path, body, {"Content-Type": media_type})
    answer = connection.getresponse()
    answer.read()
    return answer
