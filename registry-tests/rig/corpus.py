"""Many small images in many repositories, as a mirror has them: made the same each time.

Layers are shared among images and repositories, some tags name indexes, some images are signed as
cosign does it (a tag made from the digest), some have referrers, listed by the tag that the
specification has for registries without its API. `write` puts them into a registry by hand.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests
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
_SECONDS = 60
_THREADS = 4

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


# -- a registry ------------------------------------------------------------------------------


def write(corpus: Corpus, registry: Registry, only: Iterable[str] | None = None) -> None:
    """Puts all repositories, or some, into a registry that runs."""
    with ThreadPoolExecutor(_THREADS) as pool:
        wanted = corpus.repositories if only is None else list(only)
        for _ in pool.map(lambda name: _write(corpus, registry, name), wanted):
            pass


def _write(corpus: Corpus, registry: Registry, name: str) -> None:
    found = corpus.repositories[name]
    with requests.Session() as session:
        session.trust_env = False
        for digest in sorted(found.blobs):
            _put_blob(session, f"{registry.url}/v2/{name}", digest, corpus.blobs[digest])
        named = {digest: tag for tag, digest in found.all_tags.items()}
        for digest, (media_type, raw) in found.manifests.items():
            answer = session.put(
                f"{registry.url}/v2/{name}/manifests/{named.get(digest, digest)}",
                data=raw,
                headers={"Content-Type": media_type},
                timeout=_SECONDS,
            )
            assert answer.status_code == 201, answer.text


def _put_blob(session: requests.Session, repository: str, digest: str, data: bytes) -> None:
    if session.head(f"{repository}/blobs/{digest}", timeout=_SECONDS).status_code == 200:
        return
    start = session.post(f"{repository}/blobs/uploads/", timeout=_SECONDS)
    place = requests.compat.urljoin(start.url, start.headers["Location"])
    answer = session.put(place, params={"digest": digest}, data=data, timeout=_SECONDS)
    assert answer.status_code == 201, answer.text


def differences(corpus: Corpus, registry: Registry, prefix: str = "") -> list[str]:
    """What a registry has otherwise than the corpus: tags, manifests, and blobs that they name."""
    with requests.Session() as session, ThreadPoolExecutor(_THREADS) as pool:
        session.trust_env = False
        found = pool.map(
            lambda name: list(
                _differences(
                    session,
                    f"{registry.url}/v2/{prefix}{name}",
                    corpus.repositories[name],
                )
            ),
            corpus.repositories,
        )
        return [line for lines in found for line in lines]


def _differences(session: requests.Session, url: str, wanted: Repository) -> Iterator[str]:
    listed = session.get(f"{url}/tags/list", timeout=_SECONDS)
    tags = set(listed.json().get("tags") or ()) if listed.status_code == 200 else set()
    for tag in sorted(tags ^ set(wanted.all_tags)):
        yield f"{url}: tag {tag} {'more' if tag in tags else 'missing'}"
    for tag, digest in wanted.all_tags.items():
        if tag in tags:
            answer = _get(session, url, tag)
            if _digest(answer) != digest:
                yield f"{url}:{tag}: {_digest(answer)} and not {digest}"
    for digest in wanted.manifests:
        if _digest(_get(session, url, digest)) != digest:
            yield f"{url}@{digest}: is not there"
    for digest in wanted.blobs:
        answer = session.get(f"{url}/blobs/{digest}", timeout=_SECONDS)
        if answer.status_code != 200 or _digest(answer.content) != digest:
            yield f"{url}: blob {digest}: {answer.status_code}"


def holes(registry: Registry) -> list[str]:
    """What tags of a registry lead to that it has not: every tag is followed to its blobs.

    Nothing else is taken for granted: what is there are whole images, whichever.
    """
    with requests.Session() as session:
        session.trust_env = False
        catalog = session.get(f"{registry.url}/v2/_catalog?n=1000", timeout=_SECONDS).json()
        found: list[str] = []
        for name in catalog["repositories"]:
            url = f"{registry.url}/v2/{name}"
            tags = session.get(f"{url}/tags/list", timeout=_SECONDS).json().get("tags") or ()
            seen: set[str] = set()
            for tag in tags:
                _follow(session, url, tag, seen, found)
        return found


def _follow(
    session: requests.Session, url: str, reference: str, seen: set[str], found: list[str]
) -> None:
    raw = _get(session, url, reference)
    digest = _digest(raw)
    if digest in seen:
        return
    seen.add(digest)
    try:
        document = json.loads(raw)
        children = document.get("manifests", ())
        blobs = [document["config"], *document["layers"]] if "config" in document else []
    except (ValueError, LookupError):
        found.append(f"{url}:{reference}: {raw[:80]!r}")
        return
    if reference.startswith("sha256:") and reference != digest:
        found.append(f"{url}@{reference}: has digest {digest}")
    for each in children:
        _follow(session, url, each["digest"], seen, found)
    for each in blobs:
        if each["digest"] in seen:
            continue
        seen.add(each["digest"])
        answer = session.head(f"{url}/blobs/{each['digest']}", timeout=_SECONDS)
        if answer.status_code != 200 or int(answer.headers["Content-Length"]) != each["size"]:
            found.append(f"{url}:{reference}: blob {each['digest']}: {answer.status_code}")


def _get(session: requests.Session, url: str, reference: str) -> bytes:
    return session.get(
        f"{url}/manifests/{reference}",
        headers={"Accept": f"{MANIFEST}, {INDEX}"},
        timeout=_SECONDS,
    ).content
