"""What the root of an image has to have, and must not have: the layout that a host boots from.

Semantics: bootc, crates/lib/src/lints.rs.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.layer.tar import EntryType
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Kind, Subject

BASEIMAGE = "usr/share/doc/bootc/baseimage/base"
"""Where a base image may keep a copy of what a root has to have; it is held to the same."""
_API_DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "var")
_INJECTED = ("etc/hostname", "etc/resolv.conf")
_RUNTIME_ONLY = ("run", "tmp")
_OF_CONTAINERS = ("run/systemd/resolve/stub-resolv.conf",)
"""What podman mounts while it builds, and leaves empty directories of."""
_OF_THIS_CONTAINER = ("run/.containerenv", "run/secrets")
"""What is there while a step of a build runs."""
_EFI_DIRECTORY = "boot/EFI"


def _var_run(subject: Subject) -> Iterator[Finding]:
    node = subject.get("var/run")
    if node is not None and node.type is not EntryType.SYMLINK:
        yield Finding(
            "/var/run",
            "what must be a symbolic link is none",
            "remove it, or make it a link to ../run: what runs writes to /run",
        )


def _etc_usretc(subject: Subject) -> Iterator[Finding]:
    if subject.configuration == {"etc", "usr/etc"}:
        yield Finding(
            "/usr/etc",
            "there is both this and /etc",
            "move its files to /etc; /usr/etc is made on the host, when the image is deployed",
        )


def _needs_layers(subject: Subject) -> str:
    if subject.kind is Kind.IMAGE and subject.layers is None:
        return "the store does not have how the image's layers were written"
    return ""


def _buildah_injected(subject: Subject) -> Iterator[Finding]:
    for path in _INJECTED:
        node = subject.get(path)
        if node is not None and node.type is EntryType.FILE and not node.size:
            yield Finding(
                f"/{path}",
                "is empty: a container build may have left it behind",
                "remove it in the step that makes the image's last layer, give it content, or link "
                "it to where the host makes it, as /etc/resolv.conf to "
                "../run/systemd/resolve/stub-resolv.conf",
            )


def _injected_not_for(subject: Subject) -> str:
    if subject.kind is Kind.RUNNING:
        return "both files are the container's while it runs"
    return _needs_layers(subject)


def _api_base_directories(subject: Subject) -> Iterator[Finding]:
    for path in _API_DIRECTORIES:
        node = subject.get(path)
        if node is None:
            yield Finding(f"/{path}", "is missing: the host mounts there", f"RUN mkdir -p /{path}")
        elif node.type is not EntryType.DIRECTORY:
            yield Finding(
                f"/{path}",
                "must be a directory: the host mounts there",
                f"RUN rm /{path} && mkdir /{path}",
            )


def _baseimage_root(subject: Subject) -> Iterator[Finding]:
    yield from _expected_root(subject, "")
    if subject.get(BASEIMAGE) is not None:
        yield from _expected_root(subject, f"{BASEIMAGE}/")


def _expected_root(subject: Subject, top: str) -> Iterator[Finding]:
    sysroot, ostree = subject.get(f"{top}sysroot"), subject.get(f"{top}ostree")
    make = "start FROM a base image that has it, or RUN "
    if sysroot is None:
        yield Finding(f"/{top}sysroot", "is missing", f"{make}mkdir /{top}sysroot")
    elif sysroot.type is not EntryType.DIRECTORY:
        yield Finding(
            f"/{top}sysroot", "must be a directory", f"{make}mkdir /{top}sysroot in its place"
        )
    link = f"{make}ln -sfn sysroot/ostree /{top}ostree"
    if ostree is None:
        yield Finding(f"/{top}ostree", "is missing", link)
    elif ostree.type is not EntryType.SYMLINK:
        yield Finding(f"/{top}ostree", "must be a symbolic link to sysroot/ostree", link)
    elif ostree.target != "sysroot/ostree":
        yield Finding(
            f"/{top}ostree",
            "must be a symbolic link to sysroot/ostree",
            link,
            f"leads to {ostree.target!r}",
        )


def _nonempty_boot(subject: Subject) -> Iterator[Finding]:
    boot = subject.get("boot")
    if boot is None or boot.type is not EntryType.DIRECTORY:
        yield Finding("/boot", "there is no such directory", "RUN mkdir /boot")
        return
    for node in subject.children("boot"):
        if node.path != _EFI_DIRECTORY:
            yield Finding(
                f"/{node.path}",
                "is in /boot, which the host mounts over",
                "move kernel and initramfs to /usr/lib/modules/VERSION/vmlinuz and initramfs.img, "
                "remove the rest",
            )


def _nonempty_run_tmp(subject: Subject) -> Iterator[Finding]:
    found = {node.path: node for top in _RUNTIME_ONLY for node in subject.below(top)}
    spared = [*_OF_CONTAINERS, *(_OF_THIS_CONTAINER if subject.kind is Kind.RUNNING else ())]
    for path in spared:
        for below in [each for each in found if each == path or each.startswith(f"{path}/")]:
            del found[below]
        # Then the directories on the way there, if there is nothing else in them.
        while (path := path.rpartition("/")[0]) not in ("", *_RUNTIME_ONLY):
            if any(each.startswith(f"{path}/") for each in found):
                break
            found.pop(path, None)
    for path in found:
        yield Finding(
            f"/{path}",
            "is in /run or /tmp, which the host mounts over",
            "remove it in the step that makes it, or mount there while it runs: "
            "RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp",
        )


LINTS = (
    Lint(
        "var-run",
        Level.FATAL,
        "Check for /var/run being a physical directory; this is always a bug.",
        _var_run,
    ),
    Lint(
        "buildah-injected",
        Level.WARNING,
        "Check for an empty /etc/hostname or /etc/resolv.conf, which a container build may have "
        "left behind.",
        _buildah_injected,
        _injected_not_for,
    ),
    Lint(
        "etc-usretc",
        Level.FATAL,
        "Check that there is /etc alone, and not /usr/etc too: an image has /etc, a deployment "
        "both, and what an image with both means is not defined.",
        _etc_usretc,
        _needs_layers,
    ),
    Lint(
        "api-base-directories",
        Level.FATAL,
        "Check for the directories that a host mounts on (https://systemd.io/API_FILE_SYSTEMS/), "
        "and for /var.",
        _api_base_directories,
    ),
    Lint(
        "baseimage-root",
        Level.FATAL,
        "Check for what an OSTree deployment has to have in its root: the directory /sysroot, and "
        "the link /ostree to sysroot/ostree.",
        _baseimage_root,
    ),
    Lint(
        "nonempty-boot",
        Level.WARNING,
        "Check that there is a directory /boot with nothing in it: kernel and initramfs belong "
        "into /usr/lib/modules, and the host mounts over /boot.",
        _nonempty_boot,
    ),
    Lint(
        "nonempty-run-tmp",
        Level.WARNING,
        "Check that /run and /tmp are empty: the host mounts over them, so what is there is left "
        "from the build.",
        _nonempty_run_tmp,
        _needs_layers,
    ),
)
