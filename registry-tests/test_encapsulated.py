"""Encapsulated commits, made by the real `ostree`, through a real registry and real builders."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import commits, store
from rig.command import PLAIN_HTTP, bootc_py, report
from rig.peers import require
from rig.registry import Registry, run_registry


@dataclass(frozen=True)
class Published:
    """Two versions in a repository of `ostree`'s, and in a registry as os/test:v1 and :v2."""

    registry: Registry
    repo: Path
    commits: tuple[str, str]
    trees: tuple[Path, Path]

    def reference(self, version: int) -> str:
        return f"{self.registry.host}/os/test:v{version}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    work = tmp_path_factory.mktemp("published")
    made = []
    with run_registry() as registry:
        for version in (1, 2):
            root = work / f"v{version}"
            commits.tree(root, version)
            made.append(commits.commit(work / "repo", root, version))
            push(work / "repo", commits.REF, f"{registry.host}/os/test:v{version}")
        one, two = made
        yield Published(registry, work / "repo", (one, two), (work / "v1", work / "v2"))


def push(repo: Path, name: str, target: str, *options: str) -> dict[str, Any]:
    return report(
        "image", "push", name, target, "--repo", repo, "--format", "ostree", PLAIN_HTTP, *options
    )


def pull(reference: str, repo: Path, *options: str) -> dict[str, Any]:
    return report("image", "pull", reference, "--repo", repo, PLAIN_HTTP, *options)


@pytest.mark.parametrize("mode", ["bare", "bare-user", "archive"])
def test_the_commit_comes_back_bit_for_bit(published: Published, tmp_path: Path, mode: str) -> None:
    done = pull(published.reference(1), tmp_path / "repo", "--mode", mode)
    store.fsck(tmp_path / "repo")
    wanted = published.commits[0]
    assert wanted in commits.layers(tmp_path / "repo")
    commits.same(published.repo, tmp_path / "repo", wanted)
    merged = done["image"]["commit"]
    assert store.tree(tmp_path / "repo", merged) == store.tree(published.repo, wanted)
    shown = store.ostree(tmp_path / "repo", "show", merged).decode()
    assert f"Parent:  {wanted}" in shown
    assert done["dropped"] == []


def test_every_label_is_the_builds(published: Published, tmp_path: Path) -> None:
    done = pull(published.reference(1), tmp_path / "repo")
    found = store.tree(tmp_path / "repo", done["image"]["commit"])
    for path, record in found.items():
        name = path.rpartition("/")[2]
        name = "tool" if name == "also" else name
        kind = "root_t" if path == "/" else f"{name.encode().hex()[:12]}_t"
        assert dict(record.xattrs)["security.selinux"] == f"system_u:object_r:{kind}:s0\0".encode()
    assert dict(found["/usr/bin/tool"].xattrs)["user.component"] == b"tool"


def test_an_upgrade_moves_what_changed(published: Published, tmp_path: Path) -> None:
    pull(published.reference(1), tmp_path / "repo")
    done = pull(published.reference(2), tmp_path / "repo")
    assert published.commits[1] in commits.layers(tmp_path / "repo")
    assert {layer["mode"] for layer in done["layers"]} == {"whole", "partial"}
    changed, beside = 5_000_000 + 100_000, 700_000  # the initramfs shares its layer with a kernel
    assert changed < done["transfer"]["receivedBytes"] < changed + beside + 200_000
    store.fsck(tmp_path / "repo")
    again = pull(published.reference(2), tmp_path / "repo")
    assert again["changed"] is False
    assert again["transfer"]["receivedBytes"] < 20_000


def test_equal_commits_make_equal_images(published: Published, tmp_path: Path) -> None:
    pull(published.reference(1), tmp_path / "repo", "--mode", "archive")
    first = push(published.repo, published.commits[0], f"oci:{tmp_path / 'one'}:v")
    wanted = published.commits[0]
    second = push(tmp_path / "repo", wanted, f"oci:{tmp_path / 'two'}:v")
    assert first["destination"]["digest"] == second["destination"]["digest"]


def test_push_gives_back_what_was_pulled(published: Published, tmp_path: Path) -> None:
    name = published.reference(1)
    pull(name, tmp_path / "repo")
    target = f"{published.registry.host}/os/copy:v1"
    done = report("image", "push", name, target, "--repo", tmp_path / "repo", PLAIN_HTTP)
    before, after = raw(name), raw(target)
    assert after["config"]["digest"] == before["config"]["digest"] == done["image"]["configDigest"]
    assert after["annotations"] == before["annotations"]
    pull(target, tmp_path / "again")
    assert published.commits[0] in commits.layers(tmp_path / "again")


def raw(name: str) -> dict[str, Any]:
    """The manifest as skopeo has it."""
    command = [require("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    return found


def test_container_tools_see_the_tree(published: Published, tmp_path: Path) -> None:
    # Debian's umoci reads gzip only.
    push(
        published.repo, published.commits[0], f"oci:{tmp_path / 'image'}:v1",
        "--compression", "gzip", "--compression-level", "1",
    )  # fmt: skip
    unpack = [require("umoci"), "unpack", "--image", f"{tmp_path / 'image'}:v1"]
    subprocess.run([*unpack, str(tmp_path / "bundle")], check=True)
    seen, wanted = tmp_path / "bundle/rootfs", published.trees[0]
    paths = [each.relative_to(wanted) for each in wanted.rglob("*")]
    for path in paths:
        shown = seen / str(path).replace("usr/etc", "etc", 1)
        assert shown.is_symlink() == (wanted / path).is_symlink()
        assert shown.lstat().st_mode == (wanted / path).lstat().st_mode, path
        assert shown.lstat().st_uid == (wanted / path).lstat().st_uid
        if shown.is_file() and not shown.is_symlink():
            assert shown.read_bytes() == (wanted / path).read_bytes()
    outside = {
        str(each.relative_to(seen))
        for each in seen.rglob("*")
        if not str(each.relative_to(seen)).startswith("sysroot/ostree")
    }
    known = {str(path).replace("usr/etc", "etc", 1) for path in paths}
    assert outside - known == {"var/tmp"}
    assert known - outside == set()


CHANGE = (
    "echo new > usr/bin/new; rm usr/bin/also; echo mine > etc/deep/conf; chmod 755 usr/bin/ping"
)


def test_a_build_on_top(published: Published, tmp_path: Path) -> None:
    work = tmp_path / "image"
    push(
        published.repo, published.commits[0], f"oci:{work}:v",
        "--compression", "gzip", "--compression-level", "1",
    )  # fmt: skip
    commits.build_on_top(work, tmp_path / "storage", CHANGE)
    done = pull(f"oci:{work}:top", tmp_path / "repo")
    base, merged = published.commits[0], done["image"]["commit"]
    commits.same(published.repo, tmp_path / "repo", base)
    assert f"Parent:  {base}" in store.ostree(tmp_path / "repo", "show", merged).decode()
    below, above = store.tree(tmp_path / "repo", base), store.tree(tmp_path / "repo", merged)
    assert above.keys() - below.keys() == {"/usr/bin/new"}
    assert below.keys() - above.keys() == {"/usr/bin/also"}
    changed = {
        path
        for path in above.keys() & below.keys()
        if above[path] != below[path] and above[path].kind != "directory"
    }
    assert changed == {"/usr/etc/deep/conf", "/usr/bin/ping"}
    store.fsck(tmp_path / "repo")


def test_a_commit_that_was_tampered_with_is_refused(published: Published, tmp_path: Path) -> None:
    """With all digests put right, as whoever holds the registry could."""
    work = tmp_path / "image"
    push(published.repo, published.commits[0], f"oci:{work}:v1", "--compression", "none")
    index = json.loads((work / "index.json").read_text())
    blobs = work / "blobs/sha256"

    def read(digest: str) -> bytes:
        return (blobs / digest.removeprefix("sha256:")).read_bytes()

    def write(data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return f"sha256:{name}"

    manifest = json.loads(read(index["manifests"][0]["digest"]))
    config = json.loads(read(manifest["config"]["digest"]))
    first = read(manifest["layers"][0]["digest"])
    changed = first.replace(b"VERSION_ID=1\n", b"VERSION_ID=6\n")
    assert changed != first
    digest = write(changed)
    manifest["layers"][0]["digest"] = config["rootfs"]["diff_ids"][0] = digest
    data = json.dumps(config).encode()
    manifest["config"] |= {"digest": write(data), "size": len(data)}
    data = json.dumps(manifest).encode()
    index["manifests"][0] |= {"digest": write(data), "size": len(data)}
    (work / "index.json").write_text(json.dumps(index))
    done = bootc_py("image", "pull", f"oci:{work}:v1", "--repo", tmp_path / "repo")
    assert done.code == 6
    assert "hashes to" in done.error
    assert published.commits[0] not in commits.layers(tmp_path / "repo")
    assert not any("container/image" in ref for ref in store.refs(tmp_path / "repo"))


def test_a_host_deploys_it(published: Published, tmp_path: Path) -> None:
    host = tmp_path / "host"
    done = report("switch", published.reference(1), "--sysroot", host, PLAIN_HTTP)
    status = subprocess.run(
        [require("ostree"), "admin", f"--sysroot={host}", "status"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert done["image"]["commit"] in status
    upgraded = report("switch", published.reference(2), "--sysroot", host, PLAIN_HTTP)
    assert upgraded["changed"] is True
    store.fsck(host / "ostree/repo")
    deployed = next((host / "ostree/deploy/default/deploy").glob(f"{done['image']['commit']}.0"))
    assert (deployed / "etc/deep/conf").read_text() == "1\n"
    assert (deployed / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
