"""The repository's `config`: read as libostree reads it, changed without losing anything."""

from __future__ import annotations

import pytest

from bridge.errors import BridgeError, DamagedRepository, UsageError
from bridge.limits import GIB, MIB
from bridge.ostree import config

CORE = "[core]\nrepo_version=1\n"


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (f"{CORE}mode=bare\n", "bare"),
        (f"{CORE}mode=bare-user\n", "bare-user"),
        (f"{CORE}mode=archive-z2\n", "archive"),
        (f"{CORE}mode=archive\n", "archive"),
        (CORE, "bare"),
        (f"# a comment\n\n{CORE}mode = bare-user\n", "bare-user"),
    ],
)
def test_modes(text: str, mode: str) -> None:
    assert config.parse(text).mode == mode


@pytest.mark.parametrize("mode", config.MODES)
def test_what_is_rendered_is_what_ostree_init_writes(mode: str) -> None:
    written = {"bare": "bare", "bare-user": "bare-user", "archive": "archive-z2"}[mode]
    assert config.render(mode) == f"[core]\nrepo_version=1\nmode={written}\n"
    assert config.parse(config.render(mode)).mode == mode


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", DamagedRepository),
        ("[core]\nmode=bare\n", DamagedRepository),
        ("[core]\nrepo_version=2\n", DamagedRepository),
        ("mode=bare\n", DamagedRepository),
        ("[core\n", DamagedRepository),
        (f"{CORE}nonsense\n", DamagedRepository),
        (f"{CORE}min-free-space-percent=much\n", DamagedRepository),
        (f"{CORE}min-free-space-percent=100\n", DamagedRepository),
        (f"{CORE}min-free-space-percent=-1\n", DamagedRepository),
        (f"{CORE}min-free-space-size=5\n", DamagedRepository),
        (f"{CORE}min-free-space-size=5kB\n", DamagedRepository),
        (f"{CORE}mode=bare-split-xattrs\n", UsageError),
    ],
)
def test_configs_that_are_refused(text: str, error: type[BridgeError]) -> None:
    with pytest.raises(error) as caught:
        config.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "of_1000_gib"),
    [
        ("", 30 * GIB),
        ("min-free-space-percent=0", 0),
        ("min-free-space-percent=7", 70 * GIB),
        ("min-free-space-size=500MB", 500 * MIB),
        ("min-free-space-size=2GB", 2 * GIB),
        ("min-free-space-size=1TB", 1024 * GIB),
        ("min-free-space-size=1GB\nmin-free-space-percent=50", 1 * GIB),
        # libostree: a size of 0 leaves the word to the percentage, which then has no default.
        ("min-free-space-size=0MB\nmin-free-space-percent=5", 50 * GIB),
        ("min-free-space-size=0MB", 0),
    ],
)
def test_space_that_must_stay_free(lines: str, of_1000_gib: int) -> None:
    assert config.parse(f"{CORE}{lines}\n").must_stay_free(1000 * GIB) == of_1000_gib


def test_values_by_group_and_key() -> None:
    text = (
        f'{CORE}[sysroot]\nbootloader=none\n\n[remote "a"]\nurl=https://x/?a=b%20c#d\nUpper=Case\n'
    )
    values = config.parse(text).values
    assert values["sysroot", "bootloader"] == "none"
    assert values['remote "a"', "url"] == "https://x/?a=b%20c#d"
    assert values['remote "a"', "Upper"] == "Case"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[core]\n[DEFAULT]\nrepo_version=1\n", "repo_version"),
        (f"{CORE}min-free-space-size={'9' * 5000}MB\n", "min-free-space-size"),
        (f"{CORE}min-free-space-percent=1_0\n", "min-free-space-percent"),
        (f"{CORE}min-free-space-percent={'9' * 5000}\n", "min-free-space-percent"),
        (f"{CORE}{'x' * 5000}\n" * 50, "no key and value"),
    ],
)
def test_what_cannot_be_understood_is_told_in_one_bounded_line(text: str, words: str) -> None:
    with pytest.raises(DamagedRepository, match=words) as caught:
        config.parse(text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_lines_are_what_they_are_to_glib() -> None:
    """A space in front continues nothing, and DEFAULT is a group like any other."""
    text = "[DEFAULT]\nmode=archive\n[core]\nrepo_version=1\n  mode = bare-user\r\n"
    assert config.parse(text).mode == "bare-user"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "# top\n[core]\nmode=bare\n\n[sysroot]\n# why\nother=1\n",
            "# top\n[core]\nmode=bare\n\n[sysroot]\nkey=new\n# why\nother=1\n",
        ),
        (
            "[sysroot]\na=1\nkey = old\nb=2\n[core]\nkey=theirs\n",
            "[sysroot]\na=1\nkey=new\nb=2\n[core]\nkey=theirs\n",
        ),
        ("[core]\nkey=theirs\n", "[core]\nkey=theirs\n\n[sysroot]\nkey=new\n"),
        ("[sysroot]\nkeyring=1\n", "[sysroot]\nkey=new\nkeyring=1\n"),
        ("[core]\na=x\x0by\u2028z\n[sysroot]", "[core]\na=x\x0by\u2028z\n[sysroot]\nkey=new\n"),
    ],
)
def test_setting_a_value_keeps_everything_else(before: str, after: str) -> None:
    assert config.set_value(before, "sysroot", "key", "new") == after
    assert config.set_value(after, "sysroot", "key", "new") == after


def test_an_unknown_mode_is_not_made() -> None:
    with pytest.raises(UsageError, match="bare-user-only"):
        config.render("bare-user-only")
