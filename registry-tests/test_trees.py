"""Imported trees are those that umoci unpacks, path by path; in every form of the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rig import reference, store
from rig.command import pull
from rig.reference import Record
from rig.registry import Registry

from tools.images import cache
from tools.images.layout import Layout
from tools.images.spec import FORMATS, IMAGES, VERSIONS

Images = dict[tuple[str, str, str], Layout]

PATHS_AT_LEAST = {"base": 5_000, "server": 30_000}


@pytest.fixture(scope="module")
def repo() -> Iterator[Path]:
    """One repository for all images, so that the disk takes each file once."""
    with cache.scratch(cache.root() / "work") as work:
        yield work / "repo"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", IMAGES)
def test_every_form_becomes_the_tree_that_umoci_unpacks(
    images: Images, registry: Registry, repo: Path, tmp_path: Path, name: str, version: str
) -> None:
    references = [f"{registry.host}/{IMAGES[name].repository}:{version}-{form}" for form in FORMATS]
    references.append(images[name, version, "gzip"].reference)
    # Another form comes first, and so is what is written to the disk, for each image.
    first = len(VERSIONS) * list(IMAGES).index(name) + list(VERSIONS).index(version)
    reports = []
    for reference_ in references[first:] + references[:first]:
        report = pull(reference_, repo)
        assert {layer["mode"] for layer in report["layers"]} == {"whole"}
        local = reference_.startswith("oci:")
        for layer in report["layers"]:
            assert layer["receivedBytes"] == (0 if local else layer["size"])
        reports.append(report)
        # So that the next form is transferred, unpacked and verified, too: its files turn out to
        # be here, to the bit.
        store.ostree(repo, "refs", "--delete", "ostree/container/blob")
    assert len({report["image"]["contentChecksum"] for report in reports}) == 1
    assert all(report["store"]["newObjects"] == 0 for report in reports[1:])
    store.fsck(repo)

    commit = reports[0]["image"]["commit"]
    unpacked = reference.records(reference.unpacked(images[name, version, "gzip"]))
    expected = store.imported(unpacked)
    listed = store.tree(repo, commit)
    assert store.differences(listed, store.without_content(expected)) == []
    with cache.scratch(repo.parent) as work:
        root = store.checkout(repo, commit, work / "checkout")
        assert store.differences(reference.records(root), expected) == []

    assert len(expected) > PATHS_AT_LEAST[name]
    assert any(record.xattrs for record in expected.values())
    print(f"{name} {version}: {len(expected):,} paths compared, 0 differences")


def test_what_is_left_out_is_named(images: Images, repo: Path) -> None:
    image = images["server", "v1", "gzip"]
    report = pull(image.reference, repo)
    unpacked = set(reference.records(reference.unpacked(image)))
    missing = unpacked - {
        path.replace("/usr/etc", "/etc", 1) for path in store.tree(repo, report["image"]["commit"])
    }
    named = {f"/{each['path']}".replace("/usr/etc", "/etc", 1) for each in report["dropped"]}
    assert missing <= named
    # The image as a whole has nothing of the kind, but layers have what later ones remove.
    assert "/run/postgresql" in named


ALTERATIONS = {
    "another owner": {"uid": 1},
    "another group": {"gid": 1},
    "another mode": {"mode": 0o4755},
    "another size": {"size": 1},
    "another kind": {"kind": "directory"},
    "a target": {"target": "elsewhere"},
    "an xattr": {"xattrs": (("user.colour", b"blue"),)},
    "another content": {"sha256": "0" * 64},
}


def test_the_comparison_sees_what_differs() -> None:
    plain = {"/": Record("directory", 0o755, 0, 0), "/a": Record("file", 0o644, 0, 0, 3, "ab" * 32)}
    assert store.differences(plain, dict(plain)) == []
    for what, change in ALTERATIONS.items():
        altered = {**plain, "/a": replace(plain["/a"], **change)}  # type: ignore[arg-type]
        assert len(store.differences(plain, altered)) == 1, what
    assert len(store.differences(plain, {"/": plain["/"]})) == 1
    assert len(store.differences({"/": plain["/"]}, plain)) == 1


def test_an_altered_reference_does_not_pass(images: Images, repo: Path) -> None:
    """Against the real thing: one path each with another owner, mode, target, xattrs, or gone."""
    image = images["base", "v1", "gzip"]
    expected = store.imported(reference.records(reference.unpacked(image)))
    commit = pull(image.reference, repo)["image"]["commit"]
    listed = store.tree(repo, commit)
    expected = store.without_content(expected)
    assert store.differences(listed, expected) == []
    capable = next(path for path, record in expected.items() if record.xattrs)
    changes: dict[str, dict[str, object]] = {
        "/usr/bin/env": {"uid": 1},
        "/usr/bin/cat": {"mode": 0o4755},
        "/bin": {"target": "usr/sbin"},
        capable: {"xattrs": ()},
    }
    altered = {
        path: replace(record, **changes.get(path, {}))  # type: ignore[arg-type]
        for path, record in expected.items()
        if path != "/usr/etc/passwd"
    }
    assert len(store.differences(listed, altered)) == len(changes) + 1
