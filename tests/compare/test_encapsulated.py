"""Encapsulated commits compared, with one another and with ordinary images."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from support.chunked import chunked, chunked_image
from support.encapsulated import LABEL, Dir, Encapsulated, File, as_image, encapsulated
from support.images import Member, file, image, tar, write_layout

from bridge.compare.causes import METADATA
from bridge.compare.diff import diff
from bridge.compare.encapsulated import file_at, is_in_repository, xattrs_digest
from bridge.compare.estimate import Strategy
from bridge.compare.image import Session
from bridge.compare.report import ImageDiff
from bridge.oci.reference import parse_reference
from bridge.ostree import objects
from bridge.ostree.objects import FileMeta

STATUS = "Package: {}\nStatus: install ok installed\nArchitecture: all\nVersion: {}\n\n"
DATABASE = "usr/lib/sysimage/dpkg"
LIST = "/.\n/usr\n/usr/bin\n/usr/bin/tool\n"


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def root(version: int, label: str = "") -> Dir:
    """A tree of which some changes with each version: files, and what is installed."""
    xattrs = ((LABEL, label.encode() + b"\0"),) if label else ()

    def made(data: bytes, mode: int = 0o644) -> File:
        return File(data, mode, xattrs=xattrs)

    database = {
        "status": made((STATUS.format("tool", f"1.{version}")).encode()),
        "info": Dir({"tool.list": made(LIST.encode())}),
    }
    return Dir(
        {
            "usr": Dir(
                {
                    "bin": Dir(
                        {
                            "tool": made(noise(f"tool {version}", 90_000), 0o755),
                            "sh": File(target="tool", xattrs=xattrs),
                        }
                    ),
                    "lib": Dir(
                        {
                            "same": made(noise("same", 200_000)),
                            "data": made(noise(f"data {version}", 50_000)),
                            "empty": made(b""),
                            "sysimage": Dir({"dpkg": Dir(database)}),
                        }
                    ),
                    "etc": Dir({"tool.conf": made(f"version = {version}\n".encode())}),
                }
            ),
            "etc-is-elsewhere": made(b"x"),
        }
    )


def plain(tree: Dir, at: str = "") -> list[Member]:
    """The entries of an ordinary layer with that tree."""
    found: list[Member] = []
    for name, each in tree.entries.items():
        path = f"{at}{name}"
        if isinstance(each, Dir):
            found += plain(each, f"{path}/")
        else:
            path = path.removeprefix("usr/") if path.startswith("usr/etc/") else path
            kind = {"kind": b"2", "target": each.target} if each.target else {}
            found.append(Member(path, data=each.data, mode=each.mode, **kind))  # type: ignore[arg-type]
    return found


def layers(made: Encapsulated) -> list[list[Member]]:
    """The commit with the small files, and a layer with the large ones. Of an empty file each name
    is a file of its own."""
    large = [key for key, (each, _) in made.files.items() if len(each.data) >= 50_000]
    small = [key for key in made.files if key not in large]
    first = made.layer(*small, metadata=True)
    paths = {path for found, names in made.files.values() for path in names
             if not found.data and not found.target}  # fmt: skip
    return [
        [file(each.path) if each.path in paths else each for each in first],
        made.layer(*large),
    ]


def write(path: Path, form: str, version: int, label: str = "") -> str:
    """Write that version's image; return its reference."""
    tree = root(version, label)
    made = encapsulated(tree)
    entries = layers(made)
    if form in ("gzip", "chunked"):
        found = as_image(*entries, last=1, commit=made.commit)
    else:
        entries = [plain(tree)]
        found = image(*entries)
    if form.endswith("chunked"):
        blobs = [chunked(tar(each)) for each in entries]
        found = chunked_image(found, dict(zip(found.layers, blobs, strict=True)))
    return f"oci:{write_layout(path, found)}"


def compared(before: str, after: str, strategy: Strategy = Strategy.CHUNKS) -> ImageDiff:
    with Session() as session:
        return diff(parse_reference(before), parse_reference(after), session, strategy)


Written = dict[tuple[str, int], str]
FORMS = ("gzip", "chunked", "plain", "plain-chunked")
PAIRS = [
    (one, other) for one in FORMS for other in FORMS if {one, other} & {"gzip", "chunked"}
]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Two versions in each form."""
    work = tmp_path_factory.mktemp("written")
    return {
        (form, version): write(work / f"{form}-{version}", form, version)
        for form in FORMS
        for version in (0, 1)
    }


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_is_different_is_what_is_seen(one: str, other: str, written: Written) -> None:
    found = compared(written[one, 0], written[other, 1])
    assert found.files is not None and found.packages is not None
    assert {each.path: (each.kind.value, each.what) for each in found.files} == {
        path: ("changed", ("content",))
        for path in (
            "etc/tool.conf",
            "usr/bin/tool",
            "usr/lib/data",
            f"{DATABASE}/status",
        )
    }
    [package] = found.packages
    assert (package.name, package.before, package.after) == ("tool", "1.0", "1.1")
    assert found.reasons == ()


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_causes_have_the_names_that_are_seen(
    one: str, other: str, strategy: Strategy, written: Written
) -> None:
    found = compared(written[one, 0], written[other, 1], strategy)
    assert found.chosen is not None
    assert sum(each.bytes for each in found.causes) == found.chosen.layer_bytes
    causes = {(each.kind, each.name): each for each in found.causes}
    tool, data = causes["package", "tool"], causes["path", "usr/lib/data"]
    assert tool.paths == ("usr/bin/tool",) and tool.bytes > data.bytes > 40_000
    assert not any("sysroot" in each.name for each in found.causes)
    is_commit = other in ("gzip", "chunked")
    assert (("metadata", METADATA) in causes) is is_commit
    moves_whole = strategy is Strategy.LAYERS or other in ("gzip", "plain")
    assert (("path", "usr/lib/same") in causes) is moves_whole


@pytest.mark.parametrize("form", ["gzip", "chunked"])
def test_files_that_only_get_another_label_are_stored_again(form: str, tmp_path: Path) -> None:
    """They move as little as files that did not change, and count as no change."""
    pair = [write(tmp_path / label, form, 1, f"system_u:object_r:{label}_t:s0") for label in "ab"]
    found = compared(pair[0], pair[1])
    assert (found.files, found.packages) == ([], [])
    assert found.stored is not None
    small = len(STATUS.format("tool", "1.1") + LIST + "version = 1\n" + "x")
    assert (found.stored.files, found.stored.bytes) == (7, 340_000 + small)
    if form == "chunked":
        # The first layer is too small to be taken in parts.
        assert not {"tool", "usr/lib/same"} & {each.name for each in found.causes}
    again = compared(pair[0], pair[0]).stored
    assert again is not None and (again.files, again.bytes) == (0, 0)


def test_a_layer_on_top_is_an_ordinary_one(tmp_path: Path) -> None:
    made = encapsulated(root(1))
    top = [file("usr/lib/data", noise("mine", 60_000)), file("usr/lib/.wh.same")]
    images = [as_image(*layers(made), *more, last=1, commit=made.commit) for more in ([], [top])]
    one, two = (f"oci:{write_layout(tmp_path / str(n), each)}" for n, each in enumerate(images))
    found = compared(one, two)
    assert [(each.path, each.kind.value) for each in found.files or ()] == [
        ("usr/lib/data", "changed"),
        ("usr/lib/same", "removed"),
    ]
    assert found.stored is not None and found.stored.bytes == 60_000
    assert [each.name for each in found.causes][:1] == ["usr/lib/data"]


def test_a_database_with_another_name_before_its_own(tmp_path: Path) -> None:
    made = encapsulated(root(1))
    [names] = [names for _, names in made.files.values() if names == [f"{DATABASE}/status"]]
    names.insert(0, "usr/share/copy")
    found = as_image(*layers(made), last=1, commit=made.commit)
    reference = f"oci:{write_layout(tmp_path / 'one', found)}"
    said = compared(reference, write(tmp_path / "two", "gzip", 2))
    assert [each.after for each in said.packages or ()] == ["1.2"]


@pytest.mark.parametrize(
    ("path", "inside", "named"),
    [
        ("sysroot/ostree/repo/objects/00/" + "1" * 62 + ".file", True, True),
        ("./sysroot/ostree/repo/objects/00/" + "1" * 62 + ".file", True, True),
        ("/sysroot/ostree/repo/objects/00/" + "1" * 62 + ".file", True, True),
        ("sysroot/ostree/repo/objects/00/" + "1" * 62 + ".dirtree", True, False),
        ("sysroot/ostree/repo/objects/00/x.file", True, False),
        ("sysroot/ostree/repo/objects/../00/" + "1" * 62 + ".file", True, False),
        ("sysroot/ostree/repo/config", True, False),
        ("usr/sysroot/ostree/repo/objects/00/" + "1" * 62 + ".file", False, False),
        ("sysroot/ostree/repository", False, False),
        ("", False, False),
    ],
)
def test_which_paths_are_objects(path: str, inside: bool, named: bool) -> None:
    assert is_in_repository(path) is inside
    wanted = "sysroot/ostree/repo/objects/00/" + "1" * 62 + ".file"
    assert file_at(path) == (wanted if named else None)


def test_xattrs_have_the_digest_of_the_form_in_the_image() -> None:
    pairs = ((b"user.b", b"2"), (b"user.a", b"1"))
    data = objects.encode_xattrs(FileMeta(0, 0, 0, pairs))
    assert xattrs_digest(pairs) == hashlib.sha256(data).digest()
