"""What an image boots with: its kernel, its kernel arguments, and whether composefs is asked for.

Semantics: bootc, crates/lib/src/lints.rs; formats: `sysroot.kargs_d`, `ostree.prepare_root`.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.errors import BridgeError, MalformedImage
from bridge.layer.tar import EntryType
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.root import BASEIMAGE
from bridge.lint.subject import Subject
from bridge.ostree import prepare_root
from bridge.sysroot import kargs_d

_MODULES = "usr/lib/modules"
_PREPARE_ROOT = "ostree/prepare-root.conf"
_ENABLE = (
    "write to /usr/lib/ostree/prepare-root.conf: [composefs], and below it: enabled = yes; the "
    "initramfs needs that file too. An image that is to boot as plain ostree has --skip "
    "baseimage-composefs"
)


def kernel_directories(subject: Subject) -> list[str]:
    """Return the directories below `/usr/lib/modules` that have a kernel, in order."""
    return [
        node.path
        for node in subject.children(_MODULES)
        if node.type is EntryType.DIRECTORY
        and subject.contents.resolve(f"{node.path}/vmlinuz") is not None
    ]


def _kernel(subject: Subject) -> Iterator[Finding]:
    found = kernel_directories(subject)
    if len(found) > 1:
        for path in found:
            yield Finding(
                f"/{path}",
                "has a kernel, and there is another; an image has one",
                "remove the packages of all kernels but the one to be booted",
            )


def _bootc_kargs(subject: Subject) -> Iterator[Finding]:
    top = subject.contents.resolve(kargs_d.DIRECTORY)
    if top is None:
        return
    cure = (
        'write it as: kargs = ["console=ttyS0"], with match-architectures = ["x86_64"] if need be'
    )
    if top.type is not EntryType.DIRECTORY:
        yield Finding(f"/{kargs_d.DIRECTORY}", "is no directory", "make it one")
        return
    for node in subject.children(top.path):
        if not node.path.endswith(".toml"):
            continue
        try:
            file = subject.contents.resolve(node.path)
            if file is None or file.type is not EntryType.FILE:
                raise MalformedImage(f"/{node.path} is no file")
            raw = subject.contents.read(file, limits.KARGS_FILE_MAX)
            kargs_d.parse(raw.decode(), f"/{node.path}", kargs_d.architecture())
        except UnicodeDecodeError:
            yield Finding(f"/{node.path}", "is not valid", cure, "it is not text")
        except MalformedImage as error:
            detail = str(error).removeprefix(f"/{node.path}").removeprefix(":").strip()
            yield Finding(f"/{node.path}", "is not valid", cure, detail)


def _baseimage_composefs(subject: Subject) -> Iterator[Finding]:
    for top in ("", f"{BASEIMAGE}/"):
        if top and subject.get(BASEIMAGE) is None:
            continue
        place, text = _prepare_root(subject, top)
        if text is None:
            yield Finding(f"/{place}", "is not there to enable composefs", _ENABLE)
            return
        try:
            enabled = prepare_root.parse(text)
        except BridgeError as error:
            yield Finding(f"/{place}", "cannot be read", _ENABLE, str(error))
            return
        if enabled is prepare_root.Composefs.NO:
            yield Finding(f"/{place}", "does not enable composefs", _ENABLE)
            return


def _prepare_root(subject: Subject, top: str) -> tuple[str, str | None]:
    """Return the place and text of the file that counts; no text where there is none."""
    for place in (f"{top}etc/{_PREPARE_ROOT}", f"{top}usr/lib/{_PREPARE_ROOT}"):
        text = subject.text(place, limits.ORIGIN_MAX)
        if text is not None:
            return place, text
    return place, None


LINTS = (
    Lint(
        "bootc-kargs",
        Level.FATAL,
        "Check the files with kernel arguments, /usr/lib/bootc/kargs.d/*.toml.",
        _bootc_kargs,
    ),
    Lint(
        "kernel",
        Level.FATAL,
        "Check for more than one kernel, /usr/lib/modules/VERSION/vmlinuz: an image has one.",
        _kernel,
    ),
    Lint(
        "baseimage-composefs",
        Level.WARNING,
        "Check that composefs is enabled in ostree's prepare-root.conf "
        "(https://ostreedev.github.io/ostree/composefs/).",
        _baseimage_composefs,
    ),
)
