"""Commands that are cut off or fail anywhere: whatever was there before is there after.

A sample of what `python3 -m tools.crash` does. More of it with environment variables:
BOOTC_PY_CRASH_CALLS, the calls that are hit in each scene (0: all); BOOTC_PY_CRASH_ROUNDS, the
kills at random moments for each command; BOOTC_PY_CRASH_CUTS, the power cuts for each scene.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig.crash import chance, finalise, power, rounds, scenes, shim
from rig.crash.shim import Disturbance
from rig.peers import require
from rig.registry import Registry, run_registry

from tools import crash
from tools.images import cache

CALLS = int(os.environ.get("BOOTC_PY_CRASH_CALLS", 4))
ROUNDS = int(os.environ.get("BOOTC_PY_CRASH_ROUNDS", 3))
CUTS = int(os.environ.get("BOOTC_PY_CRASH_CUTS", 2))


@pytest.fixture(scope="module")
def shop() -> Iterator[scenes.Shop]:
    with crash.open_shop() as opened:
        yield opened


Stages = Callable[[str], rounds.Stage]


@pytest.fixture(scope="module")
def stages(shop: scenes.Shop) -> Stages:
    """Makes a scene's stage when it is first asked for."""
    return functools.cache(lambda name: rounds.make(scenes.SCENES[name], shop))


@pytest.fixture(params=scenes.SCENES)
def stage(request: pytest.FixtureRequest, stages: Stages) -> rounds.Stage:
    return stages(request.param)


# How a call is disturbed, and whether all later ones are too.
WAYS: dict[str, tuple[str | int, bool]] = {
    "killed": ("kill", False),
    "torn": ("tear", False),
    "no-space": (errno.ENOSPC, False),
    "no-more-space": (errno.ENOSPC, True),
    "failing": (errno.EIO, False),
    "dead-disk": (errno.EIO, True),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_disturbed(stage: rounds.Stage, way: str) -> None:
    how, lasting = WAYS[way]
    for at in scenes.some_calls(len(stage.calls), CALLS, way):
        rounds.disturb(stage, Disturbance(at, how, lasting=lasting))


def test_a_failed_sync_is_never_success(stage: rounds.Stage) -> None:
    """But for those of what may be lost, which `disturb` holds to the table of them."""
    for name in ("fsync", "syncfs", "fdatasync"):
        count = sum(call.name == name for call in stage.calls)
        codes = {
            rounds.disturb(stage, Disturbance(at, errno.EIO, call=name)).code
            for at in scenes.some_calls(count, CALLS, name)
        }
        assert codes <= {0, 1}
        assert name == "fdatasync" or not count or 1 in codes


def test_an_error_says_what_stands(stages: Stages) -> None:
    """Once the new deployment is what boots next, whatever fails after that."""
    stage = stages("third")
    swap = next(call.number for call in stage.calls if call.path.endswith("/boot/loader"))
    removal = next(call for call in stage.calls[swap:] if call.path.endswith("/etc/release"))
    prune = next(call for call in stage.calls[swap:] if call.path.endswith(".commit"))
    for call in (removal, prune):
        done = rounds.disturb(stage, Disturbance(call.number, errno.EIO))
        assert "boots next, but " in done.error and "Input/output error" in done.error


# -- power cuts --------------------------------------------------------------------------------


def _cut(stage: rounds.Stage, at: int, *, commit: bool, lie: bool = False) -> None:
    with cache.scratch(cache.root() / "work") as disk:
        power.cut(stage, Disturbance(at, lie=lie), disk, commit=commit)


def test_the_power_goes(stage: rounds.Stage) -> None:
    dice = random.Random(stage.scene.name)
    for number in range(CUTS):
        # The first: after the command said that it is done.
        at = dice.randint(1, len(stage.calls)) if number else len(stage.calls) * 2
        _cut(stage, at, commit=bool(number % 2))


def test_a_power_cut_damages_what_was_not_synced(stages: Stages) -> None:
    """The rig can tell: with syncs that do nothing, what is promised does not hold."""
    stage = stages("second")
    end = len(stage.calls) * 2
    _cut(stage, end, commit=True)
    with pytest.raises(AssertionError):
        _cut(stage, end, commit=True, lie=True)
    with pytest.raises(AssertionError, match="neither old nor new"):
        _cut(stage, end, commit=False, lie=True)


@pytest.fixture(scope="module")
def staged() -> Iterator[finalise.Subject]:
    with rounds.fast_directory() as work:
        yield finalise.make(work)


def test_the_power_goes_while_it_is_finalised(staged: finalise.Subject) -> None:
    dice = random.Random("finalise")
    for number in range(CUTS):
        at = dice.randint(1, staged.calls) if number else staged.calls * 2
        with cache.scratch(cache.root() / "work") as disk:
            moved = finalise.cut(staged, Disturbance(at), disk, commit=bool(number % 2))
        assert moved or number


def test_a_power_cut_damages_what_finalising_did_not_sync(staged: finalise.Subject) -> None:
    lying = Disturbance(staged.calls * 2, lie=True)
    with cache.scratch(cache.root() / "work") as disk, pytest.raises(AssertionError):
        finalise.cut(staged, lying, disk, commit=True)


# -- random moments ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", chance.COURSES)
def test_killed_at_random_moments(command: str, tmp_path: Path) -> None:
    with rounds.fast_directory() as work, run_registry(work / "registry") as registry:
        images = list(crash.publish(registry, "small", work))
        tally = chance.series(command, images, work / "root", ROUNDS, seed=ROUNDS)
    assert not tally.faults, tally
    assert tally.rounds == ROUNDS


def test_a_host_killed_at_random_moments(registry: Registry, images: object) -> None:
    """As above, with an image of real size."""
    with rounds.fast_directory() as work:
        published = list(crash.publish(registry, "base", work))
        tally = chance.series("switch", published, work / "root", ROUNDS, seed=ROUNDS)
    assert not tally.faults, tally


# -- the rig -----------------------------------------------------------------------------------

# System calls that change no file, and those that do so only with certain flags.
READING = frozenset({
    "access", "chdir", "close", "close_range", "dup", "dup2", "dup3", "epoll_create1", "epoll_ctl",
    "epoll_wait", "execve", "faccessat2", "fadvise64", "fcntl", "fgetxattr", "flistxattr", "flock",
    "fstat", "fstatfs", "getcwd", "getdents64", "getxattr", "inotify_init1", "lgetxattr",
    "listxattr", "llistxattr", "lseek", "lstat", "mmap", "newfstatat", "open", "openat", "pipe2",
    "poll", "pread64", "preadv", "pselect6", "read", "readahead", "readlink", "readlinkat",
    "select", "stat", "statfs", "statx",
})  # fmt: skip
SAME = {
    **{"pwrite64": "pwrite", "mkdirat": "mkdir", "symlinkat": "symlink", "linkat": "link"},
    **{"renameat": "rename", "renameat2": "rename", "fchmod": "chmod", "fchmodat": "chmod"},
    **{"fchown": "chown", "lchown": "chown", "fchownat": "chown", "utimensat": "utimens"},
    **{"fsetxattr": "setxattr", "lsetxattr": "setxattr", "ioctl": "setflags"},
}
LINE = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")


def test_the_shim_misses_no_call(stages: Stages) -> None:
    """It counts the calls that strace sees the kernel get, in one and the same process."""
    stage = stages("third")
    with stage.copied() as root:
        log, trace = root.with_name("calls"), root.with_name("trace")
        command = [
            *(require("strace"), "-f", "-y", "-s", "0", "-e", "trace=%file,%desc", "-o", trace),
            *(sys.executable, "-m", "bridge", *stage.shop.words(stage.scene, root)),
        ]
        environment = {
            **Disturbance(log=log).environment,
            **{"LD_PRELOAD": str(shim.library()), "PYTHONDONTWRITEBYTECODE": "1"},
        }
        subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
        counted = Counter(call.name for call in shim.read_log(log) if "/root" in call.path)
        seen = Counter(_changes(trace.read_text(), log))
    assert counted == seen
    assert counted.total() > 400


def _changes(trace: str, log: Path) -> Iterator[str]:
    """The names of the traced calls that change files below the root."""
    for line in trace.splitlines():
        found = LINE.match(line)
        if found is None or " resumed>" in line or str(log) in line or "/root" not in line:
            continue
        name, arguments = found.groups()
        if name in ("open", "openat") and re.search(r"O_CREAT|O_TRUNC|O_TMPFILE", arguments):
            yield "open"
        elif name == "ioctl" and "FS_IOC_SETFLAGS" not in arguments:
            continue
        elif name in ("unlink", "unlinkat"):
            yield "rmdir" if "AT_REMOVEDIR" in arguments else "unlink"
        elif name not in READING:
            yield SAME.get(name, name)


def test_the_shim_hits_the_call_it_is_told(stages: Stages) -> None:
    stage = stages("rollback")
    at = next(call.number for call in stage.calls if call.name == "rename")
    with stage.copied() as root:
        done = stage.perform(root, Disturbance(at, errno.EROFS))
        assert done.code == 1 and "Read-only file system" in done.error
        assert stage.perform(root, Disturbance(at)).code == rounds.KILLED
        assert stage.perform(root, Disturbance(1, errno.EDQUOT, call="syncfs")).code == 8
