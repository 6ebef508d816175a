"""Documents whose texts are not for every eye."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import MalformedImage
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_MANIFEST, Index, Platform, parse_config, parse_document


def index(**platform: Any) -> bytes:
    entry = {"mediaType": OCI_MANIFEST, "digest": Digest.of(b""), "size": 0, "platform": platform}
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


@pytest.mark.parametrize("system", ["plan9\nerror: fake", "\x1b[2J", "x" * 100_000])
def test_what_an_index_offers_is_named_in_one_bounded_line(system: str) -> None:
    found = parse_document(index(os=system, architecture="amd64"))
    assert isinstance(found, Index)
    with pytest.raises(MalformedImage, match="it has: ") as caught:
        found.select(Platform("linux", "amd64"))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", [0, "", False, [], {}])
def test_a_media_type_is_a_text_or_not_there(kind: object) -> None:
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}).encode()
    with pytest.raises(MalformedImage, match="mediaType is"):
        parse_document(raw)


def test_a_label_that_is_no_text_is_refused() -> None:
    """Nothing could write it: not the store, not a terminal."""
    config = (
        rb'{"os": "l", "architecture": "a", "rootfs": {"type": "layers"},'
        rb' "config": {"Labels": {"version": "\ud800"}}}'
    )
    with pytest.raises(MalformedImage, match="surrogates"):
        parse_config(config)
