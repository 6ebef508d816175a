"""The registry's own protocol, by hand: what clients made for images do not do."""

from __future__ import annotations

import json
from typing import Any

import requests

from rig.registry import Registry
from tools.images.layout import Layout

_SECONDS = 60


def move_tag(registry: Registry, layout: Layout, origin: str, repository: str, tag: str) -> None:
    """Makes REPOSITORY:TAG name `layout`, whose blobs the repository `origin` has."""
    with requests.Session() as session:
        for blob in (layout.manifest["config"], *layout.layers):
            answer = session.post(
                f"{registry.url}/v2/{repository}/blobs/uploads/",
                params={"mount": blob["digest"], "from": origin},
                timeout=_SECONDS,
            )
            assert answer.status_code == 201, answer.text
    put_manifest(
        registry, repository, tag, layout.manifest, layout.blob(layout.digest).read_bytes()
    )


def put_manifest(
    registry: Registry, repository: str, tag: str, document: dict[str, Any], raw: bytes = b""
) -> None:
    """Puts a manifest or an index whose parts are in the repository already."""
    answer = requests.put(
        f"{registry.url}/v2/{repository}/manifests/{tag}",
        data=raw or json.dumps(document).encode(),
        headers={"Content-Type": document["mediaType"]},
        timeout=_SECONDS,
    )
    assert answer.status_code == 201, answer.text


def put_blob(registry: Registry, repository: str, digest: str, data: bytes) -> None:
    """Uploads a blob in one request."""
    with requests.Session() as session:
        start = session.post(f"{registry.url}/v2/{repository}/blobs/uploads/", timeout=_SECONDS)
        place = requests.compat.urljoin(start.url, start.headers["Location"])
        answer = session.put(place, params={"digest": digest}, data=data, timeout=_SECONDS)
        assert answer.status_code == 201, answer.text
