"""Origin files: GKeyFile texts, changed in one value and otherwise kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.sysroot.origin import Origin

REFERENCE = "ostree-unverified-registry:quay.io/example/os:stable"


def test_a_fresh_one_is_what_bootc_writes() -> None:
    origin = Origin.for_image(REFERENCE)
    assert origin.text == f"[origin]\ncontainer-image-reference={REFERENCE}\n"
    assert origin.image_reference == REFERENCE
    assert (origin.pinned, origin.incompatible) == (False, False)


def test_pinning_adds_and_removes_one_line() -> None:
    origin = Origin.for_image(REFERENCE)
    pinned = origin.with_pinned(True)
    assert pinned.text == origin.text + "\n[libostree-transient]\npinned=true\n"
    assert pinned.pinned
    assert pinned.with_pinned(True) == pinned
    unpinned = pinned.with_pinned(False)
    assert not unpinned.pinned
    assert unpinned.without_transient() == origin


def test_what_others_wrote_stays() -> None:
    text = "# mine\n[origin]\nrefspec = fedora:x\n\n[packages]\nrequested=vim;strace;\n"
    origin = Origin.parse(text)
    assert origin.image_reference is None
    assert origin.get("origin", "refspec") == "fedora:x"
    assert origin.incompatible
    changed = origin.with_value("origin", "container-image-reference", REFERENCE)
    assert changed.text == (
        "# mine\n[origin]\nrefspec = fedora:x\n"
        f"container-image-reference={REFERENCE}\n\n[packages]\nrequested=vim;strace;\n"
    )
    assert changed.with_value("origin", "container-image-reference", None) == origin


@pytest.mark.parametrize("text", ["nonsense\n", "[origin]\nnonsense\n", "key=value\n", "[]\na=b\n"])
def test_what_is_no_key_file(text: str) -> None:
    with pytest.raises(BridgeError, match="no key and value"):
        Origin.parse(text)


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"])) | st.just(" \\ \n\t"))
def test_values_round_trip(value: str) -> None:
    origin = Origin.for_image("x").with_value("other", "key", value)
    assert Origin.parse(origin.text).get("other", "key") == value
    assert origin.image_reference == "x"


@given(st.text())
def test_parse_fails_in_one_way_only(text: str) -> None:
    try:
        origin = Origin.parse(text)
    except BridgeError:
        return
    assert origin.with_pinned(True).pinned


def test_spaces_are_kept_where_glib_keeps_them() -> None:
    origin = Origin.parse("[a]\n  b \t=  c \r\n#d=e\n")
    assert origin.values == {("a", "b"): "c "}
