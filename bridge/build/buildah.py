"""buildah: it runs the steps of a Containerfile, and hands over what came of them.

Its storage is that of the user, with the base images and the cached steps in it; storage.conf(5)
and its environment variables say where. Without root it makes its own user namespaces.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError

_PROGRAM = "buildah"


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be built, as `buildah build` takes it."""

    context: str
    containerfile: str | None = None
    options: tuple[str, ...] = ()
    """More of its options, as they are: build arguments, secrets, volumes, a target."""


def build(steps: Steps, work: Path, epoch: int | None) -> str:
    """Run the steps; return the image's ID in buildah's storage. What buildah prints goes to our
    standard error.

    `epoch` is given to the steps as SOURCE_DATE_EPOCH, if there is one. `work` is a directory for
    temporary files. `BridgeError` where buildah is missing, or a step fails.
    """
    ids = work / "image-id"
    what = steps.containerfile or f"the Containerfile in {steps.context}"
    options = [f"--iidfile={ids}", "--format=oci"]
    if steps.containerfile is not None:
        options.append(f"--file={steps.containerfile}")
    if epoch is not None:
        options.append(f"--build-arg=SOURCE_DATE_EPOCH={epoch}")
    _run(f"building {what}", "build", *options, *steps.options, steps.context)
    return ids.read_text().strip()


def write(image_id: str, layout: Path) -> None:
    """Write an image of buildah's storage to a layout, its layers as plain tar archives."""
    _run("taking what was built", "push", "--quiet", "--disable-compression", "--format=oci",
         image_id, f"oci:{layout}")  # fmt: skip


def _run(what: str, command: str, *arguments: str) -> None:
    program = shutil.which(_PROGRAM)
    if program is None:
        raise BridgeError(f"{what} takes buildah: apt-get install buildah, or dnf install buildah")
    sys.stderr.flush()
    done = subprocess.run(
        [program, command, *arguments], stdin=subprocess.DEVNULL, stdout=2, check=False
    )
    if done.returncode:
        raise BridgeError(
            f"{what}: buildah {command} ended with status {done.returncode}; what it said is above"
        )
