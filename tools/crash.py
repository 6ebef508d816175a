"""`python3 -m tools.crash every|random|power|machine|sync`: kills, failing calls, power cuts.

every    small images: each command disturbed at every call that changes files, or at some
random   images of real size: each command killed at random moments, round after round
power    small images: the power goes at random calls, on a disk that keeps only what was synced
machine  a machine in QEMU: the power goes at random moments, and it boots again, round after round
sync     a mirror of many tags: the job is killed at random moments, round after round

Needs root, docker-registry, skopeo, ostree, gcc; `random` and `machine` the images of tools/images
too, and `machine` QEMU, dosfstools, fdisk, mtools.
"""

from __future__ import annotations

import argparse
import errno
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[1:1] = [str(ROOT), str(ROOT / "registry-tests"), str(ROOT / "tests")]

from rig import corpus, mounts, syncing  # noqa: E402
from rig.command import Done  # noqa: E402
from rig.crash import chance, finalise, machine, power, rounds, scenes, zygote  # noqa: E402
from rig.crash.shim import Call, Disturbance  # noqa: E402
from rig.push import push  # noqa: E402
from rig.registry import Registry, run_registry  # noqa: E402
from rig.small import small  # noqa: E402

from tools.images import build, cache  # noqa: E402
from tools.images.layout import Layout  # noqa: E402
from tools.images.spec import IMAGES  # noqa: E402

Row = tuple[Any, ...]
FINALISE = "finalise"
"""What `ostree` does with what we staged; only `power` has it."""


def main() -> int:
    options = _parser().parse_args()
    mounts.be_private()
    run: Callable[[argparse.Namespace], Iterator[Row]] = options.run
    faulty = 0
    print(options.heading, flush=True)
    for *row, faults in run(options):
        print("  ".join(f"{each!s:>8}" for each in row), flush=True)
        for fault in faults:
            print(f"    {fault}", file=sys.stderr, flush=True)
        faulty += len(faults)
    return 1 if faulty else 0


def _every(options: argparse.Namespace) -> Iterator[Row]:
    how: str | int = options.how if options.how in ("kill", "tear") else errno.__dict__[options.how]
    for stage in _stages(options.scenes):
        started, done, faults = time.monotonic(), 0, []
        for at in scenes.some_calls(len(stage.calls), options.rounds, str(options.seed)):
            done += 1
            disturbance = Disturbance(at, how, lasting=options.lasting)
            faults += _faults(stage, at, partial(rounds.disturb, stage, disturbance))
        yield stage.scene.name, len(stage.calls), done, len(faults), _since(started), faults


def _power(options: argparse.Namespace) -> Iterator[Row]:
    with cache.scratch(cache.root() / "work") as disks, open_shop() as shop:
        for name in options.scenes or (*scenes.SCENES, FINALISE):
            started, faults = time.monotonic(), []
            dice = random.Random(f"{options.seed} {name}")
            with cache.scratch(shop.work) as place:
                calls, cut = _to_cut(name, shop, place)
                for _ in range(options.rounds):
                    # Beyond the last call: the command has ended, and the power goes right then.
                    at = dice.randint(1, calls * 11 // 10)
                    disturbance, commit = Disturbance(at, lie=options.lie), dice.random() < 0.5
                    with cache.scratch(disks) as work:
                        try:
                            cut(disturbance, work, commit=commit)
                        except (AssertionError, OSError) as error:
                            faults.append(f"{name} {at}: {str(error)[:500]}")
            yield name, options.rounds, len(faults), _since(started), faults


def _to_cut(name: str, shop: scenes.Shop, place: Path) -> tuple[int, Callable[..., object]]:
    """How many calls there are in a scene, and what cuts the power in it."""
    if name == FINALISE:
        subject = finalise.make(place)
        return subject.calls, partial(finalise.cut, subject)
    stage = rounds.make(scenes.SCENES[name], shop)
    return len(stage.calls), partial(power.cut, stage)


def _random(options: argparse.Namespace) -> Iterator[Row]:
    with ExitStack() as stack:
        work = stack.enter_context(rounds.fast_directory())
        registry = stack.enter_context(run_registry(work / "registry"))
        images = list(publish(registry, options.image, work))
        for command in options.commands or chance.COURSES:
            started = time.monotonic()
            with cache.scratch(work) as place:
                tally = chance.series(command, images, place / "root", options.rounds, options.seed)
            yield (
                *(tally.command, f"{tally.cycle:.1f}", tally.rounds, tally.hit, tally.damaged),
                *(tally.lost, tally.failed, tally.left_over, _since(started), tally.faults),
            )


def _machine(options: argparse.Namespace) -> Iterator[Row]:
    with cache.scratch(cache.root() / "work") as work:
        started, number = time.monotonic(), 0
        try:
            steps = options.steps or machine.COURSE
            chosen = [steps[number % len(steps)] for number in range(options.rounds)]
            for done in machine.cuts(machine.make(work), chosen, options.seed):
                number = done.number
                yield (
                    *(number, done.step, f"{done.boot:.0f}", f"{done.after:.1f}"),
                    *("yes" if each else "no" for each in (done.hit, done.moved)),
                    *(_since(started), []),
                )
        except AssertionError as error:
            # The next round would go on with this disk.
            yield *(number + 1, *"-----"), _since(started), [str(error)[:500]]


def _sync(options: argparse.Namespace) -> Iterator[Row]:
    content = corpus.made(options.repositories, options.tags)
    with rounds.fast_directory() as work, syncing.run_mirror(work, content) as mirror:
        series = syncing.kills(mirror, content, options.rounds, options.seed, options.most)
        for number, done in enumerate(series, 1):
            ended = "ended" if done.ended else "killed"
            yield number, f"{done.seconds:.1f}", ended, done.fetched, len(done.faults), done.faults


def publish(registry: Registry, name: str, work: Path) -> Iterator[chance.Published]:
    """Pushes three images that share some layers: small ones, or the project's base or server."""
    layouts: list[tuple[str, Layout]]
    if name == "small":
        versions = ("1", "2", "3")
        layouts = [(f"os/small:v{v}", small(work / f"small-{v}", f"v{v}", v)) for v in versions]
    else:
        other = "server" if name == "base" else "base"
        chosen = ((name, "v1"), (name, "v2"), (other, "v1"))
        layouts = [(f"{IMAGES[n].repository}:{v}", build.image(n, v, "gzip")) for n, v in chosen]
    for target, layout in layouts:
        repository, _, tag = target.partition(":")
        push(layout, registry, repository, tag)
        yield chance.Published(registry, target, layout)


@contextmanager
def open_shop() -> Iterator[scenes.Shop]:
    """What scenes are made with, for as long as the context lasts."""
    with (
        rounds.fast_directory() as work,
        run_registry(work / "registry") as registry,
        zygote.run_zygote() as parent,
    ):
        yield scenes.Shop(parent, registry, work)


def _stages(names: list[str]) -> Iterator[rounds.Stage]:
    with open_shop() as shop:
        for name in names or scenes.SCENES:
            yield rounds.make(scenes.SCENES[name], shop)


def _faults(stage: rounds.Stage, at: int, run: Callable[[], Done]) -> list[str]:
    call = stage.calls[at - 1] if at <= len(stage.calls) else Call(at, "(none)", "")
    try:
        run()
    except (AssertionError, OSError) as error:
        return [f"{stage.scene.name} {at} {call.name} {call.path}: {str(error)[:500]}"]
    return []


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.crash",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(required=True)

    every = kinds.add_parser("every")
    every.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(scenes.SCENES))
    every.add_argument("--how", default="kill", help="kill, tear, or an error such as EIO")
    every.add_argument("--lasting", action="store_true", help="all later calls fail too")
    every.add_argument("--rounds", type=int, default=0, help="so many calls of each (default: all)")
    every.add_argument("--seed", type=int, default=1, help="which they are")
    every.set_defaults(run=_every, heading="   scene     calls    rounds    faults   seconds")

    jobs = kinds.add_parser("sync")
    jobs.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    jobs.add_argument("--seed", type=int, default=1)
    jobs.add_argument("--repositories", type=int, default=corpus.REPOSITORIES)
    jobs.add_argument("--tags", type=int, default=corpus.TAGS)
    jobs.add_argument(
        "--most",
        type=float,
        default=8.0,
        help="seconds until a kill at most (default: %(default)g)",
    )
    jobs.set_defaults(run=_sync, heading="   round   seconds                 blobs    faults")

    chances = kinds.add_parser("random")
    chances.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(chance.COURSES))
    chances.add_argument("--image", choices=("small", "base", "server"), default="base")
    chances.add_argument("--rounds", type=int, default=100, help="of each (default: %(default)s)")
    chances.add_argument("--seed", type=int, default=1)
    chances.set_defaults(
        run=_random,
        heading=" command     cycle    rounds    killed   damaged      lost    failed  leftover"
        "   seconds",
    )

    cuts = kinds.add_parser("power")
    cuts.add_argument(
        "scenes", nargs="*", metavar="SCENE", help=", ".join((*scenes.SCENES, FINALISE))
    )
    cuts.add_argument("--rounds", type=int, default=20, help="of each (default: %(default)s)")
    cuts.add_argument("--seed", type=int, default=1)
    cuts.add_argument("--lie", action="store_true", help="let syncs do nothing: must find faults")
    cuts.set_defaults(run=_power, heading="   scene    rounds    faults   seconds")

    machines = kinds.add_parser("machine")
    machines.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(machine.STEPS))
    machines.add_argument("--rounds", type=int, default=30, help="in all (default: %(default)s)")
    machines.add_argument("--seed", type=int, default=1)
    machines.set_defaults(
        run=_machine,
        heading="   round      step      boot     after       hit     moved   seconds",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
