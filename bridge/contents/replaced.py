"""A view in which some files have another content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

from bridge import limits
from bridge.contents.contents import Contents, Node


def replaced(contents: Contents, files: Mapping[str, BinaryIO]) -> Contents:
    """Return the view, with the content of the files at these paths as it is in `files`, which
    must stay open; all else of them is what it was."""
    return _Replaced(contents, files)


class _Replaced(Contents):
    def __init__(self, under: Contents, files: Mapping[str, BinaryIO]) -> None:
        self._under = under
        self._files = dict(files)
        nodes = dict(under.nodes)
        for path, file in self._files.items():
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            node = nodes[path]
            nodes[path] = replace(
                node, size=file.seek(0, 2), key=f"{node.key}+{digest.hexdigest()}"
            )
        self.nodes = nodes

    def chunks(self, node: Node) -> Iterator[bytes]:
        file = self._files.get(node.path)
        if file is None:
            yield from self._under.chunks(node)
            return
        offset = 0
        while True:
            file.seek(offset)
            chunk = file.read(limits.BLOB_BUFFER)
            if not chunk:
                return
            offset += len(chunk)
            yield chunk
