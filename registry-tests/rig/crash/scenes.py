"""The commands that are disturbed, each with what it finds: images of a few files, so that a run
has few enough calls to be hit at every one of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from support import images
from support.images import Member

from bridge.ostree import refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.pull.refnames import LAYERS
from rig.command import PLAIN_HTTP
from rig.crash.zygote import Zygote
from rig.push import push
from rig.registry import Registry
from tools.images import layout as oci

_LARGE = 1_100_000
"""More than an import holds in memory."""


@dataclass(frozen=True)
class Scene:
    """A command, and how to make what it finds.

    In its words `{root}` is the directory it works on, `{image}` its image's reference.
    """

    name: str
    prepare: Callable[[Shop, Path], None]
    command: tuple[str, ...]
    tag: str = ""
    repository: str = "ostree/repo"
    remote: bool = False
    """Whether the image is in a registry, not in a layout on disk."""
    reversible: bool = False
    """Whether a second run takes back the first."""
    damaged: bool = False
    """Whether the command finds a store that is damaged, and heals it."""

    @property
    def makes_room(self) -> bool:
        """Whether the command drops what nobody needs when there is no space, and tries again."""
        return self.command[0] in ("switch", "upgrade") and "--retain" not in self.command


@dataclass(frozen=True)
class Shop:
    """What a scene is made with: a registry, the command, and a directory for images."""

    zygote: Zygote
    registry: Registry
    work: Path

    def words(self, scene: Scene, root: Path) -> list[str]:
        """The command of a scene on `root`."""
        image = self._layout(scene.name, scene.tag)
        name = f"{self.registry.host}/{_NAME}" if scene.remote else f"oci:{image}:latest"
        return [word.format(root=root, image=name) for word in scene.command]

    def stock(self, scene: str, tag: str, version: int, *, kernel: int = 1) -> None:
        """Makes a version of the scene's image what `tag` names."""
        images.write_layout(self._layout(scene, tag), tiny(version, kernel))

    def publish(self, scene: str, tag: str) -> None:
        """Pushes the image to the registry."""
        repository, _, name = _NAME.partition(":")
        push(oci.read(self._layout(scene, tag)), self.registry, repository, name)

    def run(self, *words: str | Path) -> None:
        """Runs a command that has to succeed."""
        done = self.zygote.run(words)
        assert done.code == 0, done

    def pull(self, scene: str, tag: str, root: Path) -> None:
        """Pulls the scene's image to the sysroot `root`."""
        name = f"oci:{self._layout(scene, tag)}:latest"
        self.run("image", "pull", name, "--sysroot", root, "--quiet")

    def switch(self, scene: str, tag: str, root: Path) -> None:
        """Switches `root` to the scene's image, whose /etc somebody then edits."""
        self.run("switch", f"oci:{self._layout(scene, tag)}:latest", "--sysroot", root, "--quiet")
        edit(root, tag)

    def _layout(self, scene: str, tag: str) -> Path:
        return self.work / f"{scene}-{tag}"


def tiny(version: int, kernel: int) -> images.Image:
    """An image that can be booted; versions share their first layer if their kernel is one."""
    return images.image(*layers(version, kernel))


def layers(version: int, kernel: int) -> tuple[list[Member], list[Member]]:
    """The two layers of `tiny`."""
    stable = [
        *map(images.directory, ("etc", "usr", "usr/bin", "usr/lib", "var")),
        images.file(f"usr/lib/modules/{kernel}.0/vmlinuz", f"kernel {kernel}"),
        images.file(f"usr/lib/modules/{kernel}.0/initramfs.img", f"initramfs {kernel}"),
        images.file("usr/bin/tool", "#!/bin/sh\n", 0o4755, uid=1, gid=2),
        images.symlink("usr/bin/also", "tool"),
        images.file("etc/hosts", "127.0.0.1 localhost\n"),
        images.file("etc/conf.d/one", "one\n"),
        images.symlink("etc/link", "hosts"),
        images.file("var/lib/seed", "seed\n"),
    ]
    moving = [
        images.file("usr/lib/os-release", f'ID=tiny\nPRETTY_NAME="Tiny {version}"\n'),
        images.file("usr/share/large", f"{version}".encode() * _LARGE),
        images.file("usr/share/marked", f"{version}\n", xattrs={"user.mark": "x"}),
        images.file("etc/release", f"{version}\n", uid=3),
        images.whiteout("etc/conf.d/one"),
    ]
    return stable, moving


def edit(root: Path, text: str) -> None:
    """What an administrator does to the newest deployment's /etc."""
    (newest,) = root.glob(f"ostree/deploy/*/deploy/{_newest(root)}/etc")
    (newest / "hosts").unlink()
    (newest / "hosts").write_text(f"edited on {text}\n")
    (newest / "mine.d").mkdir(mode=0o700, exist_ok=True)
    (newest / "mine.d/added").write_text(f"{text}\n")
    (newest / "link").unlink(missing_ok=True)


def _newest(root: Path) -> str:
    from rig.crash import host

    return host.boots(root)[0].deployment


def _nothing(shop: Shop, root: Path) -> None:
    for scene in ("pull", "switch"):
        shop.stock(scene, "v1", 1)
        shop.publish(scene, "v1")


def _one(shop: Shop, root: Path) -> None:
    for version in (1, 2):
        shop.stock("second", f"v{version}", version, kernel=version)
    shop.switch("second", "v1", root)


def _two(shop: Shop, root: Path, scene: str = "third") -> None:
    """Two deployments, with a kernel each: the older goes, with its kernel and its image."""
    for version in (1, 2, 3):
        shop.stock(scene, f"v{version}", version, kernel=version)
    for tag in ("v1", "v2"):
        shop.switch(scene, tag, root)


def _followed(shop: Shop, root: Path) -> None:
    """Two deployments of one tag, with one kernel: boot entries stay, links change."""
    for version in (1, 2):
        shop.stock("upgrade", "stable", version)
        shop.switch("upgrade", "stable", root)
    shop.stock("upgrade", "stable", 3)


def _litter(shop: Shop, root: Path) -> None:
    """A host with an image, and the layers of another, that nobody needs."""
    for version in (1, 2):
        shop.stock("prune", f"v{version}", version)
    shop.switch("prune", "v1", root)
    shop.pull("prune", "v2", root)
    shop.run("image", "remove", f"oci:{shop.work}/prune-v2:latest", "--sysroot", root, "--quiet")
    downloads = root / "ostree/repo/extensions/bootc-py/downloads"
    downloads.mkdir()
    (downloads / f"sha256-{'0' * 64}").write_bytes(b"unfinished")


def _to_roll_back(shop: Shop, root: Path) -> None:
    for version in (1, 2):
        shop.stock("rollback", f"v{version}", version, kernel=version)
        shop.switch("rollback", f"v{version}", root)


def _damaged(shop: Shop, root: Path) -> None:
    """A host with objects of every kind damaged and missing, and a ref that is gone."""
    shop.stock("repair", "v1", 1)
    shop.switch("repair", "v1", root)
    with Repository.open(root / "ostree/repo") as repo:
        for kind in ObjectType:
            found = sorted(checksum for checksum, each in repo.objects() if each is kind)
            paths = [Path(repo.path) / repo.object_path(checksum, kind) for checksum in found]
            files = [path for path in paths if not path.is_symlink() and path.stat().st_size]
            *others, last = files
            for path in others[:1]:
                path.unlink()
            with last.open("r+b") as file:
                file.write(b"damaged")
        layer = next(name for name in refs.listing(repo) if name.startswith(LAYERS))
        refs.delete(repo, layer)


_NAME = "os/tiny:v1"
_SYSROOT = ("--sysroot", "{root}")
_PULL = ("image", "pull", "{image}", "--repo", "{root}/repo", PLAIN_HTTP)
_SWITCH = ("switch", "{image}", *_SYSROOT, PLAIN_HTTP)
SCENES = {
    scene.name: scene
    for scene in (
        Scene("pull", _nothing, _PULL, "v1", repository="repo", remote=True),
        Scene("switch", _nothing, _SWITCH, "v1", remote=True),
        Scene("second", _one, _SWITCH, "v2"),
        Scene("third", _two, _SWITCH, "v3"),
        Scene("retain", partial(_two, scene="retain"), (*_SWITCH, "--retain"), "v3"),
        Scene("upgrade", _followed, ("upgrade", *_SYSROOT)),
        Scene("prune", _litter, ("image", "prune", *_SYSROOT)),
        Scene("rollback", _to_roll_back, ("rollback", *_SYSROOT), reversible=True),
        Scene("repair", _damaged, ("fsck", "--repair", "--quiet", *_SYSROOT), damaged=True),
    )
}


def some_calls(count: int, rounds: int, seed: str) -> list[int]:
    """The numbers of calls to hit: all of `count`, or `rounds` of them by chance."""
    if not 0 < rounds < count:
        return list(range(1, count + 1))
    return sorted(random.Random(seed).sample(range(1, count + 1), rounds))
