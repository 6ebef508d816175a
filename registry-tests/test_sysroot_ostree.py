"""Deployments next to those of the real `ostree admin`: the same trees, and each reads the other's.

Needs root and the `ostree` command (Debian package `ostree`).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bridge.errors import BridgeError, Busy, MalformedImage, NoSpace, NotFound, UsageError
from bridge.ostree import prune, refs
from bridge.sysroot import kernel, lock
from bridge.sysroot import sysroot as sysroot_module
from bridge.sysroot.deploy import Deployed, KernelArguments, deploy
from bridge.sysroot.initialise import initialise
from bridge.sysroot.origin import Origin
from bridge.sysroot.pin import pin
from bridge.sysroot.rollback import rollback
from bridge.sysroot.sysroot import Sysroot

ORIGIN = Origin.for_image("ostree-unverified-registry:quay.io/example/os:stable")
KARGS = ("root=LABEL=root", "rw", "console=ttyS0", "console=tty0")


def run(*command: str | Path) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.fail(f"{command[0]} is missing: apt install {command[0]}")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass
class Lab:
    """A repository with commits of a small fake OS, and sysroots to deploy them in."""

    path: Path
    made: list[Path]

    @property
    def repo(self) -> Path:
        return self.path / "build-repo"

    def tree(self, **contents: str | None) -> Path:
        """Write the fake OS; keywords replace files by name (`None` leaves one out)."""
        files: dict[str, str | None] = {
            "usr/lib/modules/6.1.0/vmlinuz": "kernel 6.1.0",
            "usr/lib/modules/6.1.0/initramfs.img": "initramfs 6.1.0",
            "usr/lib/os-release": 'ID=fake\nPRETTY_NAME="Fake OS 1"\n',
            "usr/bin/tool": "tool",
            "usr/etc/hostname": "fake\n",
            "usr/etc/conf.d/one": "one\n",
            "usr/etc/conf.d/two": "two\n",
            "usr/etc/gone/one": "one\n",
            "usr/lib/tmpfiles.d/var.conf": "d /var/log\n",
            "var/lib/seed": "from the image\n",
        }
        files |= {name.replace("__", "/"): text for name, text in contents.items()}
        top = self.path / "tree"
        shutil.rmtree(top, ignore_errors=True)
        for name in ("boot", "dev", "proc", "run", "sys", "tmp", "sysroot", "var", "usr/etc/empty"):
            (top / name).mkdir(parents=True)
        for name, text in files.items():
            if text is not None:
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_text(text)
        (top / "ostree").symlink_to("sysroot/ostree")
        (top / "usr/etc/link").symlink_to("hostname")
        (top / "usr/etc/conf.d/two").chmod(0o640)
        os.chown(top / "usr/etc/conf.d/two", 0, 8)
        if (top / "usr/etc/gone").exists():
            (top / "usr/etc/gone").chmod(0o750)
        (top / "usr/bin/tool").chmod(0o4755)
        return top

    def commit(self, top: Path | None = None, **contents: str | None) -> str:
        version = contents.pop("version", None)
        top = top or self.tree(**contents)
        options = [f"--add-metadata-string=version={version}"] if version else []
        return run(
            "ostree", "commit", f"--repo={self.repo}", "--branch=fake", f"--tree=dir={top}",
            "--timestamp=2024-01-01T00:00:00Z", *options,
        ).strip()  # fmt: skip

    def plain(self, name: str) -> Path:
        """Make a sysroot with ostree itself."""
        path = self.path / name
        path.mkdir()
        self.made.append(path)
        run("ostree", "admin", "init-fs", "--modern", path)
        run("ostree", "admin", "os-init", f"--sysroot={path}", "default")
        # As libostree makes a stateroot since 2024.3; that of Debian 12 is older.
        shutil.rmtree(path / "ostree/deploy/default/var")
        (path / "ostree/deploy/default/var").mkdir()
        return path

    def ours(self, name: str) -> Sysroot:
        """Make a sysroot with our own `initialise`."""
        self.made.append(self.path / name)
        return initialise(self.path / name)

    def pull(self, path: Path, *commits: str) -> None:
        for commit in commits:
            run("ostree", "pull-local", f"--repo={path}/ostree/repo", self.repo, commit)

    def deploy_theirs(self, path: Path, commit: str, *options: str) -> Path:
        self.pull(path, commit)
        origin = self.path / "origin"
        origin.write_text(ORIGIN.text)
        run(
            "ostree", "admin", "deploy", f"--sysroot={path}", "--os=default", "--no-prune",
            f"--origin-file={origin}", *options, commit,
        )  # fmt: skip
        return path / f"ostree/deploy/default/deploy/{commit}.0"

    def deploy_ours(self, path: Path, commit: str, **options: object) -> Path:
        self.pull(path, commit)
        with Sysroot.open(path) as sysroot:
            done = deploy(sysroot, commit, ORIGIN, **options)  # type: ignore[arg-type]
            return path / "ostree" / done.deployment.path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("deployments need root")
    made = Lab(tmp_path, [])
    run("ostree", "init", f"--repo={made.repo}", "--mode=bare")
    yield made
    for path in made.made:
        subprocess.run(["chattr", "-R", "-f", "-i", path], check=False)


def listing(top: Path, *, skip: tuple[str, ...] = ()) -> dict[str, tuple[object, ...]]:
    """Everything below `top`: type, mode, owner, content or target, xattrs, immutable flag."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if name.startswith(skip):
            continue
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            content: object = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        else:
            content = ""
        xattrs = {
            each: os.getxattr(path, each, follow_symlinks=False)
            for each in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, content, xattrs)
    return found


def boot_of(path: Path) -> dict[str, tuple[object, ...]]:
    """/boot, with the entries under the names that libostree gives them since 2024.5."""
    return {
        name.replace("-default.conf", ".conf"): value
        for name, value in listing(path / "boot").items()
    }


def assert_alike(theirs: Path, ours: Path) -> None:
    assert boot_of(ours) == boot_of(theirs)
    skip = ("repo", "deploy/default/var", "deploy/default/backing")
    assert listing(ours / "ostree", skip=skip) == listing(theirs / "ostree", skip=skip)
    for name in ("heads/ostree",):
        files = [
            {
                str(each.relative_to(path)): each.read_text()
                for each in (path / "ostree/repo/refs" / name).rglob("*")
                if each.is_file()
            }
            for path in (ours, theirs)
        ]
        for each, other in zip(files[0].items(), files[1].items(), strict=True):
            assert each == other
    flags = [
        sorted(
            line.split()[0] + " " + Path(line.split()[1]).name
            for line in run("lsattr", "-d", *(path / "ostree/deploy/default/deploy").iterdir())
            .strip()
            .splitlines()
        )
        for path in (ours, theirs)
    ]
    assert flags[0] == flags[1]
    status = [run("ostree", "admin", "status", f"--sysroot={path}") for path in (ours, theirs)]
    assert status[0] == status[1]


def test_first_and_second_deployment_as_ostree_admin_makes_them(lab: Lab) -> None:
    first, second = (
        lab.commit(version="1.0"),
        lab.commit(
            version="2.0",
            **{
                "usr/etc/conf.d/one": "one of v2\n",
                "usr/etc/new": "new\n",
                "usr/etc/gone/one": None,
            },
        ),
    )
    theirs, ours = lab.plain("theirs"), lab.plain("ours")
    lab.deploy_theirs(theirs, first, *(f"--karg-append={each}" for each in KARGS))
    lab.deploy_ours(ours, first, arguments=KernelArguments(append=KARGS))
    assert_alike(theirs, ours)
    for path in (theirs, ours):
        etc = path / f"ostree/deploy/default/deploy/{first}.0/etc"
        (etc / "hostname").write_text("mine\n")
        (etc / "conf.d/two").unlink()
        (etc / "conf.d/three").write_text("three\n")
        (etc / "added/below").mkdir(parents=True)
        (etc / "added/below/file").write_text("file\n")
        (etc / "link").unlink()
        (etc / "link").symlink_to("conf.d/one")
        (etc / "passwd").write_text("root\n")
        (etc / "passwd").chmod(0o604)
        os.chown(etc / "passwd", 12, 13)
        os.setxattr(etc / "passwd", "user.note", b"kept")
        os.utime(etc / "passwd", (1, 1_000_000_000))
        os.mkfifo(etc / "pipe")
    lab.deploy_theirs(theirs, second)
    lab.deploy_ours(ours, second)
    assert_alike(theirs, ours)
    etc = ours / f"ostree/deploy/default/deploy/{second}.0/etc"
    assert (etc / "passwd").stat().st_mtime == 1_000_000_000
    assert os.getxattr(etc / "passwd", "user.note") == b"kept"
    assert (etc / "conf.d/one").read_text() == "one of v2\n"
    assert not (etc / "pipe").exists()
    assert run("ostree", "fsck", f"--repo={ours}/ostree/repo")


def test_same_kernel_and_arguments_swap_the_links_only(lab: Lab) -> None:
    commits = [lab.commit(usr__bin__tool=f"tool {number}") for number in range(4)]
    theirs, ours = lab.plain("theirs"), lab.plain("ours")
    for number, commit in enumerate(commits):
        lab.deploy_theirs(theirs, commit)
        lab.deploy_ours(ours, commit)
        assert_alike(theirs, ours)
        # Two deployments from the second on: the third and fourth leave /boot as it is.
        assert os.readlink(ours / "boot/loader") == ("loader.1" if number == 0 else "loader.0")
        live = os.readlink(ours / f"ostree/boot.{0 if number else 1}")
        assert live == ("boot.1.1", "boot.0.1", "boot.0.0", "boot.0.1")[number]


def test_new_kernel_and_old_one_are_both_in_boot_and_an_unused_one_goes(lab: Lab) -> None:
    theirs, ours = lab.plain("theirs"), lab.plain("ours")
    for version in ("6.1.0", "6.2.0", "6.10.0"):
        commit = lab.commit(
            **{
                "usr/lib/modules/6.1.0/vmlinuz": None,
                "usr/lib/modules/6.1.0/initramfs.img": None,
                f"usr/lib/modules/{version}/vmlinuz": f"kernel {version}",
                f"usr/lib/modules/{version}/initramfs.img": f"initramfs {version}",
                f"usr/lib/modules/{version}/.vmlinuz.hmac": "hmac",
            }
        )
        lab.deploy_theirs(theirs, commit)
        lab.deploy_ours(ours, commit)
        assert_alike(theirs, ours)
    kernels = sorted(path.name for path in (ours / "boot/ostree").glob("*/vmlinuz-*"))
    assert kernels == ["vmlinuz-6.10.0", "vmlinuz-6.2.0"]
    inode = (
        ours / f"ostree/deploy/default/deploy/{commit}.0/usr/lib/modules/6.10.0/vmlinuz"
    ).stat()
    assert inode.st_ino in {path.stat().st_ino for path in (ours / "boot/ostree").glob("*/*")}


def test_without_initramfs_the_arguments_start_prepare_root(lab: Lab) -> None:
    commit = lab.commit(**{"usr/lib/modules/6.1.0/initramfs.img": None})
    again = lab.commit(usr__bin__tool="other")
    theirs, ours = lab.plain("theirs"), lab.plain("ours")
    lab.deploy_theirs(theirs, commit, "--karg=rw")
    lab.deploy_ours(ours, commit, arguments=KernelArguments(append=["rw"]))
    assert_alike(theirs, ours)
    lab.deploy_ours(ours, again)
    entry = (ours / "boot/loader/entries/ostree-2.conf").read_text()
    assert "init=" not in entry, "an image with an initramfs needs no init= of its own"


def test_ostree_admin_takes_over_our_sysroot_and_we_take_it_back(lab: Lab) -> None:
    commits = [
        lab.commit(usr__bin__tool=f"tool {number}", version=str(number)) for number in (1, 2, 3)
    ]
    with lab.ours("ours") as sysroot:
        path = sysroot.path
    config = run("ostree", "config", f"--repo={path}/ostree/repo", "get", "sysroot.bootprefix")
    assert config == "true\n"
    lab.deploy_ours(path, commits[0], arguments=KernelArguments(append=KARGS))
    entry = (path / "boot/loader/entries/ostree-1.conf").read_text()
    assert "\nlinux /boot/ostree/default-" in entry
    assert (path / entry.split("linux /")[1].split()[0]).is_file()
    lab.deploy_theirs(path, commits[1])
    with Sysroot.open(path) as sysroot:
        state = sysroot.load()
        assert [each.checksum for each in state.deployments] == [commits[1], commits[0]]
        assert state.deployments[0].kargs == KARGS
        assert state.problems == ()
    lab.deploy_ours(path, commits[2])
    assert sorted(each.name for each in (path / "boot/loader/entries").iterdir()) == [
        "ostree-1.conf",
        "ostree-2.conf",
    ]
    status = run("ostree", "admin", "status", f"--sysroot={path}")
    assert commits[2] in status and commits[1] in status and commits[0] not in status
    run("ostree", "admin", "undeploy", f"--sysroot={path}", "0")
    with Sysroot.open(path) as sysroot:
        assert [each.checksum for each in sysroot.load().deployments] == [commits[1]]
    assert run("ostree", "fsck", f"--repo={path}/ostree/repo")


def test_a_sysroot_is_made_only_where_there_is_nothing_else(lab: Lab) -> None:
    theirs = lab.plain("theirs")
    with lab.ours("ours") as sysroot:
        path = sysroot.path
        assert sysroot.load().deployments == ()
    skip = ("ostree/repo/config", "ostree/repo/extensions/", "ostree/repo/.lock")
    assert listing(path, skip=skip) == listing(theirs, skip=skip)
    initialise(path, "other").close()
    assert (path / "ostree/deploy/other/var").is_dir()
    (lab.path / "full").mkdir()
    (lab.path / "full/file").touch()
    with pytest.raises(UsageError, match="it has file; give an empty directory"):
        initialise(lab.path / "full")
    with pytest.raises(NotFound, match="no OSTree sysroot"):
        Sysroot.open(lab.path / "full")


def test_var_is_filled_once_from_the_image(lab: Lab) -> None:
    with lab.ours("ours") as sysroot:
        path = sysroot.path
    var = path / "ostree/deploy/default/var"
    lab.deploy_ours(path, lab.commit())
    assert listing(var) == {
        "lib": ("0o40755", 0, 0, "", {}),
        "lib/seed": ("0o100644", 0, 0, b"from the image\n", {}),
    }
    assert (var / "lib/seed").stat().st_nlink == 1, "a copy, which may be written to"
    (var / "lib/seed").unlink()
    (var / ".updated").touch()
    lab.deploy_ours(path, lab.commit(usr__bin__tool="v2"))
    assert listing(var) == {"lib": ("0o40755", 0, 0, "", {})}, "only the stamp is removed"


def test_an_interrupted_filling_of_var_is_finished(lab: Lab) -> None:
    with lab.ours("ours") as sysroot:
        path = sysroot.path
    var = path / "ostree/deploy/default/var"
    (var / ".bootc-py-initial-var/half").mkdir(parents=True)
    lab.deploy_ours(path, lab.commit(**{"usr/lib/tmpfiles.d/var.conf": None}))
    assert sorted(each.name for each in var.iterdir()) == ["lib", "lock", "log", "run", "tmp"]
    assert stat.S_IMODE((var / "tmp").stat().st_mode) == 0o1777


def test_rollback_swaps_and_a_second_one_undoes(lab: Lab) -> None:
    commits = [lab.commit(usr__bin__tool=str(number), version=str(number)) for number in (1, 2)]
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, *commits)
        with pytest.raises(NotFound, match="no deployment to roll back to"):
            rollback(sysroot)
        for commit in commits:
            deploy(sysroot, commit, ORIGIN, arguments=KernelArguments(append=[f"v={commit[:4]}"]))
        before = boot_of(sysroot.path)
        done = rollback(sysroot)
        assert done.deployment.checksum == commits[0]
        assert [each.checksum for each in sysroot.load().deployments] == commits
        status = run("ostree", "admin", "status", f"--sysroot={sysroot.path}")
        assert status.index(commits[0]) < status.index(commits[1])
        entry = (sysroot.path / "boot/loader/entries/ostree-2.conf").read_text()
        assert "(ostree:0)" in entry and f"v={commits[0][:4]}" in entry
        assert refs.listing(sysroot.repo, "ostree/") == {
            f"ostree/1/{sysroot.load().subbootversion}/0": commits[0],
            f"ostree/1/{sysroot.load().subbootversion}/1": commits[1],
        }
        rollback(sysroot)
        assert boot_of(sysroot.path) == before


def test_pinned_and_retained_deployments_stay_and_can_be_rolled_back_to(lab: Lab) -> None:
    commits = [lab.commit(usr__bin__tool=str(number), version=str(number)) for number in range(5)]
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, *commits)
        deploy(sysroot, commits[0], ORIGIN)
        pin(sysroot, sysroot.load().deployments[0])
        status = run("ostree", "admin", "status", f"--sysroot={sysroot.path}")
        assert "Pinned: yes" in status
        done: Deployed = deploy(sysroot, commits[1], ORIGIN)
        assert done.deployment.pinned is False
        done = deploy(sysroot, commits[2], ORIGIN)
        done = deploy(sysroot, commits[3], ORIGIN)
        assert [each.checksum for each in done.removed] == [commits[1]]
        assert [each.checksum for each in done.state.deployments] == [
            commits[3],
            commits[2],
            commits[0],
        ]
        assert done.boot_entry == "ostree-3.conf"
        done = deploy(sysroot, commits[4], ORIGIN, retain=True)
        assert len(done.state.deployments) == 4
        target = done.state.deployments[-1]
        assert rollback(sysroot, to=target).deployment.checksum == commits[0]
        prune.prune(sysroot.repo)
        assert run("ostree", "fsck", f"--repo={sysroot.path}/ostree/repo")
        # The same commit again is another deployment, with a serial of its own.
        again = deploy(sysroot, commits[0], ORIGIN)
        assert again.deployment.serial == 1
        assert {
            each.name for each in (sysroot.path / "ostree/deploy/default/deploy").iterdir()
        } >= {
            f"{commits[0]}.0",
            f"{commits[0]}.1",
        }


def test_the_lock_excludes_ostree_admin_both_ways(lab: Lab) -> None:
    commit = lab.commit()
    path = lab.plain("shared")
    lab.pull(path, commit)
    with Sysroot.open(path) as sysroot:
        with sysroot.locked():
            assert (path / "ostree/lock").exists()
            waiting = subprocess.Popen(
                ["ostree", "admin", "deploy", f"--sysroot={path}", "--os=default", commit],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert waiting.stdout is not None
            assert "Waiting" in waiting.stdout.readline()
            assert sysroot.load().deployments == ()
        assert waiting.wait(timeout=60) == 0
        waiting.stdout.close()
        assert len(sysroot.load().deployments) == 1
        assert not (path / "ostree/lock").exists()
        fd = os.open(path / "ostree", os.O_RDONLY | os.O_DIRECTORY)
        with lock.exclusive(fd, "it"), pytest.raises(Busy, match="locked by another process"):
            deploy(sysroot, commit, ORIGIN)
        os.close(fd)
        assert len(sysroot.load().deployments) == 1


def test_what_is_no_image_to_boot_leaves_everything_as_it_was(lab: Lab) -> None:
    good = lab.commit()
    bad = {
        "no kernel": lab.commit(**{"usr/lib/modules/6.1.0/vmlinuz": None}),
        "no PRETTY_NAME": lab.commit(**{"usr/lib/os-release": "VERSION=1\n"}),
        "boots with a signature only": lab.commit(
            **{"usr/lib/ostree/prepare-root.conf": "[composefs]\nenabled = signed\n"}
        ),
        "has files in /etc": lab.commit(**{"etc/file": "file"}),
    }
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, good, *bad.values())
        deploy(sysroot, good, ORIGIN)
        before = listing(sysroot.path, skip=("ostree/repo",))
        for message, commit in bad.items():
            with pytest.raises(MalformedImage, match=message):
                deploy(sysroot, commit, ORIGIN)
            assert listing(
                sysroot.path, skip=("ostree/repo", "boot/loader.0", "ostree/boot.0")
            ) == {
                name: value
                for name, value in before.items()
                if not name.startswith(("boot/loader.0", "ostree/boot.0"))
            }
        assert [each.checksum for each in sysroot.load().deployments] == [good]


def test_an_etc_conflict_is_named_and_leaves_everything_as_it_was(lab: Lab) -> None:
    first = lab.commit()
    second = lab.commit(**{"usr/etc/hostname": None, "usr/etc/hostname/file": "a directory"})
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, first, second)
        done = deploy(sysroot, first, ORIGIN)
        hostname = sysroot.path / "ostree" / done.deployment.path / "etc/hostname"
        hostname.write_text("mine\n")
        with pytest.raises(BridgeError, match="/etc/hostname is a file here and a directory in"):
            deploy(sysroot, second, ORIGIN)
        assert [each.checksum for each in sysroot.load().deployments] == [first]
        assert hostname.read_text() == "mine\n"


@pytest.mark.parametrize("step", ["checkout", "kernel", "links", "loader", "cleanup"])
def test_cut_off_anywhere_the_old_or_the_new_boots(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from bridge.sysroot import boot_order, bootlinks
    from bridge.sysroot import deploy as deploy_module

    class PowerCut(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCut

    commits = [lab.commit(version=str(number)) for number in (1, 2)]
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, *commits)
        deploy(sysroot, commits[0], ORIGIN)
        with monkeypatch.context() as patch:
            target: object
            target, name = {
                "checkout": (deploy_module, "_make_etc"),
                "kernel": (kernel, "_place"),
                "links": (bootlinks, "create"),
                "loader": (boot_order, "_sync"),
                "cleanup": (deploy_module, "cleanup"),
            }[step]
            if step == "cleanup":
                calls = iter((lambda *_: None, cut))
                patch.setattr(target, name, lambda *given: next(calls)(*given))
            else:
                patch.setattr(target, name, cut)
            if step == "kernel":
                shutil.rmtree(sysroot.path / "boot/ostree")
            # After a power cut nobody removes the half-made deployment.
            patch.setattr(deploy_module, "remove_deployment", lambda *_: None)
            with pytest.raises(PowerCut):
                deploy(sysroot, commits[1], ORIGIN)
        expected = [commits[1], commits[0]] if step == "cleanup" else [commits[0]]
        assert [each.checksum for each in sysroot.load().deployments] == expected
        assert run("ostree", "admin", "status", f"--sysroot={sysroot.path}").count(".0") == len(
            expected
        )
        done = deploy(sysroot, commits[1], ORIGIN)
        names = {each.name for each in (sysroot.path / "ostree/deploy/default/deploy").iterdir()}
        assert names == {
            each for kept in done.state.deployments for each in (kept.name, f"{kept.name}.origin")
        }
        assert not (sysroot.path / "boot/loader.tmp").is_symlink()


@pytest.fixture
def small_boot(lab: Lab) -> Iterator[Path]:
    """A sysroot whose /boot is a file system of its own, of 8 MiB."""
    path = lab.path / "ours"
    (path / "boot").mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", path / "boot")
    try:
        lab.ours("ours").close()
        yield path
    finally:
        run("umount", path / "boot")


def test_a_boot_of_its_own_gets_copies_and_paths_without_prefix(lab: Lab, small_boot: Path) -> None:
    commit = lab.commit()
    root = lab.deploy_ours(small_boot, commit)
    entry = (small_boot / "boot/loader/entries/ostree-1.conf").read_text()
    path = entry.split("\nlinux ")[1].split("\n")[0]
    assert path.startswith("/ostree/default-")
    copy = small_boot / "boot" / path[1:]
    assert copy.read_text() == "kernel 6.1.0"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o644
    assert copy.stat().st_nlink == 1
    # A damaged copy is seen when the kernel is installed for a new deployment.
    copy.write_text("KERNEL 6.1.0")
    lab.deploy_ours(small_boot, lab.commit(version="2"))
    assert copy.read_text() == (root / "usr/lib/modules/6.1.0/vmlinuz").read_text()


def test_a_boot_that_is_too_small(lab: Lab, small_boot: Path) -> None:
    def image(version: str, megabytes: int) -> str:
        return lab.commit(
            **{
                "usr/lib/modules/6.1.0/vmlinuz": None,
                "usr/lib/modules/6.1.0/initramfs.img": None,
                f"usr/lib/modules/{version}/vmlinuz": version
                * (megabytes * 1024**2 // len(version)),
            }
        )

    one, two, three, huge = (
        image("6.1.0", 3),
        image("6.2.0", 3),
        image("6.3.0", 3),
        image("7.0.0", 9),
    )
    lab.deploy_ours(small_boot, one)
    lab.deploy_ours(small_boot, two)
    with pytest.raises(NoSpace, match=r"no room for kernel 7\.0\.0: 9 MiB more"):
        lab.deploy_ours(small_boot, huge)
    with Sysroot.open(small_boot) as sysroot:
        assert [each.checksum for each in sysroot.load().deployments] == [two, one]
    # The oldest goes anyway: dropped first, its kernel makes room for the new one.
    lab.deploy_ours(small_boot, three)
    with Sysroot.open(small_boot) as sysroot:
        assert [each.checksum for each in sysroot.load().deployments] == [three, two]


def test_kernel_arguments_and_foreign_keys_are_inherited(lab: Lab) -> None:
    first, second = lab.commit(), lab.commit(version="2")
    path = lab.plain("ours")
    lab.deploy_ours(path, first, arguments=KernelArguments(append=KARGS))
    entry = path / "boot/loader/entries/ostree-1.conf"
    entry.write_text(entry.read_text() + "x-options-source-tuned isolcpus=1\n")
    lab.deploy_ours(
        path, second, arguments=KernelArguments(append=["quiet"], delete=["console=tty0", "rw"])
    )
    new = (path / "boot/loader/entries/ostree-2.conf").read_text()
    assert "options root=LABEL=root console=ttyS0 quiet ostree=/ostree/boot.0/" in new
    assert new.endswith("x-options-source-tuned isolcpus=1\n")
    with Sysroot.open(path) as sysroot, pytest.raises(UsageError, match="no kernel argument"):
        deploy(sysroot, second, ORIGIN, arguments=KernelArguments(delete=["missing"]))


def test_on_a_booted_host_the_running_deployment_is_merged_and_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [lab.commit(version=str(number)) for number in range(3)]
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, *commits)
        running = deploy(sysroot, commits[0], ORIGIN, arguments=KernelArguments(append=["v0"]))
        root = sysroot.path / "ostree" / running.deployment.path
        (root / "etc/mine").write_text("of the running system\n")
        deploy(sysroot, commits[1], ORIGIN, arguments=KernelArguments(append=["v1"]))
        status = root.stat()
        sysroot.__dict__["is_booted"] = True
        monkeypatch.setattr(
            sysroot_module, "_booted_directory", lambda: (status.st_dev, status.st_ino)
        )
        (root / "etc/mine").write_text("changed after the pending one was made\n")
        done = deploy(sysroot, commits[2], ORIGIN)
        assert [each.checksum for each in done.state.deployments] == [commits[2], commits[0]]
        assert [each.checksum for each in done.removed] == [commits[1]]
        assert done.deployment.kargs == ("v0",)
        merged = sysroot.path / "ostree" / done.deployment.path / "etc/mine"
        assert merged.read_text() == "changed after the pending one was made\n"
        # Rolled back twice: the running one next, then the pending one again.
        assert rollback(sysroot).reverted
        assert [each.booted for each in sysroot.load().deployments] == [True, False]
        assert not rollback(sysroot).reverted
        assert [each.booted for each in sysroot.load().deployments] == [False, True]


def test_a_read_only_mount_is_writable_for_one_process_only(tmp_path: Path) -> None:
    (tmp_path / "sysroot").mkdir()
    run("mount", "--bind", tmp_path / "sysroot", tmp_path / "sysroot")
    try:
        run("mount", "-o", "remount,bind,ro", tmp_path / "sysroot")
        code = (
            "import sys; from pathlib import Path; from bridge.sysroot import writable;"
            "writable.make_writable([sys.argv[1]]); (Path(sys.argv[1]) / 'file').touch()"
        )
        run(sys.executable, "-c", code, tmp_path / "sysroot")
        assert (tmp_path / "sysroot/file").exists()
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "sysroot/other").touch()
    finally:
        run("umount", tmp_path / "sysroot")


def test_an_unreadable_origin_costs_that_one_only(lab: Lab) -> None:
    first, second = lab.commit(), lab.commit(version="2")
    with lab.ours("ours") as sysroot:
        lab.pull(sysroot.path, first, second)
        deploy(sysroot, first, ORIGIN)
        done = deploy(sysroot, second, ORIGIN)
        origin = sysroot.path / "ostree" / f"{done.state.deployments[1].path}.origin"
        origin.write_bytes(b"\xff\xfe nonsense")
        state = sysroot.load()
        assert [bool(each.problem) for each in state.deployments] == [False, True]
        assert state.deployments[1].origin is None
        assert replace(state.deployments[0]).image_reference == ORIGIN.image_reference
        # A boot entry that makes no sense is reported, and nothing is removed because of it.
        (sysroot.path / "boot/loader/entries/ostree-9.conf").write_text("title x\noptions rw\n")
        state = sysroot.load()
        assert len(state.deployments) == 2 and "ostree-9.conf" in state.problems[0]
