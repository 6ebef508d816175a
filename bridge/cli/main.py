"""`bootc-py`: finds the command, and turns what it raises into a line and an exit code.

Only the module of the command that was asked for is imported: `--help` stays quick.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from bridge import __version__
from bridge.errors import (
    BridgeError,
    ConfigurationError,
    DamagedRepository,
    NoSpace,
    is_full,
)

_COMMANDS = {
    "switch": "boot another image from the next boot on",
    "upgrade": "bring the tracked image's newest state to the next boot",
    "rollback": "boot the previous deployment next",
    "status": "show the deployments of this host",
    "kargs": "show and change the kernel arguments",
    "pin": "keep a deployment whatever comes after it",
    "unpin": "keep a deployment no longer",
    "usr-overlay": "make /usr writable until the next boot",
    "config-diff": "show what was changed in /etc",
    "install": "install an image onto a disk or into a file system",
    "image": "pull, push, list, inspect, remove and prune stored images",
    "publish": "copy an image to where others get it, with what belongs to it",
    "sync": "keep images of registries at other places, by a configuration",
    "health": "tell whether this deployment is good, and roll back one that is not",
    "build": "build an OS image from a Containerfile",
    "container": "prepare an image's root while it is built, and look for what is wrong in it",
    "fsck": "verify every object of a repository",
}
_LONGEST = 4000
_COLLECTED = (50_000, 20, 100)
"""How seldom cycles are looked for: a pull holds hundreds of thousands of tuples to its end, no
cycle among them, and with the usual numbers all of them are walked again and again."""
_ALIASES = {"update": "upgrade"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the form of all our errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {' '.join(message.split())}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Arguments are those of the process by default."""
    gc.set_threshold(*_COLLECTED)
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.print_help(sys.stderr)
        return 2
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except ConfigurationError as error:
        _explain(options)
        for mistake in error.mistakes:
            _fail(mistake, error.exit_code)
        return error.exit_code
    except BridgeError as error:
        _explain(options)
        hint = ""
        if isinstance(error, DamagedRepository) and "--repair" not in str(error):
            hint = "; `fsck --repair` may heal it"
        return _fail(f"{error}{hint}", error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has had enough; that must not end in a traceback at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted; what was downloaded is kept for the next time", 130)
    except OSError as error:
        _explain(options)
        kind = NoSpace if is_full(error) else BridgeError
        return _fail(f"{options.command}: {error}", kind.exit_code)


def _explain(options: argparse.Namespace) -> None:
    """Show where the error in hand came from, if the user wants to know."""
    if options.verbose:
        import traceback

        traceback.print_exc()


def _fail(message: str, code: int) -> int:
    # One line with an end, and nothing that would make the terminal do something.
    printable = "".join(char if char.isprintable() else " " for char in message)
    print("error: " + " ".join(printable.split())[:_LONGEST], file=sys.stderr)
    return code


def _parser(arguments: Sequence[str]) -> _Parser:
    parser = _Parser(
        prog="bootc-py", description="A bridge from OCI images to bootable OSTree deployments."
    )
    parser.add_argument("--version", action="version", version=f"bootc-py {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    asked = next((each for each in arguments if not each.startswith("-")), None)
    asked = _ALIASES.get(asked or "", asked)
    for name, summary in _COMMANDS.items():
        aliases = [alias for alias, meant in _ALIASES.items() if meant == name]
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", aliases=aliases
        )
        if name == asked:
            importlib.import_module(f"bridge.cli.{name.replace('-', '_')}").configure(command)
    return parser
