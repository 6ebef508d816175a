from __future__ import annotations

import pytest

from bridge.errors import UsageError
from bridge.oci.reference import parse_reference
from bridge.registry.registriesconf import RegistriesConf, parse
from bridge.registry.shortname import expand

DIGEST = "sha256:" + "a" * 64
CONF = parse(
    'unqualified-search-registries = ["one.example"]\n[aliases]\nweb = "reg.example/team/web"',
    "main.conf",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quay.io/a/b", "quay.io/a/b"),
        ("localhost/a", "localhost/a"),
        ("docker://alpine", "docker://alpine"),
        ("oci:dir", "oci:dir"),
        ("ostree-unverified-registry:alpine", "ostree-unverified-registry:alpine"),
        ("web", "reg.example/team/web"),
        ("web:2", "reg.example/team/web:2"),
        (f"web@{DIGEST}", f"reg.example/team/web@{DIGEST}"),
        (f"web:2@{DIGEST}", f"reg.example/team/web:2@{DIGEST}"),
        ("fedora/httpd:3", "one.example/fedora/httpd:3"),
    ],
)
def test_aliases_and_one_search_registry(text: str, expected: str) -> None:
    assert expand(text, CONF) == expected
    parse_reference(expand(text, CONF))


def test_an_alias_is_taken_back_by_an_empty_one() -> None:
    taken_back = CONF.merged(parse('[aliases]\nweb = ""', "later.conf"))
    assert expand("web:1", taken_back) == "one.example/web:1"


@pytest.mark.parametrize("mode", ["enforcing", "permissive", "disabled"])
def test_several_search_registries_are_a_question(mode: str) -> None:
    conf = parse(
        f'unqualified-search-registries = ["a.io", "b.io"]\nshort-name-mode = "{mode}"', "main.conf"
    )
    with pytest.raises(UsageError, match=r"a\.io/x:1, b\.io/x:1"):
        expand("x:1", conf)


def test_no_configuration_names_the_full_form() -> None:
    with pytest.raises(UsageError, match=r"docker\.io/library/alpine:latest"):
        expand("alpine", RegistriesConf())
