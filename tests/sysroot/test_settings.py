"""Settings: what is read from where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import UsageError
from bridge.sysroot import settings
from bridge.sysroot.settings import HealthSettings


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
