from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import UsageError
from bridge.oci.reference import parse_reference
from bridge.registry.shortname import ShortNames

DIGEST = "sha256:" + "a" * 64


def load(home: Path, **files: str) -> ShortNames:
    for name, text in files.items():
        (home / f"{name}.conf").write_text(text)
    drop_ins = home / ".config/containers/registries.conf.d"
    drop_ins.mkdir(parents=True, exist_ok=True)
    for name in files:
        if name != "main":
            (home / f"{name}.conf").rename(drop_ins / f"{name}.conf")
    main = str(home / "main.conf")
    return ShortNames.load({"HOME": str(home), "CONTAINERS_REGISTRIES_CONF": main})


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
def test_aliases_and_one_search_registry(tmp_path: Path, text: str, expected: str) -> None:
    names = load(
        tmp_path,
        main='unqualified-search-registries = ["one.example"]\n[aliases]\nweb = "wrong.example/x"',
        extra='[aliases]\nweb = "reg.example/team/web"',
    )
    assert names.expand(text) == expected
    parse_reference(names.expand(text))


def test_several_search_registries_are_a_question(tmp_path: Path) -> None:
    names = load(tmp_path, main='unqualified-search-registries = ["a.io", "b.io"]')
    with pytest.raises(UsageError, match=r"a\.io/x:1, b\.io/x:1"):
        names.expand("x:1")


def test_no_configuration_names_the_full_form() -> None:
    with pytest.raises(UsageError, match=r"docker\.io/library/alpine:latest"):
        ShortNames().expand("alpine")


@pytest.mark.parametrize(
    "text",
    ["x = ", "unqualified-search-registries = 3", "aliases = 1", "[aliases]\na = 1", "\0"],
)
def test_broken_configuration(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"main\.conf"):
        load(tmp_path, main=text)
