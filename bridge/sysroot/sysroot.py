"""A sysroot: the directory that holds `ostree/` and `boot/`, and the deployments in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bridge import limits
from bridge.errors import BridgeError, NotFound, UsageError
from bridge.ostree import variant
from bridge.ostree.repository import Repository
from bridge.sysroot import bls, files, kargs, loaders, lock, staged
from bridge.sysroot.deployment import BootLink, Deployment, parse_name
from bridge.sysroot.origin import Origin
from bridge.sysroot.writable import make_writable

_BOOTED = Path("/run/ostree-booted")


@dataclass(frozen=True, slots=True)
class State:
    """What a sysroot held when it was read."""

    bootversion: int
    subbootversion: int
    deployments: tuple[Deployment, ...]
    """In boot order: the first boots next."""
    problems: tuple[str, ...] = ()
    """Boot entries that could not be read, one line each."""
    staged: Deployment | None = None
    """What is going to be first in the boot order when the machine goes down..."""
    staged_locked: bool = False
    """...or is not, until it is unlocked: it was only to be downloaded."""

    @property
    def all(self) -> tuple[Deployment, ...]:
        """All deployments that are on the disk and in use, in the order in which libostree counts
        them: the staged one first."""
        return self.deployments if self.staged is None else (self.staged, *self.deployments)

    @property
    def next(self) -> Deployment | None:
        """What boots next, as things stand."""
        if self.staged is not None and not self.staged_locked:
            return self.staged
        return next(iter(self.deployments), None)

    @property
    def booted(self) -> Deployment | None:
        """The running deployment; `None` when the sysroot is not that of the running system."""
        return next((each for each in self.deployments if each.booted), None)

    @property
    def current(self) -> Deployment | None:
        """The booted deployment; on a sysroot that is not booted, the one that boots next."""
        return self.booted or next(iter(self.deployments), None)

    def merge_deployment(self, stateroot: str) -> Deployment | None:
        """The deployment whose `/etc` and kernel arguments a new one in `stateroot` inherits."""
        booted = self.booted
        if booted is not None and booted.stateroot == stateroot:
            return booted
        return next((each for each in self.deployments if each.stateroot == stateroot), None)


class Sysroot:
    """An open sysroot. A context manager: closes its descriptors at the end."""

    def __init__(self, path: Path, fd: int, ostree_fd: int, boot_fd: int) -> None:
        self.path = path
        self.fd = fd
        self.ostree_fd = ostree_fd
        self.boot_fd = boot_fd
        self._lock_depth = 0

    @classmethod
    def open(cls, path: str | Path = "/", *, writable: bool = False) -> Sysroot:
        """Open the sysroot at `path`; `NotFound` when there is none.

        Who is going to change it says `writable`, early: for that of the running system, which may
        be mounted read-only, this process then goes into a mount namespace of its own.
        """
        path = Path(path)
        if writable and _BOOTED.exists() and path.resolve() == Path("/"):
            make_writable()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        opened: list[int] = []
        try:
            with files.doing(f"opening the sysroot {path}"):
                opened.append(os.open(path, flags))
                # On a booted host `/ostree` is a link to `sysroot/ostree`: these two are followed.
                opened += [os.open(name, flags, dir_fd=opened[0]) for name in ("ostree", "boot")]
                os.stat("repo/config", dir_fd=opened[1])
        except BridgeError as error:
            for fd in opened:
                os.close(fd)
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise NotFound(
                    f"{path} is no OSTree sysroot; `switch --sysroot` on an empty directory "
                    "makes one"
                ) from None
            raise
        return cls(path, *opened)

    def close(self) -> None:
        """Close the descriptors, and the repository's when it was used."""
        if "repo" in self.__dict__:
            self.repo.close()
        for fd in (self.fd, self.ostree_fd, self.boot_fd):
            os.close(fd)

    def __enter__(self) -> Sysroot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def repo(self) -> Repository:
        """The sysroot's repository, opened at its first use."""
        return Repository.open(self.path / "ostree" / "repo")

    @property
    def bootprefix(self) -> bool:
        """Whether boot entries name paths with `/boot` before them (`sysroot.bootprefix`)."""
        return self.repo.config.values.get(("sysroot", "bootprefix"), "false") in ("true", "1")

    @property
    def loader(self) -> loaders.Loader:
        """What has to be done for the boot loader when the boot order changes."""
        return loaders.named(self.repo.config.values.get(loaders.KEY, "none"))

    @contextlib.contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the sysroot's lock; may be nested.

        When another process holds it, raises `Busy`, or does `wait` until it is free.
        """
        if self._lock_depth == 0:
            with lock.exclusive(self.ostree_fd, f"the sysroot {self.path}", wait=wait):
                self._lock_depth = 1
                try:
                    yield
                finally:
                    self._lock_depth = 0
        else:
            self._lock_depth += 1
            try:
                yield
            finally:
                self._lock_depth -= 1

    @cached_property
    def is_booted(self) -> bool:
        """Whether this is the sysroot of the running system."""
        return _BOOTED.exists() and os.path.samestat(os.stat("/"), os.fstat(self.fd))

    def bump(self) -> None:
        """Change the time of `ostree/deploy`: other tools watch it to see that they must reload."""
        with files.directory(self.ostree_fd, "deploy") as fd:
            os.utime(fd)

    def load_to_change(self) -> State:
        """Read the boot order as `load`, to write another one; the lock is held.

        Raises `BridgeError` where that would lose a deployment in use: the running one is in no
        boot entry when /boot is not the file system that it was booted from.
        """
        state = self.load()
        if self.is_booted and state.booted is None:
            raise BridgeError(
                "the running deployment is in none of the entries in /boot/loader; "
                "mount the /boot that it was booted from and try again"
            )
        return state

    def load(self) -> State:
        """Read the boot entries and what they point at.

        An entry or origin that cannot be read costs that one only. Raises `BridgeError` when the
        sysroot as a whole makes no sense. Without the lock this is an order that was live, too:
        where another one was made live meanwhile, it is read anew.
        """
        with files.doing(f"reading the deployments of {self.path}"):
            for _ in range(limits.REREADS_MAX):
                before = self._live()
                with contextlib.suppress(BridgeError, OSError):
                    state = self._load()
                    if self._live() == before:
                        return state
            return self._load()

    def _live(self) -> tuple[int, int]:
        bootversion = self._bootversion()
        return bootversion, self.subbootversion(bootversion)

    def _load(self) -> State:
        bootversion = self._bootversion()
        entries: list[tuple[str, bls.Entry]] = []
        problems: list[str] = []
        try:
            with files.directory(self.boot_fd, f"loader.{bootversion}/entries") as fd:
                for name in filter(bls.is_entry_name, sorted(os.listdir(fd))):
                    try:
                        text = files.read_bytes(fd, name, limits.BLS_ENTRY_MAX).decode()
                        entries.append((name, bls.parse(text)))
                    except (OSError, UnicodeDecodeError) as error:
                        problems.append(f"boot entry {name}: {error}")
        except FileNotFoundError:
            if self.is_booted:
                raise BridgeError(
                    "no boot entries in /boot/loader; is /boot mounted? Mount it and try again"
                ) from None
        entries.sort(key=lambda item: bls.version_key(item[1].get("version")), reverse=True)
        deployments: list[Deployment] = []
        for name, entry in entries:
            try:
                deployment = self._deployment(entry)
            except (BridgeError, OSError) as error:
                problems.append(f"boot entry {name}: {error}")
            else:
                deployments.append(replace(deployment, index=len(deployments)))
        first, locked = None, False
        if self.is_booted:
            try:
                first, locked = self._staged()
            except (BridgeError, OSError) as error:
                problems.append(f"the staged deployment: {error}")
        return State(
            bootversion,
            self.subbootversion(bootversion),
            tuple(deployments),
            tuple(problems),
            first,
            locked,
        )

    def _staged(self) -> tuple[Deployment | None, bool]:
        found = staged.read()
        if found is None:
            return None, False
        deployment = found.deployment
        with files.directory(self.ostree_fd, deployment.path) as fd:
            since = os.fstat(fd).st_ctime
        origin, problem = self.read_origin(deployment)
        return (
            replace(deployment, origin=origin, since=since, problem=problem, staged=True),
            found.locked,
        )

    def _bootversion(self) -> int:
        try:
            target = files.read_link(self.boot_fd, "loader")
        except OSError:
            raise BridgeError(
                f"{self.path}/boot/loader is no symbolic link; it is not OSTree's"
            ) from None
        if target not in (None, "loader.0", "loader.1"):
            raise BridgeError(f"{self.path}/boot/loader points at {target!r}, not loader.0 or .1")
        return 1 if target == "loader.1" else 0

    def subbootversion(self, bootversion: int) -> int:
        """Return which of `ostree/boot.BOOTVERSION.{0,1}` is live; 0 when there is none yet."""
        target = files.read_link(self.ostree_fd, f"boot.{bootversion}")
        if target is not None and target[-2:] not in (".0", ".1"):
            raise BridgeError(f"ostree/boot.{bootversion} points at {target!r}")
        return 1 if target is not None and target.endswith(".1") else 0

    def _deployment(self, entry: bls.Entry) -> Deployment:
        options = kargs.split(entry.get("options") or "")
        argument = next((each for each in options if each.startswith("ostree=")), None)
        if argument is None:
            raise BridgeError("it has no ostree= argument")
        link = BootLink.parse(argument.removeprefix("ostree="))
        live = f"boot.{link.bootversion}.{self.subbootversion(link.bootversion)}"
        with files.directory(self.ostree_fd, f"{live}/{link.stateroot}/{link.bootcsum}") as fd:
            target = os.readlink(str(link.bootserial), dir_fd=fd)
        parsed = parse_name(target.rpartition("/")[2])
        if parsed is None:
            raise BridgeError(f"its boot link points at {target!r:.200}")
        deployment = Deployment(link.stateroot, *parsed, link.bootcsum, entry)
        with files.directory(self.ostree_fd, deployment.path) as fd:
            status = os.fstat(fd)
            booted = self.is_booted and (status.st_dev, status.st_ino) == _booted_directory()
        origin, problem = self.read_origin(deployment)
        # Its inode changes when it is made, and not after that: it is immutable.
        return replace(
            deployment, origin=origin, booted=booted, since=status.st_ctime, problem=problem
        )

    def running(self) -> Deployment | None:
        """Return the running deployment, known by its directory alone; `None` as `State.booted`.

        For early in a boot: /boot, and so its boot entry, need not be there yet.
        """
        if not self.is_booted:
            return None
        booted = _booted_directory()
        with files.doing(f"looking for the running deployment of {self.path}"):
            for stateroot in files.names(self.ostree_fd, "deploy"):
                parent = f"deploy/{stateroot}/deploy"
                for name in files.names(self.ostree_fd, parent):
                    parsed = parse_name(name)
                    status = files.lstat(self.ostree_fd, f"{parent}/{name}")
                    if parsed and status and (status.st_dev, status.st_ino) == booted:
                        deployment = Deployment(stateroot, *parsed, bootcsum="", booted=True)
                        origin, problem = self.read_origin(deployment)
                        return replace(deployment, origin=origin, problem=problem)
        return None

    def read_origin(self, deployment: Deployment) -> tuple[Origin | None, str]:
        """Return the deployment's origin; or `None`, and why it cannot be read."""
        parent, _, name = deployment.path.rpartition("/")
        try:
            with files.directory(self.ostree_fd, parent) as fd:
                text = files.read_bytes(fd, f"{name}.origin", limits.ORIGIN_MAX).decode()
            return Origin.parse(text), ""
        except FileNotFoundError:
            return None, "it has no origin file"
        except (BridgeError, OSError, UnicodeDecodeError) as error:
            return None, f"its origin file cannot be read: {error}"


def _booted_directory() -> tuple[int, int]:
    """Return device and inode of the running deployment's directory.

    Without composefs that is `/`; else ostree-prepare-root leaves both in /run/ostree-booted,
    which holds a serialised a{sv} since libostree 2023.8 and nothing before.
    """
    data = _BOOTED.read_bytes()
    noted = variant.decode("a{sv}", data) if data else {}
    backing = noted.get("backing-root-device-inode")
    if backing is not None:
        device, inode = backing.value
        return int(device), int(inode)
    root = os.stat("/")
    return root.st_dev, root.st_ino


def check_stateroot(name: str) -> str:
    """Return a stateroot's name that is fit to be a directory; `UsageError` otherwise."""
    if not name or name.startswith((".", "-")) or not name.isprintable() or set(name) & set("/ "):
        raise UsageError(f"{name!r:.100} cannot be the name of a stateroot")
    return name
