"""Whole pulls from layouts on disk: commits, refs, reports, and what a failure leaves behind."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.images import (
    MEDIA_TYPES,
    Image,
    compress,
    descriptor,
    directory,
    dumps,
    file,
    hardlink,
    image,
    index,
    symlink,
    tar,
    whiteout,
    write_archive,
    write_layout,
)
from support.trees import listing, objects

from bridge.errors import (
    BridgeError,
    Busy,
    DamagedRepository,
    MalformedImage,
    NotFound,
    UsageError,
    VerificationFailed,
)
from bridge.oci.digest import Digest
from bridge.oci.layout import Layout
from bridge.oci.model import DOCKER_MANIFEST, Descriptor, Platform
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree import fsck, lock, refs
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import images
from bridge.pull.progress import Progress
from bridge.pull.pull import pull
from bridge.pull.refnames import IMAGES, LAYERS, image_ref, layer_ref
from bridge.pull.report import TransferReport, append_history
from bridge.pull.source import _LayoutSource
from bridge.registry.meter import Meter

BASE = [
    directory("./"),
    directory("usr/bin"),
    file("usr/bin/sh", b"\x7fELF" * 5000, mode=0o755),
    symlink("bin", "usr/bin"),
    file("etc/os-release", "v1"),
    file("etc/gone", "x"),
    file("dev/null"),
]
SECOND = [
    file("bin/tool", "tool", mode=0o4755),
    whiteout("etc/gone"),
    hardlink("usr/bin/bash", "usr/bin/sh"),
]
THIRD = [file("opt/app", "app")]
TREE = {
    "bin": "-> usr/bin",
    "opt": "dir",
    "opt/app": "app",
    "usr": "dir",
    "usr/bin": "dir",
    "usr/bin/bash": "\x7fELF" * 5000,
    "usr/bin/sh": "\x7fELF" * 5000,
    "usr/bin/tool": "tool",
    "usr/etc": "dir",
    "usr/etc/os-release": "v1",
}
OTHER = Platform("linux", "sparc64")


def reference(path: Path, tag: str = "latest", transport: str = "oci") -> ImageReference:
    return parse_reference(f"{transport}:{path}:{tag}")


def pulled(repo: Repository, path: Path, made: Image, **how: Any) -> TransferReport:
    """Write the image into the layout at `path` and pull it."""
    return pull(repo, reference(write_layout(path, made)), **how)


def everything(repo: Repository) -> tuple[set[str], dict[str, str], list[str]]:
    """Return what is visible in a repository, and what lies in its tmp."""
    return objects(repo), refs.listing(repo), os.listdir(Path(repo.path) / "tmp")


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Repository]:
    with Repository.create(tmp_path / "another", "archive") as made:
        yield made


# -- commits and refs ------------------------------------------------------------------------


def test_an_image_becomes_a_commit_that_verifies(repo: Repository, tmp_path: Path) -> None:
    made = image(BASE, SECOND, THIRD)
    report = pulled(repo, tmp_path / "oci", made)
    assert listing(repo, report.commit) == TREE
    assert fsck.fsck(repo).faults == ()
    assert everything(repo)[2] == ["cache"]


def test_refs_and_metadata_are_ostree_exts(repo: Repository, tmp_path: Path) -> None:
    made = image(BASE, SECOND, created="2024-05-06T07:08:09.123456789Z")
    report = pulled(repo, tmp_path / "oci", made)
    found = refs.listing(repo)
    assert set(found) == {
        image_ref(reference(tmp_path / "oci")),
        *(layer_ref(Digest.parse(digest)) for digest in made.layers),
    }
    assert found[image_ref(reference(tmp_path / "oci"))] == report.commit
    commit = repo.read_commit(report.commit)
    assert commit.metadata == {
        "ostree.manifest-digest": made.digest,
        "ostree.manifest": made.manifest.decode(),
        "ostree.container.image-config": made.blobs[made.document["config"]["digest"]].decode(),
        "ostree.importer.version": "bootc-py/1",
    }
    assert (commit.parent, commit.subject, commit.timestamp) == (None, "", 1714979289)
    assert report.content_checksum == commit.content_checksum


TIMES: dict[str, tuple[str | None, dict[str, str], int]] = {
    "the configuration's": ("1970-01-01T00:00:10Z", {}, 10),
    "the annotation first": (
        "1970-01-01T00:00:10Z",
        {"org.opencontainers.image.created": "1970-01-01T01:00:20+01:00"},
        20,
    ),
    "none": (None, {}, 0),
    "not a time": ("yesterday", {}, 0),
    "no time zone": ("1970-01-01T00:00:10", {}, 0),
    "before 1970": ("1960-01-01T00:00:00Z", {}, 0),
    "year one": ("0001-01-01T00:00:00Z", {}, 0),
}


@pytest.mark.parametrize(("created", "annotations", "seconds"), TIMES.values(), ids=TIMES)
def test_the_commits_time_is_the_images(
    repo: Repository,
    tmp_path: Path,
    created: str | None,
    annotations: dict[str, str],
    seconds: int,
) -> None:
    made = image(THIRD, created=created, annotations=annotations)
    report = pulled(repo, tmp_path / "oci", made)
    assert repo.read_commit(report.commit).timestamp == seconds


def test_one_manifest_is_one_commit_by_any_way_in(
    repo: Repository, another: Repository, tmp_path: Path
) -> None:
    made = image(BASE, SECOND, THIRD)
    directory_report = pulled(repo, tmp_path / "oci", made)
    archive = write_archive(tmp_path / "archive.tar", made)
    archive_report = pull(another, reference(archive, transport="oci-archive"))
    assert archive_report.commit == directory_report.commit
    assert refs.listing(repo, LAYERS) == refs.listing(another, LAYERS)
    assert listing(another, archive_report.commit) == TREE


def test_compression_is_not_content(repo: Repository, tmp_path: Path) -> None:
    contents, commits = set(), set()
    for kind in MEDIA_TYPES:
        with Repository.create(tmp_path / kind, "bare-user") as each:
            report = pulled(
                each, tmp_path / f"oci-{kind}", image(BASE, SECOND, THIRD, compression=kind)
            )
        contents.add(report.content_checksum)
        commits.add(report.commit)
    assert (len(contents), len(commits)) == (1, 3)


def test_an_index_is_resolved_to_the_platform(repo: Repository, tmp_path: Path) -> None:
    host = Platform.host()
    mine, other = image(BASE), image(THIRD, platform=OTHER)
    both = index((other, OTHER), (mine, host))
    report = pulled(repo, tmp_path / "oci", both)
    assert (report.digest, report.manifest_digest) == (both.digest, mine.digest)
    theirs = pull(repo, reference(tmp_path / "oci"), platform=OTHER)
    assert theirs.manifest_digest == other.digest and theirs.changed
    # By its index or alone, one manifest is one commit.
    alone = pulled(repo, tmp_path / "alone", mine)
    assert alone.commit == report.commit


def test_docker_media_types_are_read(repo: Repository, tmp_path: Path) -> None:
    docker = "application/vnd.docker"
    made = image(BASE)
    config = made.document["config"] | {"mediaType": f"{docker}.container.image.v1+json"}
    layers = [made.document["layers"][0] | {"mediaType": f"{docker}.image.rootfs.diff.tar.gzip"}]
    changed = made.changed(mediaType=DOCKER_MANIFEST, config=config, layers=layers)
    changed.media_type = DOCKER_MANIFEST
    report = pulled(repo, tmp_path / "oci", changed)
    assert report.content_checksum == pulled(repo, tmp_path / "o", made).content_checksum


def test_an_image_without_layers_is_an_empty_tree(repo: Repository, tmp_path: Path) -> None:
    report = pulled(repo, tmp_path / "oci", image())
    assert listing(repo, report.commit) == {}
    assert report.store.files == 0


# -- again -----------------------------------------------------------------------------------


def test_a_second_pull_changes_nothing(repo: Repository, tmp_path: Path) -> None:
    made = image(BASE, SECOND, THIRD)
    first = pulled(repo, tmp_path / "oci", made)
    before = everything(repo)
    second = pull(repo, reference(tmp_path / "oci"))
    assert everything(repo) == before
    assert (first.changed, second.changed) == (True, False)
    assert second.commit == first.commit
    assert [layer.plan.mode.value for layer in second.layers] == ["present"] * 3
    assert (second.store.new_objects, second.store.new_bytes) == (0, 0)
    assert second.avoided["layerBytes"] == sum(each["size"] for each in made.document["layers"])
    assert second.dropped == first.dropped != []  # told again, though nothing was read


@pytest.mark.parametrize("kind", ["zstd", "none"])
def test_recompressed_layers_are_here_already(repo: Repository, tmp_path: Path, kind: str) -> None:
    pulled(repo, tmp_path / "oci", image(BASE, SECOND))
    made = image(BASE, SECOND, compression=kind)
    report = pulled(repo, tmp_path / "again", made)
    assert [layer.plan.mode.value for layer in report.layers] == ["present"] * 2
    assert report.store.files == 0 and report.changed
    found = refs.listing(repo, LAYERS)
    assert all(layer_ref(Digest.parse(digest)) in found for digest in made.layers)
    assert len(found) == 4 and len(set(found.values())) == 2


def test_an_update_imports_only_what_is_new(repo: Repository, tmp_path: Path) -> None:
    pulled(repo, tmp_path / "oci", image(BASE, SECOND))
    new = [*THIRD, file("usr/sh", b"\x7fELF" * 5000, mode=0o755)]
    report = pulled(repo, tmp_path / "oci", image(BASE, new))
    assert [layer.plan.mode.value for layer in report.layers] == ["present", "whole"]
    # One file is new, the other one has an object.
    assert (report.store.files, report.store.new_objects, report.store.reused_objects) == (2, 1, 1)
    assert (report.store.new_bytes, report.store.reused_bytes) == (3, 20_000)


@pytest.mark.parametrize("kinds", [("gzip", "gzip"), ("gzip", "zstd")])
def test_a_layer_that_is_there_twice_is_imported_once(
    repo: Repository, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    made = image(THIRD, [whiteout("opt/app")], THIRD, compression=[kinds[0], "none", kinds[1]])
    report = pulled(repo, tmp_path / "oci", made)
    assert listing(repo, report.commit) == {"opt": "dir", "opt/app": "app"}
    layers = report.to_json()["layers"]
    assert [each["digest"] for each in layers] == made.layers
    assert [each["mode"] for each in layers] == ["whole", "whole", "present"]
    assert report.avoided["layerBytes"] == layers[2]["size"]
    assert set(refs.listing(repo, LAYERS)) == {layer_ref(Digest.parse(d)) for d in made.layers}


def test_a_layer_that_other_software_wrote_is_pulled(repo: Repository, tmp_path: Path) -> None:
    made = image(THIRD)
    with Transaction(repo) as transaction:
        report = pulled(repo, tmp_path / "other", image(BASE))
        commit = repo.read_commit(report.commit)
        theirs = transaction.write_commit(Commit(commit.tree, commit.meta))
        transaction.set_ref(layer_ref(Digest.parse(made.layers[0])), theirs)
        transaction.publish()
    found = pulled(repo, tmp_path / "oci", made)
    assert found.layers[0].plan.mode.value == "whole"
    assert listing(repo, found.commit) == {"opt": "dir", "opt/app": "app"}


def test_a_lost_layer_ref_is_written_again(repo: Repository, tmp_path: Path) -> None:
    made = image(BASE, SECOND)
    pulled(repo, tmp_path / "oci", made)
    before = refs.listing(repo)
    refs.delete(repo, layer_ref(Digest.parse(made.layers[0])))
    report = pull(repo, reference(tmp_path / "oci"))
    assert not report.changed and refs.listing(repo) == before
    assert report.store.new_objects == 0


# -- the report ------------------------------------------------------------------------------

REPORT: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "image": {
        "reference": str,
        "digest": str,
        "manifestDigest": str,
        "commit": str,
        "contentChecksum": str,
    },
    "changed": bool,
    "transfer": {
        "imageBytes": int,
        "receivedBytes": int,
        "requests": int,
        "retries": int,
        "plannedBytes": int,
        "avoided": {"layerBytes": int, "fileBytes": int, "chunkBytes": int, "deltaBytes": int},
    },
    "layers": [
        {
            "digest": str,
            "diffId": str,
            "mediaType": str,
            "size": int,
            "mode": str,
            "receivedBytes": int,
            "requests": int,
            "unpackedBytes": int,
            "reason": str,
            "planned": {"mode": str, "bytes": int, "requests": int, "reason": str},
        }
    ],
    "space": {"neededBytes": int, "availableBytes": int, "estimated": bool},
    "store": {
        "files": int,
        "newObjects": int,
        "reusedObjects": int,
        "newBytes": int,
        "reusedBytes": int,
    },
    "dropped": [{"path": str, "reason": str}],
    "seconds": {
        "total": float,
        "resolve": float,
        "transfer": float,
        "import": float,
        "merge": float,
        "deploy": float,
    },
}


def has_shape(value: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        return set(value) == set(shape) and all(has_shape(value[k], shape[k]) for k in shape)
    if isinstance(shape, list):
        return all(has_shape(each, shape[0]) for each in value)
    return type(value) is shape


def test_the_report_has_the_documents_fields(repo: Repository, tmp_path: Path) -> None:
    made = image(BASE, SECOND, THIRD)
    document = json.loads(json.dumps(pulled(repo, tmp_path / "oci", made).to_json()))
    assert has_shape(document, REPORT)
    assert (document["apiVersion"], document["kind"]) == ("bootc-py/v1", "TransferReport")
    assert document["image"]["reference"] == f"oci:{tmp_path}/oci:latest"
    assert document["image"]["digest"] == document["image"]["manifestDigest"] == made.digest
    assert document["transfer"]["imageBytes"] == made.size
    assert document["transfer"]["receivedBytes"] == 0  # nothing came over a network
    assert [
        {key: each[key] for key in ("digest", "mediaType", "size")} for each in document["layers"]
    ] == [
        {key: each[key] for key in ("digest", "mediaType", "size")}
        for each in made.document["layers"]
    ]
    assert [each["diffId"] for each in document["layers"]] == [
        Digest.of(tar(members)) for members in (BASE, SECOND, THIRD)
    ]
    assert [each["unpackedBytes"] for each in document["layers"]] == [
        len(tar(members)) for members in (BASE, SECOND, THIRD)
    ]
    # Nothing was asked for: three times what is compressed, and what lies half empty.
    needed = sum(each["size"] * 3 * 21 // 20 for each in made.document["layers"])
    assert document["space"]["neededBytes"] == needed
    assert document["space"]["availableBytes"] > 0 and document["space"]["estimated"]
    store = document["store"]
    # Files and links that the layers bring; the whiteout is one, the hard link and directories not.
    assert store["files"] == store["newObjects"] + store["reusedObjects"] == 7
    assert store["newBytes"] == 20_000 + 2 + 1 + 4 + 3
    assert document["dropped"] == [
        {"path": "dev/null", "reason": "in a directory that is mounted over"}
    ]


def test_the_history_has_a_line_for_each_pull(repo: Repository, tmp_path: Path) -> None:
    reports = [pulled(repo, tmp_path / "oci", image(each)) for each in (BASE, THIRD)]
    for report in reports:
        append_history(repo, "image pull", report)
    text = (Path(repo.path) / "extensions/bootc-py/history.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["image"]["commit"] for line in lines] == [each.commit for each in reports]
    assert all(line["command"] == "image pull" and line["time"].endswith("Z") for line in lines)


def test_progress_is_told_in_order(repo: Repository, tmp_path: Path) -> None:
    told: list[Any] = []

    class Recorder(Progress):
        def stage(self, name: Any) -> None:
            told.append(name.name)

        def planned(self, layers: Any) -> None:
            told.append([each.transfer_bytes for each in layers])

        def advance(self, plan: Any, count: int) -> None:
            told.append(count)

        def layer_done(self, plan: Any) -> None:
            told.append("layer")

    made = image(THIRD)
    pulled(repo, tmp_path / "oci", made, progress=Recorder())
    size = made.document["layers"][0]["size"]
    assert told == ["RESOLVING", [size], "PULLING", size, "layer", "MERGING"]


# -- failures --------------------------------------------------------------------------------


def flipped(made: Image, number: int = 0) -> Image:
    digest = made.layers[number]
    data = bytearray(made.blobs[digest])
    data[len(data) // 2] ^= 1
    made.blobs[digest] = bytes(data)
    return made


def with_blob(made: Image, data: bytes, number: int = 0) -> Image:
    """Have other bytes in the place of a layer's, under its digest."""
    made.blobs[made.layers[number]] = data
    return made


def with_layer(data: bytes, media_type: str, stream: bytes | None = None) -> Image:
    """Return an image with one layer of just these bytes, digest and DiffID in order."""
    made = image(b"", diff_ids=[Digest.of(data if stream is None else stream)])
    made.blobs[Digest.of(data)] = data
    return made.changed(layers=[descriptor(data, media_type)])


def layer_bytes(made: Image) -> bytes:
    return made.blobs[made.layers[0]]


GZIP, PLAIN = MEDIA_TYPES["gzip"], MEDIA_TYPES["none"]
ZEROS = bytes(1024)
DIFF = str(Digest.of(tar(BASE)))
FAILURES: dict[str, tuple[Callable[[], Image], type[BridgeError], str]] = {
    "flipped byte, gzip": (lambda: flipped(image(BASE)), VerificationFailed, "content has"),
    "flipped byte, zstd": (
        lambda: flipped(image(BASE, compression="zstd")), VerificationFailed, "content has"),
    "flipped byte, plain": (
        lambda: flipped(image(BASE, compression="none")), VerificationFailed, "content has"),
    "cut blob": (
        lambda: with_blob(made := image(BASE), layer_bytes(made)[:-1]),
        VerificationFailed, "where its descriptor gives"),
    "long blob": (
        lambda: with_blob(made := image(BASE), layer_bytes(made) + b"\0"),
        VerificationFailed, "more than"),
    "empty blob": (lambda: with_blob(image(BASE), b""), VerificationFailed, "0 bytes where"),
    "wrong DiffID": (
        lambda: image(BASE, diff_ids=[str(Digest.of(b""))]), VerificationFailed, "its DiffID"),
    "two layers for one DiffID": (
        lambda: image(BASE, SECOND, diff_ids=[DIFF]), MalformedImage, "2 layers"),
    "one layer for two DiffIDs": (
        lambda: image(BASE, diff_ids=[DIFF, DIFF]), MalformedImage, "has 2 DiffIDs"),
    "other platform": (
        lambda: image(BASE, platform=OTHER), MalformedImage, "for linux/sparc64, not for"),
    "index without this platform": (
        lambda: index((image(BASE, platform=OTHER), OTHER)),
        MalformedImage, "it has: linux/sparc64"),
    "index that lies about the platform": (
        lambda: index((image(BASE, platform=OTHER), Platform.host())),
        MalformedImage, "is an image for"),
    "index of an index": (
        lambda: index((index((image(BASE), None)), Platform.host())),
        MalformedImage, "another index"),
    "unknown layer type": (
        lambda: with_layer(tar(BASE), PLAIN + "+xz"), MalformedImage, r"media type .*xz"),
    "encrypted layer": (
        lambda: with_layer(tar(BASE), GZIP + "+encrypted"), MalformedImage, "media type"),
    "artifact": (
        lambda: (made := image(BASE)).changed(
            config=made.document["config"] | {"mediaType": "application/vnd.oci.empty.v1+json"}),
        MalformedImage, "not an image but an artifact"),
    "layers and manifests": (
        lambda: image(BASE).changed(manifests=[]), MalformedImage, "both layers and manifests"),
    "schema 1": (
        lambda: image(BASE).changed(schemaVersion=1), MalformedImage, "only 2 is supported"),
    "other document": (
        lambda: image(BASE).changed(mediaType="application/json"),
        MalformedImage, "but was served as"),
    "not JSON": (lambda: Image(b"<html>", {}), MalformedImage, "not valid JSON"),
    "bad digest": (
        lambda: (made := image(BASE)).changed(
            layers=[made.document["layers"][0] | {"digest": "sha256:../../etc/passwd"}]),
        MalformedImage, "not a sha256"),
    "md5": (
        lambda: (made := image(BASE)).changed(
            layers=[made.document["layers"][0] | {"digest": "md5:" + "0" * 32}]),
        MalformedImage, "not a sha256"),
    "negative size": (
        lambda: (made := image(BASE)).changed(
            layers=[made.document["layers"][0] | {"size": -1}]),
        MalformedImage, "size -1"),
    "tar garbage": (
        lambda: with_layer(gzip.compress(b"garbage" * 1000), GZIP, b"garbage" * 1000),
        MalformedImage, "tar"),
    "truncated tar": (
        lambda: with_layer(tar(BASE)[:9000], PLAIN), MalformedImage, "cut off"),
    "truncated gzip": (
        lambda: with_layer(gzip.compress(tar(BASE))[:-9], GZIP, tar(BASE)), MalformedImage, "gzip"),
    "truncated zstd": (
        lambda: with_layer(compress(tar(BASE), "zstd")[:-5], MEDIA_TYPES["zstd"], tar(BASE)),
        MalformedImage, "zstd"),
    "not gzip": (lambda: with_layer(b"plain text", GZIP), MalformedImage, "gzip"),
    "path that leaves the image": (
        lambda: image([file("../../etc/shadow")]), MalformedImage, r"'\.\.'"),
    "second gzip member hidden from the DiffID": (
        lambda: with_layer(gzip.compress(tar(THIRD)) + gzip.compress(ZEROS), GZIP, tar(THIRD)),
        VerificationFailed, "DiffID"),
    "missing layer": (
        lambda: (made := image(BASE)).blobs.pop(made.layers[0]) and made,
        NotFound, "not in the layout"),
    "missing config": (
        lambda: (made := image(BASE)).blobs.pop(made.document["config"]["digest"]) and made,
        NotFound, "not in the layout"),
    "flipped config": (
        lambda: (made := image(BASE)).blobs.update(
            {(c := made.document["config"])["digest"]: b"x" * c["size"]}) or made,
        VerificationFailed, "content has"),
    "hard link to nothing": (
        lambda: image(BASE, [hardlink("a", "nothing")]), MalformedImage, "no file of this"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_failure_leaves_nothing_visible(
    repo: Repository,
    tmp_path: Path,
    make: Callable[[], Image],
    kind: type[BridgeError],
    reason: str,
) -> None:
    before = everything(repo)
    with pytest.raises(kind, match=reason) as caught:
        pulled(repo, tmp_path / "oci", make())
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    found, names, temporary = everything(repo)
    if reason == "no file of this":  # the layers are right; it is the image that is not
        assert all(name.startswith(LAYERS) for name in names)
    else:
        assert (found, names) == before[:2]
    assert temporary in (["cache"], before[2])
    # And the repository is as good as new.
    assert listing(repo, pulled(repo, tmp_path / "good", image(BASE, SECOND, THIRD)).commit) == TREE
    assert fsck.fsck(repo).faults == ()


def test_a_changed_manifest_is_refused(repo: Repository, tmp_path: Path) -> None:
    made = image(BASE)
    path = write_layout(tmp_path / "oci", made)
    blob = path / "blobs/sha256" / made.digest.hex
    blob.write_bytes(made.manifest.replace(b"gzip", b"zstd"))
    with pytest.raises(VerificationFailed):
        pull(repo, reference(path))
    assert everything(repo)[:2] == (set(), {})


def test_a_missing_tag_is_told_with_those_there_are(repo: Repository, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "oci", {"v1": image(BASE), "v2": image(THIRD)})
    with pytest.raises(NotFound, match=r"'v3'; there are: v1, v2"):
        pull(repo, reference(path, "v3"))
    with pytest.raises(NotFound, match="no such directory"):
        pull(repo, reference(tmp_path / "nowhere"))


def test_good_layers_stay_when_another_one_fails(repo: Repository, tmp_path: Path) -> None:
    made = flipped(image(BASE, SECOND, THIRD), 2)
    with pytest.raises(VerificationFailed):
        pulled(repo, tmp_path / "oci", made)
    names = refs.listing(repo)
    assert set(names) <= {layer_ref(Digest.parse(digest)) for digest in made.layers[:2]}
    assert fsck.fsck(repo).faults == ()
    good = image(BASE, SECOND, THIRD)
    report = pulled(repo, tmp_path / "oci", good)
    modes = [layer.plan.mode.value for layer in report.layers]
    assert modes.count("present") == len(names) and listing(repo, report.commit) == TREE


class TwoCopies:
    """A source whose blobs are wrong until it is told so; it stands for a mirror and a registry."""

    def __init__(self, path: Path, bad: Image) -> None:
        self.bad = bad.blobs
        self.distrusted: list[str] = []
        self.layout = _LayoutSource(Layout.open(str(path)), "latest")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layout, name)

    def blob(
        self,
        descriptor: Descriptor,
        meter: Meter,
        ahead: int | None = None,
        tail: bytes | None = None,
    ) -> Iterator[bytes]:
        if descriptor.digest in self.distrusted:
            return self.layout.blob(descriptor, meter)
        return iter([self.bad[descriptor.digest]])

    def distrust(self, descriptor: Descriptor) -> bool:
        self.distrusted.append(descriptor.digest)
        return self.distrusted.count(descriptor.digest) == 1


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_wrong_bytes_are_read_from_elsewhere_at_once(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = write_layout(tmp_path / "oci", image(BASE, SECOND, THIRD, compression=kind))
    source = TwoCopies(path, flipped(image(BASE, SECOND, THIRD, compression=kind), 1))
    monkeypatch.setattr("bridge.pull.pull.open_source", lambda *_: source)
    read: Counter[str] = Counter()

    class Counting(Progress):
        def advance(self, plan: Any, count: int) -> None:
            read[plan.layer.digest] += count

    report = pull(repo, reference(path), progress=Counting())
    assert listing(repo, report.commit) == TREE
    assert source.distrusted == [report.layers[1].plan.layer.digest]
    # What was read in vain is not progress.
    assert read == {each.plan.layer.digest: each.plan.layer.size for each in report.layers}
    assert fsck.fsck(repo).faults == ()


def test_a_wrong_diff_id_is_not_looked_for_elsewhere(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image(BASE, diff_ids=[str(Digest.of(b"other"))])
    path = write_layout(tmp_path / "oci", made)
    source = TwoCopies(path, made)
    monkeypatch.setattr("bridge.pull.pull.open_source", lambda *_: source)
    with pytest.raises(VerificationFailed, match="DiffID"):
        pull(repo, reference(path))
    assert source.distrusted == []


def test_an_image_that_cannot_boot_is_refused_where_it_should(
    repo: Repository, tmp_path: Path
) -> None:
    made = image(BASE, labels={})
    with pytest.raises(MalformedImage, match=r"containers\.bootc"):
        pulled(repo, tmp_path / "oci", made, bootable=True)
    assert everything(repo)[:2] == (set(), {})
    pulled(repo, tmp_path / "oci", made)
    for label in ("containers.bootc", "ostree.bootable"):
        pulled(repo, tmp_path / label, image(BASE, labels={label: "1"}), bootable=True)


def test_a_demand_for_a_signature_is_not_ignored(repo: Repository, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "oci", image(BASE))
    wanted = parse_reference(f"ostree-image-signed:oci:{path}:latest")
    with pytest.raises(VerificationFailed, match="verified signature") as caught:
        pull(repo, wanted)
    assert caught.value.exit_code == 6
    assert everything(repo)[:2] == (set(), {})


def test_a_transport_that_is_only_a_name_is_refused(repo: Repository) -> None:
    with pytest.raises(UsageError, match="skopeo copy"):
        pull(repo, parse_reference("containers-storage:localhost/a"))


def test_two_pulls_at_once_are_one_too_many(repo: Repository, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "oci", image(BASE))
    with lock.writing(repo), Repository.open(repo.path) as second:
        with pytest.raises(Busy, match="locked by another process"):
            pull(second, reference(path))
        with pytest.raises(Busy):
            images.prune(second)
    assert pull(repo, reference(path)).changed


def test_a_cancelled_pull_can_be_made_again(repo: Repository, tmp_path: Path) -> None:
    class Impatient(Progress):
        def advance(self, plan: Any, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pulled(repo, tmp_path / "oci", image(BASE, SECOND), progress=Impatient())
    assert everything(repo) == (set(), {}, ["cache"])
    pulled(repo, tmp_path / "oci", image(BASE, SECOND, THIRD))


# -- stored images ---------------------------------------------------------------------------


def test_stored_images_are_listed_found_and_removed(repo: Repository, tmp_path: Path) -> None:
    labels = {"org.opencontainers.image.version": "1.2", "version": "old", "containers.bootc": "1"}
    made = {"v1": image(BASE, labels=labels), "v2": image(BASE, THIRD)}
    path = write_layout(tmp_path / "oci", made)
    for tag in made:
        pull(repo, reference(path, tag))
    found, damaged = images.listing(repo)
    assert [each.reference for each in found] == [f"oci:{path}:v1", f"oci:{path}:v2"]
    assert damaged == []
    assert [each.manifest_digest for each in found] == [each.digest for each in made.values()]
    assert [each.version for each in found] == ["1.2", None]
    one = images.find(repo, reference(path, "v1"))
    assert one.manifest.raw == made["v1"].manifest and one == found[0]
    images.remove(repo, reference(path, "v1"))
    assert [each.reference for each in images.listing(repo)[0]] == [f"oci:{path}:v2"]
    for call in (images.find, images.remove):
        with pytest.raises(NotFound, match="`image list` shows"):
            call(repo, reference(path, "v1"))


def test_prune_keeps_what_images_need(repo: Repository, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "oci", {"v1": image(BASE, SECOND), "v2": image(BASE, THIRD)})
    pull(repo, reference(path, "v2"))
    before = everything(repo)[:2]
    pull(repo, reference(path, "v1"))
    assert images.prune(repo)[0] == 0
    images.remove(repo, reference(path, "v1"))
    layers, result = images.prune(repo)
    assert layers == 1 and result.objects > 0
    assert everything(repo)[:2] == before
    assert listing(repo, images.find(repo, reference(path, "v2")).checksum)
    assert fsck.fsck(repo).faults == ()
    images.remove(repo, reference(path, "v2"))
    images.prune(repo)
    assert everything(repo)[:2] == (set(), {})


def test_prune_keeps_the_layers_of_a_deployment(repo: Repository, tmp_path: Path) -> None:
    report = pulled(repo, tmp_path / "oci", image(BASE, SECOND))
    refs.write(repo, "ostree/0/1/0", report.commit)
    images.remove(repo, reference(tmp_path / "oci"))
    before = everything(repo)[:2]
    assert images.prune(repo)[0] == 0
    assert everything(repo)[:2] == before


def test_prune_drops_unfinished_downloads(repo: Repository, tmp_path: Path) -> None:
    pulled(repo, tmp_path / "oci", image(BASE))
    left = Path(repo.path) / "extensions/bootc-py/downloads"
    left.mkdir()
    (left / "sha256-00").write_bytes(b"half")
    images.prune(repo)
    assert not left.exists()
    assert images.listing(repo)[0]


def test_prune_spares_what_it_is_told(repo: Repository, tmp_path: Path) -> None:
    report = pulled(repo, tmp_path / "oci", image(BASE, SECOND))
    first, second = (layer_ref(each.plan.layer.digest) for each in report.layers)
    images.remove(repo, reference(tmp_path / "oci"))
    left = Path(repo.path) / "extensions/bootc-py/downloads"
    left.mkdir()
    (left / "sha256-00").write_bytes(b"half")
    assert images.prune(repo, (first, layer_ref(Digest.of(b"none"))))[0] == 1
    assert refs.current(repo, first) and refs.current(repo, second) is None
    assert fsck.fsck(repo).faults == () and (left / "sha256-00").exists()
    assert images.prune(repo)[0] == 1 and not left.exists()


def test_prune_stops_at_an_image_whose_layers_are_unknown(repo: Repository, tmp_path: Path) -> None:
    report = pulled(repo, tmp_path / "oci", image(BASE))
    commit = repo.read_commit(report.commit)
    with Transaction(repo) as transaction:
        bare = transaction.write_commit(Commit(commit.tree, commit.meta))
        transaction.set_ref(f"{IMAGES}unknown", bare)
        transaction.publish()
    before = everything(repo)[:2]
    found, damaged = images.listing(repo)
    assert [each.checksum for each in found] == [report.commit]
    assert [each.checksum for each in damaged] == [bare]
    with pytest.raises(DamagedRepository, match="is not an image's"):
        images.prune(repo)
    assert everything(repo)[:2] == before


def test_an_index_in_a_commit_is_no_image(repo: Repository, tmp_path: Path) -> None:
    report = pulled(repo, tmp_path / "oci", image(BASE))
    commit = repo.read_commit(report.commit)
    wrong = dumps({"schemaVersion": 2, "manifests": []}).decode()
    with Transaction(repo) as transaction:
        metadata = dict(commit.metadata) | {"ostree.manifest": wrong}
        checksum = transaction.write_commit(Commit(commit.tree, commit.meta, metadata))
        transaction.publish()
    with pytest.raises(DamagedRepository, match="holds an index"):
        images.load(repo, "x", checksum)
