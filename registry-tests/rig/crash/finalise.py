"""Power cuts while libostree finalises what we staged, on a machine that is emulated (rig.booted).

The disk is that of `rig.crash.power`, the calls are those of the real `ostree admin
finalize-staged`. What was staged has to be on the disk before: nobody but us put it there.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support import images

from rig import store
from rig.booted import Booted
from rig.command import Done, bootc_py
from rig.crash import host, power, scenes, shim
from rig.crash.shim import Disturbance

_STAGED = "ostree/staged-deployment"
_MOUNTED_OVER = ("boot", "dev", "proc", "run", "sys", "sysroot", "tmp")


@dataclass(frozen=True)
class Subject:
    """A sysroot of which one deployment runs and another is staged; what boots before and after."""

    root: Path
    run: Path
    deployment: str
    before: list[host.Boot]
    after: list[host.Boot]
    calls: int
    """How many calls it takes to finalise."""


def make(work: Path) -> Subject:
    """A subject in the directory `work`: its /etc was edited after the other was staged."""
    root, run = work / "root", work / "run"
    _publish(run, 1)
    done = bootc_py("switch", "--sysroot", root, f"oci:{run}/images:latest", "--quiet")
    assert done.code == 0, done.err
    (before,) = look(root)
    (tree,) = root.glob(f"ostree/deploy/*/deploy/{before.deployment}")
    booted = Booted.of(root, tree, run)
    _publish(run, 2)
    done = booted.bootc_py("switch", "oci:/run/images:latest", "--quiet")
    assert done.code == 0, done.err
    scenes.edit(root, "late")
    subject = Subject(root, run, str(tree.relative_to(root)), look(root), [], 0)
    copied, log = work / "copied", work / "copied-run/calls"
    _copy(subject, copied)
    done = _finalise(subject, copied, log.parent, Disturbance(log=Path("/run") / log.name))
    assert done.code == 0, done.err
    after = look(copied)
    assert [boot.deployment for boot in after[1:]] == [boot.deployment for boot in subject.before]
    return Subject(root, run, subject.deployment, subject.before, after, len(shim.read_log(log)))


def cut(subject: Subject, disturbance: Disturbance, work: Path, *, commit: bool) -> bool:
    """One round: it is disturbed, the power goes, the disk is judged; whether the new one boots.

    Fails where the store is not whole, what boots is neither the old nor the new, or the next
    `switch` does not succeed. `work` is an empty directory, `commit` is that of
    `power.cut`.
    """
    with power.disk(work) as top:
        root = top / "root"
        _copy(subject, root)
        subprocess.run(["sync", "-f", top], check=True)
        done = _finalise(subject, root, work / "run", disturbance)
        power.power_off(work, commit=commit)
    with power.disk_after(work) as top:
        boots = look(top / "root")
        allowed = [subject.after] if done.code == 0 else [subject.before, subject.after]
        assert boots in allowed, f"exit code {done.code}, and what boots is neither old nor new"
        image = f"oci:{subject.run}/images:latest"
        again = bootc_py("switch", "--sysroot", top / "root", image, "--quiet")
        assert again.code == 0, again.err
        assert look(top / "root")[0].kernel == subject.after[0].kernel
    return boots == subject.after


def look(root: Path) -> list[host.Boot]:
    """What can be booted; fails where the store is damaged, or an entry leads to nothing."""
    store.fsck(root / "ostree/repo")
    boots = host.boots(root)
    assert host.names(root) == [boot.deployment for boot in boots]
    return boots


def _publish(run: Path, version: int) -> None:
    """Have a version where the machine looks for it."""
    mounted_over = [images.directory(name) for name in _MOUNTED_OVER]
    mounted_over.append(images.symlink("ostree", "sysroot/ostree"))
    shutil.rmtree(run / "images", ignore_errors=True)
    image = images.image(mounted_over, *scenes.layers(version, version))
    images.write_layout(run / "images", image)


def _copy(subject: Subject, target: Path) -> None:
    subprocess.run(["cp", "-a", subject.root, target], check=True)
    subprocess.run(["chattr", "+i", target / subject.deployment], check=True)


def _finalise(subject: Subject, root: Path, run: Path, disturbance: Disturbance) -> Done:
    """What ostree-finalize-staged.service does when the machine goes down."""
    booted = Booted.of(root, root / subject.deployment, run)
    shutil.copy(subject.run / _STAGED, run / _STAGED)
    return booted.ostree("admin", "finalize-staged", disturbance=disturbance)
