"""What `image diff` says before anything is downloaded is what pulls then move, store and change;
the page on a repository's history has the same figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rig import pairs, small
from rig.command import PLAIN_HTTP, bootc_py, pull, report
from rig.proxy import run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from support import images

from tools.images import cache
from tools.images import layout as oci

FORMS = ("gzip", "zstd", "chunked", "ostree", "ostree-chunked")
"""Of layers; the last two are encapsulated commits."""
OPTIONS = {
    "chunked": ("--compression", "zstd:chunked"),
    "ostree": ("--format", "ostree"),
    "ostree-chunked": ("--format", "ostree", "--compression", "zstd:chunked"),
}
STRATEGIES = {"layers": "never", "files": "files", "chunks": "chunks"}
PACKAGES = (
    "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n\n"
    "Package: other\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-1\n"
)


@dataclass(frozen=True)
class Published:
    """A registry with two versions of an image, in several forms of layers."""

    registry: Registry
    repository: str

    def name(self, version: int, form: str, host: str = "") -> str:
        return f"{host or self.registry.host}/{self.repository}-{form}:v{version}"


def members(version: int) -> list[images.Member]:
    """The image that changes, with packages."""
    return [
        images.file("var/lib/dpkg/status", PACKAGES.format(f"1.{version}")),
        images.file("var/lib/dpkg/info/tool.list", "/.\n/usr\n/usr/tool\n"),
        *small.changing(version),
        images.file("usr/big", b"the same in both" * 20_000),
    ]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Two versions of a small image that share their first layer."""
    work = tmp_path_factory.mktemp("published")
    with run_registry() as registry:
        found = Published(registry, "a/small")
        _publish(found, work, {n: _small(work / f"v{n}", n) for n in (1, 2)})
        yield found


def _small(path: Path, version: int) -> oci.Layout:
    return small.of_layers(path, [images.file("usr/lib/base", bytes(range(256)) * 1000)],
                           members(version))  # fmt: skip


def _publish(target: Published, work: Path, versions: dict[int, oci.Layout]) -> None:
    """Pushes the images in every form: by skopeo, and those by ourselves that it cannot write."""
    repo = work / "repo"
    for version, layout in versions.items():
        for form in FORMS:
            name = target.name(version, form)
            if form in OPTIONS:
                pull(layout.reference, repo)
                options = (*OPTIONS[form], "--repo", repo, PLAIN_HTTP)
                report("image", "push", layout.reference, name, *options)
            else:
                place = work / f"{version}-{form}"
                repository = f"{target.repository}-{form}"
                oci.convert(layout, place, form)
                push(oci.read(place), target.registry, repository, f"v{version}")


def diff(before: str, after: str, *options: str) -> dict[str, Any]:
    return report("image", "diff", before, after, PLAIN_HTTP, *options)


# -- the figures --------------------------------------------------------------------------------


MOVES = [
    *(
        (before, after, strategy)
        for before, after in (
            ("chunked", "chunked"),
            ("zstd", "chunked"),
            ("gzip", "gzip"),
            ("ostree-chunked", "ostree-chunked"),
        )
        for strategy in STRATEGIES
    ),
    ("ostree", "ostree", "layers"),
    ("ostree", "ostree-chunked", "files"),
    ("chunked", "ostree-chunked", "chunks"),
    ("ostree-chunked", "chunked", "chunks"),
]


@pytest.mark.parametrize(("one", "other", "strategy"), MOVES)
def test_what_is_said_is_what_a_pull_moves(
    published: Published, one: str, other: str, strategy: str, tmp_path: Path
) -> None:
    before, after = published.name(1, one), published.name(2, other)
    said = diff(before, after, "--strategy", strategy)
    pull(before, tmp_path / "repo")
    moved = pull(after, tmp_path / "repo", "--partial", STRATEGIES[strategy])
    _is_what_moved(said, strategy, moved)


def _is_what_moved(said: dict[str, Any], strategy: str, moved: dict[str, Any]) -> None:
    told = said["strategies"][strategy]
    assert told["bytes"] == pytest.approx(moved["transfer"]["receivedBytes"], rel=0.01)
    keys = ("digest", "diffId", "size", "mode")
    assert [{key: layer[key] for key in keys} for layer in said["layers"]] == [
        {key: layer[key] for key in keys} for layer in moved["layers"]
    ]
    for layer, came in zip(said["layers"], moved["layers"], strict=True):
        # What gaps are worth a request depends on how fast the registry was found to be.
        assert layer["bytes"][strategy] == pytest.approx(came["receivedBytes"], rel=0.01)
    assert sum(layer["bytes"]["layers"] for layer in said["layers"]) == sum(
        layer["size"] for layer in moved["layers"] if layer["mode"] != "present"
    )
    assert said["strategies"]["delta"] is None
    store = moved["store"]
    assert said["store"]["newBytes"] == pytest.approx(store["newBytes"], rel=0.01)


def test_only_what_is_needed_is_read(published: Published) -> None:
    with run_proxy(published.registry.port) as proxy:
        names = [published.name(version, "chunked", proxy.host) for version in (1, 2)]
        said = diff(*names)
        moved, requests = proxy.body_bytes, proxy.requests
    assert (said["read"]["receivedBytes"], said["read"]["requests"]) == (moved, requests)
    assert said["read"]["layers"] == 0
    size = sum(layer["size"] for layer in said["layers"])
    assert moved < size / 20


def test_a_layer_that_says_nothing_is_read_and_that_is_said(published: Published) -> None:
    names = [published.name(version, "gzip") for version in (1, 2)]
    said = diff(*names)
    # The one that both have is small, and does not count.
    assert said["read"]["layers"] == 2
    assert said["read"]["receivedBytes"] > said["read"]["layerBytes"] > 1_000_000
    told = said["strategies"]
    assert told["layers"]["layerBytes"] == told["chunks"]["layerBytes"]
    assert said["causes"]["largest"][0]["estimated"] is True


def test_nothing_is_downloaded_where_that_is_refused(published: Published) -> None:
    names = [published.name(version, "gzip") for version in (1, 2)]
    said = diff(*names, "--no-download")
    assert said["read"]["layers"] == 0 and said["read"]["receivedBytes"] < 20_000
    assert said["files"] is said["packages"] is said["store"] is None
    assert said["strategies"]["layers"] == diff(*names)["strategies"]["layers"]
    assert "--no-download" in said["reasons"][0]
    mixed = diff(names[0], published.name(2, "chunked"), "--no-download")
    assert mixed["strategies"]["chunks"] is None and mixed["strategies"]["layers"]["bytes"] > 0
    failed = bootc_py("image", "diff", names[0], published.name(2, "chunked"), PLAIN_HTTP,
                      "--no-download", "--quiet", "--max-update", "1GB")  # fmt: skip
    assert failed.code == 1 and "not known" in failed.error


@pytest.mark.parametrize("form", FORMS)
def test_files_and_packages_are_the_same_in_every_form(published: Published, form: str) -> None:
    said = diff(published.name(1, form), published.name(2, form))
    assert said["packages"] == [
        {"name": "tool", "architecture": "amd64", "change": "upgraded", "from": "1.1", "to": "1.2"}
    ]
    changes = {each["path"]: each["change"] for each in said["files"]["list"]}
    assert changes == {
        "usr/new": "added",
        "usr/moved": "added",
        "usr/old": "removed",
        "usr/tool": "changed",
        "usr/disk": "changed",
        "usr/last": "changed",
        "var/lib/dpkg/status": "changed",
    }
    assert [said["files"][kind] for kind in ("added", "removed", "changed")] == [2, 1, 4]
    causes = {(each["kind"], each["name"]) for each in said["causes"]["largest"]}
    assert {("package", "tool"), ("path", "usr/new")} <= causes


@pytest.mark.parametrize("form", ["chunked", "ostree-chunked"])
def test_stored_images_and_layouts(published: Published, form: str, tmp_path: Path) -> None:
    before, after = (published.name(version, form) for version in (1, 2))
    wanted = diff(before, after)
    pull(before, tmp_path / "repo")
    pull(after, tmp_path / "repo")  # which is not to count as being there
    said = report("image", "diff", f"stored:{before}", f"stored:{after}", PLAIN_HTTP,
                  "--repo", tmp_path / "repo")  # fmt: skip
    for key in ("strategies", "packages", "store", "layers"):
        assert said[key] == wanted[key], key
    assert said["files"]["list"] == wanted["files"]["list"]


def test_an_update_that_is_too_large_fails(published: Published) -> None:
    names = [published.name(version, "chunked") for version in (1, 2)]
    told = diff(*names)["strategies"]
    for strategy in STRATEGIES:
        command = ("image", "diff", *names, PLAIN_HTTP, "--quiet", "--strategy", strategy)
        size = told[strategy]["bytes"]
        assert bootc_py(*command, "--max-update", str(size + size // 100)).code == 0
        failed = bootc_py(*command, "--max-update", str(size - size // 100))
        assert failed.code == 1
        assert "tool (1 file)" in failed.error and "--max-update" in failed.error


# -- the history --------------------------------------------------------------------------------


class _Page(HTMLParser):
    """What a browser would fetch for a page, or run; and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_history_of_a_repository(published: Published, tmp_path: Path) -> None:
    registry = published.registry
    work = tmp_path / "repo"
    for version in (1, 2):
        pull(published.name(version, "chunked"), work)
        for tag in [f"1.{version + 8}", f"sha256-{'0' * 64}.sig", "latest"]:
            report("image", "push", published.name(version, "chunked"),
                   f"{registry.host}/a/history:{tag}", "--repo", work, PLAIN_HTTP)  # fmt: skip
    page = tmp_path / "page.html"
    found = report("image", "report", f"{registry.host}/a/history", "--html", page, PLAIN_HTTP)
    assert [each["tags"] for each in found["images"]] == [["1.9"], ["latest", "1.10"]]
    [update] = found["updates"]
    wanted = diff(published.name(1, "chunked"), published.name(2, "chunked"))
    assert update["strategies"]["layers"] == wanted["strategies"]["layers"]
    assert update["packages"] == wanted["packages"]
    text = page.read_text()
    read = _Page(text)
    assert read.fetched == [] and "script" not in read.tags and "svg" in read.tags
    assert "http" not in text.replace("http-equiv", "")
    assert "tool (1 file)" in read.text and "1.9 → 1.10" in read.text
    failed = bootc_py("image", "report", f"{registry.host}/a/nothing", "--html", page, PLAIN_HTTP)
    assert failed.code == 4
    assert page.read_text() == text


# -- an operating system -----------------------------------------------------------------------


def test_a_point_release() -> None:
    """Of the project's own base image: what is said is what moves, and far less is read."""
    pair = pairs.pair("base")
    with cache.scratch(cache.root() / "work") as work, run_registry(work / "registry") as registry:
        repo = work / "first"
        names = []
        for version in pairs.VERSIONS:
            reference = pair.forms[version, "plain"].reference
            names.append(f"{registry.host}/{pair.repository}:{version}")
            pull(reference, repo)
            options = ("--compression", "zstd:chunked", "--repo", repo, PLAIN_HTTP)
            report("image", "push", reference, names[-1], *options)
        said = diff(*names)
        pull(names[0], work / "repo")
        moved = pull(names[1], work / "repo")
        _is_what_moved(said, "chunks", moved)
        assert said["read"]["layers"] == 0
        assert said["read"]["receivedBytes"] < 0.1 * moved["transfer"]["imageBytes"]
        assert any(each["change"] == "upgraded" for each in said["packages"])
        assert any(each["kind"] == "package" for each in said["causes"]["largest"])
