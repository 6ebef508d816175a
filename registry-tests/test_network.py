"""Every network fault: what is survived costs what the report says, what is refused leaves nothing.

Each row is a fault of `rig.misbehaving` in front of a real registry, met by the real command.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from rig import misbehaving as bad
from rig import store
from rig.ahead import running
from rig.answer import Exchange, Fault
from rig.command import PLAIN_HTTP, pull
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import medium
from test_failures import check_clean, fail

from bridge import limits
from bridge.errors import VerificationFailed
from bridge.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor
from bridge.oci.reference import parse_registry_reference
from bridge.registry.client import Client
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions
from tools.images.layout import Layout

IDLE = "--idle-timeout=2"
YEAR = 365 * 24 * 3600
KERNEL = 8 * limits.MIB
"""What the kernels of both sides hold of a body at most that nobody reads."""


@dataclass(frozen=True)
class Bench:
    """A registry behind a proxy, with the image `a/b:v1` in it; faults befall one part of it."""

    registry: Registry
    proxy: CountingProxy
    image: Layout

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/a/b:v1"

    @property
    def blob(self) -> bytes:
        """The larger layer."""
        return self.image.blob(self.image.layers[1]["digest"]).read_bytes()

    @property
    def manifest(self) -> bytes:
        return self.image.blob(self.image.digest).read_bytes()

    def part(self, where: str) -> str:
        """What only the paths of requests for the layer, the config or the manifest have."""
        return {
            "layer": self.image.layers[1]["digest"],
            "config": self.image.manifest["config"]["digest"],
            "manifest": "/manifests/",
        }[where]

    def spoil(self, where: str, *faults: Fault | Made, always: bool = False) -> None:
        made = [each.make(self) if isinstance(each, Made) else each for each in faults]
        self.proxy.spoil(self.part(where), *made, always=always)

    def size(self, where: str) -> int:
        sizes = {"layer": len(self.blob), "manifest": len(self.manifest)}
        return sizes.get(where, self.image.manifest["config"]["size"])


@dataclass(frozen=True)
class Made:
    """A fault that is made of what there is on the bench."""

    make: Callable[[Bench], Fault]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Layout]]:
    image = medium(tmp_path_factory.mktemp("image") / "layout")
    with run_registry() as registry:
        push(image, registry, "a/b", "v1")
        yield registry, image


@contextmanager
def run_bench(published: tuple[Registry, Layout]) -> Iterator[Bench]:
    registry, image = published
    with run_proxy(registry.port) as proxy:
        yield Bench(registry, proxy, image)


@pytest.fixture
def bench(published: tuple[Registry, Layout]) -> Iterator[Bench]:
    with run_bench(published) as running:
        yield running


# -- what is survived --------------------------------------------------------------------------


@dataclass(frozen=True)
class Survived:
    """Faults that befall the first requests, one each, and what they cost."""

    where: str
    faults: Sequence[Fault | Made]
    ranges: Sequence[str | None] = (None, None)
    """Of every request for that part."""
    in_flight: int = 0
    """Bytes that may have been sent but not read when a connection was given up."""
    pauses: Sequence[float] = ()
    """Seconds that must lie at least between an answer and the next request."""


def in_seconds(seconds: float) -> Callable[[Exchange], str]:
    """An HTTP date, counted from the request; whole seconds, so up to one less."""

    def date(exchange: Exchange) -> str:
        return formatdate(time.time() + seconds, usegmt=True)

    return date


REST = (None, "bytes=300000-")
CUT = bad.cut(300_000)
AGAIN = (None, "bytes=300000-", None)

SURVIVED = {
    # bodies that break off
    "cut": Survived("layer", [CUT], REST),
    "cut three times": Survived(
        "layer", [bad.cut(100_000)] * 3, (None, *(f"bytes={n}00000-" for n in (1, 2, 3)))
    ),
    "cut in chunks": Survived("layer", [bad.together(bad.chunked, CUT)], REST),
    "cut with no length": Survived("layer", [bad.together(bad.until_close, CUT)], REST),
    "ends early in chunks": Survived("layer", [bad.together(bad.ends(300_000), bad.chunked)], REST),
    "reset": Survived("layer", [bad.resets(300_000)], REST),
    "stall": Survived("layer", [bad.stalls(300_000)], REST),
    "cut at the last byte": Survived("config", [bad.cut(1)], (None, "bytes=1-")),
    "manifest cut": Survived("manifest", [bad.cut(100)]),
    "manifest stalls": Survived("manifest", [bad.stalls(100)]),
    # no answer
    "says nothing": Survived("layer", [bad.says_nothing]),
    "reset at once": Survived("layer", [bad.resets_at_once]),
    "not HTTP": Survived("layer", [bad.not_http]),
    "stall in headers": Survived("layer", [bad.stalls_in_headers]),
    "headers trickle": Survived("layer", [bad.trickles_headers]),
    "100 Continue for ever": Survived("layer", [bad.continues_for_ever]),
    "10,000 headers": Survived("layer", [bad.many_headers(10_000)]),
    "a header of 1 MiB": Survived("manifest", [bad.long_header(limits.MIB)]),
    "nine headers of 60,000 bytes": Survived(
        "layer", [bad.headers(*((f"X-{n}", "x" * 60_000) for n in range(9)))]
    ),
    # framing
    "chunks": Survived("layer", [bad.chunked], (None,)),
    "no length": Survived("layer", [bad.until_close], (None,)),
    "garbage after the answer": Survived("manifest", [bad.garbage_after], (None,)),
    "trailers for ever": Survived("layer", [bad.trailers], (None,)),
    "the size of a chunk trickles": Survived("layer", [bad.trickling_chunk_size]),
    "Content-Encoding that is not true": Survived(
        "layer", [bad.headers(("Content-Encoding", "gzip"))], (None,)
    ),
    # later
    **{
        f"{status}": Survived("layer", [bad.answers(status, b"later")])
        for status in (408, 429, 500, 502, 503, 504)
    },
    "Retry-After": Survived("layer", [bad.busy(429, "1")] * 2, (None,) * 3, pauses=(1, 1)),
    "Retry-After as a date": Survived("manifest", [bad.busy(503, in_seconds(2))], pauses=(1,)),
    "Retry-After in the past": Survived("layer", [bad.busy(503, in_seconds(-YEAR))]),
    "negative Retry-After": Survived("layer", [bad.busy(503, "-5")]),
    "Retry-After that is none": Survived("layer", [bad.busy(503, "\x7f soon; 1e9")]),
    # ranges
    "Range ignored": Survived("layer", [CUT, Made(lambda b: bad.whole(b.blob))], REST),
    **{
        f"Range answered {status}": Survived("layer", [CUT, bad.answers(status, b"no")], AGAIN)
        for status in (400, 403, 405, 416, 501)
    },
    "multipart/byteranges": Survived("layer", [CUT, Made(lambda b: bad.multipart(b.blob))], AGAIN),
    **{
        f"Content-Range: {where}": Survived(
            "layer", [CUT, Made(lambda b, lie=lie: bad.part(b.blob, *lie(len(b.blob))))], AGAIN
        )
        for where, lie in {
            "missing": lambda size: (300_000, -1, None),
            "wrong start": lambda size: (299_999, -1, f"bytes 299999-{size - 1}/{size}"),
            "wrong start, from 0": lambda size: (0, -1, f"bytes 0-{size - 1}/{size}"),
            "wrong end": lambda size: (300_000, -2, f"bytes 300000-{size - 2}/{size}"),
            "wrong total": lambda size: (300_000, -1, f"bytes 300000-{size - 1}/{size + 1}"),
            "no total": lambda size: (300_000, -2, f"bytes 300000-{size - 1}/*"),
            "short body": lambda size: (300_000, 400_000, f"bytes 300000-{size - 1}/{size}"),
            "end before start": lambda size: (300_000, -1, f"bytes 300000-299999/{size}"),
            "no numbers": lambda size: (300_000, -1, f"bytes 0x493e0-{size - 1}/{size}"),
            "other units": lambda size: (300_000, -1, f"items 300000-{size - 1}/{size}"),
        }.items()
    },
    # given up while bytes come
    "trickle": Survived("layer", [bad.trickles(300_000)], (None, None), in_flight=200),
    "chunk extensions": Survived("layer", [bad.chunk_extensions], (None, None), in_flight=200),
}


def survive(bench: Bench, row: Survived, repo: Path) -> None:
    bench.spoil(row.where, *row.faults)
    report = pull(bench.name, repo, IDLE)
    log = bench.proxy.asked(bench.part(row.where))
    if not row.in_flight:
        assert [each.range for each in log] == list(row.ranges)
    assert len(log) == len(row.ranges) <= 5
    for answered, asked, pause in zip(log, log[1:], row.pauses, strict=False):
        assert asked.came - answered.answered >= pause
    transfer = report["transfer"]
    assert transfer["requests"] == bench.proxy.requests
    sent = bench.proxy.body_bytes
    assert sent - row.in_flight <= transfer["receivedBytes"] <= sent
    assert report["image"]["manifestDigest"] == bench.image.digest
    history = (repo / "extensions/bootc-py/history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["transfer"] == transfer
    store.fsck(repo)


@pytest.fixture(scope="module")
def survivals(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    published: tuple[Registry, Layout],
) -> Iterator[Callable[[str], None]]:
    def run(case: str, work: Path) -> None:
        with run_bench(published) as bench:
            survive(bench, SURVIVED[case], work / "repo")

    with running(request, tmp_path_factory, "survived", run) as outcome:
        yield outcome


@pytest.mark.parametrize("survived", SURVIVED)
def test_survived(survivals: Callable[[str], None], survived: str) -> None:
    survivals(survived)


# -- what is refused ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A fault that befalls every request for a part, and how the pull ends."""

    where: str
    fault: Fault | Made
    code: int
    words: str
    tries: int = 1
    pause: float = 0
    """Seconds that must lie at least between an answer and the next request."""


def manifest(**changes: Any) -> Made:
    """The manifest with other members."""

    def make(bench: Bench) -> Fault:
        document = json.loads(bench.manifest) | changes
        return bad.document(json.dumps(document).encode(), OCI_MANIFEST)

    return Made(make)


def layer(**changes: Any) -> Made:
    """The manifest with its larger layer described in another way."""

    def make(bench: Bench) -> Fault:
        document = json.loads(bench.manifest)
        document["layers"][1] |= changes
        return bad.document(json.dumps(document).encode(), OCI_MANIFEST)

    return Made(make)


def served(raw: bytes, media_type: str = OCI_MANIFEST) -> Fault:
    return bad.document(raw, media_type)


def entries(count: int) -> bytes:
    """An index with so many entries, none of them for this machine."""
    digest = "sha256:" + "0" * 64
    entry = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}
    entry["platform"] = {"os": "linux", "architecture": "vax"}  # type: ignore[assignment]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] * count}
    return json.dumps(document, separators=(",", ":")).encode()


def index_of(bench: Bench, media_type: str) -> bytes:
    """An index whose one entry for this machine is the manifest, under any media type."""
    size = len(bench.manifest)
    entry = {"mediaType": media_type, "digest": bench.image.digest, "size": size}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    return json.dumps(document).encode()


HEX = "a" * 64
BAD_DIGESTS = {
    "none": None,
    "empty": "",
    "no algorithm": HEX,
    "MD5": "md5:" + "a" * 32,
    "upper case": "sha256:" + "A" * 64,
    "too short": "sha256:" + "a" * 63,
    "too long": "sha256:" + "a" * 65,
    "a path": "sha256:../../../../etc/passwd",
    "a path of the right length": "sha256:" + "../" * 21 + "a",
    "a query": f"sha256:{HEX}?x=",
    "a newline": f"sha256:{HEX}\n",
    "another script's digits": "sha256:" + "\u0661" * 64,
    "a number": 7,
    "a list": ["sha256:" + HEX],
}
NESTED = b"[" * (2 * limits.MIB) + b"]" * (2 * limits.MIB)
HUGE = b" " * (limits.MANIFEST_MAX + 1)

REFUSED = {
    # bodies that break off
    "cut again and again": Refused("layer", bad.cut(100_000), 5, "(2 tries)", 2),
    "cut at once, in chunks": Refused(
        "layer", bad.together(bad.chunked, bad.cut(0)), 5, "(2 tries)", 2
    ),
    "resets": Refused("layer", bad.resets(100_000), 5, "reset", 2),
    "stalls": Refused("layer", bad.stalls(100_000), 5, "nothing came for 2 seconds", 2),
    "trickles": Refused("layer", bad.trickles(100_000), 5, "bytes came in", 2),
    "too short, and says so": Refused("layer", bad.ends(100_000), 6, "has 100000 bytes"),
    "too short, in chunks": Refused(
        "layer", bad.together(bad.ends(100_000), bad.chunked), 5, "early", 2
    ),
    # bodies that are too long
    **{
        f"{by or 'endlessly'} too long, {how}": Refused(
            "layer", bad.together(bad.longer(by), framing), 6, "descriptor"
        )
        for by in (1, None)
        for how, framing in {
            "and says so": bad.nothing,
            "in chunks": bad.chunked,
            "with no length": bad.until_close,
        }.items()
    },
    "a config that is too long": Refused("config", bad.longer(1), 6, "descriptor"),
    "a config without end": Refused(
        "config", bad.together(bad.longer(None), bad.chunked), 6, "descriptor"
    ),
    "a manifest without end": Refused(
        "manifest", bad.together(bad.longer(None), bad.chunked), 7, "more than 4194304 bytes"
    ),
    # bodies that are wrong
    "a bit of a layer": Refused("layer", bad.flips(350_000), 6, "sha256:"),
    "a bit of the config": Refused("config", bad.flips(10), 6, "sha256:"),
    "a bit of the manifest": Refused("manifest", bad.flips(20), 6, "sha256:"),
    "layer compressed, and says so": Refused("layer", bad.gzipped, 6, "descriptor"),
    "layer compressed, in chunks": Refused(
        "layer", bad.together(bad.gzipped, bad.chunked), 6, "descriptor"
    ),
    "config compressed": Refused("config", bad.gzipped, 6, "descriptor"),
    "manifest compressed": Refused("manifest", bad.gzipped, 6, "sha256:"),
    # no answers
    "says nothing": Refused("manifest", bad.says_nothing, 5, "(2 tries)", 2),
    "not HTTP": Refused("manifest", bad.not_http, 5, "(2 tries)", 2),
    "headers stall": Refused("manifest", bad.stalls_in_headers, 5, "nothing came", 2),
    "headers trickle": Refused("manifest", bad.trickles_headers, 5, "for 2 seconds", 2),
    "100 Continue for ever": Refused("manifest", bad.continues_for_ever, 5, "headers", 2),
    "10,000 headers": Refused("manifest", bad.many_headers(10_000), 5, "headers", 2),
    "a header of 1 MiB": Refused("manifest", bad.long_header(limits.MIB), 5, "header", 2),
    "no header": Refused("manifest", bad.no_header, 5, "nothing came", 2),
    "chunk extensions": Refused("layer", bad.chunk_extensions, 5, "framing", 2),
    # not now
    "500 for ever": Refused("manifest", bad.answers(500, b"no"), 5, "500", 2),
    "429 for ever": Refused("layer", bad.busy(429, "1"), 5, "Retry-After '1'", 2, pause=1),
    "a year": Refused(
        "manifest", bad.busy(429, str(YEAR)), 5, f"later, as it asks: Retry-After '{YEAR}'"
    ),
    "until next year": Refused("layer", bad.busy(503, in_seconds(YEAR)), 5, "Retry-After"),
    "61 seconds": Refused("manifest", bad.busy(503, "61"), 5, "Retry-After '61'"),
    "1e300 seconds": Refused("manifest", bad.busy(503, "9" * 300), 5, "Retry-After"),
    "an error of 64 MiB": Refused("manifest", bad.answers(404, bytes(64 * limits.MIB)), 4, "404"),
    "an error of nested JSON": Refused("manifest", bad.answers(404, NESTED), 4, "404"),
    # redirects
    **{
        f"redirect to {scheme}": Refused("manifest", bad.redirects(location), 5, words)
        for scheme, (location, words) in {
            "file": ("file:///etc/passwd", "not an http"),
            "ftp": ("ftp://127.0.0.1/x", "not an http"),
            "data": ("data:,x", "not an http"),
            "a URL with a password": ("http://user:secret@127.0.0.1:1/x", "carries credentials"),
            "a bad port": ("http://127.0.0.1:99999/x", "not a valid URL"),
            "a bad address": ("http://[::1/x", "no URL"),
            "a host with a backslash": ("http://127.0.0.1\\.evil/x", "valid host"),
            "a host with a space": ("http://a b/x", "valid host"),
        }.items()
    },
    "redirects in a circle": Refused(
        "layer", bad.redirects(lambda exchange: exchange.path), 5, "more than 10 redirects", 11
    ),
    "a redirect to nowhere": Refused("layer", bad.answers(307), 5, "307"),
    # documents
    "another's Docker-Content-Digest": Refused(
        "manifest", Made(lambda b: bad.document(b.manifest, OCI_MANIFEST, f"sha256:{HEX}")), 6, HEX
    ),
    "a wrong Content-Type": Refused(
        "manifest", Made(lambda b: bad.document(b.manifest, OCI_INDEX)), 7, "was served as"
    ),
    "layers and manifests": Refused("manifest", manifest(manifests=[]), 7, "both"),
    "another mediaType": Refused("manifest", manifest(mediaType="text/x"), 7, "text/x"),
    "schema 1": Refused(
        "manifest",
        served(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        7,
        "schema 1",
    ),
    "no document": Refused("manifest", served(b""), 7, "JSON"),
    "not UTF-8": Refused("manifest", served(b'{"a": "\xff"}'), 7, "JSON"),
    "a number of a million digits": Refused(
        "manifest", served(b'{"schemaVersion": ' + b"2" * 1_000_000 + b"}"), 7, "JSON"
    ),
    "nested JSON": Refused("manifest", served(NESTED), 7, "JSON"),
    "too large": Refused("manifest", served(HUGE), 7, "4194304"),
    "a config of nested JSON": Refused("config", bad.whole(NESTED), 6, "descriptor"),
    "an index of 10,001 entries": Refused(
        "manifest", served(entries(10_001), OCI_INDEX), 7, "10001"
    ),
    "an index of 10,000 others": Refused("manifest", served(entries(10_000), OCI_INDEX), 7, "vax"),
    "an index of an index": Refused(
        "manifest", Made(lambda b: served(index_of(b, OCI_INDEX), OCI_INDEX)), 6, "sha256:", 2
    ),
    "501 layers": Refused(
        "manifest",
        Made(lambda b: manifest(layers=[b.image.layers[0]] * 501).make(b)),
        7,
        "501 layers",
    ),
    "a negative size": Refused("manifest", layer(size=-1), 7, "size -1"),
    "a fraction for a size": Refused("manifest", layer(size=1.5), 7, "size 1.5"),
    "an endless size": Refused("manifest", layer(size=2**63), 7, "size"),
    "a larger size": Refused("manifest", layer(size=10**6), 6, "descriptor"),
    **{
        f"digest: {name}": Refused("manifest", layer(digest=value), 7, "digest")
        for name, value in BAD_DIGESTS.items()
    },
}


def refuse(bench: Bench, row: Refused, work: Path) -> None:
    bench.spoil(row.where, row.fault, always=True)
    repo = work / "repo"
    line = fail(row.code, bench.name, "--repo", repo, PLAIN_HTTP, "--retry-times=1", IDLE)
    assert row.words in line
    assert "secret" not in line and line.isprintable() and len(line) < 1000
    assert bench.proxy.host in line or "sha256:" in line
    log = bench.proxy.asked(bench.part(row.where))
    assert len(log) == row.tries
    for answered, asked in itertools.pairwise(log):
        assert asked.came - answered.answered >= row.pause
    for exchange in log:
        most = limits.MANIFEST_MAX if row.where == "manifest" else bench.size(row.where)
        assert exchange.body_bytes <= most + KERNEL
    kept = len(store.refs(repo)) if (repo / "config").exists() else 0
    assert kept <= (row.where == "layer" or row is REFUSED["a larger size"])
    check_clean(repo, kept)

    if row.where == "manifest":
        return  # nothing was begun
    bench.proxy.forgive()
    pull(bench.name, repo)
    store.fsck(repo)


@pytest.fixture(scope="module")
def refusals(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    published: tuple[Registry, Layout],
) -> Iterator[Callable[[str], None]]:
    def run(case: str, work: Path) -> None:
        with run_bench(published) as bench:
            refuse(bench, REFUSED[case], work)

    with running(request, tmp_path_factory, "refused", run) as outcome:
        yield outcome


@pytest.mark.parametrize("refused", REFUSED)
def test_refused(refusals: Callable[[str], None], refused: str) -> None:
    refusals(refused)


TOO_LONG = [case for case, row in REFUSED.items() if "too long" in case and row.code == 6]


@pytest.mark.parametrize("case", TOO_LONG)
def test_no_more_is_read_than_there_may_be(bench: Bench, case: str) -> None:
    """By the client's own meter: what the proxy sent may still lie in the kernel."""
    row = REFUSED[case]
    bench.spoil(row.where, row.fault, always=True)
    described = {"layer": bench.image.layers[1], "config": bench.image.manifest["config"]}
    meter = Meter()
    client = Client(NetworkOptions(tls_verify=False), meter)
    with pytest.raises(VerificationFailed):
        client.read_blob(
            parse_registry_reference(bench.name), Descriptor.parse(described[row.where]), limits.GIB
        )
    client.close()
    assert meter.received_bytes <= bench.size(row.where) + 64 * limits.KIB
    assert meter.requests == 1
