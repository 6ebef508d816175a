"""Images, by reference and stored: what a commit alone does not show comes from their layers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.images import (
    Member,
    directory,
    file,
    hardlink,
    image,
    opaque,
    symlink,
    tar,
    whiteout,
    write_layout,
)
from support.lint import check, paths, tar_of

from bridge.layer.tar import TarReader
from bridge.lint import sources, times
from bridge.lint.layers import LayerEntry, Layers, Merged
from bridge.lint.run import run
from bridge.lint.subject import Kind, Subject
from bridge.oci.digest import Digest
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull import skeleton
from bridge.pull.pull import pull
from bridge.registry.options import NetworkOptions

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n"
CREATED = "1970-01-01T00:01:40Z"
Layer = Sequence[Member] | bytes


@contextmanager
def remote(tmp_path: Path, *layers: Layer, **more: Any) -> Iterator[Subject]:
    """An image in a layout, looked at by its reference."""
    write_layout(tmp_path / "layout", image(*layers, **more))
    reference = parse_reference(f"oci:{tmp_path}/layout")
    with sources.remote(reference, NetworkOptions()) as subject:
        yield subject


@contextmanager
def stored(tmp_path: Path, *layers: Layer, **more: Any) -> Iterator[tuple[Repository, Subject]]:
    write_layout(tmp_path / "layout", image(*layers, **more))
    reference = parse_reference(f"oci:{tmp_path}/layout")
    with Repository.create(tmp_path / "repo", "archive") as repo:
        pull(repo, reference)
        yield repo, sources.stored(repo, reference)


HIDDEN: list[tuple[str, list[Layer], list[str]]] = [
    ("in sight", [[file("root/key", KEY)]], ["/root/key (layer 0)"]),
    ("deleted", [[file("root/key", KEY)], [whiteout("root/key")]],
     ["/root/key (layer 0, hidden by a later one)"]),
    ("deleted with its directory", [[file("root/a/key", KEY)], [whiteout("root")]],
     ["/root/a/key (layer 0, hidden by a later one)"]),
    ("hidden by an opaque directory", [[file("root/key", KEY)], [opaque("root"), file("root/x")]],
     ["/root/key (layer 0, hidden by a later one)"]),
    ("replaced", [[file("root/key", KEY)], [file("root/key", "no more")]],
     ["/root/key (layer 0, hidden by a later one)"]),
    ("replaced by another", [[file("root/key", KEY)], [file("root/key", KEY + "2")]],
     ["/root/key (layer 0)"]),
    ("replaced by a link", [[file("root/key", KEY)], [symlink("root/key", "/etc/x")]],
     ["/root/key (layer 0, hidden by a later one)"]),
    ("replaced in its own layer", [[file("root/key", KEY), file("root/key", "no more")]],
     ["/root/key (layer 0, hidden by a later one)"]),
    ("where nothing is kept", [[file("run/secrets/key", KEY)], [file("tmp/key", KEY)]],
     ["/run/secrets/key (layer 0, hidden by a later one)",
      "/tmp/key (layer 1, hidden by a later one)"]),
    ("in several layers", [[file("a", KEY)], [file("b", KEY)], [whiteout("a")]],
     ["/a (layer 0, hidden by a later one)", "/b (layer 1)"]),
    ("a hash of a password", [[file("etc/shadow", "root:$y$x:1:")],
                              [file("etc/shadow", "root:*:1:")]],
     ["/etc/shadow (of root, layer 0, hidden by a later one)"]),
    ("a hash that stays", [[file("etc/shadow", "root:$y$x:1:")]],
     ["/etc/shadow (of root, layer 0)"]),
    ("by way of a link", [[directory("var/roothome"), symlink("root", "var/roothome")],
                          [file("root/.netrc", "password x")]], ["/root/.netrc (layer 1)"]),
    ("linked", [[file("a", KEY), hardlink("b", "a")]], ["/a (layer 0)"]),
    ("large files before it", [[file("usr/a", bytes(1_000_000)), file("usr/b", b"x" * 700_001),
                                file("usr/empty"), file("root/key", KEY)]],
     ["/root/key (layer 0)"]),
    ("no secret", [[file("root/key.pub", "ssh-rsa"), file("etc/shadow", "root:*:1:")]], []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layers", "expected"), HIDDEN, ids=[each[0] for each in HIDDEN])
def test_secrets_are_found_in_every_layer(
    name: str, layers: list[Layer], expected: list[str], tmp_path: Path
) -> None:
    with remote(tmp_path, *layers) as subject:
        assert paths(check("secrets", subject)) == expected


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_times_are_those_of_the_layers(compression: str, tmp_path: Path) -> None:
    first = tar_of([("usr/a", b"x" * 600, 100), ("usr/b", b"x", 101), ("usr/c", b"", 99)])
    second = tar_of([("usr/b", b"y", 5), ("run/x", b"", 7000)])
    layers = (first, second)
    with remote(tmp_path, *layers, compression=compression, created=CREATED) as subject:
        assert subject.epoch == 100
        found = check("timestamps", subject)
        assert paths(found) == [
            "/usr/b (layer 0: 1970-01-01T00:01:41Z)", "/run/x (layer 1: 1970-01-01T01:56:40Z)"
        ]  # fmt: skip
        assert {each.problem for each in found} == {
            "has a time after 1970-01-01T00:01:40Z, which the next build changes"
        }


def test_files_of_the_build_are_told_by_their_layers_time(tmp_path: Path) -> None:
    layer = tar_of([("a", b"", 6399), ("b", b"", 6400), ("c", b"", 9999), ("d", b"", 10_000)])
    write_layout(tmp_path / "layout", image(layer, layer, created="1970-01-01T02:46:40Z"))
    reference = parse_reference(f"oci:{tmp_path}/layout")
    with sources.remote(reference, NetworkOptions()) as subject:
        with_history = Subject(
            subject.contents, subject.kind, subject.epoch, subject.layers, (10_000, None)
        )
        found = check("timestamps", with_history)
        assert paths(found) == [
            "/b (layer 0: 1970-01-01T01:46:40Z)", "/c (layer 0: 1970-01-01T02:46:39Z)"
        ]  # fmt: skip
        assert {each.problem for each in found} == {"has the time of the build"}


def test_layers_were_made_when_the_history_says() -> None:
    history = [
        {"created": "1970-01-01T00:00:01Z", "empty_layer": True},
        {"created": "1970-01-01T00:00:02Z"},
        {"created": "1970-01-01T00:00:03Z", "empty_layer": False},
        {"created_by": "unknown"},
        {"created": 5},
    ]
    assert times.layers_made(history) == (2, 3, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-29T15:58:02.096928859Z", 1795967882),
        ("2026-11-29t16:58:02+01:00", 1795967882),
        ("2024-02-29T00:00:00-05:30", 1709184600),
        ("0001-01-01T00:00:00Z", -62135596800),
        (None, None),
        ("", None),
        ("2026-11-29", None),
        ("2026-11-29 15:58:02Z", None),
        ("2026-11-29T15:58:02", None),
        ("2026-13-29T15:58:02Z", None),
        ("2026-02-30T15:58:02Z", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("0001-01-01T00:00:00+01:00", None),
    ],
)
def test_when_an_image_was_made(text: str | None, expected: int | None) -> None:
    assert times.parse_created(text) == expected


def test_what_a_pull_leaves_out_is_seen(tmp_path: Path) -> None:
    first = [file("run/a/b"), file("tmp/x", "x"), file("etc/hostname"), file("etc/resolv.conf"),
             file("usr/etc/x", "x")]  # fmt: skip
    second = [whiteout("run/a"), file("etc/hostname", "me")]
    with remote(tmp_path, first, second) as subject:
        assert paths(check("nonempty-run-tmp", subject)) == ["/tmp/x"]
        assert paths(check("buildah-injected", subject)) == ["/etc/resolv.conf"]
        assert paths(check("etc-usretc", subject)) == ["/usr/etc"]
    for layers in ([first, [whiteout("usr/etc")]], [first, [whiteout("etc")]]):
        shutil.rmtree(tmp_path / "layout")
        with remote(tmp_path, *layers) as subject:
            assert paths(check("etc-usretc", subject)) == []


def test_a_stored_image_is_the_same(tmp_path: Path) -> None:
    layers: list[Layer] = [[file("root/key", KEY), file("run/x")], [whiteout("root/key")]]
    with stored(tmp_path, *layers) as (_, subject):
        assert subject.kind is Kind.IMAGE
        before = run(subject)
    with remote(tmp_path, *layers) as subject:
        assert run(subject) == before
    failed = [each.lint.name for each in before.results if each.findings]
    assert failed == [
        "api-base-directories", "baseimage-composefs", "baseimage-root", "nonempty-boot",
        "nonempty-run-tmp", "secrets",
    ]  # fmt: skip


def test_without_the_layers_what_they_alone_show_is_not_told(tmp_path: Path) -> None:
    layers: list[Layer] = [[file("root/key", KEY), file("run/x")], [file("root/old", KEY)]]
    with stored(tmp_path, *layers) as (repo, _):
        reference = parse_reference(f"oci:{tmp_path}/layout")
        shutil.rmtree(tmp_path / "repo" / skeleton.DIRECTORY)
        subject = sources.stored(repo, reference)
        assert subject.layers is None
        assert paths(check("secrets", subject)) == ["/root/key", "/root/old"]
        skipped = {each.lint.name: each.skipped for each in run(subject).results if each.skipped}
    reason = "the store does not have how the image's layers were written"
    assert skipped == dict.fromkeys(
        ["buildah-injected", "etc-usretc", "nonempty-run-tmp", "timestamps"], reason
    )


def entries(*layers: Sequence[Member]) -> list[LayerEntry]:
    """Entries as `Layers` yields them, without a store."""
    return [
        LayerEntry(number, entry.path.rstrip("/"), entry, lambda _: b"")
        for number, layer in enumerate(layers)
        for entry in TarReader([tar(layer)])
    ]


MERGED: list[tuple[list[list[Member]], list[str]]] = [
    ([[file("a/b"), file("c")]], ["a/b", "c"]),
    ([[file("a/b")], [whiteout("a/b")]], []),
    ([[file("a/b/c"), file("a/bc")], [whiteout("a/b")]], ["a/bc"]),
    ([[file("a/b/c")], [whiteout("a")], [file("a/d")]], ["a/d"]),
    ([[file("a/b")], [opaque("a"), file("a/c")]], ["a/c"]),
    ([[file("a/b")], [file("a/c"), opaque("a")]], ["a/c"]),
    ([[file("a/b"), whiteout("a/b")]], ["a/b"]),
    ([[file("a"), file("b/c")], [opaque("")]], []),
    ([[file("a/b")], [file("a")]], ["a"]),
    ([[file("a")], [directory("a"), file("a/b")]], ["a", "a/b"]),
    ([[file("a/b")], [directory("a", 0o700)]], ["a", "a/b"]),
    ([[file("a/b/c/d")], [whiteout("a/b/c/d")], [whiteout("a/b")], [file("a/b/e")]], ["a/b/e"]),
    ([[file("a")], [whiteout("none"), whiteout("a/none"), opaque("none/too")]], ["a"]),
]


@pytest.mark.parametrize(("layers", "expected"), MERGED)
def test_layers_put_on_one_another(layers: list[list[Member]], expected: list[str]) -> None:
    merged = Merged(lambda _: True)
    for each in entries(*layers):
        merged.add(each)
    assert sorted(merged.finish()) == expected


def test_content_of_a_layer_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    large = bytes(range(256)) * 2000
    layer = [file("a", large), file("b", "b"), file("c"), directory("d"), symlink("e", "a"),
             file("dev/x", "left out"), file("f", "first"), file("f", "second")]  # fmt: skip
    with stored(tmp_path, layer) as (repo, subject):
        assert subject.layers is not None
        assert {each.path: each.head(300) for each in subject.layers if each.path != "f"} == {
            "a": large[:300], "b": b"b", "c": b"", "d": b"", "e": b"", "dev/x": b"left out",
        }  # fmt: skip
        heads = [each.head(9) for each in subject.layers if each.path == "f"]
        assert heads == [b"first", b"second"]
        assert [each.entry.size for each in subject.layers][:3] == [len(large), 1, 0]
        with pytest.raises(Exception, match="has its files, but not how its tar stream"):
            Layers.of(repo, (Digest.of(b"none"),))
