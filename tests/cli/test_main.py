"""What holds for every command: help, version, exit codes, the form of errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.images import file, image, write_layout

from bridge import __version__, errors
from bridge.errors import BridgeError
from bridge.ostree import lock
from bridge.ostree.repository import Repository

COMMANDS = [
    (),
    ("switch",),
    ("upgrade",),
    ("update",),
    ("rollback",),
    ("status",),
    ("fsck",),
    ("image",),
    *(("image", verb) for verb in ("pull", "list", "inspect", "remove", "prune")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Any, command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert done.code == 0 and done.err == ""
    shown = ["upgrade" if word == "update" else word for word in command]
    assert done.out.startswith(f"usage: {' '.join(['bootc-py', *shown])} ")


def test_help_lists_the_commands(run: Any) -> None:
    out = run("--help").out
    assert all(
        f"\n    {command[0]} " in out for command in COMMANDS if command and command[0] != "update"
    )


def test_the_version(run: Any) -> None:
    done = run("--version")
    assert (done.code, done.out) == (0, f"bootc-py {__version__}\n")


def test_no_command_is_a_usage_error_with_help(run: Any) -> None:
    done = run()
    assert done.code == 2 and done.out == "" and done.err.startswith("usage: bootc-py")


USAGE = [
    ("nonsense",),
    ("--nonsense",),
    ("switch",),
    ("image",),
    ("image", "nonsense"),
    ("image", "pull"),
    ("image", "remove"),
    ("image", "pull", "x", "--mode", "tape"),
    ("image", "pull", "x", "--limit-rate", "fast"),
    ("image", "pull", "x", "--retry-times", "-1"),
    ("image", "pull", "x", "--tls-verify=perhaps"),
    ("image", "pull", "x", "--progress-fd", "x"),
    ("image", "list", "--repo", "a", "--sysroot", "b"),
    ("image", "list", "two\nlines"),
    ("status", "--format", "xml"),
    ("image", "pull", "quay.io/A/b", "--repo", "r"),
    ("image", "pull", "docker:quay.io/a/b", "--repo", "r"),
    ("image", "pull", "oci:", "--repo", "r"),
    ("image", "pull", "containers-storage:localhost/a", "--repo", "r"),
    ("image", "pull", "--transport", "tape", "a", "--repo", "r"),
    ("image", "pull", "quay.io/a/b", "--repo", "r", "--creds", ":password"),
    ("image", "pull", "oci:/x", "--repo", "r", "--platform", "linux"),
    ("image", "pull", "oci:/x", "--repo", "r", "--platform", "linux//v7"),
    ("image", "pull", "oci:/x", "--repo", "r", "--progress-fd", "2"),
    ("image", "pull", "oci:/x", "--repo", "r", "--progress-fd", "12345"),
    ("image", "pull", "ostree-remote-registry:fedora:quay.io/a/b", "--repo", "r"),
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_words_are_a_usage_error(
    run: Any, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1 and done.error


CODES = {
    "BridgeError": 1,
    "UsageError": 2,
    "ConfigurationError": 2,
    "NotAuthorised": 3,
    "NotFound": 4,
    "NetworkError": 5,
    "RangeRefused": 5,
    "VerificationFailed": 6,
    "Blocked": 6,
    "MalformedImage": 7,
    "NoSpace": 8,
    "MayNotFit": 8,
    "DamagedRepository": 9,
    "Busy": 10,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_each_kind_of_failure_has_its_exit_code(
    run: Any, name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        said = "doing it:\n  it\x1b\x07 failed"
        raise getattr(errors, name)((said,) if name == "ConfigurationError" else said)

    monkeypatch.setattr("bridge.pull.pull.pull", fail)
    done = run("image", "pull", "oci:/x", "--repo", tmp_path / "repo", "--quiet")
    hint = "; `fsck --repair` may heal it" if name == "DamagedRepository" else ""
    assert (done.code, done.out, done.err) == (code, "", f"error: doing it: it failed{hint}\n")


def test_every_kind_of_failure_is_in_the_table() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    assert {each.__name__ for each in kinds if issubclass(each, BridgeError)} == set(CODES)


def test_an_interrupted_command_says_so(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.pull.pull.pull", interrupt)
    done = run("image", "pull", "oci:/x", "--repo", tmp_path / "repo", "--quiet")
    assert done.code == 130 and "interrupted" in done.error


def test_a_reader_that_has_had_enough_is_no_error(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    Repository.create(tmp_path / "repo", "bare-user").close()
    saved = os.dup(1)
    try:
        monkeypatch.setattr("bridge.pull.images.listing", gone)
        monkeypatch.setattr("sys.stdout", os.fdopen(os.dup(1), "w"))
        done = run("image", "list", "--repo", tmp_path / "repo")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert (done.code, done.err) == (1, "")


def test_an_error_of_the_system_is_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "repo").write_text("a file")
    done = run("image", "pull", "oci:/x", "--repo", tmp_path / "repo")
    assert done.code in (1, 4) and str(tmp_path / "repo") in done.error


def test_verbose_shows_where_it_failed(run: Any, tmp_path: Path) -> None:
    done = run("image", "list", "-v", "--repo", tmp_path / "nowhere")
    assert done.code == 4 and "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("error: ")


REAL: dict[str, tuple[tuple[str, ...], int]] = {
    "no such tag": (("image", "pull", "oci:{layout}:v9", "--repo", "{repo}"), 4),
    "no such layout": (("image", "pull", "oci:{tmp}/none", "--repo", "{repo}"), 4),
    "not a layout": (("image", "pull", "oci:{tmp}", "--repo", "{repo}"), 7),
    "not an archive": (("image", "pull", "oci-archive:{layout}/index.json", "--repo", "{repo}"), 7),
    "signature demanded": (
        ("image", "pull", "ostree-image-signed:oci:{layout}:v1", "--repo", "{repo}"), 6),
    "other platform": (
        ("image", "pull", "oci:{layout}:v1", "--repo", "{repo}", "--platform", "plan9/mips"), 7),
    "no repository": (("image", "list", "--repo", "{tmp}/none"), 4),
    "no sysroot": (("image", "list", "--sysroot", "{tmp}/none"), 4),
    "no sysroot to upgrade": (("upgrade", "--sysroot", "{tmp}/none"), 4),
    "no sysroot to show": (("status", "--sysroot", "{tmp}/none"), 4),
    "no sysroot to roll back": (("rollback", "--sysroot", "{tmp}/none"), 4),
    "no such image": (("image", "inspect", "oci:{layout}:v9", "--repo", "{repo}"), 4),
    "none to remove": (("image", "remove", "oci:{layout}:v9", "--repo", "{repo}"), 4),
    "not empty": (("image", "pull", "oci:{layout}:v1", "--repo", "{tmp}"), 2),
    "other mode": (
        ("image", "pull", "oci:{layout}:v1", "--repo", "{repo}", "--mode", "archive"), 2),
    "unreachable registry": (
        ("image", "pull", "127.0.0.1:1/a/b:t", "--repo", "{repo}", "--tls-verify=false",
         "--retry-times", "0"), 5),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code"), REAL.values(), ids=REAL)
def test_failures_end_to_end(
    run: Any, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    layout = write_layout(tmp_path / "layout", {"v1": image([file("a")])})
    repo = tmp_path / "repo"
    Repository.create(repo, "bare-user").close()
    words = [each.format(tmp=tmp_path, layout=layout, repo=repo) for each in arguments]
    done = run(*words)
    assert (done.code, done.out) == (code, "") and done.error
    with Repository.open(repo) as opened:
        assert list(opened.objects()) == []


def test_a_locked_repository_is_busy(run: Any, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", image([file("a")]))
    with Repository.create(tmp_path / "repo", "bare-user") as repo, lock.writing(repo):
        for words in (("pull", f"oci:{layout}"), ("prune",)):
            done = run("image", *words, "--repo", repo.path, "--quiet")
            assert done.code == 10 and "locked by another process" in done.error


def test_damage_is_told_and_named(run: Any, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", image([file("a", "content")]))
    repo = tmp_path / "repo"
    run("image", "pull", f"oci:{layout}", "--repo", repo, "--mode", "bare-user", "--quiet")
    good = run("fsck", "--repo", repo, "--json")
    assert good.code == 0 and good.document["faults"] == [] and good.err == ""
    assert "no fault found" in run("fsck", "--repo", repo).out
    assert run("fsck", "--repo", repo, "--quiet").out == ""
    victim = next(each for each in repo.glob("objects/*/*.file") if each.read_bytes())
    victim.write_bytes(b"damaged")
    done = run("fsck", "--repo", repo, "--json")
    assert done.code == 9 and "1 object of" in done.error
    checksum = victim.parent.name + victim.name.removesuffix(".file")
    assert [each["checksum"] for each in done.document["faults"]] == [checksum]
    assert checksum in run("fsck", "--repo", repo).err


@pytest.mark.parametrize(
    "command",
    [("switch", "oci:/x"), ("upgrade",), ("rollback",), ("kargs", "--append=quiet")],
    ids=lambda each: each[0],
)
def test_another_sysroot_is_not_restarted(
    run: Any, command: tuple[str, ...], tmp_path: Path
) -> None:
    """Before anything is done, not after all of it."""
    done = run(*command, "--apply", "--sysroot", tmp_path / "other")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --apply restarts this machine, which does not run")
    assert list(tmp_path.iterdir()) == []
