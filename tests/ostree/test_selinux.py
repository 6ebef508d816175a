"""Policies and their labels, by the libselinux of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.errors import BridgeError, MalformedImage
from bridge.ostree import checkout, selinux
from bridge.ostree.fsck import check
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import Labels, Policy, policy_name
from bridge.ostree.transaction import Transaction

CONTEXTS = b"""\
/.*                   system_u:object_r:default_t:s0
/usr(/.*)?            system_u:object_r:usr_t:s0
/usr/bin/[^/]+   --   system_u:object_r:bin_t:s0
/etc(/.*)?            system_u:object_r:etc_t:s0
/etc/shadow      --   system_u:object_r:shadow_t:s0
/proc                 <<none>>
/tmp/.*               <<none>>
/mnt             -d   system_u:object_r:mnt_t:s0
"""
REGULAR, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (b"SELINUX=enforcing\nSELINUXTYPE=targeted\n", "targeted"),
        (b"# SELINUX=disabled\nSELINUXTYPE= mls \nSELINUX=Permissive\n", "mls"),
        (b"SELINUX=enforcing\nSELINUXTYPE=a\nSELINUXTYPE=b", "b"),
        (b"SELINUX=disabled\nSELINUXTYPE=targeted\n", None),
        (b"SELINUX=\nSELINUXTYPE=targeted\n", None),
        (b" SELINUX=enforcing\nSELINUXTYPE=targeted\n", None),
        (b"SELINUX=enforcing\n", None),
        (b"SELINUXTYPE=targeted\n", None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_the_configuration_names_the_policy(config: bytes, name: str | None) -> None:
    assert policy_name(config) == name


@pytest.mark.parametrize("name", ["..", "a/b", "", "/etc", "x" * 300])
def test_a_policys_name_is_no_path(name: str) -> None:
    with pytest.raises(MalformedImage, match="SELinux policy"):
        policy_name(f"SELINUX=enforcing\nSELINUXTYPE={name}\n".encode())


def looked_up(files: Mapping[str, bytes], *paths: tuple[str, int]) -> list[str | None]:
    with Labels(Policy("test", {"file_contexts": CONTEXTS, **files})) as labels:
        found = [labels.lookup(*each) for each in paths]
    assert all(each is None or each.endswith(b"\0") for each in found)
    return [None if each is None else each[:-1].decode().split(":")[2] for each in found]


def test_paths_get_the_policys_labels() -> None:
    assert looked_up(
        {},
        ("/", DIRECTORY),
        ("/usr", DIRECTORY),
        ("/usr/bin/tool", REGULAR),
        ("/usr/bin/tool", LINK),
        ("/etc/shadow", REGULAR),
        ("/etc/shadow", DIRECTORY),
        ("/usr/share/\udcffn", REGULAR),
        ("/usr/ü\n", REGULAR),
        ("/tmp/x", REGULAR),
        ("/proc", DIRECTORY),
    ) == [
        "default_t", "usr_t", "bin_t", "usr_t", "shadow_t", "etc_t", "usr_t", "usr_t", None, "mnt_t"
    ]  # fmt: skip


def test_the_files_beside_the_first_count_too() -> None:
    files = {
        "file_contexts.homedirs": b"/home/[^/]+  -d  u:object_r:user_home_dir_t:s0\n",
        "file_contexts.local": b"/usr/bin/mine  --  u:object_r:mine_t:s0\n",
        "file_contexts.subs_dist": b"/lib64 /usr/lib\n",
        "file_contexts.subs": b"/opt/bin /usr/bin\n",
        "file_contexts.bin": b"no compiled file contexts",
    }
    assert looked_up(
        files,
        ("/home/me", DIRECTORY),
        ("/usr/bin/mine", REGULAR),
        ("/lib64/a", REGULAR),
        ("/opt/bin/mine", REGULAR),
    ) == ["user_home_dir_t", "mine_t", "usr_t", "mine_t"]


@pytest.mark.parametrize(
    "contexts",
    [
        b"/.* a:b:c:d\n/usr(/.* -- a:b:c:d\n",
        b"/usr nonsense is -- here\n",
        b"/usr\n",
        b"/.* a:b:c:d\n/etc/\xff a:b:c:d\n",
        b"\0\0\0",
        b"",
    ],
)
def test_a_policy_that_cannot_be_used_is_one_line(
    contexts: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MalformedImage, match="SELinux policy test") as caught:
        looked_up({"file_contexts": contexts}, ("/usr/bin", REGULAR))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_without_the_library_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selinux, "_LIBRARY", "libselinux.so.0-none")
    with pytest.raises(BridgeError, match=r"install libselinux1.*--disable-selinux"):
        looked_up({})


def test_a_label_takes_the_place_of_another() -> None:
    xattrs = ((b"security.ima", b"i"), (b"security.selinux", b"old\0"), (b"user.a", b"1"))
    labelled = selinux.with_label(xattrs, b"new\0")
    assert labelled == (xattrs[0], (b"security.selinux", b"new\0"), xattrs[2])
    assert selinux.with_label(xattrs, None) == selinux.without_label(xattrs) == xattrs[::2]
    assert selinux.with_label((), b"new\0") == ((b"security.selinux", b"new\0"),)


def test_a_label_that_the_kernel_gave_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.fail("needs root, as all of bare repositories does")
    with Repository.create(tmp_path / "repo", "bare") as repo:
        with Transaction(repo) as transaction:
            payload = b"x" * 5000
            checksum = transaction.write_payload(FileMeta(0, 0, REGULAR), payload)
            link = transaction.write_link(FileMeta(0, 0, LINK, target="x"))
            transaction.publish()
        for each in (checksum, link):
            path = Path(repo.path, repo.object_path(each, ObjectType.FILE))
            os.setxattr(path, "security.selinux", b"u:r:t:s0\0", follow_symlinks=False)
        enforce = tmp_path / "enforce"
        monkeypatch.setattr(selinux, "_ENFORCE", enforce)
        for each in (checksum, link):
            fault = check(repo, each, ObjectType.FILE)
            assert fault is not None and "hashes to" in fault.reason, "no kernel gave it here"
        enforce.touch()
        for each in (checksum, link):
            assert check(repo, each, ObjectType.FILE) is None
        fd = os.open(tmp_path, os.O_RDONLY)
        monkeypatch.setattr(os, "link", _no_links)
        checkout.checkout_file(repo, checksum, fd, "copy")
        os.close(fd)
        assert (tmp_path / "copy").read_bytes() == payload
        Path(repo.path, repo.object_path(checksum, ObjectType.FILE)).write_bytes(b"y" * 5000)
        assert check(repo, checksum, ObjectType.FILE) is not None


def _no_links(*_args: object, **_more: object) -> None:
    raise OSError(18, "Invalid cross-device link")
