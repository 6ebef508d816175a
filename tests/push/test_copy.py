"""Copying images as they are: between layouts, archives, and a registry that may fail."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.images import (
    Image,
    descriptor,
    directory,
    dumps,
    file,
    image,
    index,
    tar,
    write_layout,
)

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, NotFound, UsageError, VerificationFailed
from bridge.oci.artifact import EMPTY, artifact, in_layout
from bridge.oci.digest import Digest
from bridge.oci.layout import Archive, Layout
from bridge.oci.model import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse_document,
)
from bridge.oci.reference import ImageReference, parse_reference
from bridge.pull.progress import Progress
from bridge.push.compress import Compression, Packed, pack
from bridge.push.copy import copy
from bridge.push.layouts import ArchiveWriter, LayoutWriter
from bridge.push.origin import layout_origin, open_origin, options_for
from bridge.push.repack import is_packed, repack
from bridge.push.repack_all import Repacking
from bridge.registry.options import NetworkOptions
from bridge.registry.outcome import Outcome

LOWER = tar([directory("usr"), file("usr/a", b"a" * 5000)])
UPPER = tar([file("usr/b", bytes(300_000))])


def written(tmp_path: Path, made: Image, tag: str = "v") -> ImageReference:
    return parse_reference(f"oci:{write_layout(tmp_path / 'source', {tag: made})}:{tag}")


def kinds(tmp_path: Path) -> list[ImageReference]:
    return [
        parse_reference(f"oci:{tmp_path / 'out'}:v"),
        parse_reference(f"oci-archive:{tmp_path / 'out.tar'}:v"),
    ]


def opened(reference: ImageReference) -> Layout | Archive:
    path, _ = reference.layout
    return Layout.open(path) if os.path.isdir(path) else Archive.open(path)


def same(reference: ImageReference, made: Image, tag: str = "v") -> None:
    """Have every document and every blob be those of `made`, byte for byte."""
    with opened(reference) as layout:
        found = layout.resolve(tag)
        assert (found.digest, found.media_type) == (made.digest, made.media_type)
        for digest, data in {**made.blobs, str(made.digest): made.manifest}.items():
            blob = Descriptor("", Digest.parse(digest), len(data))
            assert layout.read_blob(blob, 10**7) == data


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_image_stays_what_it_is(tmp_path: Path, compression: str) -> None:
    made = image(LOWER, UPPER, LOWER, compression=compression)
    # Spaces that no writer of ours would leave.
    made = Image(json.dumps(made.document, indent=7).encode(), made.blobs)
    source = written(tmp_path, made)
    for target in kinds(tmp_path):
        done = copy(source, target)
        same(target, made)
        assert done.digest == made.digest and done.documents == (made.digest,)
        assert {each.outcome for each in done.blobs} == {Outcome.PUSHED}
        assert len(done.blobs) == 3  # one layer is there twice
        source = target  # the archive is made of the layout, the layout of it


def test_an_index_with_all_that_it_lists(tmp_path: Path) -> None:
    one, two = image(LOWER), image(UPPER, LOWER, created=None)
    inner = index((one, Platform("linux", "amd64")), (two, Platform("linux", "s390x")))
    made = index((inner, None), (one, Platform("linux", "arm64")))
    source = written(tmp_path, made)
    for target in kinds(tmp_path):
        done = copy(source, target)
        same(target, made)
        assert done.media_type == OCI_INDEX
        assert list(done.documents) == [one.digest, two.digest, inner.digest, made.digest]
        assert json.loads(json.dumps(done.to_json()))["destination"]["digest"] == made.digest


def test_what_is_there_is_not_copied_again(tmp_path: Path) -> None:
    source, target = written(tmp_path, image(LOWER, UPPER)), kinds(tmp_path)[0]
    copy(source, target)
    again = copy(source, target)
    assert {each.outcome for each in again.blobs} == {Outcome.SKIPPED}
    assert again.to_json()["transfer"]["pushedBytes"] == 0


def test_several_tags(tmp_path: Path) -> None:
    made = image(LOWER)
    source = written(tmp_path, made)
    for target in kinds(tmp_path):
        copy(source, target, tags=["a", "b"])
        with opened(target) as layout:
            assert len(layout.index().manifests) == 2
            assert layout.resolve("a").digest == layout.resolve("b").digest
            assert layout.resolve().digest == made.digest  # they are one image
        same(target, made, "a")
        same(target, made, "b")


def index_of(target: ImageReference) -> bytes | None:
    path, _ = target.layout
    if os.path.isdir(path):
        found = Path(path, "index.json")
        return found.read_bytes() if found.exists() else None
    return Path(path).read_bytes() if os.path.exists(path) else None


Harm = Callable[[Image], Any]


def missing_layer(made: Image) -> None:
    del made.blobs[made.layers[0]]


def damaged_layer(made: Image) -> None:
    made.blobs[made.layers[0]] = made.blobs[made.layers[0]][:-1] + b"!"


def longer_layer(made: Image) -> None:
    made.blobs[made.layers[0]] += b"!"


def shorter_layer(made: Image) -> None:
    made.blobs[made.layers[0]] = made.blobs[made.layers[0]][:-1]


def damaged_config(made: Image) -> None:
    digest = made.document["config"]["digest"]
    made.blobs[digest] = made.blobs[digest].replace(b"linux", b"linus")


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (missing_layer, NotFound),
        (damaged_layer, VerificationFailed),
        (longer_layer, VerificationFailed),
        (shorter_layer, VerificationFailed),
        (damaged_config, VerificationFailed),
    ],
)
def test_what_is_wrong_does_not_arrive(
    tmp_path: Path, harm: Harm, error: type[BridgeError]
) -> None:
    made = image(LOWER, UPPER)
    harm(made)
    source = written(tmp_path, made)
    before_it = image([file("old")])
    old = written(tmp_path / "old", before_it)
    for target in kinds(tmp_path):
        copy(old, target)
        before = index_of(target)
        with pytest.raises(error):
            copy(source, target)
        assert index_of(target) == before
        with opened(target) as layout:
            assert layout.resolve("v").digest == before_it.digest
    for digest in made.layers:
        there = tmp_path / "out/blobs/sha256" / digest.partition(":")[2]
        assert not there.exists() or Digest.of(there.read_bytes()) == digest


def nested(made: Image, depth: int) -> Image:
    for _ in range(depth):
        made = index((made, None))
    return made


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (nested(image(LOWER), limits.INDEX_DEPTH_MAX + 1), "too deep"),
        (
            Image(
                dumps(
                    {
                        "schemaVersion": 2,
                        "mediaType": OCI_INDEX,
                        "manifests": [descriptor(b"{}", "application/x")],
                    }
                ),
                {str(Digest.of(b"{}")): b"{}"},
                OCI_INDEX,
            ),
            "unsupported media type 'application/x'",
        ),
        (
            image(LOWER).changed(
                layers=[
                    descriptor(LOWER, "application/vnd.oci.image.layer.v1.tar"),
                    descriptor(LOWER, "application/vnd.oci.image.layer.v1.tar") | {"size": 1},
                ]
            ),
            "two sizes",
        ),
    ],
)
def test_images_that_cannot_be_copied(tmp_path: Path, made: Image, match: str) -> None:
    target = kinds(tmp_path)[0]
    with pytest.raises(MalformedImage, match=match):
        copy(written(tmp_path, made), target)
    assert index_of(target) is None


def test_an_index_as_deep_as_it_may_be(tmp_path: Path) -> None:
    made = nested(image(LOWER), limits.INDEX_DEPTH_MAX)
    target = kinds(tmp_path)[0]
    copy(written(tmp_path, made), target)
    same(target, made)


def test_without_a_source_nothing_is_made(tmp_path: Path) -> None:
    source = written(tmp_path, image(LOWER))
    nothing = parse_reference(f"oci:{source.layout[0]}:other")
    for target in kinds(tmp_path):
        with pytest.raises(NotFound):
            copy(nothing, target)
        assert not os.path.exists(target.layout[0])


def test_a_reference_that_demands_a_signature(tmp_path: Path) -> None:
    source = written(tmp_path, image(LOWER))
    demands = parse_reference(f"ostree-image-signed:{source}")
    with pytest.raises(VerificationFailed, match=f"name it as {source}"):
        copy(demands, kinds(tmp_path)[0])
    assert not (tmp_path / "out").exists()


# -- what refers to an image, in layouts -----------------------------------------------------------


def signed(made: Image) -> tuple[Descriptor, bytes]:
    subject = Descriptor(OCI_MANIFEST, made.digest, len(made.manifest))
    return subject, artifact("application/x", subject, [])


def test_an_artifact_is_in_the_index_and_stays_there(tmp_path: Path) -> None:
    made = image(LOWER)
    subject, raw = signed(made)
    path = str(tmp_path / "out")
    for tag in ("v", None, None, "w"):
        with LayoutWriter.open(path, tag) as writer:
            writer.attach(raw, OCI_MANIFEST)
            writer.finish(made.manifest, OCI_MANIFEST)
    with Layout.open(path) as layout:
        entries = [
            (each.artifact_type, dict(each.annotations)) for each in layout.index().manifests
        ]
        name = "org.opencontainers.image.ref.name"
        assert sorted(entries, key=str) == sorted(
            [("", {name: "v"}), ("", {}), ("", {name: "w"}), ("application/x", {})], key=str
        )
        assert [each.digest for each in in_layout(layout, subject.digest)] == [Digest.of(raw)]
        assert in_layout(layout, subject.digest, "application/y") == ()
        assert in_layout(layout, Digest.of(raw)) == ()
        assert layout.resolve().digest == made.digest


def test_an_archive_has_its_artifacts(tmp_path: Path) -> None:
    made = image(LOWER)
    subject, raw = signed(made)
    path = str(tmp_path / "out.tar")
    with ArchiveWriter.create(path, "v") as writer:
        writer.attach(raw, OCI_MANIFEST)
        writer.finish(made.manifest, OCI_MANIFEST, ["v", "w"])
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    with Archive.open(path) as layout:
        assert [each.digest for each in in_layout(layout, subject.digest)] == [Digest.of(raw)]
        assert layout.resolve().digest == layout.resolve("w").digest == made.digest


def test_an_artifact_alone_is_found_without_a_tag(tmp_path: Path) -> None:
    _, raw = signed(image(LOWER))
    entry = descriptor(raw, OCI_MANIFEST) | {"artifactType": "application/x"}
    top = write_layout(tmp_path / "out", {"v": Image(raw, {})})
    (top / "index.json").write_bytes(dumps({"schemaVersion": 2, "manifests": [entry]}))
    with Layout.open(str(top)) as layout:
        assert layout.resolve().digest == Digest.of(raw)


@pytest.mark.parametrize("chunks", [[b"one", b"", b"two"], [], [b"x" * 300_000]])
def test_a_blob_is_made_where_it_is_going_to_be(tmp_path: Path, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    with LayoutWriter.open(str(tmp_path / "out"), "v") as writer:
        for _ in range(2):
            made = writer.take(lambda out: pack(chunks, Compression.NONE, None, out))
            assert (made.digest, made.size) == (Digest.of(data), len(data))
            found = sorted((tmp_path / "out/blobs/sha256").iterdir())
            assert [each.name for each in found] == [made.digest.hex]
            assert found[0].read_bytes() == data
        with pytest.raises(OSError, match="full"):
            writer.take(_fails)
        assert sorted((tmp_path / "out/blobs/sha256").iterdir()) == found


def _fails(out: Callable[[bytes], object]) -> Packed:
    out(b"some")
    raise OSError("full")


# -- packed anew -----------------------------------------------------------------------------------


def packed(source: ImageReference, target: str, to: Compression, level: int | None = None) -> Any:
    with ExitStack() as stack:
        begin = open_origin(source, NetworkOptions(), stack)
        place = stack.enter_context(LayoutWriter.open(target, "v"))
        top = begin.top()
        assert isinstance(top, Manifest)
        done = repack(begin, top, place, to, level, Progress())
        if done is not None:
            place.finish(done.manifest, OCI_MANIFEST)
        return done


@pytest.mark.parametrize("to", Compression)
def test_layers_are_packed_anew(tmp_path: Path, to: Compression) -> None:
    made = image(LOWER, UPPER, LOWER, compression=["gzip", "none", "gzip"])
    source = written(tmp_path, made)
    done = packed(source, str(tmp_path / "out"), to)
    with Layout.open(str(tmp_path / "out")) as layout:
        found = parse_document(layout.read_blob(layout.resolve("v")))
        assert isinstance(found, Manifest)
        assert found.config.digest == made.document["config"]["digest"]
        assert layout.read_blob(found.config) == made.blobs[found.config.digest]
        assert all(is_packed(each, to) for each in found.layers)
        assert [each.blob.digest for each in done.layers] == [each.digest for each in found.layers]
        diff_ids = [each.diff_id for each in done.layers]
        assert diff_ids == [Digest.of(LOWER), Digest.of(UPPER), Digest.of(LOWER)]
    again = packed(parse_reference(f"oci:{tmp_path / 'out'}:v"), str(tmp_path / "more"), to)
    assert again is None


def test_a_level_packs_what_is_packed(tmp_path: Path) -> None:
    source = written(tmp_path, image(LOWER))
    assert packed(source, str(tmp_path / "a"), Compression.GZIP) is None
    assert packed(source, str(tmp_path / "b"), Compression.GZIP, 9) is not None
    with pytest.raises(UsageError, match="no levels"):
        packed(source, str(tmp_path / "c"), Compression.NONE, 9)


def test_an_index_is_made_anew(tmp_path: Path) -> None:
    """Each of its images is packed anew; order, platforms and annotations stay; what is no image
    stays as it is, but for the digest of the image that it speaks of."""
    amd, arm = (Platform("linux", each) for each in ("amd64", "arm64"))
    images = [image(LOWER, platform=amd), image(LOWER, UPPER, platform=arm)]
    made = index((images[0], amd), (images[1], arm))
    _, raw = signed(images[0])
    document = made.document
    document["annotations"] = {"a": "b"}
    document["manifests"][0]["annotations"] = {"c": "d"}
    document["manifests"].append(
        descriptor(raw, OCI_MANIFEST)
        | {"annotations": {"vnd.docker.reference.digest": images[0].digest}}
    )
    bill = parse_document(raw)
    assert isinstance(bill, Manifest)
    blobs = {**made.blobs, Digest.of(raw): raw, Digest.of(EMPTY): EMPTY}
    source = written(tmp_path, Image(dumps(document), blobs, made.media_type))
    with ExitStack() as stack:
        begin = open_origin(source, NetworkOptions(), stack)
        place = stack.enter_context(LayoutWriter.open(str(tmp_path / "out"), "v"))
        work = Repacking(begin, place, Compression.ZSTD, None, Progress())
        done = work.run(begin.top())
        assert done.changed
        place.finish(done.document, done.media_type)
        layout = stack.enter_context(Layout.open(str(tmp_path / "out")))
        found = parse_document(layout.read_blob(layout.resolve("v")))
        assert isinstance(found, Index)
        assert found.annotations == {"a": "b"}
        assert [each.platform for each in found.manifests] == [amd, arm, None]
        assert found.manifests[0].annotations == {"c": "d"}
        assert found.manifests[2].digest == bill.digest
        assert found.manifests[2].annotations == {
            "vnd.docker.reference.digest": found.manifests[0].digest
        }
        for entry, was in zip(found.manifests, images, strict=False):
            one = parse_document(layout.read_blob(entry))
            assert isinstance(one, Manifest)
            assert one.config.digest == was.document["config"]["digest"]
            assert all(is_packed(each, Compression.ZSTD) for each in one.layers)
        # Once more, and there is nothing to do.
        again = Repacking(
            layout_origin(layout, layout.resolve("v")), place, Compression.ZSTD, None, Progress()
        ).run(found)
        assert not again.changed
        assert again.digest == found.digest


@pytest.mark.parametrize("harm", [missing_layer, damaged_layer, longer_layer, damaged_config])
def test_what_is_wrong_is_not_packed(tmp_path: Path, harm: Harm) -> None:
    made = image(LOWER, UPPER)
    harm(made)
    with pytest.raises(BridgeError) as caught:
        packed(written(tmp_path, made), str(tmp_path / "out"), Compression.ZSTD)
    assert caught.value.exit_code in (4, 6, 7)
    assert not (tmp_path / "out/index.json").exists()


def test_layers_that_are_not_what_the_configuration_says(tmp_path: Path) -> None:
    made = image(LOWER, UPPER, diff_ids=[Digest.of(LOWER), Digest.of(LOWER)])
    with pytest.raises(VerificationFailed, match="DiffID"):
        packed(written(tmp_path, made), str(tmp_path / "out"), Compression.ZSTD)
    made = image(LOWER, UPPER, diff_ids=[Digest.of(LOWER)])
    with pytest.raises(MalformedImage, match="disagree"):
        packed(written(tmp_path / "x", made), str(tmp_path / "out"), Compression.ZSTD)


# -- credentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "shown"),
    [
        ("quay.io/a/b", "quay.io/c/d", True),
        ("quay.io/a/b", "other.example/a/b", False),
        ("quay.io/a/b", "quay.io:443/a/b", False),
        ("oci:/dir", "quay.io/a/b", True),
        ("quay.io/a/b", "oci:/dir", True),
    ],
)
def test_credentials_are_for_one_host(source: str, target: str, shown: bool) -> None:
    given = NetworkOptions(creds="user:secret", authfile="/file", retry_times=7)
    found = options_for(parse_reference(source), parse_reference(target), given)
    assert found.creds == ("user:secret" if shown else None)
    assert (found.authfile, found.retry_times) == ("/file", 7)
