"""A host of which a part cannot be read: that costs one entry, never the command; and is mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import store
from rig.command import Done, bootc_py
from rig.small import small

from bridge.ostree import refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.pull.refnames import IMAGES, LAYERS


@dataclass
class Host:
    """A sysroot with v2 and v1 of an image deployed, in that boot order."""

    sysroot: Path
    layout: Path

    @property
    def repo(self) -> Path:
        return self.sysroot / "ostree/repo"

    def run(self, *arguments: str) -> Done:
        return bootc_py(*arguments, "--sysroot", self.sysroot)

    def name(self, tag: str) -> str:
        return f"oci:{self.layout}-{tag}:{tag}"

    def entries(self) -> list[dict[str, Any]]:
        done = self.run("status", "--json")
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = json.loads(done.out)["status"]["otherDeployments"]
        return found

    def root(self, index: int) -> Path:
        found = self.entries()[index]["ostree"]
        name = f"{found['checksum']}.{found['deploySerial']}"
        return self.sysroot / "ostree/deploy/default/deploy" / name


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path / "sysroot", tmp_path / "layout")
    for tag in ("v1", "v2"):
        small(Path(f"{made.layout}-{tag}"), tag=tag, version=tag)
        done = made.run("switch", made.name(tag))
        assert done.code == 0, done.err
    return made


def ref_files(host: Host, prefix: str) -> list[Path]:
    with Repository.open(host.repo) as repo:
        return [host.repo / "refs/heads" / name for name in refs.listing(repo, prefix)]


def snapshot(host: Host) -> dict[str, str]:
    with Repository.open(host.repo) as repo:
        return refs.roots(repo)


def lose_layer_refs(host: Host) -> None:
    for path in ref_files(host, LAYERS):
        path.unlink()


def garble_layer_refs(host: Host) -> None:
    for path in ref_files(host, LAYERS):
        path.write_bytes(b"\0\xff")


def lose_image_refs(host: Host) -> None:
    for path in ref_files(host, IMAGES):
        path.unlink()


def empty_image_refs(host: Host) -> None:
    for path in ref_files(host, IMAGES):
        path.write_bytes(b"")


def garble_deployment_refs(host: Host) -> None:
    for prefix in ("ostree/0", "ostree/1"):
        for path in ref_files(host, prefix):
            path.write_text("nonsense\n")


def lose_commit(host: Host) -> None:
    commit = host.root(0).name.partition(".")[0]
    with Repository.open(host.repo) as repo:
        (host.repo / repo.object_path(commit, ObjectType.COMMIT)).unlink()


DAMAGE: list[Callable[[Host], None]] = [
    lose_layer_refs,
    garble_layer_refs,
    lose_image_refs,
    empty_image_refs,
    garble_deployment_refs,
    lose_commit,
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__)
def test_it_costs_one_entry_and_is_mended(host: Host, damage: Callable[[Host], None]) -> None:
    before = snapshot(host)
    whole = host.entries()
    damage(host)

    entries = host.entries()
    assert [each["ostree"] for each in entries] == [each["ostree"] for each in whole]
    warnings = host.run("status", "--json").err
    if damage is lose_commit:
        assert [each["image"] is None for each in entries] == [True, False]
    else:
        assert entries == whole
    assert ("warning" in warnings) is (damage is not garble_deployment_refs)
    listed = host.run("image", "list", "--json")
    assert listed.code == 0
    assert all(each["reference"].startswith("oci:") for each in listed.json)
    if damage in (empty_image_refs, lose_commit):
        assert any(each.get("problem") for each in listed.json)
    assert host.run("upgrade", "--check").code == 77 or damage is lose_commit
    pruned = host.run("image", "prune")
    if damage not in (lose_image_refs, lose_layer_refs, garble_deployment_refs):
        assert (pruned.code, "repair" in pruned.error) == (9, True)

    # Both mend all of it: the one without hashing what is there.
    command = ("image", "repair") if DAMAGE.index(damage) % 2 else ("fsck", "--repair")
    done = host.run(*command, "--json")
    assert done.code == 0, done.err
    assert snapshot(host) == before
    assert host.entries() == whole
    assert host.run("status", "--json").err == ""
    store.fsck(host.repo)
    assert host.run("fsck").code == 0
    assert host.run("image", "prune", "--json").json["objects"] == 0


@pytest.mark.parametrize(
    "damage",
    [garble_layer_refs, empty_image_refs, lose_commit],
    ids=lambda each: each.__name__,
)
def test_a_damaged_host_goes_on(host: Host, damage: Callable[[Host], None], tmp_path: Path) -> None:
    """To roll back and to switch to another image, whatever is wrong with the present one."""
    damage(host)
    assert host.run("rollback").code == 0
    small(Path(f"{host.layout}-v3"), tag="v3", version="v3")
    done = host.run("switch", host.name("v3"))
    assert done.code == 0, done.err
    assert host.entries()[0]["image"]["version"] is None
    assert "VERSION_ID=v3" in (host.root(0) / "usr/lib/os-release").read_text()
    assert host.run("fsck", "--repair").code == 0
    store.fsck(host.repo)


ORIGINS = [None, b"", b"\0\1\xff\xfe", b"x" * 2_000_000]


@pytest.mark.parametrize("content", ORIGINS, ids=["missing", "empty", "binary", "huge"])
def test_an_origin_that_cannot_be_read(host: Host, content: bytes | None) -> None:
    whole = host.entries()
    root = host.root(0)
    origin = root.with_name(f"{root.name}.origin")
    if content is None:
        origin.unlink()
    else:
        origin.write_bytes(content)
    entries = host.entries()
    assert entries[1] == whole[1]
    assert entries[0]["ostree"] == whole[0]["ostree"]
    assert entries[0]["image"] is None
    if content != b"":  # that is an origin, of no image
        assert "origin" in host.run("status", "--json").err
    assert host.run("image", "list").code == 0
    assert host.run("upgrade").code in (1, 4)
    assert host.run("fsck", "--repair").code == 0
    assert host.run("image", "prune").code == 0
    assert host.run("rollback").code == 0
    assert host.run("switch", host.name("v1")).code == 0
    assert host.run("fsck").code == 0


def test_deployments_are_mended_from_their_objects(host: Host) -> None:
    """Files, links and whole directories; not /etc, which is the administrator's."""
    root = host.root(0)
    app = (root / "usr/bin/app").stat()
    (root / "etc/hosts").write_text("mine\n")
    (root / "usr/bin/app").unlink()
    shutil.rmtree(root / "usr/share")
    (root / "usr/lib/os-release").unlink()
    (root / "usr/lib/os-release").mkdir()
    (root / "usr/etc/release").unlink()
    (root / "usr/etc/release").write_text("not what was shipped")
    kernel = next(iter((host.sysroot / "boot/ostree").glob("*/vmlinuz-*")))
    content = kernel.read_bytes()
    kernel.unlink()
    kernel.write_bytes(b"damaged")
    found = host.run("fsck", "--json")
    assert found.code == 9
    assert {(each["path"], each["reason"]) for each in found.json["deploymentFaults"]} == {
        ("usr/bin/app", "missing"),
        ("usr/share", "no directory: No such file or directory"),
        ("usr/lib/os-release", "damaged"),
        ("usr/etc/release", "damaged"),
        (str(kernel.relative_to(host.sysroot)), "damaged"),
    }
    done = host.run("fsck", "--repair", "--json")
    assert done.code == 0, done.err
    assert len(done.json["repair"]["deploymentFiles"]) == 5
    assert (root / "usr/bin/app").stat().st_ino == app.st_ino
    assert (root / "usr/share/data").stat().st_size == 2_500_000
    assert "VERSION_ID=v2" in (root / "usr/lib/os-release").read_text()
    assert (root / "usr/etc/release").read_text() == "v2\n"
    assert (root / "etc/hosts").read_text() == "mine\n"
    assert kernel.read_bytes() == content
    assert host.run("fsck").code == 0
