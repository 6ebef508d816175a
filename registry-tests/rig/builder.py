"""A user who builds images: a storage for buildah, and a repository for what is built."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.command import Done, bootc_py
from rig.peers import require
from tools.images.layout import Layout

EPOCH = "1700000000"


@dataclass(frozen=True)
class Builder:
    """Everything is in the directory `work`, the Containerfile in `context` below it.

    `options` are given to each build.
    """

    work: Path
    options: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        return {
            "CONTAINERS_STORAGE_CONF": str(self.work / "storage.conf"),
            "SOURCE_DATE_EPOCH": EPOCH,
            "TMPDIR": str(self.work),
        }

    @property
    def repo(self) -> Path:
        return self.work / "repo"

    @property
    def context(self) -> Path:
        return self.work / "context"

    def prepare(self, containerfile: str, bases: Mapping[str, Layout]) -> None:
        """Make `work`; the storage has the images `bases`, by name."""
        self.context.mkdir(parents=True)
        (self.context / "Containerfile").write_text(containerfile)
        place = f"overlay@{self.work / 'storage'}+{self.work / 'run'}"
        (self.work / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.work / "storage"}"\n'
            f'runroot = "{self.work / "run"}"\n'
        )
        for name, layout in bases.items():
            target = f"containers-storage:[{place}]{name}"
            command = [require("skopeo"), "copy", "--quiet", layout.reference, target]
            subprocess.run(command, check=True, capture_output=True)

    def build(self, tag: str, *options: str) -> Done:
        return bootc_py(
            "build", "--tag", tag, "--repo", self.repo, "--isolation=chroot", "--compression=zstd",
            *self.options, *options, self.context, env=self.env,
        )  # fmt: skip

    def built(self, tag: str, *options: str) -> dict[str, Any]:
        """The report of a build that has to succeed."""
        done = self.build(tag, "--json", "--quiet", *options)
        assert done.code == 0, done.err
        document: dict[str, Any] = done.json
        return document
