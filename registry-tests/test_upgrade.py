"""A host's life on real images: switch, edits in /etc, upgrade after the tag moved, rollback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import raw, store
from rig.answer import Exchange
from rig.command import PLAIN_HTTP, bootc_py, report
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry

from tools.images import cache
from tools.images.layout import Layout

Images = dict[tuple[str, str, str], Layout]
REPOSITORY = "test/upgrade"
NOTHING_NEWER = 77
MINE = "ostree/deploy/default/var/mine"


@dataclass
class Host:
    """A sysroot that was switched to v1, edited, and upgraded to v2; what was seen on the way."""

    sysroot: Path
    image: str
    proxy: CountingProxy
    switched: dict[str, Any]
    checked: dict[str, tuple[int, dict[str, Any]]]
    upgraded: dict[str, Any]
    upgrade_log: list[Exchange]
    etc_v1: Path
    """v1's /etc as it came; the deployment's own may be edited."""

    @property
    def deployments(self) -> Path:
        return self.sysroot / "ostree/deploy/default/deploy"

    def root(self, document: dict[str, Any]) -> Path:
        """The deployment that a command reported."""
        deployed = document["deployment"]
        return self.deployments / f"{deployed['checksum']}.{deployed['serial']}"

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = bootc_py(
            "status", "--sysroot", self.sysroot, "--format", "json"
        ).json
        return document

    def listed(self) -> list[str]:
        """The deployments in boot order, as `ostree admin status` has them: COMMIT.SERIAL."""
        command = [require("ostree"), "admin", "status", f"--sysroot={self.sysroot}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = [line.split() for line in done.stdout.splitlines()]
        return [line[1] for line in lines if line and line[0] == "default"]


@pytest.fixture(scope="module")
def host(images: Images, registry: Registry) -> Iterator[Host]:
    v1, v2 = images["server", "v1", "gzip"], images["server", "v2", "gzip"]
    with cache.scratch(cache.root() / "work") as work, run_proxy(registry.port) as proxy:
        sysroot = work / "sysroot"
        options = ("--sysroot", str(sysroot), PLAIN_HTTP)
        image = f"{proxy.host}/{REPOSITORY}:stable"
        checked = {}

        def check() -> tuple[int, dict[str, Any]]:
            done = bootc_py("upgrade", "--check", "--json", *options)
            return done.code, done.json

        raw.move_tag(registry, v1, "os/server", REPOSITORY, "stable")
        switched = report("switch", image, *options)
        checked["same"] = check()
        found = Host(sysroot, image, proxy, switched, checked, {}, [], Path())
        root = found.root(switched)
        found.etc_v1 = root / "usr/etc"
        edit(root / "etc")
        (sysroot / MINE).write_text("mine\n")

        raw.move_tag(registry, v2, "os/server", REPOSITORY, "stable")
        checked["moved"] = check()
        proxy.reset()
        found.upgraded = report("upgrade", *options)
        found.upgrade_log = proxy.log
        checked["after"] = check()
        yield found


def edit(etc: Path) -> None:
    """What an administrator does."""
    (etc / "hosts").write_text("127.0.0.1 localhost edited\n")
    (etc / "nginx/nginx.conf").chmod(0o600)
    (etc / "added.conf").write_text("added\n")
    (etc / "added.d").mkdir(mode=0o750)
    (etc / "added.d/one").symlink_to("../added.conf")
    (etc / "issue.net").unlink()
    # Edited here and changed there: the administrator's word counts.
    (etc / "debian_version").write_text("mine\n")


def test_v1_is_there_as_published(images: Images, host: Host) -> None:
    assert host.switched["image"]["manifestDigest"] == images["server", "v1", "gzip"].digest
    assert host.switched["transfer"]["receivedBytes"] > host.switched["transfer"]["imageBytes"]
    assert {layer["mode"] for layer in host.switched["layers"]} == {"whole"}


def test_layers_that_are_here_are_not_fetched(images: Images, host: Host) -> None:
    old = {layer["digest"] for layer in images["server", "v1", "gzip"].layers}
    new = [layer["digest"] for layer in images["server", "v2", "gzip"].layers]
    assert old & set(new), "the images share layers"
    asked = [each.path.rpartition("/")[2] for each in host.upgrade_log if "/blobs/" in each.path]
    config = images["server", "v2", "gzip"].manifest["config"]["digest"]
    assert sorted(asked) == sorted({config, *new} - old)
    modes = {layer["digest"]: layer["mode"] for layer in host.upgraded["layers"]}
    assert modes == {digest: "present" if digest in old else "whole" for digest in new}
    assert host.upgraded["transfer"]["receivedBytes"] == sum(
        exchange.body_bytes for exchange in host.upgrade_log
    )


def test_files_that_are_here_are_not_stored_again(host: Host) -> None:
    stored = host.upgraded["store"]
    assert stored["reusedObjects"] > stored["newObjects"] > 0
    assert stored["files"] == stored["reusedObjects"] + stored["newObjects"]


def test_check_tells_whether_there_is_something_newer(images: Images, host: Host) -> None:
    v1, v2 = images["server", "v1", "gzip"], images["server", "v2", "gzip"]
    assert [code for code, _ in host.checked.values()] == [NOTHING_NEWER, 0, NOTHING_NEWER]
    moved = host.checked["moved"][1]
    assert (moved["current"], moved["available"]) == (v1.digest, v2.digest)
    old = {layer["digest"] for layer in v1.layers}
    wanted = [layer for layer in v2.layers if layer["digest"] not in old]
    assert moved["transferBytes"] == sum(layer["size"] for layer in wanted)
    assert host.checked["after"][1]["changed"] is False


def test_ostree_lists_both_deployments_and_finds_no_fault(host: Host) -> None:
    names = [
        f"{each['deployment']['checksum']}.{each['deployment']['serial']}"
        for each in (host.upgraded, host.switched)
    ]
    assert sorted(host.listed()) == sorted(names)
    assert host.upgraded["deployment"]["checksum"] == host.upgraded["image"]["commit"]
    store.fsck(host.sysroot / "ostree/repo")


def test_the_administrators_files_survive(host: Host) -> None:
    etc = host.root(host.upgraded) / "etc"
    assert (etc / "hosts").read_text() == "127.0.0.1 localhost edited\n"
    assert (etc / "nginx/nginx.conf").stat().st_mode & 0o7777 == 0o600
    assert (etc / "added.conf").read_text() == "added\n"
    assert (etc / "added.d").stat().st_mode & 0o7777 == 0o750
    assert (etc / "added.d/one").readlink() == Path("../added.conf")
    assert not (etc / "issue.net").exists()
    assert (etc / "debian_version").read_text() == "mine\n"


def test_what_nobody_edited_is_the_new_versions(host: Host) -> None:
    """All of /etc, but for the edits, is v2's; and v2's differs from v1's."""
    etc, shipped = host.root(host.upgraded) / "etc", host.root(host.upgraded) / "usr/etc"
    assert (etc / "server-release").read_text() == (shipped / "server-release").read_text()
    assert (host.etc_v1 / "server-release").read_text() != (shipped / "server-release").read_text()
    assert (shipped / "issue.net").exists()
    command = ["diff", "--brief", "--recursive", "--no-dereference", str(shipped), str(etc)]
    done = subprocess.run(command, capture_output=True, text=True)
    changed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("Files")}
    assert changed == {f"{shipped}/hosts", f"{shipped}/debian_version"}
    only = {line for line in done.stdout.splitlines() if line.startswith("Only")}
    assert only == {
        f"Only in {shipped}: issue.net",
        f"Only in {etc}: added.conf",
        f"Only in {etc}: added.d",
    }


def test_var_is_the_hosts(host: Host) -> None:
    assert (host.sysroot / MINE).read_text() == "mine\n"


def test_status_is_bootcs_document(images: Images, host: Host) -> None:
    document = host.status()
    assert (document["apiVersion"], document["kind"]) == ("org.containers.bootc/v1", "BootcHost")
    reference = {"image": host.image, "transport": "registry"}
    assert document["spec"] == {"bootOrder": "default", "image": reference}
    status = document["status"]
    assert (status["booted"], status["staged"], status["rollback"]) == (None, None, None)
    entries = status["otherDeployments"]
    names = [f"{e['ostree']['checksum']}.{e['ostree']['deploySerial']}" for e in entries]
    assert names == host.listed()
    for entry, version in zip(entries, ("v2", "v1"), strict=True):
        image = entry["image"]
        assert image["image"] == reference
        assert image["imageDigest"] == images["server", version, "gzip"].digest
        assert image["architecture"] == "amd64"
        assert image["version"] == {"v1": "1.0", "v2": "2.0"}[version]
        assert (entry["store"], entry["ostree"]["stateroot"]) == ("ostreeContainer", "default")
        assert (entry["pinned"], entry["incompatible"]) == (False, False)


def test_rollback_makes_v1_the_default_again(host: Host) -> None:
    newest, previous = host.listed()
    assert newest.startswith(host.upgraded["image"]["commit"])

    def first_entry() -> str:
        entries = sorted((host.sysroot / "boot/loader/entries").glob("*.conf"))
        return entries[-1].read_text()

    def back() -> None:
        done = bootc_py("rollback", "--sysroot", host.sysroot)
        assert done.code == 0, done.err

    v2_entry = first_entry()
    back()
    assert host.listed() == [previous, newest]
    assert previous.startswith(host.switched["image"]["commit"])
    assert first_entry() != v2_entry
    etc = host.deployments / previous / "etc"
    assert (etc / "hosts").read_text() == "127.0.0.1 localhost edited\n"
    v1_release = (host.etc_v1 / "server-release").read_text()
    assert (etc / "server-release").read_text() == v1_release
    back()
    assert host.listed() == [newest, previous]


def test_rollback_without_anything_to_go_back_to(tmp_path: Path) -> None:
    done = bootc_py("rollback", "--sysroot", tmp_path)
    assert done.error
