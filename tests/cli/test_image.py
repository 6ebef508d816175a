"""`image` and its verbs, on layouts; `switch` and `upgrade` of a layout in a relative path."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.images import BOOTABLE, Image, directory, file, image, write_archive, write_layout
from support.trees import listing

from bridge.cli.transfer import render
from bridge.oci.model import Platform
from bridge.ostree import lock, refs
from bridge.ostree.repository import Repository
from bridge.pull.layer import Dropped
from bridge.pull.report import SpaceReport, TransferReport

ROOT = os.geteuid() == 0
LAYER = [directory("usr"), file("usr/a", "content"), file("dev/null"), file("run/x")]


def layout(tmp_path: Path, *tags: str) -> Path:
    made = {
        tag: image(
            LAYER,
            [file("usr/version", tag)],
            labels=BOOTABLE | {"org.opencontainers.image.version": tag},
        )
        for tag in tags or ("v1",)
    }
    return write_layout(tmp_path / "layout", made)


MODES = ["bare-user", "archive", *(["bare"] if ROOT else [])]


@pytest.mark.parametrize("mode", MODES)
def test_pull_makes_a_repository_of_the_mode(run: Any, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "not/yet/there"
    done = run("image", "pull", f"oci:{layout(tmp_path)}:v1", "--repo", path, "--mode", mode)
    assert done.code == 0
    with Repository.open(path) as repo:
        assert repo.mode == mode
        commit = refs.listing(repo, "ostree/container/image/").popitem()[1]
        assert listing(repo, commit) == {"usr": "dir", "usr/a": "content", "usr/version": "v1"}


def test_pull_makes_a_repository_that_suits_the_user(run: Any, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()  # empty is as good as not there
    run("image", "pull", f"oci:{layout(tmp_path)}", "--repo", tmp_path / "repo", "--quiet")
    with Repository.open(tmp_path / "repo") as repo:
        assert repo.mode == ("bare" if ROOT else "bare-user")
    again = run(
        "image", "pull", f"oci:{layout(tmp_path)}", "--repo", repo.path, "--mode", repo.mode
    )
    assert again.code == 0


def test_pull_into_a_sysroots_repository(run: Any, tmp_path: Path) -> None:
    (tmp_path / "ostree").mkdir()
    Repository.create(tmp_path / "ostree/repo", "bare-user").close()
    done = run("image", "pull", f"oci:{layout(tmp_path)}", "--sysroot", tmp_path, "--json")
    assert done.code == 0 and done.document["changed"]
    assert len(run("image", "list", "--sysroot", tmp_path, "--json").document) == 1


def test_json_is_one_document_and_messages_go_to_stderr(run: Any, tmp_path: Path) -> None:
    source, repo = f"oci:{layout(tmp_path)}:v1", tmp_path / "repo"
    done = run("image", "pull", source, "--repo", repo, "--json", "--mode", "bare-user")
    assert done.document["kind"] == "TransferReport"
    assert "2 layers: 0 here already, 2 to pull" in done.err
    quiet = run("image", "pull", source, "--repo", repo, "--json", "--quiet")
    assert quiet.err == "" and not quiet.document["changed"]
    history = (repo / "extensions/bootc-py/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["changed"] for line in history] == [True, False]


def test_quiet_says_nothing(run: Any, tmp_path: Path) -> None:
    source, repo = f"oci:{layout(tmp_path)}:v1", tmp_path / "repo"
    for words in (("pull", source), ("remove", source), ("prune",)):
        done = run("image", *words, "--repo", repo, "--quiet")
        assert (done.code, done.out, done.err) == (0, "", "")


def test_the_report_for_people(run: Any, tmp_path: Path) -> None:
    source = f"oci:{layout(tmp_path)}:v1"
    done = run("image", "pull", source, "--repo", tmp_path / "repo", "--mode", "archive")
    lines = done.out.splitlines()
    assert lines[0] == f"image:       {source}"
    assert [line.partition(":")[0] for line in lines] == [
        "image", "digest", "commit", "received", "layers", "store", "seconds", "left out",
        "  'dev/null'", "  'run/x'",
    ]  # fmt: skip
    assert "layers:      2: 0 here already, 0 in parts, 2 whole" in lines
    assert "2 files: 2 new (9 B), 0 shared" in done.out
    assert "left out:    2 entries (2 in a directory that is mounted over)" in lines
    verbose = run("image", "pull", source, "--repo", tmp_path / "repo", "--verbose").out
    assert verbose.count("\n  sha256:") == 2 and "2 here already" in verbose


def test_only_some_of_what_was_dropped_is_shown() -> None:
    report = TransferReport("r", "d", "m", "c", "s", True, 1, 1, 1, 2)
    report.dropped = [Dropped(f"dev/{number}\n", "fifo") for number in range(7)]
    text = render(report)
    assert "1 request, 2 retries" in text
    assert "'dev/4\\n': fifo" in text and "dev/5" not in text
    assert text.endswith("… and 2 more; all with -v or --json")
    assert "dev/6" in render(report, verbose=True)


def test_space_is_told_where_it_was_tight() -> None:
    report = TransferReport("r", "d", "m", "c", "s", True, 1, 1, 1, 0)
    assert "space:" not in render(report)
    report.space = SpaceReport(1_000_000, 2_000_000, True)
    assert "space:" not in render(report)
    report.space = SpaceReport(1_000_000, 1_999_999, True)
    assert (
        "space:       1.0 MB for all that was to be pulled (an estimate), where 2.0 MB were "
        "available\n"
    ) in render(report)
    report.space = SpaceReport(1_000_000, 0, False)
    assert "to be pulled, where 0 B were available" in render(report)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_what_was_pulled_is_pulled_though_the_history_is_full(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The disk takes half of the line: that goes again, and the one before it stays."""
    source, repo = f"oci:{layout(tmp_path)}:v1", tmp_path / "repo"
    run("image", "pull", source, "--repo", repo, "--quiet", "--mode", "bare-user")
    history = repo / "extensions/bootc-py/history.jsonl"
    before, real = history.read_bytes(), os.write

    def full(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}") != str(history):
            return real(fd, data)
        if history.read_bytes() != before:
            raise OSError(code, os.strerror(code))
        return real(fd, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        done = run("image", "pull", source, "--repo", repo, "--json", "--quiet")
    assert (done.code, done.document["changed"]) == (0, False)
    assert done.err == f"warning: not added to the history: {os.strerror(code)}\n"
    assert history.read_bytes() == before


def test_stored_images_by_the_command(run: Any, tmp_path: Path) -> None:
    path, repo = layout(tmp_path, "v1", "v2"), tmp_path / "repo"
    for tag in ("v1", "v2"):
        source = f"oci:{path}:{tag}"
        run("image", "pull", source, "--repo", repo, "--mode", "bare-user", "--quiet")
    text = run("image", "list", "--repo", repo).out.splitlines()
    assert [line.split()[0] for line in text] == [f"oci:{path}:v1", f"oci:{path}:v2"]
    assert all(line.endswith("  2024-05-06") for line in text)
    found = run("image", "list", "--repo", repo, "--json").document
    assert [each["version"] for each in found] == ["v1", "v2"]
    one = run("image", "inspect", f"oci:{path}:v1", "--repo", repo).document
    assert {key: one[key] for key in found[0]} == found[0]
    assert (one["os"], one["architecture"]) == ("linux", Platform.host().architecture)
    assert one["created"] == "2024-05-06T07:08:09Z" and one["labels"]["containers.bootc"] == "1"
    assert [set(each) for each in one["layers"]] == [{"digest", "diffId", "mediaType", "size"}] * 2
    both = [f"oci:{path}:v1", f"oci:{path}:v2"]
    refused = run("image", "remove", both[0], f"oci:{path}:v3", "--repo", repo)
    assert refused.code == 4 and len(run("image", "list", "--repo", repo).out.splitlines()) == 2
    assert run("image", "remove", both[0], "--repo", repo).out == f"removed {both[0]}\n"
    assert run("image", "prune", "--repo", repo).out.startswith("1 layer and 7 of 19 objects")
    assert run("image", "remove", both[1], "--repo", repo, "--json").document == {
        "removed": [both[1]]
    }
    assert run("image", "prune", "--repo", repo, "--json").document["layers"] == 2
    assert run("image", "list", "--repo", repo).out == ""


def test_a_transport_may_be_an_option(run: Any, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "os.tar", image(LAYER))
    repo = tmp_path / "repo"
    words = ("--transport", "oci-archive", str(archive), "--repo", str(repo))
    assert run("image", "pull", *words).code == 0
    assert run("image", "inspect", *words).document["reference"] == f"oci-archive:{archive}"


def test_an_image_pulled_by_a_relative_path_is_found_from_anywhere(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layout(tmp_path)
    monkeypatch.chdir(tmp_path)
    run("image", "pull", "oci:layout:v1", "--repo", "repo", "--quiet")
    monkeypatch.chdir("/")
    found = run("image", "inspect", f"oci:{path}:v1", "--repo", tmp_path / "repo")
    assert found.document["reference"] == f"oci:{path}:v1"


def bootable(version: str) -> Image:
    modules = "usr/lib/modules/6.1.0"
    members = [
        file("usr/lib/os-release", f"ID=test\nPRETTY_NAME=Test {version}\nVERSION_ID={version}\n"),
        file(f"{modules}/vmlinuz", "kernel"),
        file(f"{modules}/initramfs.img", f"initramfs {version}"),
        file("etc/conf", version),
        directory("boot"),
        directory("sysroot"),
        directory("var"),
    ]
    return image(members, labels=BOOTABLE | {"org.opencontainers.image.version": version})


@pytest.mark.skipif(not ROOT, reason="only root can deploy")
def test_a_relative_layout_is_upgraded_from_another_directory(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(tmp_path / "os", bootable("1"))
    monkeypatch.chdir(tmp_path)
    sysroot = tmp_path / "sysroot"
    first = run("switch", "oci:os:latest", "--sysroot", "sysroot", "--json", "--quiet").document
    assert first["changed"] and first["deployment"]["bootEntry"] == "ostree-1.conf"
    assert not (first["deployment"]["staged"] or first["deployment"]["downloadOnly"])
    origin = next(sysroot.glob("ostree/deploy/default/deploy/*.origin")).read_text()
    assert f"container-image-reference=ostree-unverified-image:oci:{tmp_path}/os:latest" in origin

    monkeypatch.chdir("/")
    assert run("upgrade", "--check", "--sysroot", sysroot).code == 77
    again = run("upgrade", "--sysroot", sysroot, "--json", "--quiet").document
    assert not again["changed"] and again["deployment"] == first["deployment"]

    write_layout(tmp_path / "os", bootable("2"))
    found = run("upgrade", "--check", "--sysroot", sysroot, "--json")
    assert found.code == 0 and found.document["changed"] and found.document["version"] == "2"
    assert len(found.document["layers"]) == 1
    second = run("upgrade", "--sysroot", sysroot, "--json", "--quiet").document
    assert second["changed"] and second["image"]["commit"] != first["image"]["commit"]
    status = run("status", "--sysroot", sysroot, "--format", "json")
    assert status.document["kind"] == "BootcHost" and status.err == ""
    assert run("rollback", "--sysroot", sysroot).code == 0


@pytest.mark.skipif(not ROOT, reason="only root can deploy")
def test_a_recompressed_image_needs_no_byte(run: Any, tmp_path: Path) -> None:
    made = bootable("1")
    write_layout(tmp_path / "os", made)
    run("switch", f"oci:{tmp_path}/os:latest", "--sysroot", tmp_path / "sysroot", "--quiet")
    zstd = image(LAYER, compression="zstd")
    assert zstd.layers  # another image altogether: its layer is told
    write_layout(tmp_path / "os", zstd)
    checked = run("upgrade", "--check", "--sysroot", tmp_path / "sysroot", "--json").document
    assert [each["digest"] for each in checked["layers"]] == zstd.layers
    write_layout(tmp_path / "os", made.changed(annotations={"new": "manifest"}))
    checked = run("upgrade", "--check", "--sysroot", tmp_path / "sysroot", "--json").document
    assert checked["changed"] and (checked["layers"], checked["transferBytes"]) == ([], 0)


@pytest.mark.skipif(not ROOT, reason="only root can deploy")
def test_an_image_that_cannot_boot_is_not_switched_to(run: Any, tmp_path: Path) -> None:
    write_layout(tmp_path / "os", image(LAYER, labels={}))
    sysroot = tmp_path / "sysroot"
    done = run("switch", f"oci:{tmp_path}/os", "--sysroot", sysroot, "--quiet")
    assert done.code == 7 and "not a bootable image" in done.error
    assert not list(sysroot.glob("ostree/deploy/*/deploy/*"))


def test_index_brings_the_index_up_to_date(run: Any, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    run("image", "pull", f"oci:{layout(tmp_path)}:v1", "--repo", repo, "--mode", "bare-user")
    first = run("image", "index", "--repo", repo, "--json")
    assert first.code == 0 and first.err == ""
    assert first.document | {"bytes": 0, "seconds": 0} == {
        "apiVersion": "bootc-py/v1",
        "kind": "ContentIndex",
        "added": 2,
        "objects": 2,
        "pieces": 2,
        "bytes": 0,
        "seconds": 0,
    }
    again = run("image", "index", "--repo", repo)
    assert "2 pieces of 2 objects indexed, 0 of them now" in again.out
    (repo / "extensions/bootc-py/content.sqlite").write_bytes(b"garbage")
    anew = run("image", "index", "--repo", repo, "--json")
    assert anew.code == 0 and anew.document["added"] == 2
    assert len(anew.err.splitlines()) == 1 and "is begun anew" in anew.err
    rebuilt = run("image", "index", "--rebuild", "--repo", repo, "--json")
    assert rebuilt.document["added"] == 2 and rebuilt.document["pieces"] == 2


def test_index_forgets_what_a_prune_deleted(run: Any, tmp_path: Path) -> None:
    repo, source = tmp_path / "repo", f"oci:{layout(tmp_path)}:v1"
    run("image", "pull", source, "--repo", repo, "--mode", "bare-user")
    run("image", "index", "--repo", repo)
    run("image", "remove", source, "--repo", repo)
    run("image", "prune", "--repo", repo)
    left = run("image", "index", "--repo", repo, "--json").document
    assert (left["added"], left["objects"], left["pieces"]) == (0, 0, 0)


def test_index_waits_for_no_writer(run: Any, tmp_path: Path) -> None:
    with Repository.create(tmp_path / "repo", "bare-user") as repo, lock.writing(repo):
        done = run("image", "index", "--repo", repo.path)
    assert done.code == 10 and "is locked by another process" in done.error
