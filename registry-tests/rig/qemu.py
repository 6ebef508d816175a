"""A machine in QEMU: a disk that was installed, its boots, and what it says on its serial line.

Software emulation only, for it works everywhere. Either the kernel of the newest boot entry is
started as a boot loader would, or firmware starts what is on the disk. What is to be done in the
machine is a shell script on a second disk, which a unit in the deployment's `/etc` runs; that is an
administrator's file, so upgrades keep it.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.install.partitions import Partition, parse
from bridge.sysroot import bls
from rig.peers import require
from tools.images import cache

PATIENCE = 900
"""Seconds for all boots of one run: ten times of what they take here."""
FIRMWARE = Path("/usr/share/OVMF")
DATA = "testdata"
_UNIT = f"""[Unit]
Description=What the test wants done
After=basic.target systemd-networkd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /run/{DATA} && mount LABEL={DATA} /run/{DATA} && \
cd /run/{DATA} && exec sh run.sh >/dev/ttyS1 2>&1'
"""
_SECTION = re.compile(r"@@@ ([\w.-]+)\n(.*?)@@@ \1 ended (\d+)\n", re.DOTALL)
_STUCK = re.compile(r"soft lockup - CPU#\d+ stuck for (\d+)s")
_HANG = 120
"""Seconds: with a machine as busy as can be, a processor of the guest waits for less."""
KARGS = (
    "console=ttyS0",
    "loglevel=5",
    "systemd.show_status=0",
    "systemd.gpt_auto=0",
    "mitigations=off",
)
"""Fewer lines, less to emulate, and no guesses at mount points beside those in fstab."""


@dataclass(frozen=True)
class Said:
    """What a step in the machine printed, and its exit status."""

    code: int
    text: str

    @property
    def ok(self) -> str:
        assert self.code == 0, self.text
        return self.text


@dataclass(frozen=True)
class Machine:
    """A disk image and a data disk. Files of boots go to the directory `work`."""

    disk: Path
    data: Path
    work: Path

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """The disk's root, with /boot, for this side to look at and to change."""
        root = self.work / "root"
        root.mkdir(exist_ok=True)
        found = partitions(self.disk)
        with (
            attached(self.disk, found["root"]) as device,
            mounted(device, root),
            attached(self.disk, found["boot"]) as boot,
            mounted(boot, root / "boot"),
        ):
            yield root

    def prepare(self) -> None:
        """Have the deployments that are there now run the script at each boot."""
        with self.mounted() as root:
            for tree in root.glob("ostree/deploy/*/deploy/*.[0-9]"):
                units = tree / "etc/systemd/system"
                (units / "default.target.wants").mkdir(parents=True, exist_ok=True)
                (units / "test-commands.service").write_text(_UNIT)
                link = units / "default.target.wants/test-commands.service"
                link.symlink_to("../test-commands.service")

    def boot_entry(self) -> tuple[bls.Entry, Path]:
        """The entry that boots next, and a directory with copies of the files it names."""
        with self.mounted() as root:
            entries = [bls.parse(p.read_text()) for p in root.glob("boot/loader/entries/*.conf")]
            first = max(entries, key=lambda each: bls.version_key(each.get("version")))
            for key in ("linux", "initrd"):
                source = root / "boot" / (first.get(key) or "").lstrip("/")
                shutil.copyfile(source, self.work / key)
        return first, self.work

    def run(
        self, steps: list[Mapping[str, str]], *, firmware: bool = False
    ) -> list[dict[str, Said]]:
        """Boot once for each of `steps`, which are named shell commands; what each printed in that
        boot.

        With `firmware` that starts what is on the disk, else each time its newest entry is
        started. Where the machine reboots it is switched off and on: the firmware of a machine
        with two processors hangs now and then when it is only reset.
        """
        self.write_script(_script(steps))
        said = []
        for step in steps:
            output = self.boot(*(self._firmware() if firmware else self.direct()))
            found = {name: Said(int(code), text) for name, text, code in _SECTION.findall(output)}
            missing = [name for name in step if name not in found]
            assert not missing, f"not done: {missing}; what was:\n{output[-6000:]}"
            said.append({name: found[name] for name in step})
        return said

    def start(self, *options: str, serial: Path) -> subprocess.Popen[bytes]:
        """Start QEMU; it is the caller's to wait for, or to kill.

        Waits until no other one runs: what a machine takes is to be known, also where tests run in
        several processes. It holds that lock itself, to its end.

        The console's lines go to `serial`, what the commands print beside it, to a `.done`: a
        login prompt hangs up whoever else writes to its line.
        """
        with (cache.root() / "qemu.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            return subprocess.Popen(
                [
                    # It goes when we do, whatever ends us.
                    require("setpriv"), "--pdeathsig", "KILL", require("qemu-system-x86_64"),
                    "-accel", "tcg,thread=multi", "-cpu", "max",
                    "-smp", "2", "-m", "1536", "-nodefaults", "-display", "none",
                    "-serial", f"file:{serial}", "-serial", f"file:{serial.with_suffix('.done')}",
                    "-drive", f"file={self.disk},format=raw,if=virtio,cache=writeback",
                    "-drive", f"file={self.data},format=raw,if=virtio,cache=writeback",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[turn.fileno()],
            )  # fmt: skip

    def direct(self) -> list[str]:
        """QEMU's options to start the newest boot entry."""
        entry, files = self.boot_entry()
        return [
            "-no-reboot", "-kernel", str(files / "linux"), "-initrd", str(files / "initrd"),
            "-append", entry.get("options") or "",
        ]  # fmt: skip

    def _firmware(self) -> list[str]:
        variables = self.work / "OVMF_VARS.fd"
        for name in ("OVMF_CODE.fd", "OVMF_VARS.fd"):
            if not (FIRMWARE / name).exists():
                pytest.fail("OVMF is missing: apt-get install --no-install-recommends ovmf")
        if not variables.exists():
            shutil.copyfile(FIRMWARE / "OVMF_VARS.fd", variables)
        code = FIRMWARE / "OVMF_CODE.fd"
        return [
            "-no-reboot", "-machine", "q35",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}",
            "-drive", f"if=pflash,format=raw,unit=1,file={variables}",
        ]  # fmt: skip

    def boot(self, *options: str) -> str:
        """Start QEMU and wait for its end; what the commands, and others on their line, printed.

        A kernel that hangs before anything was done is started again, once.
        """
        for again in (True, False):
            serial = self.work / f"serial-{time.monotonic_ns()}.log"
            process = self.start(*options, serial=serial)
            started = time.monotonic()
            try:
                while process.poll() is None and time.monotonic() < started + PATIENCE:
                    if again and hangs(serial):
                        break
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(5)
            finally:
                process.kill()
                process.wait()
            print(f"{_text(serial)}\n{time.monotonic() - started:.0f} s")
            if not hangs(serial):
                break
        return _text(serial.with_suffix(".done"))

    def write_script(self, script: str) -> None:
        """Have the machine run a shell script when it boots, in the data disk's directory."""
        with mounted_file(self.data, self.work / "data") as data:
            (data / "run.sh").write_text(script)
            (data / "boot").unlink(missing_ok=True)


def _script(steps: list[Mapping[str, str]]) -> str:
    lines = [
        "boot=$(($(cat boot 2>/dev/null || echo 0) + 1))",
        "echo $boot >boot",
        'step() { echo "@@@ $1"; sh -c "$2"; code=$?; echo; echo "@@@ $1 ended $code"; }',
    ]
    for number, each in enumerate(steps, 1):
        lines.append(f"if [ $boot = {number} ]; then")
        lines += [f"step {name} {_quoted(command)}" for name, command in each.items()]
        lines += ["sync", f"systemctl {'poweroff' if number == len(steps) else 'reboot'}", "fi"]
    return "\n".join(lines) + "\n"


def hangs(serial: Path) -> bool:
    """Tell whether the kernel has made no step for minutes, and nothing was done before.

    One processor then waits for the other in the kernel, which is the emulator's fault: it was
    seen once in hundreds of boots, always where no step of ours had run. To the disk it is what
    cutting the power is.
    """
    stuck = _STUCK.findall(_text(serial))
    return any(int(each) >= _HANG for each in stuck) and not _text(serial.with_suffix(".done"))


def _text(path: Path) -> str:
    if not path.is_file():  # a pipe's other end reads it
        return ""
    return path.read_bytes().decode("utf-8", "replace").replace("\r", "")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def data_disk(image: Path, content: Path, mebibytes: int) -> None:
    """Make a data disk of the directory `content`."""
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    subprocess.run([require("mkfs.ext4"), "-q", "-F", "-L", DATA, "-d", content, image], check=True)


def partitions(disk: Path) -> dict[str, Partition]:
    """The partitions of a disk image by name."""
    shown = subprocess.run(
        [require("sfdisk"), "--json", disk], check=True, capture_output=True, text=True
    )
    return parse(shown.stdout)


@contextlib.contextmanager
def attached(disk: Path, partition: Partition) -> Iterator[str]:
    """A loop device of one partition."""
    shown = subprocess.run(
        [
            require("losetup"), "--find", "--show", "--nooverlap", f"--offset={partition.start}",
            f"--sizelimit={partition.size}", disk,
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    device = shown.stdout.strip()
    # Detached by now, it stays for as long as it is open or mounted, by whomever.
    with open(device, "rb"):
        subprocess.run(["losetup", "--detach", device], check=True)
        yield device


@contextlib.contextmanager
def mounted(device: str, place: Path) -> Iterator[None]:
    """A device mounted at a directory."""
    subprocess.run(["mount", device, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def mounted_file(image: Path, place: Path) -> Iterator[Path]:
    """A file system in a file, mounted."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
