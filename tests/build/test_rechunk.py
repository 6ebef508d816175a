"""Images written anew, in layers of what changes together."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.images import (
    Image,
    Member,
    directory,
    file,
    hardlink,
    image,
    symlink,
    whiteout,
    write_layout,
)

from bridge.build.rechunk import COMPONENTS_KEY, Rechunked, placed, rechunk
from bridge.contents.pulled import pulled
from bridge.errors import MalformedImage
from bridge.oci.layout import Layout
from bridge.oci.model import Descriptor, Manifest, parse_config, parse_document
from bridge.oci.reference import parse_reference
from bridge.push.layouts import LayoutWriter

STATUS = "".join(
    f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
    for name in ("a", "b")
)
LONG = "usr/share/" + "long/" * 30 + "n" * 120
LOWER: list[Member] = [
    directory("usr", 0o711),
    file("usr/bin/a", b"a" * 300_000, 0o4755, xattrs={"user.x": "1", "user.component": "mine"}),
    hardlink("usr/bin/again", "usr/bin/a"),
    symlink("usr/bin/link", "a"),
    file("usr/bin/b", "b", uid=2**21 + 5, gid=7),
    file(LONG, "long"),
    file("usr/share/é", "é"),
    file("etc/conf", "conf"),
    file("gone", "gone"),
    directory("var/empty", 0o1777),
    file("usr/share/none"),
    file("usr/share/nothing"),
    file("var/lib/dpkg/status", STATUS),
    file("var/lib/dpkg/info/a.list", "/usr\n/usr/bin\n/usr/bin/link\n/usr/share\n/usr/share/é\n"),
    file("var/lib/dpkg/info/b.list", "/usr\n/usr/bin\n/usr/bin/b\n"),
]
UPPER: list[Member] = [whiteout("gone"), file("etc/conf", "other")]


def made(
    tmp_path: Path, name: str, source: Image, *, previous: Manifest | None = None, budget: int = 64
) -> tuple[Rechunked, Layout]:
    write_layout(tmp_path / f"{name}-source", source)
    target = tmp_path / name
    with (
        pulled(parse_reference(f"oci:{tmp_path}/{name}-source")) as found,
        LayoutWriter.open(str(target), None) as layout,
    ):
        done = rechunk(
            found.image,
            found.contents,
            layout,
            created=1_700_000_000,
            labels={"containers.bootc": "1"},
            budget=budget,
            previous=previous,
        )
    return done, Layout.open(str(target))


def documents(layout: Layout) -> tuple[Manifest, dict[str, Any]]:
    manifest = parse_document(layout.read_blob(layout.resolve(None), 2**20))
    assert isinstance(manifest, Manifest)
    config: dict[str, Any] = json.loads(layout.read_blob(manifest.config, 2**20))
    return manifest, config


def read(layout: Layout, layer: Descriptor) -> bytes:
    with layout.open_blob(layer) as blob:
        return blob.read()


def test_the_content_is_the_same_and_the_layers_are_others(tmp_path: Path) -> None:
    source = image(LOWER, UPPER, labels={"a": "b", "ostree.commit": "x", "io.buildah.version": "1"})
    done, layout = made(tmp_path, "out", source)
    manifest, config = documents(layout)
    assert done.digest == manifest.digest
    names = [sorted(json.loads(each.annotations[COMPONENTS_KEY])) for each in manifest.layers]
    assert sorted(names) == [["a"], ["b"], ["databases"], ["mine"], ["unpackaged"]]
    assert [sorted(each.name for each in group) for group in done.groups] == names
    with (
        pulled(parse_reference(f"oci:{tmp_path}/out-source")) as before,
        pulled(parse_reference(f"oci:{tmp_path}/out")) as after,
    ):
        was, now = before.contents, after.contents
        assert list(now.nodes) == list(was.nodes)
        for path, node in was.nodes.items():
            other = now.nodes[path]
            kept = tuple(each for each in node.xattrs if each[0] != b"user.component")
            assert (other.type, other.mode, other.uid, other.gid, other.size, other.target) == (
                node.type, node.mode, node.uid, node.gid, node.size, node.target,
            )  # fmt: skip
            assert other.xattrs == kept
            if node.is_file:
                assert now.read(other, 2**20) == was.read(node, 2**20)
    assert config["config"]["Labels"] == {"a": "b", "containers.bootc": "1"}
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert config["rootfs"]["diff_ids"] == [each.digest for each in manifest.layers]
    assert [each["comment"] for each in config["history"]] == [", ".join(each) for each in names]


def test_a_layer_is_good_alone(tmp_path: Path) -> None:
    _, layout = made(tmp_path, "out", image(LOWER, UPPER))
    manifest, _ = documents(layout)
    found = {}
    for layer in manifest.layers:
        with tarfile.open(fileobj=io.BytesIO(read(layout, layer))) as archive:
            members = archive.getmembers()
        assert {each.mtime for each in members} == {0}
        seen = {""}
        for each in members:
            assert each.name.rpartition("/")[0] in seen, each.name
            if each.isdir():
                seen.add(each.name)
        found[next(iter(json.loads(layer.annotations[COMPONENTS_KEY])))] = {
            each.name: (each.type, each.mode, each.linkname) for each in members
        }
    assert found["mine"] == {
        "usr": (tarfile.DIRTYPE, 0o711, ""),
        "usr/bin": (tarfile.DIRTYPE, 0o755, ""),
        "usr/bin/a": (tarfile.REGTYPE, 0o4755, ""),
        "usr/bin/again": (tarfile.LNKTYPE, 0o4755, "usr/bin/a"),
    }
    # Two empty files are not one.
    assert found["a"]["usr/share/none"][0] == tarfile.REGTYPE
    assert found["a"]["usr/share/nothing"][0] == tarfile.REGTYPE


def test_equal_content_makes_equal_images_however_it_was_built(tmp_path: Path) -> None:
    one, _ = made(tmp_path, "one", image(LOWER, UPPER))
    rest = [each for each in LOWER if each.path not in ("gone", "etc/conf")]
    order = sorted(rest, key=lambda each: (each.kind == tarfile.LNKTYPE, each.path))
    other, _ = made(tmp_path, "other", image([file("etc/conf", "other")], order, created=None))
    assert one.digest == other.digest


def changed(members: Sequence[Member], path: str, data: bytes) -> list[Member]:
    return [file(path, data) if each.path == path else each for each in members]


def test_a_change_moves_one_layer(tmp_path: Path) -> None:
    _, first = made(tmp_path, "first", image(LOWER))
    before, _ = documents(first)
    for name, previous in (("alone", None), ("after", before)):
        _, second = made(
            tmp_path, name, image(changed(LOWER, "usr/bin/b", b"new")), previous=previous
        )
        after, _ = documents(second)
        new = [
            each for each in after.layers if each.digest not in {e.digest for e in before.layers}
        ]
        assert [list(json.loads(each.annotations[COMPONENTS_KEY])) for each in new] == [["b"]]


def test_an_image_says_what_is_in_its_layers(tmp_path: Path) -> None:
    done, layout = made(tmp_path, "out", image(LOWER, UPPER), budget=3)
    manifest, _ = documents(layout)
    assert len(manifest.layers) == 3
    found = placed(manifest)
    assert [[(each.name, each.content) for each in group] for group in found] == [
        [(each.name, each.content) for each in group] for group in done.groups
    ]


def test_an_image_of_another_builder_says_nothing(tmp_path: Path) -> None:
    source = image(LOWER)
    manifest = parse_document(source.manifest)
    assert isinstance(manifest, Manifest)
    assert placed(manifest) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "1", "null", '{"a":1}', '{"a":[]}', '{"a":[1,2,3]}', '{"a":["x",1]}',
        '{"a":["x",1,2]}', '{"a":["x",1,-1]}', '{"a":["x",1,1,1]}', '{"a":["x","1","1"]}',
        '{"a":["x",99999999999,1]}', '{"a":["x",1.5,1]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(text: str) -> None:
    source = image(LOWER)
    document = source.document
    document["layers"][0]["annotations"] = {COMPONENTS_KEY: text}
    manifest = parse_document(json.dumps(document).encode())
    assert isinstance(manifest, Manifest)
    with pytest.raises(MalformedImage, match=COMPONENTS_KEY):
        placed(manifest)


def test_the_config_is_a_good_one(tmp_path: Path) -> None:
    _, layout = made(tmp_path, "out", image(LOWER, labels={"z": "1", "a": "2"}))
    manifest, _ = documents(layout)
    config = parse_config(layout.read_blob(manifest.config, 2**20))
    assert len(config.diff_ids) == len(manifest.layers) == len(config.history)
