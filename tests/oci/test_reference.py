from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import (
    ImageReference,
    RegistryReference,
    Signature,
    Transport,
    is_short_name,
    origin_form,
    parse_origin,
    parse_reference,
    parse_registry_reference,
)

D = Digest("sha256:" + "ab" * 32)
D512 = Digest("sha512:" + "ab" * 64)


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("quay.io/a/b:t", "quay.io", "a/b", "t", None),
        ("quay.io/a/b", "quay.io", "a/b", "latest", None),
        (f"quay.io/a/b@{D}", "quay.io", "a/b", None, D),
        (f"quay.io/a/b:t@{D}", "quay.io", "a/b", "t", D),
        (f"quay.io/a@{D512}", "quay.io", "a", None, D512),
        ("alpine", "docker.io", "library/alpine", "latest", None),
        ("docker.io/alpine:3", "docker.io", "library/alpine", "3", None),
        ("index.docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("docker.io/user/x", "docker.io", "user/x", "latest", None),
        ("user/x", "docker.io", "user/x", "latest", None),
        ("localhost/foo", "localhost", "foo", "latest", None),
        ("localhost:5000/foo", "localhost", "foo", "latest", None),
        ("127.0.0.1:5000/a/b-c__d.e:V_1.2-x", "127.0.0.1:5000", "a/b-c__d.e", "V_1.2-x", None),
        ("[::1]:5000/foo", "[::1]:5000", "foo", "latest", None),
        ("[fe80::1]/foo:x", "[fe80::1]", "foo", "x", None),
        ("Quay.IO/a", "quay.io", "a", "latest", None),
        ("my-host.example:65535/a---b", "my-host.example:65535", "a---b", "latest", None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
    ],
)
def test_registry_references(
    text: str, host: str, repository: str, tag: str | None, digest: Digest | None
) -> None:
    if text.startswith("localhost:5000/"):
        host = "localhost:5000"
    parsed = parse_registry_reference(text)
    assert parsed == RegistryReference(host, repository, tag, digest)
    assert parse_registry_reference(str(parsed)) == parsed
    assert parsed.identifier == (digest or tag)
    assert parsed.name == f"{host}/{repository}"
    assert parsed.with_digest(D) == RegistryReference(host, repository, None, D)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "quay.io/",
        "quay.io//a",
        "quay.io/a/",
        "quay.io/A",
        "quay.io/a:",
        "quay.io/a:.t",
        "quay.io/a:" + "t" * 129,
        "quay.io/a:b:c",
        "quay.io/a@",
        "quay.io/a@sha256:12",
        f"quay.io/a@{D.upper()}",
        f"quay.io/a@{D}@{D}",
        "quay.io/a@md5:" + "0" * 32,
        "quay.io/../a",
        "quay.io/a..b",
        "quay.io/a___b",
        "quay.io/-a",
        "quay.io/a b",
        "quay.io/a\n",
        "quay.io/a%2f",
        "quay.io:0/a",
        "quay.io:65536/a",
        "quay.io:x/a",
        "user@quay.io/a",
        "-quay.io/a",
        "quay..io/a",
        "[::1/a",
        "[::g]/a.b",
        "https://quay.io/a",
        "quay.io/" + "a" * 250,
        "quay.io/é",
        "quay.io/a:٣",
        "quay.io:٣/a",
    ],
)
def test_what_is_no_registry_reference(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_registry_reference(text)
    assert "\n" not in str(caught.value)


REG, DIR, TAR = Transport.REGISTRY, Transport.OCI, Transport.OCI_ARCHIVE
SIGNED = Signature.SIGNED


@pytest.mark.parametrize(
    ("text", "expected", "printed", "origin"),
    [
        (
            "quay.io/a/b:t",
            ImageReference(REG, "quay.io/a/b:t"),
            "docker://quay.io/a/b:t",
            "ostree-unverified-registry:quay.io/a/b:t",
        ),
        (
            "docker://quay.io/a/b",
            ImageReference(REG, "quay.io/a/b"),
            "docker://quay.io/a/b",
            "ostree-unverified-registry:quay.io/a/b",
        ),
        (
            "registry:quay.io/a/b",
            ImageReference(REG, "quay.io/a/b"),
            "docker://quay.io/a/b",
            "ostree-unverified-registry:quay.io/a/b",
        ),
        (
            "registry://quay.io/a",
            ImageReference(REG, "quay.io/a"),
            "docker://quay.io/a",
            "ostree-unverified-registry:quay.io/a",
        ),
        (
            "localhost:5000/a",
            ImageReference(REG, "localhost:5000/a"),
            "docker://localhost:5000/a",
            "ostree-unverified-registry:localhost:5000/a",
        ),
        ("oci:dir", ImageReference(DIR, "dir"), "oci:dir", "ostree-unverified-image:oci:dir"),
        (
            "oci:/p/d:v1",
            ImageReference(DIR, "/p/d:v1"),
            "oci:/p/d:v1",
            "ostree-unverified-image:oci:/p/d:v1",
        ),
        (
            "oci-archive:/p/f.ociarchive",
            ImageReference(TAR, "/p/f.ociarchive"),
            "oci-archive:/p/f.ociarchive",
            "ostree-unverified-image:oci-archive:/p/f.ociarchive",
        ),
        (
            "ostree-unverified-registry:quay.io/a/b",
            ImageReference(REG, "quay.io/a/b"),
            "docker://quay.io/a/b",
            "ostree-unverified-registry:quay.io/a/b",
        ),
        (
            "ostree-unverified-image:docker://quay.io/a/b",
            ImageReference(REG, "quay.io/a/b"),
            "docker://quay.io/a/b",
            "ostree-unverified-registry:quay.io/a/b",
        ),
        (
            "ostree-unverified-image:registry:quay.io/a/b",
            ImageReference(REG, "quay.io/a/b"),
            "docker://quay.io/a/b",
            "ostree-unverified-registry:quay.io/a/b",
        ),
        (
            "ostree-image-signed:docker://quay.io/a/b",
            ImageReference(REG, "quay.io/a/b", SIGNED),
            "docker://quay.io/a/b",
            "ostree-image-signed:docker://quay.io/a/b",
        ),
        (
            "ostree-image-signed:oci:/p:t",
            ImageReference(DIR, "/p:t", SIGNED),
            "oci:/p:t",
            "ostree-image-signed:oci:/p:t",
        ),
        (
            "containers-storage:localhost/someimage:blah",
            ImageReference(Transport.CONTAINERS_STORAGE, "localhost/someimage:blah"),
            "containers-storage:localhost/someimage:blah",
            "ostree-unverified-image:containers-storage:localhost/someimage:blah",
        ),
        (
            "dir:/some/dir",
            ImageReference(Transport.DIR, "/some/dir"),
            "dir:/some/dir",
            "ostree-unverified-image:dir:/some/dir",
        ),
        (
            "docker-archive:/f.tar",
            ImageReference(Transport.DOCKER_ARCHIVE, "/f.tar"),
            "docker-archive:/f.tar",
            "ostree-unverified-image:docker-archive:/f.tar",
        ),
    ],
)
def test_image_references(text: str, expected: ImageReference, printed: str, origin: str) -> None:
    parsed = parse_reference(text)
    assert parsed == expected
    assert str(parsed) == printed
    assert origin_form(parsed) == origin
    assert parse_origin(origin) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a repository"),
        ("foo://", "not a registry host|not a repository"),
        ("docker:blah", "docker://"),
        ("registry:", "not a repository"),
        ("docker://", "not a repository"),
        ("oci:", "no name"),
        ("oci::tag", "no name"),
        ("oci:dir:-bad", "not a tag"),
        ("oci:d\nir", "unprintable"),
        ("alpine", r"short name.*docker\.io/library/alpine:latest"),
        ("fedora/httpd:3", r"docker\.io/fedora/httpd:3"),
        ("ostree-remote-registry:myremote:quay.io/a/b", "ostree remote"),
        ("ostree-remote-image:myremote:registry:quay.io/a/b", "ostree remote"),
        ("ostree-image-signed:quay.io/a/b", "transport"),
        ("ostree-image-signed:foo:bar", "transport"),
        ("ostree-unverified-image:docker:blah", "docker://"),
        ("ostree-nonsense:docker://quay.io/a", "not a form"),
        ("ostree-unverified-registry:", "not a repository"),
        ("ostree-image-signed", "no ':'"),
    ],
)
def test_what_is_no_image_reference(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_reference(text)
    assert "\n" not in str(caught.value)


def test_the_transport_option_makes_the_text_a_name() -> None:
    assert parse_reference("/p:t", DIR) == ImageReference(DIR, "/p:t")
    assert parse_reference("alpine", REG).registry.repository == "library/alpine"
    with pytest.raises(UsageError):
        parse_reference("docker://quay.io/a", REG)


@pytest.mark.parametrize(
    ("text", "path", "tag"),
    [
        ("oci:dir", "dir", None),
        ("oci:/a/b:v1", "/a/b", "v1"),
        ("oci:/a/b:", "/a/b", None),
        ("oci:d:quay.io/a/b:v1", "d", "quay.io/a/b:v1"),
        ("oci-archive:./f.tar:x", "./f.tar", "x"),
    ],
)
def test_layout_names(text: str, path: str, tag: str | None) -> None:
    assert parse_reference(text).layout == (path, tag)


def test_the_wrong_view_and_unsupported_transports() -> None:
    with pytest.raises(UsageError, match="not an image in a registry"):
        _ = parse_reference("oci:dir").registry
    with pytest.raises(UsageError, match="not an OCI layout"):
        _ = parse_reference("quay.io/a").layout
    parse_reference("quay.io/a").require_supported()
    with pytest.raises(UsageError, match="skopeo copy dir:/d oci:"):
        parse_reference("dir:/d").require_supported()


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("alpine", True),
        ("a/b:1", True),
        ("localhost:5000", True),
        ("localhost/a", False),
        ("h.io/a", False),
        ("h:1/a", False),
        ("docker://a", False),
        ("docker:a", False),
        ("oci:a", False),
        ("ostree-image-signed:docker://a", False),
    ],
)
def test_short_names(text: str, short: bool) -> None:
    assert is_short_name(text) is short


part = st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?", fullmatch=True)


@given(
    st.sampled_from(["quay.io", "localhost", "h:5000", "[::1]:80", "docker.io"]),
    st.lists(part, min_size=1, max_size=4),
    st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.none() | st.binary(max_size=4).map(Digest.of),
    st.sampled_from(Signature),
)
def test_round_trips(
    host: str, parts: list[str], tag: str | None, digest: Digest | None, signature: Signature
) -> None:
    name = f"{host}/{'/'.join(parts)}" + (f":{tag}" if tag else "")
    name += f"@{digest}" if digest else ""
    reference = ImageReference(Transport.REGISTRY, name, signature)
    assert parse_origin(origin_form(reference)) == reference
    parsed = reference.registry
    assert parse_registry_reference(str(parsed)) == parsed
    assert parsed.digest == digest and (parsed.tag == tag or tag is None)


@given(st.text(max_size=80) | st.text("oci:docker/@.a[]", max_size=30))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        parsed = parse_reference(text)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert parse_origin(origin_form(parsed)) == parsed
