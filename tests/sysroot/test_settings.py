"""Settings: what is read from where, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import UsageError
from bridge.sysroot import settings
from bridge.sysroot.settings import DeploymentSettings, HealthSettings


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_single_keys_are_overridden(tmp_path: Path) -> None:
    assert settings.load(tmp_path) == HealthSettings(3, 600, (), False)
    write(
        tmp_path,
        "usr/lib/bootc-py/settings.toml",
        '[health]\nattempts = 5\ncheck-timeout = 9\ndisabled-checks = ["a"]\nlater = {}\n[x]\n',
    )
    assert settings.load(tmp_path) == HealthSettings(5, 9, ("a",), False)
    write(
        tmp_path,
        "etc/bootc-py/settings.toml",
        "[health]\nattempts = 0\ndisabled-checks = []\nretry-failed-images = true\n",
    )
    assert settings.load(tmp_path) == HealthSettings(0, 9, (), True)


@pytest.mark.parametrize(
    "text",
    [
        "health = 3",
        "[health]\nattempts = -1",
        "[health]\nattempts = true",
        "[health]\nattempts = '3'",
        "[health]\ncheck-timeout = 0",
        "[health]\ndisabled-checks = 'a'",
        "[health]\ndisabled-checks = [1]",
        "[health]\nretry-failed-images = 1",
        "[health",
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, "etc/bootc-py/settings.toml", text)
    with pytest.raises(UsageError, match=r"settings\.toml: ") as caught:
        settings.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_drop_ins_and_the_administrator_count_last(
    tmp_path: Path, opened: Callable[[Path], int]
) -> None:
    def load() -> DeploymentSettings:
        return settings.load_deployments(opened(tmp_path))

    steps = [
        ("usr/lib/bootc-py/settings.toml", "keep = 3", DeploymentSettings(3, None)),
        ("usr/lib/bootc-py/settings.d/20.toml", "keep = 4", DeploymentSettings(4, None)),
        ("usr/lib/bootc-py/settings.d/10.toml", "keep = 5", DeploymentSettings(4, None)),
        ("usr/lib/bootc-py/settings.d/30.conf", "keep = 'x'", DeploymentSettings(4, None)),
        ("etc/bootc-py/settings.toml", "keep-age = '12h'", DeploymentSettings(4, 43200)),
        ("etc/bootc-py/settings.d/a.toml", "keep = 9", DeploymentSettings(9, 43200)),
    ]
    assert load() == DeploymentSettings()
    for name, text, expected in steps:
        write(tmp_path, name, f"[deployments]\n{text}\n")
        assert load() == expected, name


@pytest.mark.parametrize(
    "text",
    [
        "keep = 1",
        "keep = 2.5",
        "keep = true",
        "keep = '3'",
        "keep-age = 30",
        "keep-age = ''",
        "keep-age = '30'",
        "keep-age = 'd'",
        "keep-age = '-1d'",
        "keep-age = '1y'",
        "keep-age = '٣d'",
        'keep-age = "1d\\n"',
    ],
)
def test_what_is_wrong_for_deployments(
    tmp_path: Path, opened: Callable[[Path], int], text: str
) -> None:
    write(tmp_path, "etc/bootc-py/settings.d/a.toml", f"[deployments]\n{text}\n")
    with pytest.raises(UsageError, match=r"a\.toml: deployments\.keep") as caught:
        settings.load_deployments(opened(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_link_is_not_followed(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    write(tmp_path, "elsewhere", "[deployments]\nkeep = 3\n")
    (tmp_path / "etc/bootc-py").mkdir(parents=True)
    (tmp_path / "etc/bootc-py/settings.toml").symlink_to("../../elsewhere")
    with pytest.raises(UsageError, match="Too many levels"):
        settings.load_deployments(opened(tmp_path))
