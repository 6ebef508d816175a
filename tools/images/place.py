"""A place to build in as a user does, by `bootc-py build`: another machine, as far as one goes.

It has a storage of buildah's and a store of its own, another directory for temporary files, and as
many processors, as strict a umask and as late a clock as is said. The steps see that clock by a
library that is loaded into their programs; files that they write have the kernel's times.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tools.images import build, layout, spec
from tools.images.layout import Layout
from tools.images.spec import ALL, ALL_VERSIONS

SKIPPED = ("baseimage-composefs",)
"""Lints that do not hold for the examples: Debian 12's ostree cannot boot from composefs."""
_CLOCK = "/run/clock"
"""Where the steps have the clock. Nothing of `/run` is in an image."""
_BY_CLOCK = {"LD_PRELOAD": f"{_CLOCK}/clock.so", "DRACUT_LDD": f"{_CLOCK}/ldd"}
_LDD = """#!/bin/sh
# For dracut: the clock is no part of what programs need.
unset LD_PRELOAD
exec /usr/bin/ldd "$@"
"""


@dataclass
class Place:
    """Where images are built, each once."""

    work: Path
    umask: int = 0o022
    processors: str = ""
    """Those to build on, as taskset(1) takes them; all there are where it says none."""
    ahead: int = 0
    """Seconds that the clock of the steps is ahead."""
    skipped: tuple[str, ...] = SKIPPED
    """Lints that are left out."""
    _made: dict[tuple[str, str], Layout] = field(default_factory=dict)

    def image(self, name: str, version: str) -> Layout:
        """The image, its layers uncompressed, built here from nothing, its parent too.

        `CalledProcessError` where that fails, by lints and their warnings too.
        """
        if (name, version) not in self._made:
            build.check_programs()
            with build.timed(f"{ALL[name].repository}:{version}: built in {self.work}"):
                self._made[name, version] = self._build(name, version)
        return self._made[name, version]

    def _build(self, name: str, version: str) -> Layout:
        what = ALL[name]
        parent = self.image(what.parent, version) if what.parent else None
        here = self.work / f"{name}-{version}"
        context, temporary = here / "context", here / "tmp"
        temporary.mkdir(parents=True)
        build.prepare(what, ALL_VERSIONS[version], context, temporary, self._prefix)
        _tell_time(context / "Containerfile")
        arguments = {"VERSION": ALL_VERSIONS[version].label, **_BY_CLOCK}
        storage = here / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{here / "storage"}"\n'
            f'runroot = "{here / "run"}"\n'
        )
        if parent:
            base = f"localhost/{ALL[str(what.parent)].repository}:{version}"
            target = f"containers-storage:[overlay@{here / 'storage'}+{here / 'run'}]{base}"
            build.run("skopeo", "copy", "--quiet", parent.reference, target)
            arguments["BASE"] = base
        options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        out = self.work / f"{name}-{version}-image"
        build.run(
            *self._prefix, sys.executable, "-m", "bridge", "build", f"--tag=oci:{out}:{version}",
            f"--repo={here / 'repo'}", "--isolation=chroot", "--pull=never", "--no-cache",
            "--compression=none", "--quiet", "--fatal-warnings",
            *(f"--skip={each}" for each in self.skipped),
            f"--volume={self._clock(here)}:{_CLOCK}:ro", *options, str(context),
            SOURCE_DATE_EPOCH=str(spec.SOURCE_DATE_EPOCH), TMPDIR=str(temporary),
            CONTAINERS_STORAGE_CONF=str(storage),
        )  # fmt: skip
        shutil.rmtree(here)
        return layout.read(out)

    @property
    def _prefix(self) -> tuple[str, ...]:
        masked = ("sh", "-c", f'umask {self.umask:03o}; exec "$@"', "sh")
        return ("taskset", "--cpu-list", self.processors, *masked) if self.processors else masked

    def _clock(self, here: Path) -> Path:
        """Makes the directory that the steps have as `_CLOCK`."""
        clock = here / "clock"
        clock.mkdir()
        source = Path(__file__).with_name("clock.c")
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O2", f"-DAHEAD={self.ahead}",
             "-o", clock / "clock.so", source], check=True,
        )  # fmt: skip
        (clock / "ldd").write_text(_LDD)
        (clock / "ldd").chmod(0o755)
        return clock


def _tell_time(containerfile: Path) -> None:
    """Has the steps take the clock as build arguments, of which nothing stays in the image."""
    lines = []
    for line in containerfile.read_text().splitlines(keepends=True):
        lines.append(line)
        if line.startswith("FROM "):
            lines += [f"ARG {each}\n" for each in _BY_CLOCK]
    containerfile.write_text("".join(lines))
