"""An image into a directory in which the file systems of a new machine are mounted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import BridgeError, UsageError
from bridge.install import first_state, tools
from bridge.install.config import DIRECTORY, InstallConfig, merge
from bridge.limits import ORIGIN_MAX
from bridge.oci.reference import ImageReference, origin_form
from bridge.ostree import durable, lock, refs
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree
from bridge.pull import images
from bridge.pull.plan import Depth
from bridge.pull.progress import Progress, Stage
from bridge.pull.pull import pull
from bridge.pull.refnames import image_ref
from bridge.pull.report import Deployed, TransferReport, append_history
from bridge.registry.options import NetworkOptions
from bridge.sysroot import boot_order, deploy, kargs, selinux_off
from bridge.sysroot.deploy import KernelArguments
from bridge.sysroot.initialise import DEFAULT_STATEROOT, initialise
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import Sysroot


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks for; `None` leaves it to the image, and then to the default."""

    image: ImageReference
    target: ImageReference | None = None
    """What the machine is to follow, when it is not `image`."""
    kargs: Sequence[str] = field(default=())
    karg_deletes: Sequence[str] = field(default=())
    ssh_keys: str | None = None
    """Content of an `authorized_keys` file for root."""
    stateroot: str | None = None
    root_spec: str | None = None
    """How the kernel finds the root: `UUID=…`, `LABEL=…`; empty leaves `root=` out."""
    boot_spec: str | None = None
    esp_spec: str | None = None
    filesystem: str | None = None
    """What the root is: refused where the image asks for another. `None`: not looked at."""
    bootloader: str | None = None
    labelled: bool = True
    """Whether to label files by the policy that the image carries."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation did."""

    report: TransferReport
    config: InstallConfig
    tree: str
    """The deployment's directory, below the target."""


class OtherFileSystem(UsageError):
    """The image asks for another file system for its root than this one is."""

    def __init__(self, present: str, asked: str | None) -> None:
        super().__init__(f"the image asks for {asked!s:.50} as its root, which is {present}")
        self.asked = asked


def to_filesystem(
    path: Path,
    wanted: Wanted,
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    depth: Depth = Depth.CHUNKS,
) -> Installed:
    """Install the image into the directory `path`, an empty root with `/boot` mounted in it or not.

    What an installation that failed has left there is used. Raises what `pull` and `deploy` do,
    `OtherFileSystem`, and `UsageError` where `path` is not empty, or it is not to be found out how
    the kernel finds the root. No boot loader is installed.
    """
    progress = progress or Progress()
    target = origin_form(wanted.target or wanted.image)
    with initialise(path, wanted.stateroot or DEFAULT_STATEROOT) as sysroot, sysroot.locked():
        if sysroot.load().all:
            raise UsageError(f"{path} has a system already; `switch --sysroot` changes it")
        report = pull(
            sysroot.repo, wanted.image, network=network, bootable=True, depth=depth,
            labelled=wanted.labelled, progress=progress,
        )  # fmt: skip
        started = time.monotonic()
        progress.stage(Stage.DEPLOYING)
        config = read_config(sysroot.repo, report.commit)
        if wanted.filesystem is not None and config.filesystem not in (None, wanted.filesystem):
            raise OtherFileSystem(wanted.filesystem, config.filesystem)
        boot_spec = _first(wanted.boot_spec, config.boot_mount_spec, _spec(path / "boot"))
        local = _root_kargs(path, wanted, config)
        if selinux_off.is_unlabelled(sysroot.repo, report.commit):
            local = (*local, selinux_off.ARGUMENT)
        arguments = _arguments(local, wanted, config)

        def complete_etc(tree: int) -> None:
            first_state.write_fstab(tree, boot_spec, wanted.esp_spec)
            if wanted.ssh_keys is not None:
                first_state.write_ssh_keys(tree, wanted.ssh_keys)

        done = deploy.deploy(
            sysroot,
            report.commit,
            Origin.for_image(target, labelled=wanted.labelled),
            stateroot=wanted.stateroot or config.stateroot,
            arguments=arguments,
            complete_etc=complete_etc,
        )
        stored = images.load(sysroot.repo, str(wanted.image), report.commit)
        if wanted.target is not None and str(wanted.target) != str(wanted.image):
            # The store has it under the name that the machine knows it by.
            with lock.writing(sysroot.repo):
                refs.write(sysroot.repo, image_ref(wanted.target), report.commit)
                refs.delete(sysroot.repo, image_ref(wanted.image))
        text = first_state.aleph(
            stored, wanted.image.name, (wanted.target or wanted.image).name, wanted.labelled
        )
        durable.replace_file(first_state.ALEPH, text.encode(), sysroot.fd)
        report.changed = True
        report.deployment = Deployed(
            done.deployment.checksum, done.deployment.serial, done.boot_entry
        )
        report.seconds.deploy = time.monotonic() - started
        report.seconds.total += report.seconds.deploy
        append_history(sysroot.repo, "install", report)
        durable.syncfs(sysroot.fd)
    return Installed(report, config, f"ostree/{done.deployment.path}")


def set_loader(path: Path, name: str) -> None:
    """Have the sysroot at `path` keep the boot loader `name` up to date from now on."""
    with Sysroot.open(path, writable=True) as sysroot, sysroot.locked():
        boot_order.use_loader(sysroot, name)


def read_config(repo: Repository, commit: str) -> InstallConfig:
    """Return what the image of `commit` asks of its installation."""
    found = repo.read_commit(commit)
    directory = Tree.stored(repo, found.tree, found.meta).find(DIRECTORY)
    texts = []
    if isinstance(directory, Tree):
        for name, checksum in directory.files.items():
            if name.endswith(".toml"):
                texts.append((name, _text(repo, checksum, f"/{DIRECTORY}/{name}")))
    return merge(texts)


def _text(repo: Repository, checksum: str, what: str) -> str:
    _meta, stream = repo.open_file(checksum)
    if stream is None:
        raise UsageError(f"{what} is a link, where a file should be")
    with stream:
        data = stream.read(ORIGIN_MAX + 1)
    if len(data) > ORIGIN_MAX:
        raise UsageError(f"{what} has more than {ORIGIN_MAX} bytes")
    return data.decode("utf-8", "replace")


def _root_kargs(path: Path, wanted: Wanted, config: InstallConfig) -> tuple[str, ...]:
    spec = _first(wanted.root_spec, config.root_mount_spec)
    if spec is None:
        spec = _spec(path)
    if spec is None:
        raise UsageError(
            f"{path} is no mounted file system with a UUID, so the kernel could not find its "
            "root; name it with --root-mount-spec, or leave it out with an empty one"
        )
    return (f"root={spec}", "rw") if spec else ("rw",)


def _arguments(root: Sequence[str], wanted: Wanted, config: InstallConfig) -> KernelArguments:
    """Put the arguments together: what is to be deleted may be of the configuration, or of those
    that the image brings otherwise."""
    asked = kargs.append((), config.kargs)
    elsewhere = []
    for each in (*config.karg_deletes, *wanted.karg_deletes):
        try:
            asked = kargs.delete(asked, each)
        except UsageError:
            elsewhere.append(each)
    return KernelArguments(append=(*root, *asked, *wanted.kargs), delete=elsewhere)


def _spec(path: Path) -> str | None:
    """Return `UUID=…` of the file system that is mounted at `path`; None when none is."""
    if not path.is_mount():
        return None
    try:
        uuid = tools.run(
            "findmnt", "--noheadings", "--first-only", "--output", "UUID", "--mountpoint", str(path)
        ).strip()
    except BridgeError:
        return None
    if not uuid:
        device = tools.run(
            "findmnt", "--noheadings", "--first-only", "--output", "SOURCE", "--mountpoint",
            str(path),
        ).strip()  # fmt: skip
        try:
            uuid = tools.run(
                "blkid", "--probe", "--match-tag", "UUID", "--output", "value", device
            ).strip()
        except BridgeError:
            return None
    return f"UUID={uuid}" if uuid else None


def _first(*values: str | None) -> str | None:
    return next((each for each in values if each is not None), None)
