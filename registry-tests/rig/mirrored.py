"""A source registry, a target registry, and a proxy before each: what sync jobs are tried on."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from support import images
from support.images import Image

from bridge.oci.artifact import artifact, fallback_tag
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_MANIFEST, Descriptor, Platform
from bridge.registry.options import NetworkOptions
from bridge.sync.model import Config, Host, Job, Kind, Place
from bridge.sync.report import SyncReport
from bridge.sync.run import run
from rig.crafted import Publisher
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry

_KINDS = ", ".join(
    f"application/vnd.{each}+json"
    for each in (
        "oci.image.manifest.v1", "oci.image.index.v1",
        "docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2",
    )
)  # fmt: skip
OTHER = Platform("linux", "s390x")
HERE = Platform.host()


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def made(*seeds: str, size: int = 3000, **more: Any) -> Image:
    """An image with a layer for each seed: equal seeds are equal layers."""
    layers = [[images.file(f"usr/{seed}", noise(seed, size))] for seed in seeds]
    return images.image(*layers, **more)


def indexed(*seeds: str, size: int = 3000) -> Image:
    """An index of two images, for two platforms, the first of them this machine's."""
    return images.index(
        (made(*seeds, size=size), HERE),
        (made(*(f"{each}-other" for each in seeds), size=size, platform=OTHER), OTHER),
    )


@dataclass
class Mirrored:
    """Both registries; what is asked of them goes through the proxies."""

    origin: Registry
    copy: Registry
    source: CountingProxy
    target: CountingProxy
    state: Path
    _publishers: dict[str, Publisher] = field(default_factory=dict)

    def publish(self, repository: str, content: Mapping[str, Image]) -> None:
        """Have the source hold images, by tag."""
        publisher = self._publishers.setdefault(repository, Publisher(self.origin, repository))
        for tag, image in content.items():
            publisher.put(image, tag)

    def sign(self, repository: str, subject: Image, seed: str, *, fallback: bool = True) -> str:
        """Have the source hold something that refers to an image, listed under its fallback tag;
        return its digest."""
        data = noise(seed, 500)
        blob = images.descriptor(data, "application/octet-stream")
        layer = Descriptor(blob["mediaType"], Digest(blob["digest"]), blob["size"])
        top = Descriptor(
            subject.document.get("mediaType", OCI_MANIFEST), subject.digest, len(subject.manifest)
        )
        raw = artifact("application/x-signature", top, [layer])
        publisher = self._publishers.setdefault(repository, Publisher(self.origin, repository))
        document = json.loads(raw)
        held = Image(raw, {document["config"]["digest"]: b"{}", blob["digest"]: data})
        publisher.put(held, held.digest)
        if fallback:
            listing = {
                "schemaVersion": 2,
                "mediaType": images.OCI_INDEX,
                "manifests": [
                    images.descriptor(raw, OCI_MANIFEST)
                    | {"artifactType": "application/x-signature"}
                ],
            }
            index = Image(images.dumps(listing), {held.digest: raw}, images.OCI_INDEX)
            publisher.put(index, fallback_tag(subject.digest))
        return str(held.digest)

    def job(self, repository: str | None = None, to: str | None = None, **more: Any) -> Job:
        """A job for a repository, or for all; hosts are those of the proxies."""
        kind = Kind.REGISTRY if repository is None else Kind.REPOSITORY
        end = "" if repository is None else f"/{repository}"
        there = end if to is None else f"/{to}"
        given: dict[str, Any] = {
            "name": "job",
            "source": Place(kind, f"{self.source.host}{end}"),
            "target": Place(kind, f"{self.target.host}{there}"),
        }
        return Job(**given | more)

    def run(self, *jobs: Job, hosts: tuple[Host, ...] = (), **more: Any) -> SyncReport:
        """Do jobs as a process does them that was just started; the proxies begin to count."""
        self.source.reset()
        self.target.reset()
        config = Config(jobs=jobs or (self.job(),), hosts=hosts)
        options = NetworkOptions(tls_verify=False, retry_times=more.pop("retry_times", 1))
        state = str(more.pop("state", self.state))
        return run(config, network=options, state_directory=state, **more)

    def digests(self, registry: Registry, repository: str) -> dict[str, str]:
        """The digest of each tag of a repository."""
        session = requests.Session()
        base = f"{registry.url}/v2/{repository}"
        listed = session.get(f"{base}/tags/list", timeout=60)
        if listed.status_code == 404:
            return {}
        found = {}
        for tag in listed.json()["tags"] or []:
            head = session.head(f"{base}/manifests/{tag}", headers={"Accept": _KINDS}, timeout=60)
            found[tag] = head.headers["Docker-Content-Digest"]
        return found

    def same(self, *repositories: str) -> None:
        """Fails unless both have the same tags, digests, and all that these name."""
        for each in repositories:
            here = self.digests(self.origin, each)
            assert here
            assert self.digests(self.copy, each) == here
            for digest in here.values():
                self.whole(each, digest)

    def document(self, repository: str, digest: str) -> dict[str, Any]:
        """A manifest or index of the target, which has that digest."""
        url = f"{self.copy.url}/v2/{repository}/manifests/{digest}"
        got = requests.get(url, headers={"Accept": _KINDS}, timeout=60)
        assert got.status_code == 200, (repository, digest)
        assert Digest.of(got.content) == digest
        found: dict[str, Any] = got.json()
        return found

    def whole(self, repository: str, digest: str) -> None:
        """Fails unless the target has a document and all that it names."""
        base = f"{self.copy.url}/v2/{repository}"
        document = self.document(repository, digest)
        for each in document.get("manifests", ()):
            self.whole(repository, each["digest"])
        for each in (*document.get("layers", ()), *filter(None, [document.get("config")])):
            blob = requests.get(f"{base}/blobs/{each['digest']}", timeout=60)
            assert blob.status_code == 200
            assert Digest.of(blob.content) == each["digest"]

    def untag(self, repository: str, tag: str) -> None:
        """Have the source no longer have a tag, whatever its API can do."""
        place = self.origin.storage / "docker/registry/v2/repositories" / repository
        shutil.rmtree(place / "_manifests/tags" / tag)

    def sent(self) -> dict[str, int]:
        """How many times each blob was fetched from the source since the last run began."""
        counts: dict[str, int] = {}
        for each in self.source.asked("/blobs/"):
            if each.method == "GET":
                digest = each.path.rpartition("/")[2]
                counts[digest] = counts.get(digest, 0) + 1
        return counts


def asked(proxy: CountingProxy) -> dict[str, int]:
    """How many requests of each kind a proxy saw: `HEAD manifests`, `GET tags`."""
    counts: dict[str, int] = {}
    for each in proxy.log:
        parts = each.path.partition("?")[0].split("/")
        known = ("manifests", "blobs", "tags", "referrers", "uploads", "_catalog")
        kind = next((part for part in reversed(parts) if part in known), each.path)
        name = f"{each.method} {kind}"
        counts[name] = counts.get(name, 0) + 1
    return counts


@contextmanager
def run_mirrored(
    work: Path, origin: Registry | None = None, copy: Registry | None = None
) -> Iterator[Mirrored]:
    """Both registries until the context ends: those given, or empty ones."""
    with ExitStack() as stack:
        origin = origin or stack.enter_context(run_registry())
        copy = copy or stack.enter_context(run_registry())
        source = stack.enter_context(run_proxy(origin.port))
        target = stack.enter_context(run_proxy(copy.port))
        yield Mirrored(origin, copy, source, target, work / "state")


def stopped_after(seconds: float) -> threading.Event:
    """An event that is set in a while."""
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    return event
