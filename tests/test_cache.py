"""The cache of images: what is asked for stays, and what nobody asks for goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.images import cache

HOUR = 3600


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOOTC_PY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _made(name: str, hours_ago: float) -> Path:
    path = cache.entry(name, lambda target: (target / "content").write_text(name))
    at = time.time() - hours_ago * HOUR
    os.utime(path, (at, at))
    return path


def _missing(target: Path) -> None:
    raise AssertionError(f"{target} was there")


def test_an_entry_that_was_superseded_goes_some_hours_after_its_last_use() -> None:
    newest = _made("images/host-v1-0003", 1)
    just_used = _made("images/host-v1-0002", 1.5)
    old = _made("images/host-v1-0001", 3)
    other = _made("images/host-v2-0001", 30)
    keyed_alone = [_made(f"trees/{key}", 30) for key in ("0001", "0002")]
    assert cache.tidy() == [old]
    assert not old.exists()
    for path in (newest, just_used, other, *keyed_alone):
        assert (path / "content").read_text()


def test_what_was_not_asked_for_in_a_week_goes() -> None:
    path = _made("images/base-v1-0001", 7 * 24 + 1)
    kept = _made("images/base-v2-0001", 7 * 24 + 1)
    cache.entry("images/base-v2-0001", _missing)
    assert cache.tidy() == [path]
    assert not path.exists() and kept.exists()


def test_of_scratch_only_what_a_killed_process_left_goes(root: Path) -> None:
    script = (
        "import time\nfrom tools.images import cache\n"
        "with cache.scratch(cache.root() / 'work') as path:\n"
        "    (path / 'content').write_text('x')\n"
        "    print(path, flush=True)\n"
        "    time.sleep(60)\n"
    )
    top = Path(cache.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=top
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        later = time.time() + 2 * HOUR
        assert cache.tidy(later) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (left / "content").exists()
    assert cache.tidy() == [], "it may be about to be locked"
    assert cache.tidy(later) == [left]
    assert list((root / "work").iterdir()) == []
