"""What a file of skopeo's chooses, and where it puts it: skopeo itself is asked, dry.

Neither of versions nor with `--append-suffix`, which the skopeo of Debian 12 does not know yet.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from rig.peers import require
from rig.raw import put_blob, put_manifest
from rig.registry import Registry, run_registry

from bridge.sync import config, select
from bridge.sync.model import Kind

TAGS = [
    *("latest", "edge", "x", "V1", "A-1", "1", "1.0", "1.0.0", "1.2.3", "1.2.3-rc1", "1.2.3_5"),
    *("1.10.0", "1.13.1-alpine-perl", "1.13.2-alpine-perl", "1.13.3-alpine-perl", "2", "2.0"),
    *("2.0.0-beta", "3.12.0", "4.0.0", "v2.0", "20240101", "jammy-20240101", "1.2.3.4"),
]
REPOSITORIES = ["one", "group/two", "group/deep/three"]
EXPRESSIONS = [
    r"^1\.13\.[12]-alpine-perl$",
    "alpine",
    "",
    "^$",
    "(?i)^V",
    r"^\d+$",
    r"^\pL+$",
    r"\.0\z",
    "^(1|2)",
    "1|2$",
    "[[:alpha:]]",
]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry in which every repository has all the tags, of an image without layers."""
    configuration = b"{}"
    digest = f"sha256:{hashlib.sha256(configuration).hexdigest()}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": len(configuration),
        },
        "layers": [],
    }
    with run_registry() as registry:
        for repository in REPOSITORIES:
            put_blob(registry, repository, digest, configuration)
            for tag in TAGS:
                put_manifest(registry, repository, tag, manifest)
        yield registry


def by_skopeo(file: Path, target: str) -> set[tuple[str, str]]:
    """What skopeo would copy: from where, to where."""
    command = [require("skopeo"), "sync", "--src", "yaml", "--dest", "docker", "--dry-run"]
    done = subprocess.run(
        [*command, "--src-tls-verify=false", str(file), target],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r'from="docker://([^"]+)" to="docker://([^"]+)"', done.stderr))


def by_us(registry: Registry, file: Path, target: str) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for job in config.load(str(file), target=target).jobs:
        if job.source.kind is Kind.IMAGE:
            found.add((str(job.source), str(job.target)))
            continue
        tags: list[str] = []
        if select.named(job.tags) is None:
            path = job.source.name.partition("/")[2]
            tags = requests.get(f"{registry.url}/v2/{path}/tags/list", timeout=60).json()["tags"]
        found |= {
            (f"{job.source}:{tag}", f"{job.target}:{tag}") for tag in select.wanted(tags, job.tags)
        }
    return found


def both(registry: Registry, directory: Path, sections: dict[str, object]) -> set[tuple[str, str]]:
    """What both choose, which has to be the same."""
    file = directory / "sync.yaml"
    file.write_text(json.dumps({registry.host: {**sections, "tls-verify": False}}))
    found = by_us(registry, file, "r.local/mirror")
    assert found == by_skopeo(file, "r.local/mirror")
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda text: text or "empty")
def test_expressions(registry: Registry, tmp_path: Path, expression: str) -> None:
    found = both(registry, tmp_path, {"images-by-tag-regex": {"one": expression}})
    assert bool(found) == (expression != "^$")


def test_everything_at_once(registry: Registry, tmp_path: Path) -> None:
    digest = f"sha256:{'1' * 64}"
    sections = {
        "images": {"one": [], "group/two": ["latest", "1.0", digest]},
        "images-by-tag-regex": {"group/two": "^2", "group/deep/three": "alpine"},
    }
    found = both(registry, tmp_path, sections)
    assert len(found) > len(TAGS)
    assert (f"{registry.host}/group/two@{digest}", f"r.local/mirror/two@{digest}") in found
