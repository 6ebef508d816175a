"""The boot entry of a deployment: title, kernel, arguments, as libostree composes them."""

from __future__ import annotations

import shlex

from bridge import limits
from bridge.errors import MalformedImage
from bridge.sysroot import bls, files, kargs
from bridge.sysroot.deployment import BootLink, Deployment
from bridge.sysroot.kernel import Kernel

_OS_RELEASE = (("usr/lib", "os-release"), ("etc", "os-release"))


def compose(
    deployment: Deployment,
    kernel: Kernel,
    link: BootLink,
    title: str,
    version: int,
    boot_prefix: str,
) -> bls.Entry:
    """Return the entry that boots `deployment` through `link`.

    `version` is the highest for what boots first; `boot_prefix` is `/boot/` or `/`. Keys that
    others have put into the deployment's entry, and further initrds, stay.
    """
    arguments = deployment.kargs
    directory = f"{boot_prefix}{kernel.directory(deployment.stateroot)}"
    paths = {each.key: f"{directory}/{each.name}" for each in kernel.files if each.key}
    overlays = deployment.entry.get_all("initrd")[1:]
    if "initrd" in paths:
        arguments = without_prepare_root(arguments)
    else:
        arguments = kargs.replace(arguments, f"init={link}/usr/lib/ostree/ostree-prepare-root")
    arguments = kargs.replace(arguments, f"ostree={link}")
    entry = deployment.entry.replace("title", title).replace("version", str(version))
    entry = entry.replace("options", kargs.join(arguments)).replace("linux", paths["linux"])
    for key in ("devicetree", "initrd"):
        more = overlays if key == "initrd" and key in paths else ()
        entry = entry.replace(key, *((paths[key], *more) if key in paths else ()))
    return entry


def title(
    tree_fd: int,
    deployment: Deployment,
    index: int,
    version: str | None,
    show_stateroot: bool,
) -> str:
    """Return the title: os-release's PRETTY_NAME, the commit's version, stateroot and index.

    Raises `MalformedImage` when the tree has no os-release with a name in it.
    """
    name = _os_name(tree_fd, deployment)
    return compose_title(name, version, deployment.stateroot if show_stateroot else None, index)


def compose_title(name: str, version: str | None, stateroot: str | None, index: int) -> str:
    """Return a title in one printable line, whatever the image says.

    A line break would begin another key, and at a NUL readers take the file to end.
    """
    if version and version not in name:
        name += f" {version}"
    return _one_line(f"{name} (ostree{f':{stateroot}' if stateroot else ''}:{index})")


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def parse_os_release(text: str) -> dict[str, str]:
    """Parse os-release(5): shell-like assignments; lines that are none are passed over."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith("#"):
            continue
        try:
            values[key] = "".join(shlex.split(value))
        except ValueError:
            continue
    return values


def _os_name(tree_fd: int, deployment: Deployment) -> str:
    for parent, name in _OS_RELEASE:
        try:
            with files.directory(tree_fd, parent) as fd:
                text = files.read_bytes(fd, name, limits.OS_RELEASE_MAX).decode(errors="replace")
        except OSError:
            continue
        values = parse_os_release(text)
        for key in ("PRETTY_NAME", "ID"):
            if found := _one_line(values.get(key, "")):
                return found
    raise MalformedImage(
        f"deployment {deployment.name} has no PRETTY_NAME or ID in /usr/lib/os-release"
    )


def without_prepare_root(arguments: kargs.Arguments) -> kargs.Arguments:
    """Drop an `init=` that we or libostree wrote for an earlier image without initramfs."""
    return tuple(
        each
        for each in arguments
        if not (each.startswith("init=/ostree/boot.") and each.endswith("/ostree-prepare-root"))
    )
