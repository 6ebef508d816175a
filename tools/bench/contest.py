"""The comparisons: what runs against what, in turn, and how much of the other's cost is allowed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rig import forky, reference
from rig.peers import require
from rig.registry import run_registry

from tools.bench.measure import Cost, median, run, warm
from tools.images import build, cache
from tools.images import layout as oci
from tools.images.push import push
from tools.images.spec import IMAGES

MB = 1_000_000


@dataclass(frozen=True)
class Target:
    """A figure of ours that is to stay within `limit`: times the other's, or bytes by itself."""

    figure: str
    limit: float
    relative: bool = True


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured for it."""

    target: Target
    value: float

    @property
    def met(self) -> bool:
        return self.value <= self.target.limit


@dataclass(frozen=True)
class Outcome:
    """One comparison: medians of both sides."""

    title: str
    other: str
    runs: int
    ours: Cost
    theirs: Cost
    targets: tuple[Target, ...]

    @property
    def verdicts(self) -> list[Verdict]:
        found = []
        for target in self.targets:
            value = getattr(self.ours, target.figure)
            if target.relative:
                value /= getattr(self.theirs, target.figure)
            found.append(Verdict(target, value))
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "runs": self.runs,
            "bootc-py": asdict(self.ours),
            self.other: asdict(self.theirs),
            "targets": [
                {**asdict(each.target), "value": each.value, "met": each.met}
                for each in self.verdicts
            ],
        }


@dataclass(frozen=True)
class Side:
    """A program: the command for a run in an empty directory, and what prepares that directory."""

    name: str
    command: Callable[[Path], list[str]]
    prepare: Callable[[Path], object] = lambda work: None


def cold_import(image: str, version: str, runs: int) -> Iterator[Outcome]:
    """A flat, uncompressed layer into a new bare repository, and `ostree commit` of that tar."""
    flat = reference.flatten(build.image(image, version, "plain"))
    warm([flat.tar])
    ostree = require("ostree")

    def init(work: Path) -> None:
        subprocess.run([ostree, "init", f"--repo={work / 'repo'}", "--mode=bare"], check=True)

    ours = Side("bootc-py", lambda work: _pull(flat.layout.reference, work))
    theirs = Side(
        "ostree",
        lambda work: [
            ostree, "commit", f"--repo={work / 'repo'}", "--branch=x", f"--tree=tar={flat.tar}",
        ],
        init,
    )  # fmt: skip
    targets = (Target("user", 0.6), Target("system", 1.1), Target("peak", 200 * MB, False))
    title = (
        f"cold import of os/{image}:{version}, one tar of {flat.tar.stat().st_size / MB:,.0f} MB"
    )
    yield _compare(f"{title}, against ostree commit --tree=tar=", ours, theirs, targets, runs)


def cold_pull(image: str, version: str, runs: int) -> Iterator[Outcome]:
    """The image from docker-registry on loopback, gzip and zstd, by us and by podman."""
    podman = require("podman")
    repository = IMAGES[image].repository
    with (
        cache.scratch(_place()) as storage,
        run_registry(storage) as registry,
        # podman takes no runroot of more than 50 characters.
        tempfile.TemporaryDirectory(dir="/run") as runroot,
    ):
        for form in ("gzip", "zstd"):
            layout = build.image(image, version, form)
            name = f"{registry.host}/{repository}:{version}-{form}"
            push(layout, name)
            warm(registry.blob_file(layer["digest"]) for layer in layout.layers)
            size = sum(layer["size"] for layer in layout.layers) / MB

            def pull_ours(work: Path, name: str = name) -> list[str]:
                return _pull(name, work)

            def pull_theirs(work: Path, name: str = name) -> list[str]:
                return [
                    podman, f"--root={work / 'root'}", f"--runroot={runroot}",
                    "--storage-driver=overlay", "pull", "--quiet", "--tls-verify=false", name,
                ]  # fmt: skip

            yield _compare(
                f"cold pull of {repository}:{version}, {form}, {size:,.0f} MB, against podman pull"
                " (overlay)",
                Side("bootc-py", pull_ours),
                Side("podman", pull_theirs),
                (Target("wall", 1.0), Target("peak", 200 * MB, False)),
                runs,
            )


def write_chunked(image: str, version: str, runs: int) -> Iterator[Outcome]:
    """A stored image to a layout as zstd:chunked, and current skopeo doing so from plain tars."""
    plain = build.image(image, version, "plain")
    warm(plain.blob(layer["digest"]) for layer in plain.layers)
    with cache.scratch(_place()) as place:
        repo = place / "repo"
        run(_pull(plain.reference, place))
        peer = forky.Forky(forky.root(), place)

        def write_theirs(work: Path) -> list[str]:
            return peer.bound(image=plain.path, out=work).command(
                "skopeo", "copy", "--quiet", "--dest-compress-format=zstd:chunked",
                f"oci:/run/host/image:{plain.tag}", "oci:/run/host/out/layout:x",
            )  # fmt: skip

        def write_ours(work: Path) -> list[str]:
            return [
                sys.executable, "-m", "bridge", "image", "push", "--quiet", plain.reference,
                f"oci:{work / 'layout'}:x", f"--repo={repo}", "--compression=zstd:chunked",
            ]  # fmt: skip

        for name in ("g", "r", "t"):
            (place / name).mkdir()
        (place / "storage.conf").write_text("")
        sizes = []
        for number, command in enumerate((write_ours, write_theirs)):
            (work := place / str(number)).mkdir()
            run(command(work))
            sizes.append(sum(each["size"] for each in oci.read(work / "layout").layers))
        yield _compare(
            f"os/{image}:{version} to a layout as zstd:chunked, {sizes[0]:,} bytes, against skopeo"
            f" copy, {sizes[1]:,} bytes ({sizes[0] / sizes[1]:.3f} x)",
            Side("bootc-py", write_ours),
            Side("skopeo", write_theirs),
            (Target("wall", 1.0), Target("peak", 200 * MB, False)),
            runs,
        )


def _pull(name: str, work: Path) -> list[str]:
    return [
        sys.executable, "-m", "bridge", "image", "pull", "--quiet", "--tls-verify=false", name,
        "--repo", str(work / "repo"),
    ]  # fmt: skip


def _compare(
    title: str, ours: Side, theirs: Side, targets: tuple[Target, ...], runs: int
) -> Outcome:
    """Runs both sides in turn, each time in a new place on the same file system."""
    costs: dict[str, list[Cost]] = {ours.name: [], theirs.name: []}
    # What was written is deleted only at the end: for some minutes after files are gone, ext4
    # searches for inodes that are not theirs, and whoever comes next would pay for that.
    with cache.scratch(_place()) as place:
        for number, side in _turns(ours, theirs, runs):
            work = place / f"{number}-{side.name}"
            work.mkdir()
            side.prepare(work)
            cost = run(side.command(work))
            costs[side.name].append(cost)
            print(
                f"  {side.name}: user {cost.user:.2f} s, system {cost.system:.2f} s,"
                f" wall {cost.wall:.2f} s, peak {cost.peak / MB:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return Outcome(
        title, theirs.name, runs, median(costs[ours.name]), median(costs[theirs.name]), targets
    )


def _turns(ours: Side, theirs: Side, runs: int) -> Iterator[tuple[int, Side]]:
    """Both sides in turn; who goes first changes too."""
    for number in range(runs):
        for side in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            yield number, side


def _place() -> Path:
    return cache.root() / "work"


def check_programs() -> list[str]:
    """The programs that are missing."""
    needed = ("ostree", "podman", "docker-registry", "skopeo", "umoci", "tar")
    return [program for program in needed if shutil.which(program) is None]
