"""Pushing to layouts and archives: the same layers and configuration, however they are packed."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.images import Image, directory, file, hardlink, image, symlink, tar, write_layout

from bridge.errors import BridgeError, DamagedRepository, NotFound, UsageError
from bridge.oci.digest import Digest
from bridge.oci.layout import Archive, Layout
from bridge.oci.model import Manifest, parse_document
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.pull import pull
from bridge.pull.skeleton import path_of
from bridge.push import layouts
from bridge.push.compress import Compression, check_level
from bridge.push.export import export
from bridge.push.push import push
from bridge.registry.outcome import Outcome

LOWER = tar([directory("usr"), file("usr/a", b"a" * 5000), file("etc/b", "b", mode=0o600)])
UPPER = tar([file("usr/c", b"\0" * 300_000), symlink("usr/d", "c"), hardlink("usr/e", "usr/c")])
OPENERS = {"gzip": gzip.decompress, "none": bytes}


def unpacked(blob: bytes, media_type: str) -> bytes:
    if media_type.endswith("+zstd"):
        return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(blob)
    return gzip.decompress(blob) if media_type.endswith("+gzip") else blob


def stored(repo: Repository, tmp_path: Path, made: Image | None = None) -> ImageReference:
    made = made or image(LOWER, UPPER, LOWER, annotations={"org.example.of": "the image, ünd"})
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'source', made)}:latest")
    pull(repo, reference)
    return reference


def manifest_of(layout: Layout | Archive, tag: str | None) -> Manifest:
    descriptor = layout.resolve(tag)
    found = parse_document(layout.read_blob(descriptor), descriptor.media_type)
    assert isinstance(found, Manifest)
    return found


def check(layout: Layout | Archive, tag: str | None, made: Image) -> Manifest:
    """Have configuration, DiffIDs and what the manifest says be those of `made`."""
    found = manifest_of(layout, tag)
    assert found.config.digest == made.document["config"]["digest"]
    config = layout.read_blob(found.config)
    assert config == made.blobs[found.config.digest]
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    for layer, diff_id in zip(found.layers, diff_ids, strict=True):
        blob = layout.read_blob(layer, 10**7)
        assert Digest.of(unpacked(blob, layer.media_type)) == diff_id
    assert found.annotations == made.document.get("annotations", {})
    return found


@pytest.mark.parametrize("mode", ["bare-user", "archive"])
@pytest.mark.parametrize("compression", Compression)
def test_layers_and_configuration_stay(tmp_path: Path, compression: Compression, mode: str) -> None:
    made = image(LOWER, UPPER, LOWER, annotations={"org.example.of": "the image, ünd"})
    with Repository.create(tmp_path / "store", mode) as repo:
        reference = stored(repo, tmp_path, made)
        target = parse_reference(f"oci:{tmp_path / 'out'}:v1")
        report = push(repo, reference, target, compression=compression)
        again = push(repo, reference, target, compression=compression)
        archive = parse_reference(f"oci-archive:{tmp_path / 'out.tar'}:v1")
        as_archive = push(repo, reference, archive, compression=compression)
        first = (tmp_path / "out.tar").read_bytes()
        push(repo, reference, archive, compression=compression)
        with Repository.create(tmp_path / "other", mode) as other:
            pulled = pull(other, target)
            before = pull(other, reference)
    with Layout.open(str(tmp_path / "out")) as layout:
        found = check(layout, "v1", made)
    with Archive.open(str(tmp_path / "out.tar")) as layout_in_tar:
        assert check(layout_in_tar, "v1", made).digest == found.digest
    assert first == (tmp_path / "out.tar").read_bytes()
    assert report.digest == again.digest == as_archive.digest == found.digest
    assert {each.outcome for each in report.layers} == {Outcome.PUSHED}
    assert {each.outcome for each in again.layers} == {Outcome.SKIPPED}
    sizes = {layer.digest: layer.size for layer in found.layers}
    assert report.bytes_of(Outcome.PUSHED) == sum(sizes.values())
    assert pulled.content_checksum == before.content_checksum
    assert [each.plan.mode.value for each in before.layers] == ["present"] * 3


def test_levels_are_taken(repo: Repository, tmp_path: Path) -> None:
    text = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(4000))
    reference = stored(repo, tmp_path, image(tar([file("usr/text", text)])))
    for compression, (low, high) in {
        Compression.GZIP: (1, 9),
        Compression.ZSTD: (1, 19),
    }.items():
        sizes = [
            push(
                repo,
                reference,
                parse_reference(f"oci:{tmp_path / 'out'}:{level}"),
                compression=compression,
                level=level,
            )
            .layers[0]
            .blob.size
            for level in (low, high)
        ]
        assert sizes[0] != sizes[1], compression


@pytest.mark.parametrize(
    ("compression", "level"), [("gzip", 0), ("gzip", 10), ("zstd", 0), ("zstd", 23), ("none", 1)]
)
def test_levels_that_are_none(compression: str, level: int) -> None:
    with pytest.raises(UsageError, match="level"):
        check_level(Compression(compression), level)


def test_what_spoke_of_the_old_blob_does_not_stay(repo: Repository, tmp_path: Path) -> None:
    made = image(LOWER)
    layer = made.document["layers"][0]
    kept = {"org.example.mine": "1", "io.github.containers": "2"}
    gone = {
        "io.github.containers.zstd-chunked.manifest-checksum": "sha256:00",
        "io.containers.zstd-chunked.manifest-position": "1:2:3:1",
        "containerd.io/snapshot/stargz/toc.digest": "sha256:00",
        "io.containers.estargz.uncompressed-size": "1",
    }
    made = made.changed(layers=[layer | {"annotations": kept | gone}])
    # A partial way that its annotations promise is not there; the layer is whole all the same.
    reference = stored(repo, tmp_path, made)
    push(repo, reference, parse_reference(f"oci:{tmp_path / 'out'}"), compression=Compression.ZSTD)
    with Layout.open(str(tmp_path / "out")) as layout:
        (found,) = manifest_of(layout, None).layers
    assert found.annotations == kept


# -- layouts -----------------------------------------------------------------------------------


def test_other_images_of_a_layout_stay(repo: Repository, tmp_path: Path) -> None:
    one, two = image(LOWER), image(UPPER)
    reference = stored(repo, tmp_path, two)
    out = write_layout(tmp_path / "out", {"one": one, "two": one})
    index = json.loads((out / "index.json").read_bytes()) | {"annotations": {"a": "b"}}
    (out / "index.json").write_text(json.dumps(index))
    push(repo, reference, parse_reference(f"oci:{out}:two"))
    push(repo, reference, parse_reference(f"oci:{out}"))
    push(repo, reference, parse_reference(f"oci:{out}"))
    with Layout.open(str(out)) as layout:
        check(layout, "one", one)
        check(layout, "two", two)
    left = json.loads((out / "index.json").read_bytes())
    assert len(left["manifests"]) == 3 and left["annotations"] == {"a": "b"}


def test_a_damaged_blob_of_a_layout_is_written_again(repo: Repository, tmp_path: Path) -> None:
    made = image(LOWER)
    reference = stored(repo, tmp_path, made)
    out = parse_reference(f"oci:{tmp_path / 'out'}:v")
    report = push(repo, reference, out)
    blob = tmp_path / "out/blobs/sha256" / report.layers[0].blob.digest.hex
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert push(repo, reference, out).layers[0].outcome is Outcome.PUSHED
    with Layout.open(str(tmp_path / "out")) as layout:
        check(layout, "v", made)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("oci:{here}/file", "not a directory"),
        ("oci:{here}/full:v", "neither empty nor"),
        ("oci-archive:{here}/full", "is a directory"),
        ("oci-archive:{here}/missing/x.tar", "cannot be opened"),
        ("127.0.0.1:1/a/b@sha256:" + "0" * 64, "digest"),
        ("docker-archive:{here}/x", "not supported"),
    ],
)
def test_where_nothing_can_be_written(
    repo: Repository, tmp_path: Path, target: str, words: str
) -> None:
    reference = stored(repo, tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/other").write_text("")
    with pytest.raises(UsageError, match=words):
        push(repo, reference, parse_reference(target.format(here=tmp_path)))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["other"]


def test_a_layout_names_nothing_until_all_is_there(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = stored(repo, tmp_path)
    target = parse_reference(f"oci:{tmp_path / 'out'}:v")

    def fails(self: Any, *arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(layouts.LayoutWriter, "finish", fails)
        with pytest.raises(OSError, match="Input/output"):
            push(repo, reference, target)
    assert not (tmp_path / "out/index.json").exists()
    push(repo, reference, target)
    assert (tmp_path / "out/index.json").exists()


def test_an_archive_that_is_not_finished_leaves_the_old_one(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = stored(repo, tmp_path)
    path = tmp_path / "out.tar"
    path.write_bytes(b"old")

    def fails(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tarfile.TarInfo, "tobuf", fails)
    with pytest.raises(OSError, match="Input/output"):
        push(repo, reference, parse_reference(f"oci-archive:{path}:v"))
    assert path.read_bytes() == b"old" and sorted(tmp_path.glob(".*")) == []


# -- what is not as it was ---------------------------------------------------------------------


def test_a_layer_without_a_skeleton_is_told_before_anything_moves(
    repo: Repository, tmp_path: Path
) -> None:
    reference = stored(repo, tmp_path)
    (Path(repo.path) / path_of(Digest.of(UPPER))).unlink()
    with pytest.raises(NotFound, match="pull the image again"):
        push(repo, reference, parse_reference(f"oci:{tmp_path / 'out'}"))
    assert not list((tmp_path / "out/blobs").rglob("*"))


def damage_object(repo: Repository) -> None:
    large = next((Path(repo.path) / "objects").rglob("*.file"))
    for path in (Path(repo.path) / "objects").rglob("*.file"):
        large = path if path.stat().st_size > large.stat().st_size else large
    data = large.read_bytes()
    large.chmod(0o644)
    large.write_bytes(data[:-1] + b"!")


def cut_object(repo: Repository) -> None:
    large = max((Path(repo.path) / "objects").rglob("*.file"), key=lambda each: each.stat().st_size)
    large.chmod(0o644)
    large.write_bytes(large.read_bytes()[:-1])


def remove_object(repo: Repository) -> None:
    max((Path(repo.path) / "objects").rglob("*.file"), key=lambda p: p.stat().st_size).unlink()


def damage_skeleton(repo: Repository) -> None:
    path = Path(repo.path) / path_of(Digest.of(UPPER))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap_skeleton(repo: Repository) -> None:
    lower = Path(repo.path) / path_of(Digest.of(LOWER))
    (Path(repo.path) / path_of(Digest.of(UPPER))).write_bytes(lower.read_bytes())


@pytest.mark.parametrize(
    "harm", [damage_object, cut_object, remove_object, damage_skeleton, swap_skeleton]
)
def test_what_is_damaged_is_not_published(repo: Repository, tmp_path: Path, harm: Any) -> None:
    reference = stored(repo, tmp_path)
    harm(repo)
    with pytest.raises(DamagedRepository):
        push(repo, reference, parse_reference(f"oci:{tmp_path / 'out'}:v"))
    assert not (tmp_path / "out/index.json").exists()
    assert [each.name for each in (Path(repo.path) / "tmp").iterdir()] == ["cache"]


def test_an_image_that_is_not_stored(repo: Repository, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="image list"):
        push(repo, parse_reference("oci:/nowhere"), parse_reference(f"oci:{tmp_path / 'out'}"))
    assert not (tmp_path / "out").exists()


def test_a_prune_waits_for_the_push(repo: Repository, tmp_path: Path) -> None:
    """A push that is under way finds everything until its end."""
    reference = stored(repo, tmp_path)
    seen: list[BridgeError] = []
    stream = export(repo, Digest.of(UPPER))
    next(stream)

    class Meddler(layouts.LayoutWriter):
        def put(self, *arguments: Any) -> Outcome:
            with Repository.open(repo.path) as other, pytest.raises(BridgeError) as caught:
                images.prune(other)
            seen.append(caught.value)
            return super().put(*arguments)

    original = layouts.LayoutWriter
    from bridge.push import destination

    destination.LayoutWriter = Meddler  # type: ignore[misc]
    try:
        push(repo, reference, parse_reference(f"oci:{tmp_path / 'out'}"))
    finally:
        destination.LayoutWriter = original  # type: ignore[misc]
    assert {error.exit_code for error in seen} == {10}
    b"".join(stream)
