from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, NotFound, UsageError, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.layout import REF_NAME, Archive, ImageLayout, Layout
from bridge.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor

BLOB = random.Random(1).randbytes(100_000)
MARKER = b'{"imageLayoutVersion": "1.0.0"}'


def entry(data: bytes, tag: str | None = None, media_type: str = OCI_MANIFEST) -> dict[str, Any]:
    made = {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}
    return made | ({"annotations": {REF_NAME: tag}} if tag else {})


def index(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()


def files(top: bytes, *blobs: bytes) -> dict[str, bytes]:
    made = {"oci-layout": MARKER, "index.json": top}
    return made | {f"blobs/sha256/{Digest.of(data).hex}": data for data in blobs}


def as_directory(path: Path, content: dict[str, bytes]) -> ImageLayout:
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return Layout.open(str(path))


def as_archive(path: Path, content: dict[str, bytes]) -> ImageLayout:
    write_tar(path / "image.tar", content)
    return Archive.open(str(path / "image.tar"))


def write_tar(path: Path, content: dict[str, bytes], mode: str = "w:", **how: Any) -> None:
    with tarfile.open(path, mode, **how) as archive:  # type: ignore[call-overload]
        directory = tarfile.TarInfo("blobs")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


Maker = Callable[[Path, dict[str, bytes]], ImageLayout]
both = pytest.mark.parametrize("make", [as_directory, as_archive])


@both
def test_a_tag_leads_to_its_manifest_and_blobs(tmp_path: Path, make: Maker) -> None:
    one, two = b'{"one": 1}', b'{"two": 2}'
    top = index(entry(one, "v1"), entry(two, "quay.io/a/b:v2"))
    with make(tmp_path, files(top, one, two, BLOB)) as layout:
        assert layout.read_blob(layout.resolve("v1")) == one
        assert layout.read_blob(layout.resolve("quay.io/a/b:v2")) == two
        with pytest.raises(UsageError, match=r"2 images.*v1, quay\.io/a/b:v2"):
            layout.resolve()
        with pytest.raises(NotFound, match="'v3'; there are: v1"):
            layout.resolve("v3")
        with layout.open_blob(Descriptor("x", Digest.of(BLOB), len(BLOB))) as stream:
            assert b"".join(iter(lambda: stream.read(7000), b"")) == BLOB
            assert stream.seek(50_000) == 50_000 and stream.read(10) == BLOB[50_000:50_010]
            assert stream.seek(0, os.SEEK_END) == len(BLOB) and stream.read(1) == b""


@both
def test_the_only_image_needs_no_tag(tmp_path: Path, make: Maker) -> None:
    with make(tmp_path, files(index(entry(b"{}", "v1")), b"{}")) as layout:
        assert layout.resolve() == layout.resolve("v1")


@both
def test_an_empty_layout(tmp_path: Path, make: Maker) -> None:
    with make(tmp_path, files(index())) as layout, pytest.raises(NotFound, match="no image"):
        layout.resolve()


@both
def test_a_tag_in_a_nested_index(tmp_path: Path, make: Maker) -> None:
    inner = index(entry(b"{}", "deep"))
    content = files(index(entry(inner, media_type=OCI_INDEX)), inner, b"{}")
    with make(tmp_path, content) as layout:
        assert layout.read_blob(layout.resolve("deep")) == b"{}"
        assert layout.resolve().media_type == OCI_INDEX


@both
def test_one_tag_for_two_images(tmp_path: Path, make: Maker) -> None:
    top = index(entry(b"{}", "v"), entry(b"[]", "v"))
    with make(tmp_path, files(top)) as layout, pytest.raises(MalformedImage, match="more than"):
        layout.resolve("v")


@both
def test_small_blobs_are_verified_and_bounded(tmp_path: Path, make: Maker) -> None:
    content = files(index(), BLOB)
    name = next(name for name in content if name.startswith("blobs"))
    content[name] = b"?" + BLOB[1:]
    good = Descriptor("x", Digest.of(BLOB), len(BLOB))
    with make(tmp_path, content) as layout:
        with pytest.raises(VerificationFailed, match="not sha256"):
            layout.read_blob(good)
        for size in (len(BLOB) - 1, len(BLOB) + 1):
            with pytest.raises(VerificationFailed):
                layout.read_blob(Descriptor("x", Digest.of(BLOB), size))
        with pytest.raises(MalformedImage, match="limit"):
            layout.read_blob(good, limit=100)
        with pytest.raises(NotFound, match="blob sha256"):
            layout.open_blob(Descriptor("x", Digest.of(b"absent"), 1))


@both
def test_an_unchecked_digest_never_becomes_a_path(tmp_path: Path, make: Maker) -> None:
    with make(tmp_path, files(index())) as layout:
        for digest in ("sha256:../../index.json", "../index.json", "sha256:" + "g" * 64):
            with pytest.raises(MalformedImage):
                layout.open_blob(Descriptor("x", Digest(digest), 1))


@both
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("oci-layout", None),
        ("oci-layout", b"{}"),
        ("oci-layout", b"\xff"),
        ("oci-layout", b'{"imageLayoutVersion": 1}'),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}'),
        ("oci-layout", b" " * 100_000),
        ("index.json", None),
        ("index.json", b"[]"),
        ("index.json", b"{}"),
        ("index.json", b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:.."}]}'),
        ("index.json", b" " * (limits.MANIFEST_MAX + 1)),
    ],
)
def test_broken_layouts(tmp_path: Path, make: Maker, name: str, data: bytes | None) -> None:
    content = files(index(entry(b"{}")))
    if data is None:
        del content[name]
    else:
        content[name] = data
    with pytest.raises(MalformedImage) as caught, make(tmp_path, content) as layout:
        layout.resolve()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_directory_does_not_lead_out_of_itself(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(BLOB)
    (tmp_path / "image").mkdir()
    with as_directory(tmp_path / "image", files(index(), b"x")) as layout:
        blobs = tmp_path / "image/blobs/sha256"
        (blobs / Digest.of(BLOB).hex).symlink_to(secret)
        os.mkfifo(blobs / Digest.of(b"fifo").hex)
        (blobs / Digest.of(b"dir").hex).mkdir()
        for data in (BLOB, b"fifo", b"dir"):
            with pytest.raises(MalformedImage):
                layout.open_blob(Descriptor("x", Digest.of(data), 1))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for opener in (Layout.open, Archive.open):
        with pytest.raises(NotFound, match="no such"):
            opener(str(tmp_path / "absent"))
    with pytest.raises(MalformedImage, match="oci-archive:"):
        Layout.open(str(tmp_path / "file"))
    with pytest.raises(BridgeError):
        Archive.open(str(tmp_path))


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_archives_of_all_styles(tmp_path: Path, style: int, prefix: str) -> None:
    content = {prefix + name: data for name, data in files(index(entry(BLOB, "v")), BLOB).items()}
    write_tar(tmp_path / "f", content, format=style)
    with Archive.open(str(tmp_path / "f")) as archive:
        assert archive.read_blob(archive.resolve("v")) == BLOB


def test_compressed_and_cut_archives(tmp_path: Path) -> None:
    write_tar(tmp_path / "gz", files(index()), "w:gz")
    write_tar(tmp_path / "good", files(index(entry(BLOB)), BLOB))
    whole = (tmp_path / "good").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) - 60_000])
    for name in ("gz", "cut"):
        with pytest.raises(MalformedImage, match=name):
            Archive.open(str(tmp_path / name))


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    """Each pax header extends the next one, which tarfile reads a level deeper."""
    member = tarfile.TarInfo("f" * 200)
    header = member.tobuf(tarfile.PAX_FORMAT)[:1024]
    (tmp_path / "a.tar").write_bytes(header * 2000)
    with pytest.raises(MalformedImage, match="not an uncompressed tar"):
        Archive.open(str(tmp_path / "a.tar"))


@both
def test_tags_are_listed_in_one_printable_line(tmp_path: Path, make: Maker) -> None:
    top = index(entry(b"a", "v1\nerror: x\x1b[2J"), entry(b"b", "x" * 5000))
    with (
        make(tmp_path, files(top)) as layout,
        pytest.raises(NotFound, match=r"there are: v1\?error: x") as caught,
    ):
        layout.resolve("other")
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    write_tar(tmp_path / "f", files(index()))
    with tarfile.open(tmp_path / "f", "a") as archive:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "index.json")):
            member = tarfile.TarInfo(f"blobs/sha256/{Digest.of(kind).hex}")
            member.type, member.linkname = kind, target
            archive.addfile(member)
    with Archive.open(str(tmp_path / "f")) as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            with pytest.raises(NotFound):
                archive.open_blob(Descriptor("x", Digest.of(kind), 1))


def test_damaged_archives_end_in_an_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "f", files(index(entry(b"{}")), b"{}"), format=tarfile.PAX_FORMAT)
    whole = (tmp_path / "f").read_bytes()
    dice = random.Random(7)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(512 * 8)
            data[at] = dice.choice([0, 0x80, 0xFF, 0x2D, 0x37, dice.randrange(256)])
        fix_checksums(data)
        (tmp_path / "f").write_bytes(data)
        try:
            with Archive.open(str(tmp_path / "f")) as archive:
                archive.resolve()
        except BridgeError as error:
            assert "\n" not in str(error)


def fix_checksums(data: bytearray) -> None:
    """Give every block that was a header a right checksum, so that its fields are read."""
    for at in range(0, 512 * 8, 512):
        block = bytearray(data[at : at + 512])
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(block)


def test_a_blob_outlives_its_archive(tmp_path: Path) -> None:
    archive = as_archive(tmp_path, files(index(), BLOB))
    stream = archive.open_blob(Descriptor("x", Digest.of(BLOB), len(BLOB)))
    archive.close()
    archive.close()
    assert stream.read() == BLOB
    stream.close()
