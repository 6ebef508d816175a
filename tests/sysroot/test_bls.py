"""Boot entries: libostree's order, what is kept, and how versions compare."""

from __future__ import annotations

import ctypes
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.sysroot import bls

TEXT = """# a comment
title Fake OS 1.0 (ostree:0)
x-options-source-tuned  isolcpus=1
version 2
options root=LABEL=root ostree=/ostree/boot.1/default/abc/0
linux\t/ostree/default-abc/vmlinuz-6.1.0
initrd /ostree/default-abc/initramfs-6.1.0.img
initrd /ostree/initramfs-overlays/def.img
aboot
 indented is no key
"""


def test_parse_and_render_in_libostrees_order() -> None:
    entry = bls.parse(TEXT)
    assert entry.get("title") == "Fake OS 1.0 (ostree:0)"
    assert entry.get("linux") == "/ostree/default-abc/vmlinuz-6.1.0"
    assert entry.get("aboot") is None
    assert entry.get_all("initrd") == (
        "/ostree/default-abc/initramfs-6.1.0.img",
        "/ostree/initramfs-overlays/def.img",
    )
    assert entry.unknown == (("x-options-source-tuned", "isolcpus=1"),)
    assert bls.render(entry) == (
        "title Fake OS 1.0 (ostree:0)\n"
        "version 2\n"
        "options root=LABEL=root ostree=/ostree/boot.1/default/abc/0\n"
        "linux /ostree/default-abc/vmlinuz-6.1.0\n"
        "initrd /ostree/default-abc/initramfs-6.1.0.img\n"
        "initrd /ostree/initramfs-overlays/def.img\n"
        "x-options-source-tuned isolcpus=1\n"
    )


def test_a_key_given_twice_keeps_its_last_value() -> None:
    assert bls.parse("title one\ntitle two\n").fields == (("title", "two"),)


def test_replace_sets_all_values_and_can_take_a_key_out() -> None:
    entry = bls.parse(TEXT).replace("initrd", "/one").replace("devicetree", "/dt")
    assert entry.get_all("initrd") == ("/one",)
    assert entry.replace("devicetree").get("devicetree") is None
    lines = bls.render(entry).splitlines()
    assert lines[3:6] == [
        "devicetree /dt",
        "linux /ostree/default-abc/vmlinuz-6.1.0",
        "initrd /one",
    ]


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("1", "2"), ("2", "10"), (None, "0"), ("6.1.0", "6.1.0-9"), ("6.9", "6.10"), ("6.1", "7")],
)
def test_versions_compare_by_their_numbers(lower: str | None, higher: str) -> None:
    assert bls.version_key(lower) < bls.version_key(higher)


def test_names() -> None:
    assert bls.file_name(3) == "ostree-3.conf"
    names = [
        "ostree-1-default.conf",
        "ostree-2.conf",
        "ostree-1+3-0.conf",
        "other.conf",
        "ostree-1",
    ]
    assert [name for name in names if bls.is_entry_name(name)] == names[:3]


VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
KEYS = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES))
def test_round_trip(fields: dict[str, str]) -> None:
    entry = bls.Entry(tuple(fields.items()))
    again = bls.parse(bls.render(entry))
    assert dict(again.fields) == fields
    assert bls.render(again) == bls.render(entry)


@given(st.text())
def test_parse_never_fails(text: str) -> None:
    bls.parse(text)


NUMBERED = st.lists(st.sampled_from(["0", "00", "1", "9", "10", ".", "-", "~", "a", "é"])).map(
    "".join
)


@given(st.lists(NUMBERED, min_size=2, max_size=6))
def test_versions_sort_as_the_c_library_sorts_them(versions: list[str]) -> None:
    strverscmp = ctypes.CDLL(None).strverscmp
    theirs = functools.cmp_to_key(lambda a, b: strverscmp(a.encode(), b.encode()))
    assert sorted(versions, key=bls.version_key) == sorted(versions, key=theirs)
    assert sorted([*versions, None], key=bls.version_key)[0] is None


def test_versions_of_any_length_compare() -> None:
    assert bls.version_key("1" * 5000) < bls.version_key("1" * 5001) < bls.version_key("2" * 5001)


@pytest.mark.parametrize("value", ["a\noptions init=/evil", "a\0b"])
def test_a_value_that_would_be_more_than_one_line_is_not_written(value: str) -> None:
    with pytest.raises(BridgeError, match="line break in title"):
        bls.render(bls.Entry((("title", value),)))


@given(st.text(), st.text())
def test_any_two_versions_can_be_compared(first: str, second: str) -> None:
    assert (bls.version_key(first) < bls.version_key(second)) in (True, False)
