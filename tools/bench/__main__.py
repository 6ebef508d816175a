"""`python3 tools/bench`: what imports and pulls cost, as ratios to ostree and podman in one run.

`python3 tools/bench partial`: what upgrades move, and how long that takes, by every way there is.
`python3 tools/bench rechunk`: what upgrades move of whole layers, by the ways to make these.
`python3 tools/bench sync`: what a mirror of 500 tags costs, beside `skopeo sync`.

Both sides do the same work in turn, several times, each time from nothing on the same file
system, the source in the page cache. Printed are the medians. Needs root, and the images of
tools/images (built first if the cache lacks them).
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)
sys.path[1:1] = [str(ROOT / "registry-tests"), str(ROOT / "tests")]

from tools.bench import contest, partial, rechunk, sync  # noqa: E402
from tools.bench.contest import MB, Outcome  # noqa: E402
from tools.images.spec import EXAMPLES, IMAGES  # noqa: E402

PARTS = {
    "import": contest.cold_import,
    "pull": contest.cold_pull,
    "write": contest.write_chunked,
}
PAIRS = {
    "partial": (*IMAGES, "trixie", *(f"{name}-built" for name in IMAGES)),
    "rechunk": tuple(EXAMPLES),
}
"""What `--pair` may be, by part; `rig.pairs` says what they are."""


def main() -> int:
    options = _parser().parse_args()
    if os.geteuid() != 0:
        return _fail("the benchmark needs root, for files with their real owners")
    if missing := contest.check_programs():
        return _fail(f"missing: {', '.join(missing)}; tools/setup.sh installs them")
    for part in options.parts:
        for name in options.pairs or ():
            if name not in PAIRS.get(part, (name,)):
                return _fail(f"{part} has no pair {name}, but {', '.join(PAIRS[part])}")
    # As pip does when it installs.
    compileall.compile_dir(ROOT / "bridge", quiet=2)
    outcomes: list[Outcome] = []
    upgrades: list[partial.Upgrade] = []
    updates: list[rechunk.Update] = []
    mirrors: list[sync.Mirrored] = []
    try:
        for part in options.parts or PARTS:
            if part == "sync":
                mirrors.append(sync.mirrored(options.runs))
                print(
                    sync.table(mirrors[-1]),
                    file=sys.stderr if options.json else sys.stdout,
                    flush=True,
                )
                continue
            if part == "rechunk":
                for name in options.pairs or ("base", "server"):
                    updates.append(rechunk.update(name))
                    print(
                        rechunk.table(updates[-1]),
                        file=sys.stderr if options.json else sys.stdout,
                        flush=True,
                    )
                continue
            if part == "partial":
                for name in options.pairs or ("server", "trixie"):
                    upgrades.append(partial.upgrade(name, options.runs))
                    print(
                        partial.table(upgrades[-1]),
                        file=sys.stderr if options.json else sys.stdout,
                        flush=True,
                    )
                continue
            for outcome in PARTS[part](options.image, options.version, options.runs):
                print(_table(outcome), file=sys.stderr if options.json else sys.stdout, flush=True)
                outcomes.append(outcome)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        return _fail(f"{error.cmd[0]} ended with {error.returncode}: {said}")
    met = all(verdict.met for outcome in outcomes for verdict in outcome.verdicts)
    met = met and all(each.met for each in (*upgrades, *updates, *mirrors))
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "Benchmark",
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release()},
            "contests": [outcome.to_json() for outcome in outcomes],
            "upgrades": [each.to_json() for each in upgrades],
            "updates": [each.to_json() for each in updates],
            "mirrors": [each.to_json() for each in mirrors],
            "met": met,
        }
        print(json.dumps(document, indent=2))
    return 1 if options.check and not met else 0


def _table(outcome: Outcome) -> str:
    lines = [f"{outcome.title} (median of {outcome.runs})"]
    lines.append(f"  {'':9}{'user s':>9}{'system s':>10}{'wall s':>9}{'peak MB':>9}")
    for name, cost in (("bootc-py", outcome.ours), (outcome.other, outcome.theirs)):
        lines.append(
            f"  {name:9}{cost.user:9.2f}{cost.system:10.2f}{cost.wall:9.2f}{cost.peak / MB:9.0f}"
        )
    ours, theirs = outcome.ours, outcome.theirs
    lines.append(
        f"  {'ratio':9}{ours.user / theirs.user:9.2f}{ours.system / theirs.system:10.2f}"
        f"{ours.wall / theirs.wall:9.2f}{ours.peak / theirs.peak:9.2f}"
    )
    for verdict in outcome.verdicts:
        target, value = verdict.target, verdict.value
        words = (
            f"{value:.2f} x (at most {target.limit:.2f})"
            if target.relative
            else f"{value / MB:.0f} MB (at most {target.limit / MB:.0f})"
        )
        lines.append(f"  {target.figure}: {words}: {'met' if verdict.met else 'MISSED'}")
    return "\n".join(lines) + "\n"


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 tools/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="import, pull, write (default: these), partial, rechunk, sync",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each side (3)")
    parser.add_argument("--image", default="server", choices=("base", "server"))
    parser.add_argument("--version", default="v1", choices=("v1", "v2"))
    parser.add_argument(
        "--pair",
        dest="pairs",
        action="append",
        choices=list(dict.fromkeys(name for names in PAIRS.values() for name in names)),
        help="of partial (default: server and trixie) and rechunk (base and server); NAME-built is"
        " NAME as `bootc-py build --previous` makes it",
    )
    parser.add_argument("--json", action="store_true", help="a JSON document on stdout")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
