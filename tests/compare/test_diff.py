"""Two images compared, from layouts on disk: moves, causes, changes, and what is printed of it."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.chunked import Blob, chunked, chunked_image
from support.estargz import Stargz, entry, estargz
from support.images import (
    Member,
    directory,
    file,
    hardlink,
    image,
    symlink,
    tar,
    whiteout,
    write_archive,
    write_layout,
)

from bridge.cli.diff_markdown import render as markdown
from bridge.cli.diff_text import render as text
from bridge.cli.main import main
from bridge.compare import changes
from bridge.compare.diff import diff
from bridge.compare.estimate import Strategy
from bridge.compare.image import Session
from bridge.compare.report import ImageDiff
from bridge.oci.reference import parse_reference
from bridge.packages.package import Package

HOSTILE = "usr/|`<script>alert(1)</script>\n\u202e@all"
STATUS = "Package: {}\nStatus: install ok installed\nArchitecture: all\nVersion: {}\n\n"
BASE = [
    directory("usr"),
    file("usr/same", bytes(range(256)) * 400),
    file("usr/lib/tool", b"".join(bytes([n]) * 3000 for n in range(200))),
    file("var/lib/dpkg/status", STATUS.format("tool", "1.0") + STATUS.format("gone", "3")),
    file("var/lib/dpkg/info/tool.list", "/.\n/lib\n/lib/tool\n"),
    symlink("lib", "usr/lib"),
]
OLD = [file("usr/old", b"old" * 5000), file("usr/moved", b"m" * 9000), file("etc/x", "1")]
NEW = [
    file("usr/moved-now", b"m" * 9000),
    file(HOSTILE, bytes(range(255, 0, -1)) * 500),
    file("etc/x", "1", mode=0o600),
    file("usr/lib/tool", b"".join(bytes([n]) * 3000 for n in range(199)) + b"changed" * 400),
    file("var/lib/dpkg/status", STATUS.format("tool", "1.1") + STATUS.format("new|`", "1<b>")),
]


def stargz(members: list[Member]) -> Stargz:
    entries = []
    for each in members:
        more = {"mode": each.mode, "uid": each.uid, "gid": each.gid, "linkname": each.target}
        path = each.path.encode("ascii", "replace").decode()
        entries.append(entry(path, each.data, each.kind, **more))
    return estargz(entries, chunk=1 << 16)


def write(path: Path, layers: list[list[Member]], form: str) -> str:
    """Write an image, its layers gzip, zstd, or all of them zstd:chunked or eStargz; return its
    reference."""
    if form == "estargz":
        blobs = [stargz(each) for each in layers]
        made = image(*(each.tar for each in blobs))
        packed = dict(zip(made.layers, (Blob(b.blob, b.annotations) for b in blobs), strict=True))
        made = chunked_image(made, packed, "gzip")
        return f"oci:{write_layout(path, made)}"
    made = image(*layers, compression="gzip" if form == "chunked" else form)
    if form == "chunked":
        blobs = [chunked(tar(each)) for each in layers]
        made = chunked_image(made, dict(zip(made.layers, blobs, strict=True)))
    return f"oci:{write_layout(path, made)}"


def compared(before: str, after: str, strategy: Strategy = Strategy.CHUNKS) -> ImageDiff:
    with Session() as session:
        return diff(parse_reference(before), parse_reference(after), session, strategy)


@pytest.fixture(params=["chunked", "zstd", "gzip"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    return (
        write(tmp_path / "1", [BASE, OLD], request.param),
        write(tmp_path / "2", [BASE, NEW], request.param),
    )


def test_estargz_is_read_by_its_table_of_contents(tmp_path: Path) -> None:
    noise = [file("usr/noise", random.Random(1).randbytes(300_000))]
    one = write(tmp_path / "1", [BASE, [*noise, *OLD]], "estargz")
    other = write(tmp_path / "2", [BASE, [*noise, *NEW[:1], *NEW[3:]]], "estargz")
    found = compared(one, other)
    sizes = [found.estimates[each].layer_bytes for each in Strategy]  # type: ignore[union-attr]
    assert sizes[0] > 300_000 > sizes[1] >= sizes[2] > 0
    assert [each.direction for each in found.packages or ()] == ["removed", "added", "upgraded"]
    assert sum(each.bytes for each in found.causes) == sizes[2]


@pytest.mark.parametrize("strategy", Strategy)
def test_the_causes_add_up_to_what_moves(pair: tuple[str, str], strategy: Strategy) -> None:
    found = compared(*pair, strategy)
    assert found.chosen is not None
    assert sum(each.bytes for each in found.causes) == found.chosen.layer_bytes
    assert sum(each.bytes for each in found.shares) == found.chosen.layer_bytes
    sizes = [each.bytes for each in found.causes]
    assert sizes == sorted(sizes, reverse=True)


def test_what_is_different(pair: tuple[str, str]) -> None:
    found = compared(*pair)
    assert found.files is not None and found.packages is not None
    assert {each.path: (each.kind.value, each.what) for each in found.files} == {
        "usr/old": ("removed", ()),
        "usr/moved": ("removed", ()),
        "usr/moved-now": ("added", ()),
        HOSTILE: ("added", ()),
        "etc/x": ("changed", ("mode",)),
        "usr/lib/tool": ("changed", ("content",)),
        "var/lib/dpkg/status": ("changed", ("content",)),
    }
    assert [(each.name, each.before, each.after, each.direction) for each in found.packages] == [
        ("gone", "3", None, "removed"),
        ("new|`", None, "1<b>", "added"),
        ("tool", "1.0", "1.1", "upgraded"),
    ]
    assert ("package", "tool") in {(each.kind, each.name) for each in found.causes}


def test_an_image_and_itself(pair: tuple[str, str]) -> None:
    found = compared(pair[0], pair[0])
    assert found.chosen is not None and found.chosen.layer_bytes == 0
    assert (found.files, found.packages, found.causes) == ([], [], [])
    assert found.stored is not None and found.stored.files == 0
    assert "0 B" in text(found) and "This update moves" in markdown(found)


def test_the_same_content_compressed_otherwise_does_not_move(tmp_path: Path) -> None:
    one = write(tmp_path / "1", [BASE, OLD], "gzip")
    other = write(tmp_path / "2", [BASE, OLD], "chunked")
    assert [compared(one, other).estimates[each].layer_bytes for each in Strategy] == [0, 0, 0]  # type: ignore[union-attr]


def test_an_archive(tmp_path: Path) -> None:
    one = write_archive(tmp_path / "1.tar", image(BASE))
    other = write_archive(tmp_path / "2.tar", image(BASE, NEW))
    found = compared(f"oci-archive:{one}", f"oci-archive:{other}")
    assert found.counts()[changes.Kind.ADDED] == 2 + 1  # and etc/x


def test_hidden_and_linked(tmp_path: Path) -> None:
    one = write(tmp_path / "1", [BASE], "chunked")
    layer = [whiteout("usr/same"), hardlink("usr/lib/again", "usr/lib/tool"), symlink("lib", "x")]
    other = write(tmp_path / "2", [BASE, layer], "chunked")
    found = compared(one, other)
    assert [(each.path, each.kind.value, each.what) for each in found.files or ()] == [
        ("lib", "changed", ("target",)),
        ("usr/lib/again", "added", ()),
        ("usr/same", "removed", ()),
    ]


# -- what is printed ----------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not attrs


def test_hostile_names_do_nothing(pair: tuple[str, str]) -> None:
    found = compared(*pair)
    for verbose in (False, True):
        shown = text(found, verbose=verbose)
        assert all(each.isprintable() for each in shown.split("\n"))
        assert "\\n\\u202e" in shown
    made = markdown(found)
    assert _Tags(made).seen == {"code", "details", "summary", "sub"}
    rows = [line for line in made.split("\n") if line.startswith("|")]
    assert rows and all(line.count("|") in (3, 4) for line in rows)
    assert "@all" not in made and "`" not in made
    json.dumps(found.to_json()).encode()


def test_markdown_has_room_in_a_comment(tmp_path: Path) -> None:
    names = [f"usr/{'|' * 60}/{number}" for number in range(3000)]
    one = write(tmp_path / "1", [[file("usr/x")]], "gzip")
    other = write(tmp_path / "2", [[file(name, name) for name in names]], "gzip")
    made = markdown(compared(one, other))
    assert 40_000 < len(made) < 65_536
    assert made.count("<details>") == made.count("</details>") == 1
    assert "more, which --json lists" in made


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["image", "diff", *arguments])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_the_command(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *pair, "--json", "--quiet")
    document: dict[str, Any] = json.loads(out)
    assert code == 0 and (document["apiVersion"], document["kind"]) == (
        "bootc-py/v1",
        "ImageDiff",
    )
    assert document["strategies"]["delta"] is None
    assert {"from", "to", "layers", "packages", "files", "causes", "read", "store"} <= set(document)
    assert document["layers"][0]["shared"] is True
    code, out, _ = run(capsys, *pair, "--markdown", "--quiet")
    assert code == 0 and out.startswith("### This update moves")
    assert run(capsys, *pair, "--json", "--markdown")[0] == 2
    code, out, err = run(capsys, *pair, "--max-update", "1k", "--markdown", "--quiet")
    assert code == 1 and "more than the 1.0 kB" in out
    assert "--max-update allows 1.0 kB; the largest causes:" in err
    assert run(capsys, *pair, "--max-update", "1MB", "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("oci:/nowhere", "oci:/nowhere"), 4),
        (("quay.io/A", "oci:x"), 2),
        (("oci:x",), 2),
        (("oci:x", "oci:y", "--max-update", "much"), 2),
        (("oci:x", "oci:y", "--max-update", "-1"), 2),
        (("oci:x", "oci:y", "--strategy", "delta"), 2),
        (("stored:quay.io/a/b:1", "oci:x", "--repo", "/nowhere"), 4),
    ],
)
def test_words_that_are_wrong(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int
) -> None:
    try:
        found = main(["image", "diff", *arguments])
    except SystemExit as ended:
        found = int(ended.code or 0)
    error = capsys.readouterr().err
    assert found == code, error
    assert "error: " in error and "Traceback" not in error


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[: len(data) // 3] + b"\0" * 64 + data[len(data) // 3 + 64 :],
        lambda data: data + b"x",
        lambda data: b"",
    ],
)
@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_blobs_that_are_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, change: Any
) -> None:
    one = write(tmp_path / "1", [BASE], form)
    other = write(tmp_path / "2", [BASE, NEW], form)
    blobs = sorted((tmp_path / "2/blobs/sha256").iterdir(), key=lambda each: each.stat().st_size)
    blobs[-1].write_bytes(change(blobs[-1].read_bytes()))
    code, out, err = run(capsys, one, other, "--quiet")
    assert code in (6, 7) and out == "" and err.count("error: ") == 1


# -- packages -----------------------------------------------------------------------------------


def deb(name: str, version: str, architecture: str = "amd64", kind: str = "deb") -> Package:
    return Package(kind, name, version, architecture, name, ())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([deb("a", "1")], [deb("a", "1")], []),
        ([deb("a", "1~rc")], [deb("a", "1")], [("a", "1~rc", "1", "upgraded")]),
        ([deb("a", "2")], [deb("a", "1")], [("a", "2", "1", "downgraded")]),
        ([deb("a", "1.0")], [deb("a", "1.00")], [("a", "1.0", "1.00", "changed")]),
        (
            [deb("a", "1"), deb("a", "1", "i386")],
            [deb("a", "1")],
            [("a", "1", None, "removed")],
        ),
        (
            [deb("kernel", "1", kind="rpm"), deb("kernel", "2", kind="rpm")],
            [deb("kernel", "2", kind="rpm"), deb("kernel", "3", kind="rpm")],
            [("kernel", "1", "3", "upgraded")],
        ),
        (
            [],
            [deb("b", "1"), deb("a", "1")],
            [("a", None, "1", "added"), ("b", None, "1", "added")],
        ),
    ],
)
def test_changes_of_packages(
    before: list[Package], after: list[Package], expected: list[tuple[str, ...]]
) -> None:
    found = changes.packages(before, after)
    assert [(each.name, each.before, each.after, each.direction) for each in found] == expected


# -- stored images ------------------------------------------------------------------------------


def test_a_stored_image_is_as_good_as_its_source(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = tmp_path / "repo"
    for each in pair:  # the second one is there too, and does not count
        assert main(["image", "pull", each, "--repo", str(repo), "--quiet"]) == 0
    _, out, _ = run(capsys, *pair, "--json", "--quiet")
    wanted = json.loads(out)
    names = [f"stored:{each}" for each in pair]
    code, out, err = run(capsys, *names, "--repo", str(repo), "--json", "--quiet")
    assert code == 0, err
    found = json.loads(out)
    for key in ("strategies", "layers", "packages", "files", "causes", "store"):
        assert found[key] == wanted[key], key


def test_an_image_that_is_not_stored(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = tmp_path / "repo"
    assert main(["image", "pull", pair[0], "--repo", str(repo), "--quiet"]) == 0
    code, _, err = run(capsys, pair[0], f"stored:{pair[1]}", "--repo", str(repo), "--quiet")
    assert code == 4 and "no image" in err


def test_a_layer_whose_tar_split_is_another_ones_is_read_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a pull fetches it; of what moves nothing is wrong."""

    def renamed(_toc: object, split: list[dict[str, Any]]) -> None:
        next(line for line in split if line.get("size"))["name"] = "usr/none"

    noise = file("usr/noise", random.Random(1).randbytes(300_000))
    old = image(BASE, [noise])
    new = image(BASE, [noise, *NEW])
    good = chunked(tar([noise, *NEW]))
    names, sizes = [], []
    for name, blob in (("good", good), ("bad", good.changed(renamed))):
        made = chunked_image(new, {new.layers[1]: blob})
        names.append(f"oci:{write_layout(tmp_path / name, made)}")
    before = f"oci:{write_layout(tmp_path / 'old', old)}"
    for name in names:
        code, out, err = run(capsys, before, name, "--json")
        assert code == 0, err
        found = json.loads(out)
        sizes.append([found["strategies"][each.value]["layerBytes"] for each in Strategy])
        assert ("disagree on 'usr/none'" in err) == (name is names[1])
    layers, files, chunks = sizes[0]
    assert max(files, chunks) < layers - 250_000
    assert len(set(sizes[1])) == 1


def test_an_image_whose_documents_disagree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "1", [BASE], "gzip")
    bad = f"oci:{write_layout(tmp_path / '2', image(BASE, NEW, diff_ids=['sha256:' + '0' * 64]))}"
    for names in ((good, bad), (bad, good)):
        code, _, err = run(capsys, *names, "--quiet")
        assert code == 7 and "has 2 layers" in err
