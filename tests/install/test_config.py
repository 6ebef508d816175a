"""What an image asks of its installation."""

from __future__ import annotations

import pytest

from bridge.errors import MalformedImage
from bridge.install.config import InstallConfig, document, merge
from bridge.sysroot import kargs_d


def files(*texts: str) -> list[tuple[str, str]]:
    """Drop-ins that are merged in this order, given in another."""
    return [(f"{number:02}.toml", text) for number, text in enumerate(texts)][::-1]


MERGED = [
    ("", InstallConfig()),
    ("[install]\n", InstallConfig()),
    ('[install]\nroot-fs-type = "xfs"\n', InstallConfig(filesystem="xfs")),
    ('[install.filesystem.root]\ntype = "xfs"\n', InstallConfig(filesystem="xfs")),
    (
        '[install]\nroot-fs-type = "ext4"\n[install.filesystem.root]\ntype = "xfs"\n',
        InstallConfig(filesystem="xfs"),
    ),
    ("[install.filesystem.root]\n", InstallConfig()),
    (
        '[install]\nkargs = ["a", "b=c d"]\nkarg-deletes = ["e"]\nstateroot = "s"\n'
        'root-mount-spec = ""\nboot-mount-spec = "LABEL=b"\nbootloader = "systemd"\n',
        InstallConfig(None, ("a", "b=c d"), ("e",), "s", "", "LABEL=b", "systemd"),
    ),
    (
        "[install]\nblock = ['direct']\nenforce-container-sigpolicy = true\n"
        "[install.ostree]\nbls-append-except-default = 'x'\n[install.bootupd]\nskip = true\n",
        InstallConfig(),
    ),
]


@pytest.mark.parametrize(("text", "expected"), MERGED)
def test_one_file(text: str, expected: InstallConfig) -> None:
    assert merge(files(text)) == expected


def test_later_files_win_and_arguments_add_up() -> None:
    found = merge(
        files(
            '[install]\nkargs = ["a"]\nstateroot = "one"\nroot-fs-type = "ext4"\n',
            '[install]\nkargs = ["b"]\nroot-fs-type = "xfs"\n',
            '[install]\nstateroot = "two"\n',
        )
    )
    assert found == InstallConfig("xfs", ("a", "b"), (), "two")


def test_files_for_other_machines_are_passed_over() -> None:
    texts = files(
        '[install]\nmatch-architectures = ["x86_64", "aarch64"]\nkargs = ["a"]\n',
        '[install]\nmatch-architectures = ["aarch64"]\nkargs = ["b"]\n',
        '[install]\nmatch-architectures = []\nkargs = ["c"]\n',
        '[install]\nmatch-architectures = ["powerpc64"]\nkargs = ["d"]\n',
    )
    assert merge(texts, "x86_64").kargs == ("a",)
    assert merge(texts, "aarch64").kargs == ("a", "b")
    assert merge(texts, kargs_d.architecture("ppc64le")).kargs == ("d",)


WRONG = [
    ("[install", "00.toml: Expected"),
    ("install = 1\n", "more than one table"),
    ("[install]\n[other]\n", "more than one table"),
    ("[install]\nkarg = ['a']\n", "the key 'karg' is not known"),
    ("[install]\nkargs = 'a'\n", "kargs is no list"),
    ("[install]\nkargs = [1]\n", "kargs is no text"),
    ('[install]\nkargs = ["a\\nb"]\n', "kargs is no text"),
    ("[install]\nstateroot = 1\n", "stateroot is no text"),
    ("[install]\nfilesystem = 'xfs'\n", "filesystem has no table root"),
    ("[install.filesystem.root]\ntype = 1\n", "type is no text"),
    ("[install]\nbootloader = 'lilo'\n", "'lilo' is not one of grub, systemd, none"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(MalformedImage) as error:
        merge(files(text))
    assert "/usr/lib/bootc/install/00.toml" in str(error.value) and said in str(error.value)


def test_it_is_shown_as_bootc_shows_it() -> None:
    assert document(InstallConfig()) == {}
    assert document(InstallConfig("xfs", ("a",), (), "s", "")) == {
        "filesystem": {"root": {"type": "xfs"}},
        "kargs": ["a"],
        "stateroot": "s",
        "root-mount-spec": "",
    }
