"""Power cuts of a machine: QEMU is killed while it switches, goes down to finalise, or rolls back.

What the machine did not sync was in its own memory, and is gone. Every round goes on with the disk
that the round before left: that the machine is up again, from the newest boot entry on the disk,
and knows which deployment it runs, is what the next round begins with.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rig import hosts, qemu, store
from rig.command import PLAIN_HTTP, bootc_py
from rig.crash import host, variants
from rig.qemu import Machine
from tools.images import build, cache

REPOSITORY = "os/variant"
NAMES = ("a", "b", "c")
_STATUS, _ADMIN, _UP = "@@@ status", "@@@ admin", "@@@ up"
_CUT, _DONE, _FAILED = "@@@ cut", "@@@ done", "@@@ failed"


@dataclass(frozen=True)
class Step:
    """What the machine is at when the power goes.

    `commands` print the line from which on the moment is drawn. The moments lie in as long a time
    as `span` boots take: longer than the step, on any machine.
    """

    commands: str
    span: float
    moves: bool
    """Whether another deployment may boot next than the one that runs."""


_STAGE = f"bootc-py switch --quiet {PLAIN_HTTP} {hosts.REGISTRY}/{REPOSITORY}:$next"
# A unit whose stopping comes right before that of the one that finalises.
_WATCH = f"""\
systemd-run --quiet --unit=cut --property=RemainAfterExit=yes --property=DefaultDependencies=no \
    --property=Conflicts=shutdown.target --property=After=ostree-finalize-staged.service \
    --property='Before=basic.target shutdown.target' \
    --property='ExecStop=/bin/sh -c "echo {_CUT} >/dev/ttyS1"' true"""
STEPS = {
    "switch": Step(f"echo {_CUT} && {_STAGE} && echo {_DONE}", 1.2, moves=False),
    "finalise": Step(f"{_STAGE} && {_WATCH} && systemctl poweroff", 0.5, moves=True),
    "rollback": Step(f"echo {_CUT} && bootc-py rollback --quiet && echo {_DONE}", 0.3, moves=True),
}
COURSE = ("finalise", "rollback", "switch", "finalise")
"""Turns: finalising is where most is at stake."""
_SCRIPT = f"""\
echo {_STATUS}; bootc-py status --format json
echo {_ADMIN}; ostree admin status
echo {_UP}
echo {{number}} >/etc/life
{hosts.START_REGISTRY}
next={{next}}
{{commands}} || echo {_FAILED}
"""


@dataclass(frozen=True)
class Boots:
    """A deployment in the boot order, and the name of its variant."""

    deployment: str
    variant: str
    life: str
    """What the machine wrote last into its `/etc`."""


@dataclass(frozen=True)
class Round:
    """One power cut."""

    number: int
    step: str
    boot: float
    """Seconds until the machine was up."""
    after: float
    """Seconds into the step."""
    hit: bool
    """Whether the step was still going on."""
    moved: bool
    """Whether what boots next is not what ran."""


def make(work: Path) -> Machine:
    """A machine with two variants deployed, and a registry of its own that has three."""
    plain, packed = (build.image("host", "v1", form) for form in ("plain", "zstd"))
    initramfs = variants.initramfs(plain)
    images = {name: variants.variant(packed, work / name, name, *initramfs) for name in NAMES}
    machine = hosts.installed(
        work, images["a"].reference, f"{REPOSITORY}:a",
        {f"{REPOSITORY}:{name}": each for name, each in images.items()}, "--bootloader=none",
    )  # fmt: skip
    with machine.mounted() as root:
        (tree,) = root.glob("ostree/deploy/*/deploy/*.0")
        for name, text in _kept().items():
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).write_text(text)
        done = bootc_py("switch", images["b"].reference, "--sysroot", root, "--quiet")
        assert done.code == 0, done.err
    return machine


def cuts(machine: Machine, steps: Iterable[str], seed: int) -> Iterator[Round]:
    """One round for each of `steps`, and one more boot; fails where what is promised does not hold.

    The store is whole, and so are all deployments, to our own fsck and to libostree's; what boots
    next is the old or the new, and it does boot. A new one has the `/etc` of the moment.
    """
    dice = random.Random(seed)
    found = look(machine, quick=True)
    for number, name in enumerate(steps, 1):
        ran, step = found[0], STEPS[name]
        free = [each for each in NAMES if each not in [there.variant for there in found]]
        script = _SCRIPT.format(number=number, next=free[0], commands=step.commands)
        with Life.begin(machine, script) as life:
            life.check_booted(ran)
            life.wait_for(_CUT)
            after = dice.uniform(0, step.span * life.boot)
            ended = life.cut(after)
            assert _FAILED not in life.said
            found = look(machine)
            boot, hit = life.boot, not (ended or _DONE in life.said)
            moved = found[0].deployment != ran.deployment
            assert step.moves or not moved, f"{name}: {found[0]} boots next, not {ran}"
            assert moved or hit or not step.moves, f"{name} had ended, and {ran} boots next"
            if moved and name == "finalise":
                assert (found[0].variant, found[0].life) == (free[0], str(number)), found
        yield Round(number, name, boot, after, hit, moved)
    with Life.begin(machine, _SCRIPT.format(number=0, next="", commands="true")) as life:
        life.check_booted(found[0])


def look(machine: Machine, *, quick: bool = False) -> list[Boots]:
    """What the disk has, in boot order; fails where anything of it is not whole.

    With `quick` what is in the store is not looked at.
    """
    with machine.mounted() as root:
        if not quick:
            store.fsck(root / "ostree/repo")
            done = bootc_py("fsck", "--sysroot", root, "--quiet")
            assert done.code == 0, done.err
        boots = host.boots(root, shallow=True)
        names = [boot.deployment for boot in boots]
        assert host.names(root) == names
        found = []
        for name in names:
            (tree,) = root.glob(f"ostree/deploy/*/deploy/{name}")
            for path, text in _kept().items():
                assert (tree / path).read_text() == text
            life = tree / "etc/life"
            text = life.read_text().strip() if life.exists() else ""
            found.append(Boots(name, (tree / variants.NAME).read_text(), text))
    return found


@dataclass
class Life:
    """A machine from when it is switched on until the power goes."""

    switch_on: Callable[[], subprocess.Popen[bytes]]
    serial: Path
    line: int
    """Descriptor of the end of its second serial line."""
    process: subprocess.Popen[bytes]
    started: float
    said: str = ""
    boot: float = 0.0
    hung: bool = False

    @classmethod
    @contextlib.contextmanager
    def begin(cls, machine: Machine, script: str) -> Iterator[Life]:
        """Switch the machine on. What it said is printed if the context fails."""
        machine.write_script(script)
        options = machine.direct()
        with cache.scratch(machine.work) as work:
            serial = work / "serial.log"
            os.mkfifo(serial.with_suffix(".done"))
            line = os.open(serial.with_suffix(".done"), os.O_RDONLY | os.O_NONBLOCK)
            switch_on = partial(machine.start, *options, serial=serial)
            life = cls(switch_on, serial, line, switch_on(), time.monotonic())
            try:
                yield life
            except BaseException:
                print(serial.read_bytes().decode("utf-8", "replace"), life.said, sep="\n")
                raise
            finally:
                life.process.kill()
                life.process.wait()
                os.close(line)

    def check_booted(self, wanted: Boots) -> None:
        """Wait until the machine is up; fail unless that is what it runs, by its own word and by
        that of `ostree admin`."""
        self.wait_for(_UP)
        self.boot = time.monotonic() - self.started
        found = re.search(f"{_STATUS}\n(.*){_ADMIN}\n(.*){_UP}", self.said, re.DOTALL)
        assert found, self.said
        booted = json.loads(found[1])["status"]["booted"]["ostree"]
        assert f"{booted['checksum']}.{booted['deploySerial']}" == wanted.deployment
        assert re.search(rf"^\* \S+ {wanted.deployment}$", found[2], re.MULTILINE), found[2]

    def wait_for(self, what: str) -> None:
        """Read until a line is `what`."""
        while f"{what}\n" not in self.said:
            left = self.started + qemu.PATIENCE - time.monotonic()
            assert left > 0, f"never said {what}"
            select.select([self.line], [], [], min(left, 5))
            assert self._read() or self.process.poll() is None, f"ended without {what}"
            if not self.said and not self.hung and qemu.hangs(self.serial):
                self._switch_on_again()
            assert _FAILED not in self.said

    def cut(self, seconds: float) -> bool:
        """Cut the power after so long a time; whether the machine was off before."""
        try:
            self.process.wait(seconds)
            ended = True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            ended = False
        while self._read():
            pass
        return ended

    def _switch_on_again(self) -> None:
        self.hung = True
        print(self.serial.read_bytes().decode("utf-8", "replace"))
        self.process.kill()
        self.process.wait()
        self.process, self.started = self.switch_on(), time.monotonic()

    def _read(self) -> bytes:
        try:
            data = os.read(self.line, 1 << 16)
        except BlockingIOError:
            return b""
        self.said += data.decode("utf-8", "replace").replace("\r", "")
        return data


def _kept() -> dict[str, str]:
    """Files that are in /etc from the beginning, and so in every deployment's."""
    files = {f"etc/kept/{number:02}": f"kept {number}\n" for number in range(50)}
    # No boot here lasts until its deployment is found healthy; none is to be rolled back for it.
    return files | {"etc/bootc-py/settings.toml": "[health]\nattempts = 0\n"}
