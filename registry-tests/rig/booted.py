"""A sysroot as that of the running machine, for one command at a time.

A command gets a mount namespace in which a deployment is the root directory, as
ostree-prepare-root leaves it, and a /run that stays from command to command. No machine boots, and
there is no systemd: what stands in for `systemctl` notes what it is asked. Needs root.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rig.command import Done
from rig.crash import shim
from rig.crash.shim import Disturbance
from rig.peers import require

_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
_MOUNTS = """
set -e
sysroot=$1 root=$2 run=$3 host=$4
shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind "$sysroot" "$root/sysroot"
mount --bind "$sysroot/boot" "$root/boot"
mount --bind "$root/../../var" "$root/var"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind "$host" "$run/host"
mount --rbind "$run" "$root/run"
exec chroot "$root" "$@"
"""
# Static, for the root directory has no C library and no shell.
_SYSTEMCTL = r"""
#include <stdio.h>
int main(int count, char **words) {
    FILE *log = fopen("/run/systemctl.log", "a");
    for (int n = 1; n < count; n++) fprintf(log, "%s%c", words[n], n + 1 < count ? ' ' : '\n');
    return fclose(log);
}
"""


@dataclass(frozen=True)
class Booted:
    """The sysroot `path` with `deployment` as its running one, and `run` for /run."""

    path: Path
    deployment: Path
    run: Path

    @classmethod
    def of(cls, path: Path, deployment: Path, run: Path) -> Booted:
        """The same, with a new /run: after every start of the machine it is another one."""
        for name in ("host", "bin", "ostree", "systemd/system"):
            (run / name).mkdir(parents=True)
        (run / "ostree-booted").touch()
        source = run / "systemctl.c"
        source.write_text(_SYSTEMCTL)
        subprocess.run([require("gcc"), "-static", "-o", run / "bin/systemctl", source], check=True)
        return cls(path, deployment, run)

    @property
    def asked(self) -> list[str]:
        """What systemctl was asked."""
        log = self.run / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def ostree(
        self,
        *arguments: str,
        root: Path = Path("/"),
        disturbance: Disturbance | None = None,
    ) -> Done:
        """Runs `ostree` of the system in the directory `root`. A disturbance's log is in /run."""
        env = disturbance.environment if disturbance else {}
        shims = [shim.library()] if disturbance else []
        return self._command(root, "/usr/bin/ostree", arguments, env, shims)

    def bootc_py(self, *arguments: str | Path) -> Done:
        """Runs the command under test."""
        python = Path(sys.base_prefix) / f"bin/python3.{sys.version_info.minor}"
        places = (str(Path(__file__).parents[2]), sysconfig.get_path("purelib"))
        env = {
            "PYTHONHOME": f"/run/host{sys.base_prefix}",
            "PYTHONPATH": ":".join(f"/run/host{place}" for place in places),
        }
        return self._command(Path("/"), str(python), ("-m", "bridge", *map(str, arguments)), env)

    def _command(
        self,
        root: Path,
        program: str,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        preload: Sequence[Path] = (),
    ) -> Done:
        machine = os.uname().machine
        system = f"/run/host/usr/lib/{machine}-linux-gnu"
        done = subprocess.run(
            [
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _MOUNTS, "sh",
                str(self.path), str(self.deployment), str(self.run), str(root),
                f"{system}/{_LOADERS[machine]}",
                *(word for each in preload for word in ("--preload", f"/run/host{each}")),
                "--library-path", f"{system}:/run/host{sys.base_prefix}/lib",
                f"/run/host{program}", *arguments,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={"PATH": "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **env},
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)
