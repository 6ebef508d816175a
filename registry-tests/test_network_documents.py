"""The worst documents and headers that the limits let through, in memory and time as measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import misbehaving as bad
from rig import store
from rig.answer import Answer, Exchange, Fault
from rig.command import PLAIN_HTTP, measured
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import run_registry
from rig.small import medium
from rig.twopkg import write_image
from test_failures import check_clean

from bridge import limits
from bridge.oci.model import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tools.images.layout import Layout

PEAK = 512 * limits.MIB
SECONDS = 60


@dataclass(frozen=True)
class Bench:
    proxy: CountingProxy
    image: Layout

    def config(self, **changes: Any) -> bytes:
        return json.dumps(self.image.config | changes, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    image = medium(tmp_path_factory.mktemp("image") / "layout")
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        push(image, registry, "a/b", "v1")
        yield Bench(proxy, image)


@pytest.fixture
def bench(served: Bench) -> Iterator[Bench]:
    yield served
    served.proxy.forgive()
    served.proxy.reset()


def filled(before: bytes, filler: bytes, after: bytes, size: int = limits.MANIFEST_MAX) -> bytes:
    """A document of `size` bytes at most: as many fillers as fit, commas between them."""
    count = (size - len(before) - len(after) + 1) // (len(filler) + 1)
    return before + b",".join([filler] * count) + after


def keys(before: bytes, after: bytes, size: int = limits.MANIFEST_MAX) -> bytes:
    """The same with members that all have different names."""
    count = (size - len(before) - len(after)) // len(b'"0123456":"",')
    return before + ",".join(f'"{n:07}":""' for n in range(count)).encode() + after


HEAD = b'{"schemaVersion":2,"mediaType":"%s",' % OCI_MANIFEST.encode()
INDEX = b'{"schemaVersion":2,"mediaType":"%s",' % OCI_INDEX.encode()
ENTRY = json.dumps(
    {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1, "annotations": {}},
    separators=(",", ":"),
).encode()

MANIFESTS = {
    "objects for layers": filled(HEAD + b'"layers":[', b"{}", b"]}"),
    "arrays for layers": filled(HEAD + b'"layers":[', b"[]", b"]}"),
    "nested objects": HEAD + b'"layers":' + b'{"":' * 1_000_000,
    "nested arrays": b"[" * limits.MANIFEST_MAX,
    "annotations": keys(HEAD + b'"layers":[],"config":{},"annotations":{', b"}}"),
    "one wide character in a long text": HEAD
    + b'"x":"'
    + b"a" * 4_000_000
    + '\U0001f40d"}'.encode(),
    "10,000 entries": INDEX + b'"manifests":[' + b",".join([ENTRY] * 10_000) + b"]}",
    "entries for all 4 MiB": filled(INDEX + b'"manifests":[', ENTRY, b"]}"),
}


def check(work: Path, bench: Bench, code: int) -> str:
    repo = work / "repo"
    name = f"{bench.proxy.host}/a/b:v1"
    options = ("--repo", repo, PLAIN_HTTP, "--retry-times=1")
    done, cost = measured(work, "image", "pull", name, *options, "--json")
    assert done.code == code, done.err
    print(f"{cost.peak / limits.MIB:.0f} MiB, {cost.seconds:.1f} s")
    assert cost.peak < PEAK and cost.seconds < SECONDS
    if code == 0:
        store.fsck(repo)
        return ""
    line = done.error
    assert len(line) < 1000 and line.isprintable()
    check_clean(repo)
    return line


@pytest.mark.parametrize("document", MANIFESTS)
def test_manifests(bench: Bench, tmp_path: Path, document: str) -> None:
    raw = MANIFESTS[document]
    kind = OCI_INDEX if raw.startswith(INDEX) else OCI_MANIFEST
    bench.proxy.spoil("/manifests/", bad.document(raw, kind), always=True)
    check(tmp_path, bench, 7)


def with_config(bench: Bench, raw: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    config = {"mediaType": OCI_CONFIG, "digest": digest, "size": len(raw)}
    document = json.dumps(bench.image.manifest | {"config": config}).encode()
    bench.proxy.spoil("/manifests/", bad.document(document, OCI_MANIFEST))
    bench.proxy.spoil(digest, bad.whole(raw))


CONFIGS = {
    # What is added to the image's configuration, up to 4 MiB, and the exit code.
    "history": (b'"history":[', b"{}", b"]", 0),
    "unknown members": (b'"x":[', b"{}", b"]", 0),
    "labels": (b'"x":{', None, b"}", 0),
    "nested": (b'"x":', b"[", b"", 7),
    "numbers for history": (b'"history":[', b"1", b"]", 7),
}


@pytest.mark.parametrize("document", CONFIGS)
def test_configurations(bench: Bench, tmp_path: Path, document: str) -> None:
    """Of 4 MiB, those of good images among them, which are pulled."""
    opened, filler, closed, code = CONFIGS[document]
    before, after = bench.config()[:-1] + b"," + opened, closed + b"}"
    if filler is None:
        raw = keys(before, after)
    elif filler == b"[":
        raw = before + b"[" * (limits.CONFIG_MAX - len(before))
    else:
        raw = filled(before, filler, after)
    assert limits.CONFIG_MAX - 20 < len(raw) <= limits.CONFIG_MAX
    with_config(bench, raw)
    check(tmp_path, bench, code)


def test_a_configuration_of_more_than_4_mib(bench: Bench, tmp_path: Path) -> None:
    with_config(bench, b" " * (limits.CONFIG_MAX + 1))
    assert "4194305 bytes" in check(tmp_path, bench, 7)
    assert bench.proxy.blob_requests == 0


FLOODS: dict[str, tuple[Fault, int]] = {
    "100,000 headers": (bad.many_headers(100_000), 5),
    "a header of 64 MiB": (bad.long_header(64 * limits.MIB), 5),
    "100 Continue": (bad.continues_for_ever, 5),
    "an error of 256 MiB": (bad.answers(404, bytes(256 * limits.MIB)), 4),
    "a manifest without end": (bad.together(bad.longer(None), bad.chunked), 7),
    "redirects of 4 MiB each": (
        bad.answers(307, bytes(4 * limits.MIB), ("Location", lambda exchange: exchange.path)),
        5,
    ),
    "a challenge of 30,000 schemes": (bad.challenges(" ".join(["x"] * 30_000)), 3),
    "a challenge of 30,000 quotes": (bad.challenges('Bearer realm="' + '\\"' * 30_000), 5),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods(bench: Bench, tmp_path: Path, flood: str) -> None:
    fault, code = FLOODS[flood]
    bench.proxy.spoil("/manifests/", fault, always=True)
    check(tmp_path, bench, code)


def test_500_layers(bench: Bench, tmp_path: Path) -> None:
    layers = [{f"usr/share/{number}": b"%d" % number} for number in range(limits.LAYERS_MAX)]
    image = write_image(tmp_path / "image", "v1", layers)

    def blob(exchange: Exchange, answer: Answer) -> Answer:
        digest = exchange.path.rpartition("/")[2]
        return bad.whole(image.blob(digest).read_bytes())(exchange, answer)

    raw = image.blob(image.digest).read_bytes()
    bench.proxy.spoil("/manifests/", bad.document(raw, OCI_MANIFEST))
    bench.proxy.spoil("/blobs/", blob, always=True)
    check(tmp_path, bench, 0)
    assert bench.proxy.blob_requests == 501
