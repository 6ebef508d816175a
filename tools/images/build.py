"""Makes the images: mmdebstrap for the base's root, buildah for the Containerfiles."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.images import cache, layout, spec, wheels
from tools.images.layout import Layout
from tools.images.spec import ALL, ALL_VERSIONS, IMAGES, Image, Version

# Each program used here and the Debian package that has it.
PROGRAMS = {
    "unshare": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "gzip": "gzip",
    "zstd": "zstd",
}

_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# Seconds killed programs have to be gone.
_PATIENCE = 10


def image(name: str, version: str, form: str) -> Layout:
    """The layout of an image in one form of layers, built if the cache lacks it."""
    return layout.read(_image_dir(ALL[name], ALL_VERSIONS[version]) / form)


def _image_dir(what: Image, version: Version) -> Path:
    """The cache's directory with every form of an image."""
    name = f"images/{what.name}-{version.tag}-{spec.key(what, version)}"
    return cache.entry(name, lambda target: _make(what, version, target))


def _make(what: Image, version: Version, target: Path) -> None:
    """Builds an image and writes it to `target` once for each form."""
    check_programs()
    parent = IMAGES[what.parent] if what.parent else None
    if parent:
        _image_dir(parent, version)
    title = f"{what.repository}:{version.tag}"
    with timed(f"{title}: built"):
        plain = _build(what, version, target / "plain")
    for form in spec.FORMATS:
        if form != "plain":
            inherited = image(parent.name, version.tag, form) if parent else None
            with timed(f"{title}: {form}"):
                layout.convert(plain, target / form, form, inherited)


def _build(what: Image, version: Version, target: Path) -> Layout:
    """Runs the image's Containerfile; its layers are written to `target` as plain tars."""
    with cache.scratch(cache.root() / "work") as work:
        context, temporary = work / "context", work / "tmp"
        temporary.mkdir()
        prepare(what, version, context, temporary)
        storage = _Storage(work / "storage", work / "run", temporary)
        name = f"localhost/{what.repository}:{version.tag}"
        options = [
            f"--build-arg=VERSION={version.label}",
            f"--build-arg=SOURCE_DATE_EPOCH={spec.SOURCE_DATE_EPOCH}",
        ]
        if what.parent:
            base = image(what.parent, version.tag, "plain")
            base_name = f"localhost/{IMAGES[what.parent].repository}:{version.tag}"
            storage.load(base, base_name)
            options += ["--layers", f"--build-arg=BASE={base_name}"]
        else:
            options.append("--layers=false")
        storage.buildah(
            "bud", "--isolation=chroot", "--format=oci", "--pull-never", "--no-cache",
            *options, "--tag", name, str(context),
        )  # fmt: skip
        storage.save(name, target, version.tag)
    return layout.read(target)


def prepare(
    what: Image, version: Version, context: Path, temporary: Path, prefix: Sequence[str] = ()
) -> None:
    """Makes an image's build context. What makes a root file system is run by `prefix`."""
    shutil.copytree(what.directory, context)
    _set_modes(context)
    if what.has_wheels:
        wheels.collect(context / "wheels", run, spec.SOURCE_DATE_EPOCH)
    if what.parent is None:
        _make_rootfs(version, context, temporary, prefix)


def _set_modes(directory: Path) -> None:
    """Gives files the modes that git knows: not those of this checkout, with its umask."""
    for path in directory.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)


def _make_rootfs(version: Version, context: Path, temporary: Path, prefix: Sequence[str]) -> None:
    """Makes the base's `rootfs.tar` in its build context; unpacks it in `temporary`."""
    with timed(f"{IMAGES['base'].repository}:{version.tag}: root file system"):
        run(
            *prefix,
            str(context / "make-rootfs"),
            str(context / "rootfs.tar"),
            version.suite,
            *version.sources,
            SOURCE_DATE_EPOCH=str(spec.SOURCE_DATE_EPOCH),
            TMPDIR=str(temporary),
        )


@dataclass(frozen=True)
class _Storage:
    """A container storage of our own, so that nothing of the user's is touched."""

    root: Path
    run_root: Path
    temporary: Path

    def buildah(self, command: str, *arguments: str) -> None:
        run(
            "buildah", f"--root={self.root}", f"--runroot={self.run_root}",
            "--storage-driver=overlay", command, *arguments,
            TMPDIR=str(self.temporary),
        )  # fmt: skip

    def load(self, source: Layout, name: str) -> None:
        """Puts an image of a layout into the storage as `name`."""
        run("skopeo", "copy", "--quiet", source.reference, self._place(name))

    def save(self, name: str, layout_dir: Path, tag: str) -> None:
        """Writes an image of the storage to a layout, its layers as plain tars."""
        accept = "--dest-oci-accept-uncompressed-layers"
        run("skopeo", "copy", "--quiet", accept, self._place(name), f"oci:{layout_dir}:{tag}")

    def _place(self, name: str) -> str:
        return f"containers-storage:[overlay@{self.root}+{self.run_root}]{name}"


def check_programs() -> None:
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing:
        raise SystemExit(f"error: building images needs: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise SystemExit(
            "error: building images needs root (mmdebstrap and buildah with real owners)"
        )


def run(*command: str, **variables: str) -> None:
    """Runs a command with more environment variables and with its output on our stderr.

    It has mounts and process ids of its own: when it ends, or we are interrupted, nothing
    that it mounted or started is left.
    """
    process = subprocess.Popen(
        [*_NAMESPACES, *command],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, **variables},
        start_new_session=True,
    )
    try:
        status = process.wait()
    except BaseException:
        _kill_group(process)
        raise
    if status:
        raise subprocess.CalledProcessError(status, command)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process with its group, and waits until none of it is left."""
    deadline = time.monotonic() + _PATIENCE
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.05)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(f"{what} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
