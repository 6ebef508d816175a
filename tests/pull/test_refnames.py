from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import parse_reference
from bridge.ostree.refs import check_ref
from bridge.pull.refnames import escape, image_ref, layer_ref, unescape

TABLE = {
    # ostree-ext's own examples
    "foo": "foo",
    "foo/bar/baz-blah/foo": "foo/bar/baz-blah/foo",
    "localhost:5000/foo:latest": "localhost_3A_5000/foo_3A_latest",
    "registry:quay.io/coreos/fedora:latest": "registry_3A_quay_2E_io/coreos/fedora_3A_latest",
    "fedora/x86_64/coreos": "fedora/x86__64/coreos",
    "/foo/bar/foo.oci-archive": "_2F_foo/bar/foo_2E_oci-archive",
    "docker://quay.io/exampleos/blah:latest": (
        "docker_3A__2F__2F_quay_2E_io/exampleos/blah_3A_latest"
    ),
    "oci-archive:/path/to/foo.ociarchive": "oci-archive_3A__2F_path/to/foo_2E_ociarchive",
    "/": "_2F_",
    "blah/": "blah_2F_",
    "/foo/": "_2F_foo_2F_",
    # the rules at their edges
    "a//b": "a/_2F_b",
    "a-/b": "a-_2F_b",
    "a_/b": "a___2F_b",
    "_": "__",
    "__": "____",
    "é/b": "_E9__2F_b",
    "\n": "_0A_",
    "\U0001f40d": "_1F40D_",
    "٣/x": "_663__2F_x",
}


@pytest.mark.parametrize(("text", "escaped"), TABLE.items())
def test_names_are_escaped_as_ostree_ext_does(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert unescape(escaped) == text
    assert check_ref(f"ostree/container/image/{escaped}")


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_what_cannot_be_escaped_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        escape(text)


@pytest.mark.parametrize("text", ["_", "a_3A", "_3a_", "_zz_", "_110000_", "_FFFFFFFFFFFFFFFF_"])
def test_what_escape_never_returns_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an escaped name"):
        unescape(text)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_every_name_becomes_a_ref_and_comes_back(text: str) -> None:
    escaped = escape(text)
    assert unescape(escaped) == text
    # A dash is kept everywhere, though libostree takes none at the start of a part.
    if not any(part.startswith("-") for part in escaped.split("/")):
        assert check_ref(escaped)


def test_the_refs_of_images_and_layers_are_ostree_exts() -> None:
    digest = Digest.of(b"")
    assert layer_ref(digest) == f"ostree/container/blob/sha256_3A_{digest.hex}"
    names = {
        "quay.io/a/b:t": "docker_3A__2F__2F_quay_2E_io/a/b_3A_t",
        "ostree-unverified-registry:quay.io/a/b:t": "docker_3A__2F__2F_quay_2E_io/a/b_3A_t",
        "oci:/srv/os:v1": "oci_3A__2F_srv/os_3A_v1",
    }
    for text, name in names.items():
        assert image_ref(parse_reference(text)) == f"ostree/container/image/{name}"


@pytest.mark.parametrize("text", ["_41_", "_0041_", "a_2F_b", "_D800_", "_0_", "a b", "é"])
def test_a_second_way_to_write_a_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        unescape(text)


@given(st.text("_2FDa0/-", max_size=12))
def test_a_name_has_one_escaped_form(text: str) -> None:
    try:
        name = unescape(text)
    except UsageError:
        return
    assert escape(name) == text
