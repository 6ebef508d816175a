"""Options that several commands share, under the names that skopeo, podman and bootc use."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge import limits
from bridge.errors import NotFound, UsageError

if TYPE_CHECKING:
    from bridge.oci.model import Platform
    from bridge.oci.reference import ImageReference
    from bridge.ostree.repository import Repository
    from bridge.pull.plan import Depth
    from bridge.pull.progress import Progress
    from bridge.registry.options import NetworkOptions

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}


def add_output(parser: argparse.ArgumentParser, *, progress: bool = False) -> None:
    """Add `--json`, `--quiet`, `-v` and, for what takes long, `--progress-fd`."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON document")
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="say more")
    if progress:
        group.add_argument(
            "--progress-fd", type=int, metavar="FD", help="write progress to FD as JSON lines"
        )


def add_transfer(parser: argparse.ArgumentParser, *, plan: bool = True) -> None:
    """Add `--plan` unless there is nothing to plan with, and `--partial`, which `depth` reads."""
    group = parser.add_argument_group("transfer")
    if plan:
        group.add_argument(
            "--plan",
            "--dry-run",
            action="store_true",
            help="tell what would be moved, layer by layer, and why; move nothing",
        )
    group.add_argument(
        "--partial",
        choices=("never", "files", "chunks", "fastest"),
        default="chunks",
        help="how far down to look for what is here already, in layers that can be fetched in "
        "parts; fastest: as chunks, but not on links of more than a gigabit a second, where all of "
        "it is there sooner (default: %(default)s)",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add `--disable-selinux`."""
    parser.add_argument(
        "--disable-selinux",
        action="store_true",
        help="give files no labels, even if the image has an SELinux policy",
    )


def depth(options: argparse.Namespace) -> Depth:
    """Return what `--partial` says."""
    from bridge.pull.plan import Depth

    return Depth(options.partial)


def add_apply(parser: argparse.ArgumentParser) -> None:
    """Add `--apply`: `check_apply` comes first, `apply` last."""
    parser.add_argument(
        "--apply", action="store_true", help="restart the machine if something else boots next"
    )


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add `--keep`."""
    parser.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="of deployments that are not pinned keep N, 2 or more (default: as the settings say)",
    )


def check_apply(options: argparse.Namespace) -> None:
    """Raise `UsageError`, before anything is done, where `--apply` has nothing to restart."""
    if options.apply and os.path.realpath(options.sysroot) != "/":
        raise UsageError(f"--apply restarts this machine, which does not run {options.sysroot}")


def apply(options: argparse.Namespace) -> None:
    """Restart the machine if `--apply` was given and it is going to run something else then."""
    if not options.apply:
        return
    from bridge.sysroot import systemd
    from bridge.sysroot.update import boots_another

    if boots_another(options.sysroot):
        systemd.reboot()


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that `network_options` reads."""
    group = parser.add_argument_group("network")
    group.add_argument("--authfile", metavar="FILE", help="take credentials from this file only")
    group.add_argument("--creds", metavar="USER:PASSWORD", help="credentials for the registry")
    group.add_argument(
        "--tls-verify",
        type=_boolean,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="false accepts any certificate, and plain HTTP (default: true, or as registries.conf "
        "says of the registry)",
    )
    group.add_argument("--cert-dir", metavar="DIR", help="directory with *.crt, *.cert, *.key")
    group.add_argument(
        "--retry-times",
        type=_count,
        default=limits.RETRIES,
        metavar="N",
        help="tries after a failed one (default: %(default)s)",
    )
    group.add_argument(
        "--idle-timeout",
        type=_seconds,
        default=limits.IDLE_TIMEOUT,
        metavar="SECONDS",
        help="give a connection up when nothing came for so long (default: %(default)g)",
    )
    group.add_argument(
        "--limit-rate",
        type=_rate,
        metavar="RATE",
        help="bytes per second, with k, M, G, Ki, Mi or Gi",
    )


def platform(options: argparse.Namespace) -> Platform | None:
    """Return what `--platform` says; None where it was not given."""
    from bridge.oci.model import Platform

    text = options.platform
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"--platform {text!r}: it has the form OS/ARCH or OS/ARCH/VARIANT")
    return Platform(*parts)


def add_transport(parser: argparse.ArgumentParser) -> None:
    """Add `--transport`, which says what kind of thing the reference names."""
    parser.add_argument(
        "--transport", metavar="KIND", help="registry, oci or oci-archive (IMAGE is then its name)"
    )


def add_repository(parser: argparse.ArgumentParser) -> None:
    """Add `--repo` and `--sysroot`, of which `open_repository` takes the one given."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--repo", metavar="DIR", help="the OSTree repository")
    add_sysroot(group)


def add_builds(parser: argparse.ArgumentParser) -> None:
    """Add `--repo`, for what builds images: `open_builds` reads it."""
    parser.add_argument(
        "--repo", metavar="DIR", help="where images are kept that are built (default: the user's)"
    )


def add_sysroot(parser: argparse._ActionsContainer) -> None:
    """Add `--sysroot`."""
    parser.add_argument(
        "--sysroot", metavar="DIR", default="/", help="the host's root (default: %(default)s)"
    )


def network_options(options: argparse.Namespace) -> NetworkOptions:
    """Return what the network options say."""
    from bridge.registry.options import NetworkOptions, Timeouts

    if options.creds is not None and not options.creds.partition(":")[0]:
        raise UsageError("--creds needs a user's name: --creds USER:PASSWORD")
    return NetworkOptions(
        authfile=options.authfile,
        creds=options.creds,
        tls_verify=options.tls_verify,
        cert_dir=options.cert_dir,
        retry_times=options.retry_times,
        limit_rate=options.limit_rate,
        timeouts=Timeouts(idle=options.idle_timeout),
    )


def image_reference(text: str, transport: str | None = None) -> ImageReference:
    """Return the reference in `text`; a short name is made whole by registries.conf.

    The path of a layout is made absolute: an origin file or a ref that names it means the same
    from any directory.
    """
    return _absolute(_parsed(text, transport))


def _parsed(text: str, transport: str | None) -> ImageReference:
    from bridge.oci.reference import Transport, is_short_name, parse_reference

    if transport is not None:
        try:
            return parse_reference(text, Transport(transport))
        except ValueError:
            raise UsageError(
                f"--transport {transport!r}: it is registry, oci or oci-archive"
            ) from None
    try:
        return parse_reference(text)
    except UsageError:
        if not is_short_name(text):
            raise
    from bridge.registry.conffiles import load_registries
    from bridge.registry.shortname import expand

    return parse_reference(expand(text, load_registries()))


def _absolute(reference: ImageReference) -> ImageReference:
    from bridge.oci.reference import Transport

    if reference.transport not in (Transport.OCI, Transport.OCI_ARCHIVE):
        return reference
    path, tag = reference.layout
    # A link stays a link, so that it may be moved on; but `a/..` is not `.` where `a` is one.
    full = os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)
    if ":" in full:
        raise UsageError(
            f"{reference}: its directory {full!r} has a colon, where a tag would begin"
        )
    return replace(reference, name=f"{full}:{tag}" if tag else full)


def open_repository(options: argparse.Namespace) -> Repository:
    """Open the repository that `--repo` or `--sysroot` names."""
    from bridge.ostree.repository import Repository

    path = options.repo or os.path.join(options.sysroot, "ostree/repo")
    try:
        return Repository.open(path)
    except NotFound as error:
        hint = "" if options.repo else "; name one with --repo DIR, or a host with --sysroot DIR"
        raise NotFound(f"{error}{hint}") from None


def open_builds(options: argparse.Namespace) -> Repository:
    """Open the repository that `--repo` names, else the one where this user's builds are kept; it
    is made where there is none."""
    from bridge.ostree.repository import Repository

    path = options.repo or _builds()
    try:
        return Repository.open(path)
    except NotFound:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return Repository.create(path, "bare-user")


def _builds() -> str:
    if os.geteuid() == 0:
        return "/var/lib/bootc-py/builds"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "bootc-py/builds")


@contextmanager
def progress(options: argparse.Namespace) -> Iterator[Progress]:
    """Show progress: a bar on a terminal, else plain lines, or nothing; and JSON lines if asked."""
    from bridge.cli.progress import Both, JsonLines, choose

    shown = choose(quiet=options.quiet)
    if options.progress_fd is not None:
        shown = Both(JsonLines.open(options.progress_fd), shown)
    try:
        yield shown
    except BaseException:
        shown.finish(failed=True)
        raise
    shown.finish()


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a count")
    return int(text)


def _seconds(text: str) -> float:
    if not text.isdecimal() or not 1 <= int(text) <= limits.IDLE_TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds from 1 to {limits.IDLE_TIMEOUT_MAX:g}"
        )
    return float(text)


def _rate(text: str) -> int:
    rate = _bytes(text.removesuffix("/s"))
    if rate is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate such as 500k or 2M")
    if rate < 1024:
        raise argparse.ArgumentTypeError("the least rate is 1024 bytes per second")
    return rate


def size(text: str) -> int:
    """Return a number of bytes, for argparse."""
    found = _bytes(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500k or 200MB")
    return found


def _bytes(text: str) -> int | None:
    digits = text.rstrip("kKmMgGiIbB")
    unit = text[len(digits) :].lower().removesuffix("b")
    try:
        found = int(float(digits) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        return None
    return found if found >= 0 else None
