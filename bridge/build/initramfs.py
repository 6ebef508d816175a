"""The initramfs of what was built, packed so that it can be made again bit by bit."""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryFile
from typing import BinaryIO

from bridge.contents.contents import Contents
from bridge.contents.replaced import replaced
from bridge.errors import MalformedImage
from bridge.initramfs.pack import packed
from bridge.pull.progress import Progress

_INITRAMFS = re.compile(r"usr/lib/modules/[^/]+/initramfs\.img")


def with_packed_initramfs(
    contents: Contents, work: str, stack: ExitStack, progress: Progress
) -> tuple[Contents, frozenset[str]]:
    """Return the view with each initramfs packed anew, and the SHA-256 (hex) of each of them.

    `work` is a directory for what that takes, which lasts as long as `stack`. One that cannot be
    read stays as it is: the lints tell of it.
    """
    files: dict[str, BinaryIO] = {}
    digests = set()
    for path, node in contents.nodes.items():
        if not (node.is_file and _INITRAMFS.fullmatch(path)):
            continue
        digest = hashlib.sha256()
        target = stack.enter_context(TemporaryFile(dir=work))  # noqa: SIM115
        try:
            with TemporaryFile(dir=work) as spool:
                for chunk in packed(partial(contents.chunks, node), spool):
                    target.write(chunk)
                    digest.update(chunk)
        except MalformedImage as error:
            progress.message(f"/{path} stays as it is: {error}")
            continue
        files[path] = target
        digests.add(digest.hexdigest())
    return replaced(contents, files) if files else contents, frozenset(digests)
