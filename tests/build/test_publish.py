"""Publishing into layouts: digests, names, what is attached, and what is left where it fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.images import directory, file, image, index, write_layout

from bridge.build.publish import Wanted, names_of, publish
from bridge.build.sbom import Format
from bridge.cli.main import main
from bridge.errors import BridgeError, MalformedImage, NotFound, UsageError
from bridge.oci.artifact import in_layout
from bridge.oci.layout import Layout
from bridge.oci.model import Manifest, Platform, parse_document
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import Repository
from bridge.pull.pull import pull
from bridge.push.compress import Compression
from bridge.push.layouts import LayoutWriter

STATUS = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5:1-2\n"
MADE = image(
    [
        directory("usr"),
        directory("usr/lib"),
        file("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n"),
        directory("usr/lib/sysimage"),
        directory("usr/lib/sysimage/dpkg"),
        file("usr/lib/sysimage/dpkg/status", STATUS),
    ],
    [file("usr/x", b"x" * 10_000)],
)


@pytest.fixture
def source(tmp_path: Path) -> ImageReference:
    return parse_reference(f"oci:{write_layout(tmp_path / 'source', {'v': MADE})}:v")


@pytest.fixture
def target(tmp_path: Path) -> ImageReference:
    return parse_reference(f"oci:{tmp_path / 'out'}:v")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Layout]:
    path = str(tmp_path / "out")
    LayoutWriter.open(path, None).__exit__()
    with Layout.open(path) as layout:
        yield layout


def bill(layout: Layout, reference: str) -> Any:
    """The one bill of materials of the image under a tag."""
    (found,) = in_layout(layout, layout.resolve(reference).digest)
    document = parse_document(layout.read_blob(found))
    assert isinstance(document, Manifest)
    (blob,) = document.layers
    assert blob.media_type == document.artifact_type == found.artifact_type
    return json.loads(layout.read_blob(blob))


@pytest.mark.parametrize("kind", Format)
def test_an_image_and_its_bill(
    source: ImageReference, target: ImageReference, out: Layout, kind: Format
) -> None:
    done = publish(source, target, Wanted(tags=["w"], sbom=kind))
    assert done.digest == MADE.digest and done.compression is None and done.tags == ("v", "w")
    assert out.resolve("v").digest == out.resolve("w").digest == MADE.digest
    found = bill(out, "v")
    assert "bash" in json.dumps(found) and MADE.digest in json.dumps(found)
    (attached,) = done.attached
    again = publish(source, target, Wanted(tags=["w"], sbom=kind))
    assert again.attached == done.attached
    assert [each.digest for each in in_layout(out, MADE.digest)] == [attached.digest]
    both = [*Format]
    for each in both:
        publish(source, target, Wanted(sbom=each))
    assert len(in_layout(out, MADE.digest)) == 2


def test_a_stored_image(
    source: ImageReference, target: ImageReference, out: Layout, tmp_path: Path
) -> None:
    with Repository.create(tmp_path / "repo", "bare-user") as repo:
        with pytest.raises(NotFound):
            publish(source, target, repo=repo)
        pull(repo, source)
        done = publish(source, target, Wanted(sbom=Format.SPDX), repo=repo)
        assert done.compression is Compression.ZSTD_CHUNKED
        assert out.resolve("v").digest == done.digest != MADE.digest
        found = bill(out, "v")
        assert [each["name"] for each in found["packages"]] == ["out", "bash"]
        plain = publish(source, target, Wanted(compression=Compression.NONE), repo=repo)
        assert plain.compression is Compression.NONE and plain.received == 0


def test_another_compression(source: ImageReference, target: ImageReference, out: Layout) -> None:
    done = publish(source, target, Wanted(compression=Compression.ZSTD, sbom=Format.SPDX))
    assert done.compression is Compression.ZSTD and done.digest != MADE.digest
    assert out.resolve("v").digest == done.digest
    assert bill(out, "v")["packages"][0]["versionInfo"] == done.digest
    same = publish(source, target, Wanted(compression=Compression.GZIP))
    assert same.compression is None and same.digest == MADE.digest


@pytest.mark.parametrize("step", ["write", "attach", "finish"])
def test_whatever_fails_no_name_is_moved(
    source: ImageReference,
    target: ImageReference,
    out: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    old = image([file("old")])
    before = parse_reference(f"oci:{write_layout(tmp_path / 'old', {'v': old})}:v")
    publish(before, target)

    def fails(self: Any, *arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(LayoutWriter, step, fails)
        with pytest.raises(OSError, match="Input/output"):
            publish(source, target, Wanted(sbom=Format.SPDX))
    assert out.resolve("v").digest == old.digest
    publish(source, target, Wanted(sbom=Format.SPDX))
    assert out.resolve("v").digest == MADE.digest


def test_a_broken_package_database_is_told_before_a_name_is_moved(
    target: ImageReference, tmp_path: Path
) -> None:
    made = image(
        [directory("usr/lib/sysimage/rpm"), file("usr/lib/sysimage/rpm/rpmdb.sqlite", b"x" * 5000)]
    )
    source = parse_reference(f"oci:{write_layout(tmp_path / 'source', {'v': made})}:v")
    with pytest.raises(MalformedImage, match="rpm's database"):
        publish(source, target, Wanted(sbom=Format.SPDX))
    assert not (tmp_path / "out/index.json").exists()
    publish(source, target)


def test_an_index_has_no_bill(target: ImageReference, tmp_path: Path) -> None:
    made = index((MADE, Platform.host()))
    source = parse_reference(f"oci:{write_layout(tmp_path / 'source', {'v': made})}:v")
    with pytest.raises(UsageError, match="index of several"):
        publish(source, target, Wanted(sbom=Format.SPDX))
    assert publish(source, target).digest == made.digest


@pytest.mark.parametrize(
    ("destination", "tags", "expected"),
    [
        ("quay.io/a/b", [], ("latest",)),
        ("quay.io/a/b:x", [], ("x",)),
        ("quay.io/a/b", ["y"], ("y",)),
        ("quay.io/a/b:x", ["y", "x", "y"], ("x", "y")),
        ("localhost:5000/a", ["y"], ("y",)),
        ("docker://localhost:5000/a:x", ["y"], ("x", "y")),
        ("oci:/dir", [], ()),
        ("oci:/dir", ["y"], ("y",)),
        ("oci:/dir:a/b:c", ["y"], ("a/b:c", "y")),
        ("oci-archive:/file:x", ["y"], ("x", "y")),
    ],
)
def test_names(destination: str, tags: list[str], expected: tuple[str, ...]) -> None:
    assert names_of(parse_reference(destination), tags) == expected


@pytest.mark.parametrize("tag", ["", " ", "a b", "-a", "a@b", "ä", "a" * 129, "a\nb"])
def test_tags_that_are_none(tag: str) -> None:
    with pytest.raises(BridgeError) as caught:
        names_of(parse_reference("quay.io/a/b"), [tag])
    assert caught.value.exit_code == 2


def test_the_command(
    source: ImageReference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, digest_file = f"oci:{tmp_path / 'out'}:v", tmp_path / "digest"
    command = ["publish", str(source), target, f"--digestfile={digest_file}"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out == f"{MADE.digest}\n" and "layers as they were" in told.err
    assert digest_file.read_text() == MADE.digest
    assert main([*command, "--json", "--quiet", "--sbom=spdx"]) == 0
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert (document["kind"], document["apiVersion"]) == ("PublishReport", "bootc-py/v1")
    assert document["transfer"]["skippedBytes"] == MADE.size and told.err == ""
    assert [each["artifactType"] for each in document["referrers"]] == ["application/spdx+json"]
    os.unlink(digest_file)
    assert main([*command, "--compression-level=3"]) == 2
    assert not digest_file.exists()
    capsys.readouterr()
    assert main([*command, "--format=ostree"]) == 0
    assert digest_file.read_text() != MADE.digest
    assert capsys.readouterr().out == f"{digest_file.read_text()}\n"
