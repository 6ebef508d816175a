"""Versions in their order, and the page on them."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.images import file, image, write_layout

from bridge.cli.main import main
from bridge.cli.page import _step, write
from bridge.cli.report_page import render
from bridge.compare.diff import diff
from bridge.compare.estimate import Strategy
from bridge.compare.history import _ATTACHED, History, Release, natural, parse_time
from bridge.compare.image import Session
from bridge.errors import BridgeError, UsageError
from bridge.oci.reference import parse_reference

HOSTILE = "</title></svg><script>alert('x')</script>\"><img src=//h/x>\u202e\n"
VOID = {"meta", "br", "img", "link", "input"}


@pytest.mark.parametrize(
    "names",
    [
        ["1", "2", "10", "10.1", "10.1a", "10.2"],
        ["v1.9", "v1.10", "v1.10.1"],
        ["20250101", "20250102", "20251101"],
        ["latest", "1.0"],
        ["a", "a1", "a2", "b"],
        ["0" * 60, "1"],
    ],
)
def test_versions_are_sorted_as_people_do(names: list[str]) -> None:
    shuffled = names[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=natural) == names


@given(st.lists(st.text(), max_size=5))
@example(["²", "٣", "1"])
def test_any_names_can_be_sorted(names: list[str]) -> None:
    for order in itertools.permutations(names, len(names)):
        assert sorted(map(natural, order)) == sorted(map(natural, names))


@pytest.mark.parametrize(
    ("tag", "attached"),
    [
        (f"sha256-{'a' * 64}", True),
        (f"sha256-{'a' * 64}.sig", True),
        (f"sha512-{'0' * 128}.att", True),
        ("sha256-abc", False),
        ("1.0", False),
    ],
)
def test_tags_of_referrers_are_no_versions(tag: str, attached: bool) -> None:
    assert (_ATTACHED.fullmatch(tag) is not None) == attached


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01.123456789Z", 1.123456),
        ("1970-01-01T00:00:00", 0),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times(text: str | None, seconds: float | None) -> None:
    found = parse_time(text)
    assert (None if found is None else found.timestamp()) == seconds


class _Page(HTMLParser):
    """A page whose elements are closed in order, and have no attributes that do something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, _ in attrs:
            assert name not in ("src", "href", "action", "data") and not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Three releases of an image, with whatever names."""
    references = []
    for number in range(3):
        layers = [
            [file("usr/base", b"base" * 9000)],
            [file(f"usr/{HOSTILE}{number}", bytes([number]) * 50_000)],
        ]
        made = image(*layers, labels={"version": f"{HOSTILE}{number}"})
        references.append(parse_reference(f"oci:{write_layout(tmp_path / str(number), made)}"))
    releases, diffs = [], []
    with Session(download=True) as session:
        for before, after in itertools.pairwise(references):
            diffs.append(diff(before, after, session))
        read = session.total()
    for number, (reference, each) in enumerate(
        zip(references, [diffs[0].before, *(d.after for d in diffs)], strict=True)
    ):
        releases.append(
            Release(
                (f"tag{number}",), reference, each.digest, each.version,
                parse_time(each.config.created), each.manifest.image_bytes, 2,
            )
        )  # fmt: skip
    found = History("h/a", Strategy.CHUNKS, releases, diffs, 3, 1, (HOSTILE,), read)
    found.to_json()
    return found


def test_the_page_has_all_of_it_and_does_nothing(history: History) -> None:
    text = render(history)
    page = _Page(text)
    assert page.seen <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "code", "span", "div",
        "svg", "line", "text", "rect", "table", "thead", "tbody", "tr", "th", "td", "details",
        "summary", "small",
    }  # fmt: skip
    assert {"svg", "rect", "details"} <= page.seen
    assert "<script" not in text and "\u202e" not in text
    assert "alert('x')" in page.text and "\\u202e" in page.text
    assert text.count("<rect") == 2 * len(Strategy)
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text


def test_a_page_on_what_is_not_known(history: History) -> None:
    one = history.diffs[0]
    estimates = {**one.estimates, Strategy.CHUNKS: None}
    unknown = replace(
        one, estimates=estimates, files=None, packages=None, causes=(), reasons=(HOSTILE,)
    )
    history.diffs = [unknown, history.diffs[1]]
    page = _Page(render(history))
    assert page.text.count("not known") == 3
    history.diffs, history.releases = [], history.releases[:1]
    assert "svg" not in _Page(render(history)).seen


@pytest.mark.parametrize(
    ("most", "step"),
    [
        (1, 1), (5, 1), (6, 2), (7, 2), (10, 2), (11, 5), (26, 10), (51, 20), (99, 20),
        (100, 20), (467_000_000, 100_000_000), (1_158_000_000, 500_000_000),
        (999_999_999_999, 200_000_000_000),
    ],
)  # fmt: skip
def test_the_scale_of_the_chart(most: int, step: int) -> None:
    assert _step(most) == step


@given(st.integers(1, 2**63))
def test_a_scale_reaches_what_it_is_for_in_a_few_steps(most: int) -> None:
    step = _step(most)
    assert str(step).strip("0") in ("1", "2", "5")
    assert 1 <= -(-most // step) <= 5


def test_where_a_page_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    for text in ("one", "two"):
        write(str(page), text, "--html")
        assert page.read_text() == text
    link = tmp_path / "link"
    link.symlink_to("page.html")
    write(str(link), "three", "--html")
    assert link.is_symlink() and page.read_text() == "three"
    write("/dev/stdout", "four", "--html")
    assert capfd.readouterr().out == "four"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "page.html"]
    for wrong in (tmp_path / "none/page.html", tmp_path):
        with pytest.raises(BridgeError, match="writing"):
            write(str(wrong), "five", "--html")
    with pytest.raises(UsageError):
        write("", "six", "--html")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("oci:x", "--html", "p"), 2),
        (("quay.io/a/b@sha256:" + "0" * 64, "--html", "p"), 2),
        (("quay.io/a/b",), 2),
        (("quay.io/a/b", "--html", "p", "--tags", "1"), 2),
        (("quay.io/a/b", "--html", "p", "--tags", "1000"), 2),
    ],
)
def test_words_that_are_wrong(
    arguments: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(["image", "report", *arguments])
    except SystemExit as ended:
        found = int(ended.code or 0)
    error = capsys.readouterr().err
    assert (found, error.count("error: ")) == (code, 1), error
