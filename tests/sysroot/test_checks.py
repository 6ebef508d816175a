"""Checks in greenboot's directories: which are run, in what order, and what counts as failed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.sysroot import checks
from bridge.sysroot.checks import Kind


def program(root: Path, name: str, text: str, mode: int = 0o755) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_order_is_by_place_and_name(tmp_path: Path) -> None:
    expected = [
        program(tmp_path, "usr/lib/greenboot/check/required.d/10", ""),
        program(tmp_path, "usr/lib/greenboot/check/required.d/20.sh", "", 0o644),
        program(tmp_path, "etc/greenboot/check/required.d/01", ""),
        program(tmp_path, "etc/greenboot/check/required.d/10", ""),
    ]
    required = tmp_path / "etc/greenboot/check/required.d"
    program(required, "README", "", 0o644)
    program(required, ".hidden.sh", "")
    program(required, "off.sh", "")
    (required / "directory.sh").mkdir()
    (required / "dangling.sh").symlink_to("nowhere")
    wanted = program(tmp_path, "etc/greenboot/check/wanted.d/w", "")
    red = program(tmp_path, "usr/lib/greenboot/red.d/r", "")
    assert checks.programs(Kind.REQUIRED, ["off.sh"], root=tmp_path) == expected
    assert checks.programs(Kind.WANTED, root=tmp_path) == [wanted]
    assert checks.programs(Kind.RED, root=tmp_path) == [red]
    assert checks.programs(Kind.GREEN, root=tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "mode", "problem"),
    [
        ("a.sh", "exit 0", 0o644, ""),
        ("a", "#!/bin/sh\nexit 0", 0o755, ""),
        ("a.sh", "[[ a == a ]] || exit 9", 0o644, ""),
        ("a.sh", "exit 3", 0o644, "exit code 3"),
        ("a", "#!/bin/sh\nexit 255", 0o755, "exit code 255"),
        ("a.sh", "kill -9 $$", 0o644, "it was ended by signal 9"),
        ("a", "#!/no/such/program", 0o755, "it cannot be run: No such file or directory"),
        ("a", "what is this", 0o755, "it cannot be run: Exec format error"),
    ],
)
def test_what_counts_as_failed(
    tmp_path: Path, name: str, text: str, mode: int, problem: str
) -> None:
    path = program(tmp_path, name, text, mode)
    (found,) = checks.run([path], 60)
    assert found.path == path
    assert found.problem.removesuffix(f" ({path})") == problem


def test_one_that_hangs_ends_with_all_it_started(tmp_path: Path) -> None:
    text = f"sleep 1000 & echo $! > {tmp_path}/child; sleep 1000"
    (found,) = checks.run([program(tmp_path, "hangs.sh", text)], 0.5)
    assert found.problem == "it took longer than 0.5 seconds"
    child = (tmp_path / "child").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True)
    assert shutil.which("ps") and state.stdout.strip()[:1] in ("", "Z")


def test_they_are_run_as_they_are_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [program(tmp_path, f"{n}.sh", f"echo {n}; touch {tmp_path}/ran-{n}") for n in "12"]
    running = checks.run(paths, 60)
    next(running)
    assert [(tmp_path / f"ran-{n}").exists() for n in "12"] == [True, False]
    list(running)
    found = capfd.readouterr()
    assert (found.out, found.err) == ("", "1\n2\n"), "standard output is for our document"
