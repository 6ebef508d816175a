"""Pushes layouts to a registry without a change to a single byte."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.images import build
from tools.images.layout import Layout
from tools.images.spec import ALL, FORMATS


class PushError(Exception):
    """What the registry has is not what was sent."""


def push(
    layout: Layout, destination: str, options: Sequence[str] = ("--dest-tls-verify=false",)
) -> str:
    """Copies an image to `destination` (HOST/REPOSITORY:TAG); its manifest digest.

    `options` are skopeo's, for credentials and TLS.
    """
    with tempfile.TemporaryDirectory() as directory:
        digest_file = Path(directory) / "digest"
        subprocess.run(
            [
                "skopeo", "copy", "--quiet", "--preserve-digests", f"--digestfile={digest_file}",
                *options, layout.reference, f"docker://{destination}",
            ],
            check=True,
            stdout=sys.stderr,
        )  # fmt: skip
        digest = digest_file.read_text().strip()
    if digest != layout.digest:
        raise PushError(f"{destination} has {digest}, but {layout.reference} is {layout.digest}")
    return digest


def publish(name: str, version: str, registry: str) -> Iterator[tuple[str, str]]:
    """Pushes an image in every form: tags `v1-gzip`, `v1-zstd`, ..., and `v1` for gzip.

    Yields each reference and the digest it names.
    """
    for form in FORMATS:
        layout = build.image(name, version, form)
        for tag in (f"{version}-{form}", *([version] if form == "gzip" else [])):
            reference = f"{registry}/{ALL[name].repository}:{tag}"
            yield reference, push(layout, reference)
