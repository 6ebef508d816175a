"""What an upgrade moves, by every way there is to move it: bytes, requests, seconds.

Each pair of images is on a docker-registry behind the counting proxy, as gzip, as zstd, and as
zstd:chunked written by skopeo. Seconds of the table are with the proxy between, and so no
measure of speed; the races are: whole pulls against partial ones, at 100 Mbit/s through the proxy
and straight from the registry.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rig import chunked, forky, published, toc
from rig import misbehaving as bad
from rig.command import pull
from rig.pairs import Pair, pair
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry

from tools.bench.measure import run
from tools.images import cache
from tools.images.push import push

SLOW = 100_000_000
"""Bits per second of the slow link."""
FAST = 10_000_000_000
"""Of the table's link: no limit, but for buffers of the usual size in the proxy."""
SHARE_OF_LEAST = 1.10
"""What may be moved, in terms of what is new at all."""
REQUESTS = 200
FASTER = 0.5
"""The partial pull's time on the slow link, in terms of the whole pull's..."""
SLOWER = 1.1
"""...and on one without a limit."""


@dataclass(frozen=True)
class Way:
    """One way to get the new image, and what it took; no bytes where it failed."""

    name: str
    bytes: int | None
    requests: int
    seconds: float


@dataclass(frozen=True)
class Race:
    """Median seconds of a whole and of a partial pull of the upgrade over one link."""

    link: str
    whole: float
    partial: float
    limit: float

    @property
    def met(self) -> bool:
        return self.partial <= self.limit * self.whole


@dataclass(frozen=True)
class Upgrade:
    """All there is to say of one pair."""

    pair: str
    least: toc.Least
    ways: list[Way]
    races: list[Race]

    @property
    def ours(self) -> Way:
        return next(way for way in self.ways if way.name == "bootc-py, chunks")

    @property
    def theirs(self) -> Way:
        return next(way for way in self.ways if way.name == "podman")

    @property
    def met(self) -> bool:
        ours, theirs = self.ours.bytes, self.theirs.bytes
        assert ours is not None and theirs is not None
        return (
            ours <= theirs
            and ours <= SHARE_OF_LEAST * self.least.bytes
            and self.ours.requests <= REQUESTS
            and all(race.met for race in self.races)
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}


def upgrade(name: str, runs: int) -> Upgrade:
    """Measures the pair `name`, the races `runs` times."""
    both = pair(name)
    with ExitStack() as stack:
        work = stack.enter_context(cache.scratch(cache.root() / "work"))
        published.clone(chunked.storage(both.plain()), work / "registry")
        registry = stack.enter_context(run_registry(work / "registry"))
        for (version, form), layout in both.forms.items():
            if form != "plain":
                push(layout, f"{registry.host}/{both.repository}:{version}-{form}")
        place = _Place(both, registry, work)
        ways = list(place.ways())
        races = [
            place.race("100 Mbit/s", "chunks", SLOW, FASTER, runs),
            place.race("no limit", "fastest", None, SLOWER, runs),
            place.race("no limit", "chunks", None, SLOWER, runs),
        ]
        before, after = (f"{both.repository}:{version}" for version in ("v1", "v2"))
        return Upgrade(name, toc.least(registry, before, after), ways, races)


class _Place:
    """Where a pair is measured: a registry that has it, and space."""

    def __init__(self, both: Pair, registry: Registry, work: Path) -> None:
        self._registry = registry
        self._repository = both.repository
        self._work = work
        self._count = 0

    def ways(self) -> Iterator[Way]:
        """Every row of the table."""
        with run_proxy(self._registry.port, bits_per_second=FAST) as proxy:
            yield self._way("whole, gzip", proxy, "gzip", None)
            yield self._way("whole, zstd", proxy, "zstd", None)
            yield self._way("layers only, gzip", proxy, "gzip", "gzip", "--partial=never")
            yield self._way("layers only, zstd", proxy, "zstd", "zstd", "--partial=never")
            yield self._way("layers only, zstd:chunked", proxy, "", "", "--partial=never")
            yield self._podman("podman", proxy)
            yield self._way("bootc-py, files", proxy, "", "", "--partial=files")
            yield self._way("bootc-py, chunks", proxy, "", "", "--partial=chunks")
        for title, misbehave in REFUSALS.items():
            with run_proxy(self._registry.port, bits_per_second=FAST) as proxy:
                misbehave(proxy)
                yield self._podman(f"podman, {title}", proxy)
                yield self._way(f"bootc-py, {title}", proxy, "", "")

    def race(
        self, link: str, depth: str, bits_per_second: float | None, limit: float, runs: int
    ) -> Race:
        """Whole and partial pulls of the new image in turn."""
        seconds: dict[str, list[float]] = {"never": [], depth: []}
        with self._repo("") as old, ExitStack() as stack:
            host = self._registry.host
            if bits_per_second:
                wire = run_proxy(self._registry.port, bits_per_second=bits_per_second)
                host = stack.enter_context(wire).host
            for number in range(runs):
                for each in list(seconds) if number % 2 == 0 else reversed(seconds):
                    with self._copy(old) as repo:
                        name = f"{host}/{self._repository}:v2"
                        cost = run(
                            [
                                sys.executable, "-m", "bridge", "image", "pull", "--quiet", name,
                                "--tls-verify=false", f"--repo={repo}", f"--partial={each}",
                            ]
                        )  # fmt: skip
                    seconds[each].append(cost.wall)
                    _say(f"{link}, --partial={each}: {cost.wall:.1f} s")
        return Race(
            f"{link}, --partial={depth}", *map(statistics.median, seconds.values()), limit=limit
        )

    def _way(
        self, name: str, proxy: CountingProxy, form: str, old: str | None, *options: str
    ) -> Way:
        """Our pull of the new image in `form` where the old one is there in the form `old`."""
        with self._repo(old) as repo, self._copy(repo) as copy:
            proxy.reset()
            start = time.monotonic()
            pull(f"{proxy.host}/{self._tag('v2', form)}", copy, *options)
            return self._done(name, proxy, start)

    def _podman(self, name: str, proxy: CountingProxy) -> Way:
        self._count += 1
        with forky.run_forky(self._work / f"podman-{self._count}") as peer:
            # The old image comes in a way that works.
            done = peer.pull(f"{self._registry.host}/{self._tag('v1', '')}")
            assert done.code == 0, done.err
            proxy.reset()
            start = time.monotonic()
            done = peer.pull(f"{proxy.host}/{self._tag('v2', '')}")
            way = self._done(name, proxy, start)
        if done.code:
            _say(f"{name}: {done.err.strip().splitlines()[-1]}")
            return Way(name, None, way.requests, way.seconds)
        return way

    def _done(self, name: str, proxy: CountingProxy, start: float) -> Way:
        way = Way(name, proxy.body_bytes, proxy.requests, time.monotonic() - start)
        _say(f"{name}: {way.bytes:,} bytes, {way.requests} requests, {way.seconds:.1f} s")
        return way

    def _tag(self, version: str, form: str) -> str:
        return f"{self._repository}:{version}{f'-{form}' if form else ''}"

    @contextmanager
    def _repo(self, form: str | None) -> Iterator[Path | None]:
        """A repository with the old image in a form, empty for zstd:chunked; nothing for None.

        It stays until the end, for all that begin there.
        """
        if form is None:
            yield None
            return
        repo = self._work / f"old-{form}"
        if not repo.exists():
            pull(f"{self._registry.host}/{self._tag('v1', form)}", repo)
        yield repo

    @contextmanager
    def _copy(self, repo: Path | None) -> Iterator[Path]:
        self._count += 1
        copy = self._work / f"repo-{self._count}"
        if repo is not None:
            subprocess.run(["cp", "--archive", str(repo), str(copy)], check=True)
        yield copy
        shutil.rmtree(copy)


def _refuses(status: int) -> Callable[[CountingProxy], None]:
    refusal = bad.for_many_ranges(bad.answers(status, b"several ranges"))
    return lambda proxy: proxy.spoil("/blobs/", refusal, always=True)


def _ignores(proxy: CountingProxy) -> None:
    proxy.ignores = bad.has_many


REFUSALS: dict[str, Callable[[CountingProxy], None]] = {
    "several ranges are 501 (GHCR)": _refuses(501),
    "several ranges are 416 (zot)": _refuses(416),
    "several ranges are ignored (S3)": _ignores,
}
"""What registries do to a request for several ranges at once."""


def table(found: Upgrade) -> str:
    """The figures as text."""
    lines = [f"upgrade of {found.pair}"]
    lines.append(f"  {'':42}{'bytes':>13}{'requests':>10}{'seconds':>9}{'of podman':>11}")
    podman = found.theirs.bytes
    assert podman is not None
    for way in found.ways:
        size = "fails" if way.bytes is None else f"{way.bytes:,}"
        share = "" if way.bytes is None else f"{way.bytes / podman:.3f}"
        lines.append(f"  {way.name:42}{size:>13}{way.requests:10}{way.seconds:9.1f}{share:>11}")
    least = found.least
    share = f"{(found.ours.bytes or 0) / least.bytes:.3f} x"
    lines.append(
        f"  {'new chunks, tables, tar-splits':42}{least.bytes:13,}"
        f"  ({least.chunks:,} and {least.tails:,}; ours is {share}, at most {SHARE_OF_LEAST:.2f})"
    )
    for race in found.races:
        lines.append(
            f"  {race.link}: whole {race.whole:.1f} s, partial {race.partial:.1f} s:"
            f" {race.partial / race.whole:.2f} x (at most {race.limit:.2f}):"
            f" {'met' if race.met else 'MISSED'}"
        )
    return "\n".join(lines) + "\n"


def _say(words: str) -> None:
    print(f"  {words}", file=sys.stderr, flush=True)
