"""Deployments of images with an SELinux policy, next to what SELinux's own tools say of them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import disk, forky, selinux, store
from rig.command import bootc_py, report
from rig.forky import Forky
from support.images import Member, directory, file, image, symlink, write_layout

from tools.images import build, cache

PATHS_AT_LEAST = 10_000
_TYPES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


@dataclass(frozen=True)
class Host:
    """A sysroot."""

    path: Path

    @property
    def repo(self) -> Path:
        return self.path / "ostree/repo"

    @property
    def var(self) -> Path:
        return self.path / "ostree/deploy/default/var"

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """In boot order."""
        found: list[dict[str, Any]] = report("status", "--sysroot", self.path)["status"][
            "otherDeployments"
        ]
        return found

    @property
    def next(self) -> Path:
        """The directory of the deployment that boots next."""
        found = self.deployments[0]["ostree"]
        name = f"{found['checksum']}.{found['deploySerial']}"
        return self.path / "ostree/deploy/default/deploy" / name

    @property
    def options(self) -> str:
        """The kernel arguments of what boots next."""
        entries = sorted((self.path / "boot/loader/entries").iterdir())
        return next(
            line for line in entries[-1].read_text().splitlines() if line.startswith("options ")
        )


@pytest.fixture(scope="module")
def debian() -> Iterator[tuple[Host, dict[str, Any]]]:
    """A host with Debian and Debian's policy, and the report of the switch."""
    layout = build.image("selinux", "v1", "gzip")
    with cache.scratch(cache.root() / "work") as work:
        host = Host(work / "host")
        yield host, report("switch", layout.reference, "--sysroot", host.path)


def contexts_of(deployment: Path) -> Path:
    return deployment / "etc/selinux/default/contexts/files/file_contexts"


def test_every_path_of_the_commit_is_labelled_as_matchpathcon_says(
    debian: tuple[Host, dict[str, Any]],
) -> None:
    host, done = debian
    commit = done["image"]["commit"]
    found: dict[str, str | None] = {}
    modes: dict[str, int] = {}
    for path, record in store.tree(host.repo, commit).items():
        names = [name for name, _ in record.xattrs]
        assert names == sorted(set(names)), path
        value = dict(record.xattrs).get("security.selinux")
        # /usr/etc is labelled as the /etc that is copied from it.
        shown = re.sub("^/usr/etc(?=/|$)", "/etc", path)
        found[shown] = None if value is None else value.removesuffix(b"\0").decode()
        modes[shown] = _TYPES[record.kind]
    assert len(found) > PATHS_AT_LEAST
    assert selinux.expected(contexts_of(host.next), modes) == found
    assert len(set(found.values())) > 50
    store.fsck(host.repo)


def test_every_file_of_etc_and_var_is_labelled_as_matchpathcon_says(
    debian: tuple[Host, dict[str, Any]],
) -> None:
    host, _ = debian
    for top, name in ((host.next / "etc", "/etc"), (host.var, "/var")):
        modes, found = selinux.of_files(top, name)
        assert len(found) > 50
        assert selinux.expected(contexts_of(host.next), modes) == found
    assert (host.var / ".ostree-selabeled").read_bytes() == b""
    assert selinux.context(host.next / "etc/shadow") == "system_u:object_r:shadow_t:s0"
    assert selinux.context(host.next / "usr/etc/shadow") == "system_u:object_r:shadow_t:s0"
    assert selinux.context(host.next / "usr/bin/bash") == "system_u:object_r:shell_exec_t:s0"


def test_libostree_labels_the_same_tree_alike(
    debian: tuple[Host, dict[str, Any]], tmp_path: Path
) -> None:
    host, done = debian
    reference = build.image("selinux", "v1", "gzip").reference
    plain = report("image", "pull", reference, "--sysroot", host.path, "--disable-selinux")
    assert plain["image"]["contentChecksum"] != done["image"]["contentChecksum"]
    peer = Forky(forky.root(forky.OSTREE), tmp_path).bound(repo=host.repo, policy=host.next)
    inside = "/run/host"
    commit = peer.checked(
        "ostree", f"--repo={inside}/repo", "commit", "--orphan", "--timestamp=0",
        f"--tree=ref={plain['image']['commit']}", f"--selinux-policy={inside}/policy",
        "--selinux-labeling-epoch=1",
    ).strip()  # fmt: skip
    shown = store.ostree(host.repo, "show", commit).decode()
    assert f"ContentChecksum:  {done['image']['contentChecksum']}\n" in shown


# -- small images --------------------------------------------------------------------------------


CONFIG = "SELINUX=enforcing\nSELINUXTYPE=test\n"
CONTEXTS = """\
/.*                 s:o:default_t:s0
/usr(/.*)?          s:o:usr_t:s0
/etc(/.*)?          s:o:etc_t:s0
/etc/shadow    --   s:o:shadow_t:s0
/var(/.*)?          s:o:var_t:s0
/var/lib       -d   s:o:var_lib_t:s0
/var/unnamed        <<none>>
"""
OS = [
    directory("usr"),
    file("usr/lib/os-release", 'ID=small\nPRETTY_NAME="Small"\n'),
    file("usr/lib/modules/6.1.0/vmlinuz", "kernel"),
    file("usr/lib/modules/6.1.0/initramfs.img", "initramfs"),
    file("usr/lib/tmpfiles.d/var.conf", "d /var/log\n"),
    symlink("ostree", "sysroot/ostree"),
    file("etc/shadow", "root\n", 0o600),
    file("etc/passwd", "root\n"),
    file("etc/motd", "hello\n"),
    symlink("etc/link", "motd"),
    directory("var/lib"),
    file("var/lib/seed", "seed\n"),
    symlink("var/run", "../run"),
]


def small(path: Path, contexts: str | None = CONTEXTS, *more: Member) -> str:
    """A small image with that policy, in a layout that only has this one."""
    policy = [] if contexts is None else [
        file("etc/selinux/config", CONFIG),
        file("etc/selinux/test/contexts/files/file_contexts", contexts),
    ]  # fmt: skip
    made = image(OS, policy, more, labels={"containers.bootc": "1"})
    return f"oci:{write_layout(path, made)}:latest"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


def switch(host: Host, reference: str, *options: str) -> dict[str, Any]:
    return report("switch", reference, "--sysroot", host.path, *options)


def types(top: Path, name: str) -> dict[str, str | None]:
    """The types in the labels below a directory."""
    _modes, found = selinux.of_files(top, name)
    return {path: each and each.split(":")[2] for path, each in found.items()}


def test_what_the_merge_of_etc_brings_over_gets_the_new_policys_labels(
    host: Host, tmp_path: Path
) -> None:
    switch(host, small(tmp_path / "1"))
    assert types(host.next / "etc", "/etc") == {
        path: "shadow_t" if path == "/etc/shadow" else "etc_t"
        for path in (
            "/etc", "/etc/shadow", "/etc/passwd", "/etc/motd", "/etc/link", "/etc/selinux",
            "/etc/selinux/config", "/etc/selinux/test", "/etc/selinux/test/contexts",
            "/etc/selinux/test/contexts/files", "/etc/selinux/test/contexts/files/file_contexts",
        )
    }  # fmt: skip
    etc = host.next / "etc"
    (etc / "mine/below").mkdir(parents=True)
    (etc / "mine/below/file").write_text("no label\n")
    (etc / "mine/link").symlink_to("below")
    (etc / "shadow").write_text("root:changed\n")
    (etc / "motd").write_text("good day\n")
    os.setxattr(etc / "motd", "security.selinux", b"s:o:odd_t:s0\0")
    local = etc / "selinux/test/contexts/files/file_contexts.local"
    local.write_text("/etc/passwd s:o:local_t:s0\n")

    switch(host, small(tmp_path / "2", CONTEXTS + "/etc/mine(/.*)? s:o:mine_t:s0\n"))
    found = types(host.next / "etc", "/etc")
    assert (host.next / "etc/shadow").read_text() == "root:changed\n"
    assert {path: label for path, label in found.items() if label != "etc_t"} == {
        "/etc/shadow": "shadow_t",
        "/etc/passwd": "local_t",
        "/etc/mine": "mine_t",
        "/etc/mine/below": "mine_t",
        "/etc/mine/below/file": "mine_t",
        "/etc/mine/link": "mine_t",
    }
    assert selinux.context(host.next / "usr/etc/passwd") == "s:o:etc_t:s0"


def test_var_is_labelled_once(host: Host, tmp_path: Path) -> None:
    switch(host, small(tmp_path / "0", None))
    assert set(types(host.var, "/var").values()) == {None}
    assert not (host.var / ".ostree-selabeled").exists()
    (host.var / "unnamed").write_text("")
    switch(host, small(tmp_path / "1"))
    labelled = {
        "/var": "var_t",
        "/var/lib": "var_lib_t",
        "/var/lib/seed": "var_t",
        "/var/run": "var_t",
        "/var/unnamed": None,
        "/var/.ostree-selabeled": "var_t",
    }
    assert types(host.var, "/var") == labelled
    (host.var / "lib/later").write_text("")
    switch(host, small(tmp_path / "2", CONTEXTS + "/var/lib/.* s:o:new_t:s0\n"))
    assert types(host.var, "/var") == labelled | {"/var/lib/later": None}
    (host.var / ".ostree-selabeled").unlink()
    switch(host, small(tmp_path / "3", CONTEXTS + "/var/lib/.+ s:o:new_t:s0\n"))
    assert types(host.var, "/var") == labelled | {
        "/var/lib/seed": "new_t",
        "/var/lib/later": "new_t",
    }


def test_without_labels_by_choice_selinux_is_off_until_there_are_some(
    host: Host, tmp_path: Path
) -> None:
    reference = small(tmp_path / "os")
    plain = switch(host, reference, "--disable-selinux")
    commit = plain["image"]["commit"]
    key = "--print-metadata-key=bootc-py.selinux"
    assert store.ostree(host.repo, "show", key, commit) == b"''\n"
    assert set(types(host.next, "").values()) == {None}
    assert set(types(host.var, "/var").values()) == {None}
    assert "selinux=0" in host.options.split()
    origin = host.next.with_name(f"{host.next.name}.origin").read_text()
    assert "[bootc-py]\nselinux=disabled\n" in origin

    # An upgrade goes on as before; only a switch has it otherwise.
    assert not report("upgrade", "--sysroot", host.path)["changed"]
    write_layout(tmp_path / "os", image(OS, [], labels={"containers.bootc": "1"}))
    small(tmp_path / "os", CONTEXTS, file("usr/new", "new"))
    upgraded = report("upgrade", "--sysroot", host.path)
    assert upgraded["changed"] and host.options.split().count("selinux=0") == 1
    assert set(types(host.next / "usr", "/usr").values()) == {None}
    labelled = switch(host, reference)
    assert labelled["changed"] and labelled["image"]["commit"] != upgraded["image"]["commit"]
    assert set(types(host.next / "usr/lib", "/usr/lib").values()) == {"usr_t"}
    assert "selinux=0" not in host.options.split()
    assert not report("upgrade", "--sysroot", host.path)["changed"]
    assert report("upgrade", "--sysroot", host.path, "--disable-selinux")["changed"]
    assert "selinux=0" in host.options.split()
    store.fsck(host.repo)


def test_a_policy_that_is_none_leaves_the_host_as_it_was(host: Host, tmp_path: Path) -> None:
    switch(host, small(tmp_path / "1"))
    before = host.deployments
    done = bootc_py("switch", small(tmp_path / "2", CONTEXTS + "/usr/[ a:b:c:d\n"),
                    "--sysroot", host.path)  # fmt: skip
    assert done.code == 7 and "SELinux policy" in done.error
    assert host.deployments == before
    # The administrator's part of it can be as wrong.
    local = host.next / "etc/selinux/test/contexts/files/file_contexts.local"
    local.write_text("/etc/[ a:b:c:d\n")
    done = bootc_py("switch", small(tmp_path / "3", CONTEXTS + "/opt a:b:c:d\n"),
                    "--sysroot", host.path)  # fmt: skip
    assert done.code == 7 and "SELinux policy" in done.error
    assert host.deployments == before


def test_labelled_files_share_blocks_where_the_file_system_can(tmp_path: Path) -> None:
    mebibyte = 1024**2
    files = [file(f"usr/share/{each}", os.urandom(mebibyte)) for each in range(40)]
    reference = small(tmp_path / "os", CONTEXTS, *files, file("usr/large", os.urandom(9_000_000)))
    with disk.btrfs(tmp_path / "mount", 512) as mount:
        repo = ("--repo", mount / "repo")
        report("image", "pull", reference, *repo, "--disable-selinux")
        subprocess.run(["sync", "--file-system", mount], check=True)
        before, objects = disk.free(mount), len(store.object_names(mount / "repo"))
        report("image", "pull", reference, *repo)
        assert len(store.object_names(mount / "repo")) > objects + 40
        subprocess.run(["sync", "--file-system", mount], check=True)
        assert before - disk.free(mount) < 4 * mebibyte
        store.fsck(mount / "repo")
