"""Rounds: a command is disturbed, what it leaves is judged, it is run again, and judged again."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.errors import NoSpace
from bridge.ostree import fsck
from bridge.ostree.repository import Repository
from rig import store
from rig.command import Done
from rig.crash import host
from rig.crash.scenes import Scene, Shop
from rig.crash.shim import NO_SPACE, Call, Disturbance, read_log
from tools.images import cache

_MEMORY = Path("/dev/shm")
KILLED = -9


@dataclass(frozen=True)
class Harmless:
    """Calls that may fail in a command that succeeds: nothing that was promised rests on them."""

    call: str
    """Its name; empty for any."""
    path: str
    why: str

    def covers(self, call: Call) -> bool:
        return self.call in ("", call.name) and re.search(self.path, call.path) is not None


HARMLESS = (
    Harmless("mkdir", r"/root$", "the directory that was given is there already"),
    Harmless("rmdir", r"/refs/heads/", "an empty directory among the refs stays"),
    Harmless("open", r"/history\.jsonl$", "a full disk: a warning; only its readers miss it"),
    Harmless("write", r"/history\.jsonl$", "the same"),
    Harmless("mkdir", r"/extensions(/bootc-py)?$", "the same, on the way there"),
    Harmless("fdatasync", r"/extensions/bootc-py$", "the name of the content index's journal"),
    Harmless("", r"/content\.sqlite(-wal|-shm|-journal)?$", "that index saves bytes, no more"),
)


@dataclass(frozen=True)
class Seen:
    """A root after a command: what can be booted, the store's config and refs, every path."""

    boots: list[host.Boot]
    config: str
    refs: dict[str, str]
    paths: set[str]


@dataclass(frozen=True)
class Stage:
    """A scene with its root made once, to be copied for each round; and an undisturbed run."""

    scene: Scene
    shop: Shop
    root: Path
    before: Seen
    after: Seen
    calls: list[Call]
    faults: frozenset[str] = frozenset()
    """The objects that the command finds damaged, where it is to heal them."""

    def perform(self, root: Path, disturbance: Disturbance | None = None) -> Done:
        """Runs the scene's command on `root`."""
        return self.shop.zygote.run(self.shop.words(self.scene, root), disturbance)

    @contextlib.contextmanager
    def copied(self) -> Iterator[Path]:
        """A copy of what the command finds, gone afterwards."""
        with cache.scratch(self.shop.work) as work:
            yield copy(self.root, work / "root")


def copy(source: Path, target: Path) -> Path:
    """Copies a root as it is: owners, xattrs, hard links, and deployments that are immutable."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    if deployments := list(target.glob("ostree/deploy/*/deploy/*/")):
        subprocess.run(["chattr", "+i", *deployments], check=True)
    return target


@contextlib.contextmanager
def fast_directory() -> Iterator[Path]:
    """A directory in memory where there is such a place: syncs cost nothing there."""
    parent = _MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir())
    with cache.scratch(parent) as work:
        yield work


def make(scene: Scene, shop: Shop) -> Stage:
    """Prepares a scene and runs its command once, undisturbed."""
    root = shop.work / scene.name
    root.mkdir()
    scene.prepare(shop, root)
    before = look(scene, root, whole=not scene.damaged)
    bare = Stage(scene, shop, root, before, before, [], _faults(scene, root))
    assert bool(bare.faults) is scene.damaged
    with bare.copied() as copied:
        log = shop.work / f"{scene.name}.calls"
        done = bare.perform(copied, Disturbance(log=log))
        assert done.code == 0, done
        return replace(bare, after=look(scene, copied), calls=read_log(log))


def _faults(scene: Scene, root: Path) -> frozenset[str]:
    repository = root / scene.repository
    if not (repository / "config").exists():
        return frozenset()
    with Repository.open(repository) as repo:
        return frozenset(fault.checksum for fault in fsck.fsck(repo).faults)


def look(scene: Scene, root: Path, *, quick: bool = False, whole: bool = True) -> Seen:
    """What is in `root`; fails where the store is damaged or an entry does not boot.

    By the word of the real `ostree`, or with `quick` by our own. Not `whole`: it may be damaged.
    """
    repository = root / scene.repository
    config, refs = "", dict[str, str]()
    if (repository / "config").exists():
        config = (repository / "config").read_text()
        if quick:
            assert not whole or not _faults(scene, root)
        elif whole:
            store.fsck(repository)
        heads = repository / "refs/heads"
        refs = {
            str(path.relative_to(heads)): path.read_text()
            for path in heads.rglob("[!.]*")
            if path.is_file()
        }
    boots = host.boots(root)
    if boots and not quick:
        assert host.names(root) == [boot.deployment for boot in boots]
    return Seen(boots, config, refs, host.paths(root))


def disturb(stage: Stage, disturbance: Disturbance) -> Done:
    """One round; fails where what is promised does not hold. Returns how the command ended."""
    with stage.copied() as root:
        log = root.with_name("calls")
        done = stage.perform(root, replace(disturbance, log=log))
        hit = next(filter(disturbance.hits, read_log(log)), None)
        _check_ending(stage.scene, done, disturbance, hit)
        judge(stage, root, done)
    return done


def _check_ending(scene: Scene, done: Done, disturbance: Disturbance, hit: Call | None) -> None:
    """A command is killed, or fails with one line; unless the call was not reached, or is one
    whose failure does not matter."""
    if hit is None:
        assert done.code == 0, done
    elif disturbance.how in ("kill", "tear"):
        assert done.code == KILLED, done
    elif (
        done.code == 0
        and disturbance.how in NO_SPACE
        and scene.makes_room
        and done.err.count("Resolving the image") > 1
    ):
        assert not disturbance.lasting  # it made room, and began anew
    elif done.code == 0:
        assert any(each.covers(hit) for each in HARMLESS), f"success, with a failed {hit}"
    else:
        assert done.error
        no_space = disturbance.how in NO_SPACE
        assert done.code == NoSpace.exit_code if no_space else 0 < done.code < 128, done


def judge(stage: Stage, root: Path, done: Done) -> None:
    """Fails unless `root` is as the scene's command, which ended as `done`, may leave it.

    The store is whole, and what boots is the old or the new; the new if the command said so. Then
    the same command succeeds, with nothing done by hand before, and leaves nothing over.
    """
    boots = host.boots(root)
    if stage.scene.damaged and done.code:
        # Some of it may be healed; none of it is worse.
        assert _faults(stage.scene, root) <= stage.faults
    else:
        look(stage.scene, root)
        allowed = [stage.after.boots] if done.code == 0 else [stage.before.boots, stage.after.boots]
        assert boots in allowed, f"exit code {done.code}, and what boots is neither old nor new"
    wanted = stage.after
    if stage.scene.reversible and boots == stage.after.boots:
        wanted = stage.before
    again = stage.perform(root)
    assert again.code == 0, again
    found = look(stage.scene, root, quick=True)
    assert found.boots == wanted.boots, "the second run made something else"
    assert found.config == wanted.config, found.config
    assert _plain(found.refs) == _plain(wanted.refs), "refs differ"
    extra, missing = found.paths - wanted.paths, wanted.paths - found.paths
    assert not extra, f"left over: {sorted(extra)[:5]} of {len(extra)}"
    assert not missing, f"missing: {sorted(missing)[:5]} of {len(missing)}"


def check_ending(done: Done, disturbance: Disturbance) -> None:
    """A command is killed, or fails with one line; or the call was not reached or did not matter.

    Which calls do not matter is for the caller to know: the code is then 0.
    """
    if disturbance.how in ("kill", "tear"):
        assert done.code in (0, KILLED), done
    elif done.code:
        assert done.error
        assert 0 < done.code < 128, done


def _plain(refs: dict[str, str]) -> list[tuple[str, str]]:
    """The refs, without the turn that deployments' refs name."""
    return sorted(
        ("/".join(name.split("/")[:1] + name.split("/")[3:]) if _is_deployed(name) else name, to)
        for name, to in refs.items()
    )


def _is_deployed(name: str) -> bool:
    return name.startswith("ostree/") and name.split("/")[1] in "01"
