"""Whatever stands in a configuration, it is one, or its mistakes are told; nothing else comes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigurationError, UsageError
from bridge.sync import config
from bridge.sync.model import Config, Kind, Place

PACKAGE = Path(config.__file__).parent
WORDS = sorted(
    {
        word
        for path in PACKAGE.glob("*.py")
        for word in re.findall(r"\"([a-zA-Z]+(?:-[a-z]+)*)\"", path.read_text())
    }
)
TEXTS = st.sampled_from(
    [
        "quay.io/a/b",
        "quay.io/a/",
        "r.local",
        "r.local/x:1",
        "oci:/x",
        "ostree:/r",
        "ocidir://x:y",
        "image",
        "repository",
        "registry",
        "old-{{.Ref.Tag}}",
        '{{env "NO"}}',
        "@daily",
        "* * * * *",
        "90d",
        "1h",
        ">=1.2",
        "a.*",
        "(",
        "linux/amd64",
        "gzip",
        "64MiB",
        "",
        "é\n",
        "sha256:" + "0" * 64,
    ]
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 2000), st.floats(0, 9), TEXTS)
KEYS = st.one_of(st.sampled_from(WORDS), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SECTIONS = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6)
TARGET = Place(Kind.REGISTRY, "r.local/mirror")


def check(document: object, target: Place | None) -> None:
    try:
        found = config.read(
            json.dumps(document).encode(), "/etc/sync.yaml", target=target, with_secrets=False
        )
    except ConfigurationError as error:
        assert error.mistakes
        assert all(each.startswith("/etc/sync.yaml:") for each in error.mistakes)
        assert all(len(each) < 1000 for each in error.mistakes)
    except UsageError as error:
        assert len(str(error)) < 1000
    else:
        assert isinstance(found, Config)
        assert len({job.name for job in found.jobs}) == len(found.jobs)


@settings(deadline=None)
@given(SECTIONS, st.lists(SECTIONS, max_size=2), st.dictionaries(TEXTS, SECTIONS, max_size=2))
def test_ours(defaults: object, jobs: list[dict[str, object]], registries: object) -> None:
    base = {"name": "a", "source": "quay.io/a/b", "target": "r.local/a"}
    document = {
        "version": 1,
        "defaults": defaults,
        "registries": registries,
        "jobs": [{**base, **job} for job in jobs],
    }
    check(document, None)


@settings(deadline=None)
@given(SECTIONS, st.lists(SECTIONS, max_size=2), st.lists(SECTIONS, max_size=2))
def test_regsync(defaults: object, jobs: list[dict[str, object]], creds: object) -> None:
    base = {"source": "quay.io/a/b", "target": "r.local/a", "type": "repository"}
    document = {"defaults": defaults, "creds": creds, "sync": [{**base, **job} for job in jobs]}
    check(document, None)


@settings(deadline=None)
@given(st.dictionaries(TEXTS, SECTIONS, min_size=1, max_size=3), VALUES, VALUES, VALUES)
def test_skopeo(registries: dict[str, object], images: object, one: object, two: object) -> None:
    section = {"images": images, "images-by-tag-regex": one, "images-by-semver": two}
    check({**registries, "q.io": section}, TARGET)


@settings(deadline=None)
@given(VALUES)
def test_anything(document: object) -> None:
    check(document, None)
    check(document, TARGET)


@pytest.mark.parametrize("form", ["version: 1\njobs: ", "sync: ", "q.io: {images: "])
def test_a_file_that_is_cut_off(form: str) -> None:
    whole = form + "[{name: a, source: b, target: c, type: image, tags: {allow: ['x']}}]"
    for length in range(len(whole)):
        try:
            config.read(whole[:length].encode(), "/etc/sync.yaml", with_secrets=False)
        except UsageError:
            continue
