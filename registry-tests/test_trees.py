"""Imported trees are those that umoci unpacks, path by path; in every form of the layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rig import reference, store
from rig.command import pull
from rig.registry import Registry

from tools.images.layout import Layout
from tools.images.spec import FORMATS, IMAGES, VERSIONS

Images = dict[tuple[str, str, str], Layout]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", IMAGES)
def test_every_form_becomes_the_tree_that_umoci_unpacks(
    images: Images, registry: Registry, scratch: Path, name: str, version: str
) -> None:
    sources = {
        form: f"{registry.host}/{IMAGES[name].repository}:{version}-{form}" for form in FORMATS
    }
    sources["oci:"] = images[name, version, "gzip"].reference
    reports = {}
    for source, image in sources.items():
        repo = scratch / source.strip(":")
        reports[source] = pull(image, repo)
        store.fsck(repo)
    assert len({report["image"]["contentChecksum"] for report in reports.values()}) == 1
    assert len({report["image"]["commit"] for report in reports.values()}) == len(FORMATS)

    # The content is the same, so one of them stands for all.
    commit = reports["zstd"]["image"]["commit"]
    unpacked = reference.records(reference.unpacked(images[name, version, "gzip"]))
    expected = store.imported(unpacked)
    listed = store.tree(scratch / "zstd", commit)
    assert store.differences(listed, store.without_content(expected)) == []
    root = store.checkout(scratch / "zstd", commit, scratch / "checkout")
    assert store.differences(reference.records(root), expected) == []

    assert len(expected) > {"base": 8_000, "server": 30_000}[name]
    assert any(record.xattrs for record in expected.values())
    gone = {each["path"] for each in reports["zstd"]["dropped"]}
    assert gone >= {path[1:] for path in unpacked if path.startswith(("/run/", "/dev/"))}
    print(f"{name} {version}: {len(expected)} paths compared, 0 differences")


def test_the_comparison_sees_what_differs(images: Images, scratch: Path) -> None:
    """One path each with another owner, mode, size, content, target, xattr, or missing."""
    image = images["base", "v1", "gzip"]
    expected = store.imported(reference.records(reference.unpacked(image)))
    commit = pull(image.reference, scratch / "repo")["image"]["commit"]
    assert store.differences(store.tree(scratch / "repo", commit), expected), "no contents in it"
    found = reference.records(store.checkout(scratch / "repo", commit, scratch / "checkout"))
    assert store.differences(found, expected) == []

    capable = next(path for path, record in expected.items() if record.xattrs)
    changes = {
        "/usr/bin/env": {"uid": 1},
        "/usr/bin/cat": {"mode": 0o4755},
        "/usr/bin/ls": {"size": 1},
        "/usr/lib/os-release": {"sha256": "0" * 64},
        "/bin": {"target": "usr/sbin"},
        capable: {"xattrs": ()},
    }
    altered = {path: replace(expected[path], **change) for path, change in changes.items()}
    altered = {**expected, **altered}
    del altered["/usr/etc/passwd"]
    assert len(store.differences(found, altered)) == len(changes) + 1
    assert len(store.differences(store.tree(scratch / "repo", commit), altered)) >= len(changes)
