"""`container lint`: what it shows, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.images import file, image, whiteout, write_layout
from support.lint import GOOD, build

from bridge.lint.registry import LINTS

KEY = "-----BEGIN PRIVATE KEY-----\nMIIE\n"
ONES = {
    "usr/lib/sysusers.d/a.conf": "u root 0",
    "etc/passwd": "root:x:0:0:::\n",
    "etc/group": "root:x:0:\n",
}


@pytest.fixture(autouse=True)
def no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return build(tmp_path / "root", {**GOOD, **ONES})


def test_nothing_is_wrong(run: Any, good: Path) -> None:
    done = run("container", "lint", "--rootfs", good)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"Checks passed: {len(LINTS) - 1}\nChecks skipped: 1\n"
    done = run("container", "lint", "--rootfs", good, "--quiet", "--fatal-warnings")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_findings_are_shown_as_bootc_does(run: Any, good: Path) -> None:
    build(good, {"var/log/a.log": "x", "usr/lib/tmpfiles.d/a.conf": "d /var/log\nf /var/log/a.log"})
    done = run("container", "lint", "--rootfs", good)
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "Lint warning: var-log: is a log that has something in it:\n"
        "  /var/log/a.log\n"
        "  cure: end the step that writes it with: find /var/log -type f -delete\n"
        f"Checks passed: {len(LINTS) - 2}\n"
        "Checks skipped: 1\n"
        "Warnings: 1\n"
    )
    done = run("container", "lint", "--rootfs", good, "--fatal-warnings")
    assert done.code == 1
    assert done.error == (
        "error: checks failed: 1; cure what was found, or leave a check out with --skip NAME"
    )
    done = run("container", "lint", "--rootfs", good, "--fatal-warnings", "--skip", "var-log")
    assert done.code == 0
    assert done.out == f"Checks passed: {len(LINTS) - 2}\nChecks skipped: 2\n"


def test_a_fatal_lint_fails(run: Any, good: Path) -> None:
    build(good, {"usr/etc": None, "usr/key": KEY})
    done = run("container", "lint", "--rootfs", good, "--quiet")
    assert done.code == 1
    assert done.out.startswith(
        "Failed lint: etc-usretc: there is both this and /etc:\n  /usr/etc\n"
    )
    assert (
        "Failed lint: secrets: has a private key:\n  /usr/key\n  cure: take it for known"
        in done.out
    )
    assert done.error.startswith("error: checks failed: 2;")
    skipped = ["--skip", "secrets", "--skip", "etc-usretc"]
    assert run("container", "lint", "--rootfs", good, *skipped).code == 0


def test_long_lists_are_cut(run: Any, good: Path) -> None:
    logs = {f"var/log/{number}.log": "x" for number in range(7)}
    build(
        good,
        {**logs, "usr/lib/tmpfiles.d/a.conf": "d /var/log\n" + "".join(f"f /{n}\n" for n in logs)},
    )
    done = run("container", "lint", "--rootfs", good)
    assert "  /var/log/4.log\n  ...and 2 more\n  cure: " in done.out
    done = run("container", "lint", "--rootfs", good, "--no-truncate")
    assert "  /var/log/5.log\n  /var/log/6.log\n  cure: " in done.out


def test_no_name_makes_a_terminal_do_something(run: Any, good: Path) -> None:
    build(good, {"usr/key\x1b[31m\n": KEY, "usr/\udcff": KEY})
    done = run("container", "lint", "--rootfs", good)
    assert r"  /usr/key\x1b[31m\n" in done.out and r"  /usr/\udcff" in done.out
    assert "\x1b" not in done.out


def test_the_list_is_yaml_as_bootcs(run: Any) -> None:
    done = run("container", "lint", "--list")
    known = yaml.safe_load(done.out)
    assert [set(each) for each in known] == [{"name", "type", "description"}] * len(LINTS)
    assert [(each["name"], each["type"]) for each in known] == [
        (lint.name, lint.level.value) for lint in LINTS
    ]
    assert known == run("container", "lint", "--list", "--json").document


def test_json_has_all_of_it(run: Any, good: Path) -> None:
    logs = {f"var/log/{number}.log": "x" for number in range(7)}
    build(good, {**logs, "usr/key": KEY})
    done = run("container", "lint", "--rootfs", good, "--json", "--skip", "kernel")
    assert done.code == 1 and done.error.startswith("error: checks failed: 1;")
    document = done.document
    assert {key: document[key] for key in document if key != "lints"} == {
        "apiVersion": "bootc-py/v1", "kind": "LintReport",
        "passed": len(LINTS) - 5, "skipped": 2, "warnings": 2, "fatal": 1,
    }  # fmt: skip
    lints = {each["name"]: each for each in document["lints"]}
    assert lints["secrets"] == {
        "name": "secrets", "type": "fatal", "outcome": "failed", "reason": None,
        "findings": [{"path": "/usr/key", "problem": "has a private key", "detail": None,
                      "cure": lints["secrets"]["findings"][0]["cure"]}],
    }  # fmt: skip
    assert len(lints["var-log"]["findings"]) == 7
    assert (lints["kernel"]["outcome"], lints["kernel"]["reason"]) == ("skipped", "by --skip")
    assert lints["utf8"] == {
        "name": "utf8", "type": "fatal", "outcome": "passed", "reason": None, "findings": []
    }  # fmt: skip


WRONG: list[tuple[list[str], str]] = [
    (["--skip", "no-such"], "error: --skip 'no-such': there is no such lint; --list shows all"),
    (["--repo", "x"], "error: --repo, --sysroot and --transport want an IMAGE"),
    (["--sysroot", "x"], "error: --repo, --sysroot and --transport want an IMAGE"),
    (["--transport", "oci"], "error: --repo, --sysroot and --transport want an IMAGE"),
    (["oci:x", "--rootfs", "x"], "error: look either at IMAGE or at --rootfs DIR"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_usage(run: Any, arguments: list[str], message: str) -> None:
    done = run("container", "lint", *arguments)
    assert (done.code, done.out, done.error) == (2, "", message)


def test_a_root_that_is_not_there(run: Any, tmp_path: Path) -> None:
    done = run("container", "lint", "--rootfs", tmp_path / "none")
    assert (done.code, done.error) == (
        4, f"error: --rootfs {tmp_path}/none: there is no such directory"
    )  # fmt: skip
    (tmp_path / "file").write_text("x")
    done = run("container", "lint", "--rootfs", tmp_path / "file")
    assert (done.code, done.error) == (1, f"error: --rootfs {tmp_path}/file: Not a directory")


def test_the_epoch_is_the_environments(
    run: Any, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("yesterday", "-1", "1.5"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        done = run("container", "lint", "--rootfs", good)
        assert (done.code, done.error) == (
            2, f"error: SOURCE_DATE_EPOCH={wrong!r} is no number of seconds since 1970"
        )  # fmt: skip
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    done = run("container", "lint", "--rootfs", good)
    assert "Lint warning: timestamps: has a time after 1970-01-01T00:16:40Z" in done.out


def test_an_image_and_a_stored_image(run: Any, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image([file("a", KEY)], [whiteout("a")]))
    reference = f"oci:{tmp_path}/layout"
    done = run("container", "lint", reference)
    assert done.code == 1
    assert "\n  /a (layer 0, hidden by a later one)\n" in done.out
    assert run("image", "pull", reference, "--repo", tmp_path / "repo", "--quiet").code == 0
    again = run("container", "lint", reference, "--repo", tmp_path / "repo")
    assert (again.code, again.out) == (1, done.out)
    named = run("container", "lint", f"{tmp_path}/layout", "--transport", "oci", "--quiet")
    assert named.code == 1
    missing = run("container", "lint", "oci:/none", "--repo", tmp_path / "repo")
    assert (missing.code, missing.error) == (
        4, f"error: no image oci:/none in {tmp_path}/repo; `image list` shows those it has"
    )  # fmt: skip
    assert run("container", "lint", "oci:/none").code == 4


def test_a_file_that_makes_no_sense_stops_it(run: Any, good: Path) -> None:
    build(good, {"usr/lib/sysusers.d/big.conf": b"#" * (4 * 1024 * 1024 + 1)})
    done = run("container", "lint", "--rootfs", good)
    assert done.code == 7
    assert done.error == (
        "error: 'usr/lib/sysusers.d/big.conf' has 4194305 bytes; the limit is 4194304"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to change its root")
def test_without_a_word_it_is_the_root_that_is_looked_at(good: Path) -> None:
    """What `RUN bootc-py container lint` does, without the container."""
    script = (
        "import os, sys; from bridge.cli.main import main; from bridge.cli import container, lint;"
        "from bridge.lint import run, sources; from bridge.oci import epoch;"
        "import encodings.idna, locale, zstandard;"
        "os.chroot(sys.argv[1]); os.chdir('/'); sys.exit(main(['container', 'lint', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, good], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lints = {each["name"]: each["reason"] for each in json.loads(done.stdout)["lints"]}
    assert {name: reason for name, reason in lints.items() if reason} == {
        "buildah-injected": "both files are the container's while it runs",
        "timestamps": "times are held down, or not, when the step's layer is written",
    }
