"""Words of configurations: times, sizes, rates, platforms, expressions, places."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.sync.config import patterns, places, values
from bridge.sync.model import Kind, Place

REPOSITORY, REGISTRY, IMAGE = Kind.REPOSITORY, Kind.REGISTRY, Kind.IMAGE
DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("make", "text", "expected"),
    [
        (values.duration, "90d", 90 * 86400.0),
        (values.duration, "1h30m", 5400.0),
        (values.duration, "2w", 1209600.0),
        (values.duration, "45s", 45.0),
        (values.duration, "0", 0.0),
        (values.go_duration, "60m", 3600.0),
        (values.go_duration, "1h30m0.5s", 5400.5),
        (values.go_duration, "1.5h", 5400.0),
        (values.go_duration, "-1s", -1.0),
        (values.go_duration, "300ms", 0.3),
        (values.go_duration, "0", 0.0),
        (values.go_duration, "5000000000", 5.0),
        (values.size, "64MiB", 64 * 1024**2),
        (values.size, "10MB", 10_000_000),
        (values.size, "1.5GB", 1_500_000_000),
        (values.size, "512K", 512 * 1024),
        (values.size, "4096", 4096),
        (values.size, "8 MiB", 8 * 1024**2),
        (values.rate, "20MB/s", 20_000_000),
        (values.rate, "5MiB", 5 * 1024**2),
        (values.platform, "linux/arm/v7", "linux/arm/v7"),
        (
            values.media_type,
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.index.v1+json",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_word_is_read(make: Callable[[str], object], text: str, expected: object) -> None:
    assert make(text) == pytest.approx(expected) if isinstance(expected, float) else expected


@pytest.mark.parametrize(
    ("make", "text"),
    [
        *(
            (values.duration, text)
            for text in ("", "5", "5x", "1.5h", "-1d", "d", "1d 2h", "1D", "٣d", "9999w")
        ),
        *((values.some_duration, text) for text in ("0", "0s", "")),
        *(
            (values.go_duration, text)
            for text in ("", "5x", "h", "1d", "1h 2m", ".s", "1e3s", "9" * 12 + "h", "-")
        ),
        (values.go_positive, "-1s"),
        *(
            (values.size, text)
            for text in ("", "MB", "10XB", "-1", "0", "0.1", "1e9", "10 M B", "٣MB")
        ),
        *((values.rate, text) for text in ("", "20MB/h", "/s", "fast")),
        *(
            (values.platform, text)
            for text in ("", "linux", "linux/", "/amd64", "Linux/amd64", "linux/arm/v7/x")
        ),
        *((values.media_type, text) for text in ("", "json", "a/b/c", "a b/c")),
        *(
            (patterns.whole, text)
            for text in ("(", "[", "a**", "(?=a)", r"(a)\1", "a{1001}", r"\Z")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_word_that_is_none_is_refused(make: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("expression", "name", "whole", "found"),
    [
        ("4[0-9]", "42", True, True),
        ("4[0-9]", "42", False, True),
        ("4[0-9]", "142", True, False),
        ("4[0-9]", "142", False, True),
        ("a|b", "ab", True, False),
        (r"^1\.13\.[12]-alpine-perl$", "1.13.2-alpine-perl", False, True),
        (r"^1\.13\.[12]-alpine-perl$", "1.13.3-alpine-perl", False, False),
        ("(?i)RC", "1.0-rc1", False, True),
        (r"\pL+", "latest", True, True),
        (r"a\z", "a", False, True),
        (r"\Qa.b\E", "a.b", True, True),
        (r"\Qa.b\E", "axb", True, False),
        ("", "anything", False, True),
        ("", "anything", True, False),
        ("$", "a\n", True, False),
        ("(a*)*$", "a" * 128 + "!", True, False),
    ],
)
def test_expressions_are_those_of_go(expression: str, name: str, whole: bool, found: bool) -> None:
    matcher = patterns.whole(expression) if whole else patterns.found_in(expression)
    assert matcher(name) is found
    assert matcher == (patterns.whole(expression) if whole else patterns.found_in(expression))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("quay.io/fedora/fedora-bootc", Place(REPOSITORY, "quay.io/fedora/fedora-bootc")),
        ("docker://quay.io/a/b:42", Place(IMAGE, "quay.io/a/b", "42")),
        ("registry:quay.io/a/b", Place(REPOSITORY, "quay.io/a/b")),
        ("quay.io/a/b:42@" + DIGEST, Place(IMAGE, "quay.io/a/b", "42", DIGEST)),
        ("quay.io/a/b@" + DIGEST, Place(IMAGE, "quay.io/a/b", None, DIGEST)),
        ("quay.io", Place(REGISTRY, "quay.io")),
        ("quay.io/", Place(REGISTRY, "quay.io")),
        ("localhost", Place(REGISTRY, "localhost")),
        ("Registry.Local:5000/os/", Place(REGISTRY, "registry.local:5000/os")),
        ("localhost:5000/a", Place(REPOSITORY, "localhost:5000/a")),
        ("[::1]:5000/a:b", Place(IMAGE, "[::1]:5000/a", "b")),
        ("docker.io/alpine", Place(REPOSITORY, "docker.io/library/alpine")),
        ("docker.io/alpine:3", Place(IMAGE, "docker.io/library/alpine", "3")),
        ("oci:/srv/mirror", Place(Kind.LAYOUT, "/srv/mirror")),
        ("oci:mirror", Place(Kind.LAYOUT, "/etc/sync/mirror")),
        ("oci:../mirror:42", Place(Kind.LAYOUT, "/etc/mirror", "42")),
        ("oci-archive:/media/usb/bundle.tar", Place(Kind.ARCHIVE, "/media/usb/bundle.tar")),
        ("ostree:/srv/repo", Place(Kind.OSTREE, "/srv/repo")),
    ],
)
def test_a_place_is_read(text: str, place: Place) -> None:
    assert places.place(text, "/etc/sync") == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "alpine",
        "library/alpine",
        "registry/alpine",
        "quay.io/A/b",
        "quay.io/a/b:",
        "quay.io/a/b:-x",
        "quay.io/a/b@sha256:12",
        "quay.io/a/b@md5:" + "0" * 32,
        "quay.io/a/b:42/",
        "quay.io//b",
        "quay.io/a/b:42:43",
        "quay.io:99999/a",
        "https://quay.io/a/b",
        "oci:",
        "oci:/x:",
        "oci:/x:a:b",
        "oci-archive:",
        "ostree:",
        "ostree:/x:y",
        "dir:/x",
        "docker://",
        "quay.io/a\nb",
        "quay.io/" + "a" * 300,
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        places.place(text, "/")


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("quay.io/a/b", "r.local/x/y", Place(REPOSITORY, "r.local/x/y")),
        ("quay.io/a/b", "r.local/x/", Place(REPOSITORY, "r.local/x/a/b")),
        ("quay.io/a/b", "r.local", Place(REPOSITORY, "r.local/a/b")),
        ("quay.io/a/b:1", "r.local/x/y", Place(IMAGE, "r.local/x/y", "1")),
        ("quay.io/a/b:1", "r.local/x/y:2", Place(IMAGE, "r.local/x/y", "2")),
        ("quay.io/a/b@" + DIGEST, "r.local/x/y", Place(IMAGE, "r.local/x/y", None, DIGEST)),
        ("quay.io/a/b@" + DIGEST, "r.local/x/y:2", Place(IMAGE, "r.local/x/y", "2")),
        ("quay.io/a/b:1@" + DIGEST, "r.local/x/y", Place(IMAGE, "r.local/x/y", "1")),
        ("quay.io/a/", "r.local/x", Place(REGISTRY, "r.local/x")),
        ("quay.io/a/", "r.local/x/", Place(REGISTRY, "r.local/x")),
        ("quay.io/a/b", "oci:/x", Place(Kind.LAYOUT, "/x")),
        ("quay.io/a/b:1", "oci:/x:2", Place(Kind.LAYOUT, "/x", "2")),
        ("oci:/x", "r.local/x/y", Place(REPOSITORY, "r.local/x/y")),
        ("oci-archive:/x", "ostree:/r", Place(Kind.OSTREE, "/r")),
    ],
)
def test_a_target_is_what_its_source_makes_it(source: str, target: str, expected: Place) -> None:
    assert places.with_target(places.place(source, "/"), places.place(target, "/")) == expected


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("quay.io/a/b", "quay.io/a/b"),
        ("quay.io/a/b", "r.local/x:1"),
        ("quay.io/a/", "r.local/x:1"),
        ("quay.io/a/b:1", "r.local/x@" + DIGEST),
        ("quay.io/a/b", "oci:/x:1"),
        ("ostree:/x", "r.local/x/"),
    ],
)
def test_places_that_do_not_go_together(source: str, target: str) -> None:
    with pytest.raises(UsageError):
        places.with_target(places.place(source, "/"), places.place(target, "/"))


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_refused(text: str) -> None:
    try:
        found = places.place(text, "/")
    except UsageError:
        return
    # A registry's path is written with a slash after it.
    again = f"{found}/" if found.kind is REGISTRY else str(found)
    assert places.place(again, "/") == found
