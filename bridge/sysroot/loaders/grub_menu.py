"""A GRUB menu made of boot entries, for a GRUB that has no `blscfg`.

It lies in `loader.N/grub.cfg` beside the entries, so that the one rename that makes these live
makes it live too. Whoever starts GRUB says `configfile /loader/grub.cfg`, with `root` set to the
file system of `/boot`. Format: GRUB manual, "Shell-like scripting".
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.ostree import durable
from bridge.sysroot import bls, files, kargs

NAME = "grub.cfg"


def write(directory: int, entries: Sequence[bls.Entry]) -> None:
    """Have the directory `loader.N` hold the menu, entries in boot order."""
    text = render(entries).encode()
    try:
        if files.read_bytes(directory, NAME, len(text)) == text:
            return
    except OSError:
        pass  # none, or a longer one
    durable.replace_file(NAME, text, directory)


def render(entries: Sequence[bls.Entry]) -> str:
    """Return the menu; the first entry is what boots."""
    # Set here: a configfile does not get what the one that called it has set.
    lines = ["set default=0", "set timeout=0"]
    for number, entry in enumerate(entries):
        title = entry.get("title") or f"entry {number}"
        linux = entry.get("linux") or ""
        lines.append(f"menuentry {_quoted(title)} --id {_quoted(f'ostree-{number}')} {{")
        lines.append(f"    linux {' '.join(map(_quoted, [linux, *_words(entry)]))}")
        if initrds := entry.get_all("initrd"):
            lines.append(f"    initrd {' '.join(map(_quoted, initrds))}")
        if tree := entry.get("devicetree"):
            lines.append(f"    devicetree {_quoted(tree)}")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _words(entry: bls.Entry) -> list[str]:
    """Return the kernel arguments, those with quoted blanks in one piece.

    GRUB puts quotes around what has blanks in it; those that are there it would hand on with a
    backslash before each, which the kernel does not take for quotes.
    """
    return [word.replace('"', "") for word in kargs.split(entry.get("options") or "")]


def _quoted(text: str) -> str:
    """Return a word as GRUB's shell takes it literally."""
    return "'" + text.replace("'", "'\\''") + "'"
