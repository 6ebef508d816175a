"""A registry's storage with every image pushed to it: made once, cloned for each use."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rig.push import push
from rig.registry import run_registry
from tools.images import cache
from tools.images.layout import Layout

# Files of this size and more are blobs: the registry never writes to one that is there.
_LINK_FROM = 1 << 16


def storage(images: Mapping[str, Layout]) -> Path:
    """The cached storage with `images`, by REPOSITORY:TAG. Not to be served: clone it."""
    names = sorted(images)
    name = f"{key(names)}-{key([images[name].digest for name in names])}"

    def make(directory: Path) -> None:
        with run_registry(directory) as registry:
            for name, layout in images.items():
                repository, _, tag = name.partition(":")
                push(layout, registry, repository, tag)

    return cache.entry(f"registries/{name}", make)


def key(of: list[str]) -> str:
    """A part of a cache entry's name that stands for these texts."""
    return hashlib.sha256("\n".join(of).encode()).hexdigest()[:12]


def clone(source: Path, target: Path) -> None:
    """Copies a storage to the directory `target` on the same file system; others may be there.

    Large files are hard links, so to damage one replace it: `Registry.replace_blob`.
    """

    def copy(old: str, new: str) -> str:
        if os.stat(old).st_size >= _LINK_FROM:
            os.link(old, new)
        else:
            shutil.copy(old, new)
        return new

    shutil.copytree(source, target, copy_function=copy, dirs_exist_ok=True)
