"""Peers that are Go programs: a registry with the referrers API, and the current oras.

Debian has neither. They are built from the Go module proxy, once, into the cache; the registry is
the package of Google's go-containerregistry, whose few lines of a program are below. Where there is
no Go, or none that is new enough, the tests that need them are skipped: everything that they show
is shown without them, too, at a registry without the API and by older tools.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig.ports import LOOPBACK, free_port, wait_until_open
from rig.registry import Registry
from tools.images import cache

_REGISTRY = "github.com/google/go-containerregistry"
_VERSIONS = {_REGISTRY: "v0.22.1", "oras.land/oras": "v1.3.6"}
_PROGRAM = f"""
package main

import (
	"log"
	"net/http"
	"os"

	"{_REGISTRY}/pkg/registry"
)

func main() {{
	handler := registry.New(registry.WithReferrersSupport(true))
	log.Fatal(http.ListenAndServe(os.Args[1], handler))
}}
"""


def oras() -> Path:
    """The program `oras`, as it is today."""

    def make(directory: Path) -> None:
        _go(directory, "install", f"oras.land/oras/cmd/oras@{_VERSIONS['oras.land/oras']}")

    return _built(f"oras-{_VERSIONS['oras.land/oras']}", make) / "oras"


@contextmanager
def run_api_registry() -> Iterator[Registry]:
    """An empty registry with the referrers API on a free port, in memory."""

    def make(directory: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="go-") as work:
            (Path(work) / "main.go").write_text(_PROGRAM)
            _go(directory, "mod", "init", "registry", cwd=work)
            _go(directory, "get", f"{_REGISTRY}@{_VERSIONS[_REGISTRY]}", cwd=work)
            _go(directory, "build", "-mod=mod", "-o", str(directory / "registry"), ".", cwd=work)

    program = _built(f"api-registry-{_VERSIONS[_REGISTRY]}", make) / "registry"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="api-registry-") as work:
        log = Path(work) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [program, f"{LOOPBACK}:{port}"], stdout=out, stderr=subprocess.STDOUT
            )
        try:
            wait_until_open(port, process)
            yield Registry(port, Path(work), log)
        finally:
            process.kill()
            process.wait()


def _built(name: str, make: object) -> Path:
    if shutil.which("go") is None:
        pytest.skip("there is no Go to build this peer with")
    try:
        return cache.entry(f"go/{name}", make)  # type: ignore[arg-type]
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Go could not build this peer: {error.stderr.strip().splitlines()[-1:]}")


def _go(directory: Path, *arguments: str, cwd: str | None = None) -> None:
    subprocess.run(
        ["nice", "go", *arguments],
        cwd=cwd,
        env={**os.environ, "GOBIN": str(directory), "GOTOOLCHAIN": "local"},
        check=True,
        capture_output=True,
        text=True,
    )
