"""The command line: see the package."""

from __future__ import annotations

import argparse
import random
import resource
import sys
from pathlib import Path

from .harness import failure, fuzz, shrunk

MEMORY_MAX = 4 << 30


def main() -> int:
    sys.path.append(str(Path(__file__).parents[1]))  # pytest's `pythonpath`, for `support`
    from .targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", help="a target, or `all`; without one: list them")
    parser.add_argument("rounds", nargs="?", type=int, default=20_000)
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--guided", action="store_true", help="keep what reaches new lines")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="write failing inputs there")
    options = parser.parse_args()
    if options.target is None:
        print("\n".join(TARGETS))
        return 0
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    failed = 0
    for name in TARGETS if options.target == "all" else [options.target]:
        target = TARGETS[name]
        tally = fuzz(target, options.rounds, seed, guided=options.guided)
        print(f"{name}: seed {seed}, read {tally.accepted}, refused {tally.refused}", flush=True)
        for number, (where, data) in enumerate(tally.broken.items()):
            failed += 1
            data = shrunk(target, data)
            print(f"  {tally.times[where]}x {where}: {failure(target, data)!s:.300}")
            print(f"    {data!r:.300}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{name}-{seed}-{number}").write_bytes(data)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
