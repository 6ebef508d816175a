"""Pushing layouts to a registry that runs, byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rig.peers import require
from rig.registry import Registry
from tools.images import push as images_push
from tools.images.layout import Layout


def push(layout: Layout, registry: Registry, repository: str, tag: str) -> str:
    """Copies `layout` to REPOSITORY:TAG of `registry`; the manifest's digest, checked."""
    require("skopeo")
    with tempfile.TemporaryDirectory(prefix="push-") as directory:
        options = registry.skopeo_options(Path(directory))
        return images_push.push(layout, f"{registry.host}/{repository}:{tag}", options)
