"""composefs images next to the real ones: the bytes of `mkcomposefs` and of libostree, a mount that
shows what the commit has, and a machine that boots from it.

Needs root. The programs are those of Debian forky, in a root directory of their own.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rig import disk, forky, small, store
from rig.command import bootc_py
from rig.forky import Forky
from support import images

from bridge.errors import DamagedRepository, MalformedImage
from bridge.ostree import composefs, content, erofs, fsverity, objects, variant
from bridge.ostree.erofs import Node
from bridge.ostree.objects import ObjectType, Xattrs
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree
from bridge.ostree.variant import Variant
from bridge.sysroot import cached_update, files
from bridge.sysroot.deploy import deploy
from bridge.sysroot.deployed_files import verify
from bridge.sysroot.initialise import initialise
from bridge.sysroot.origin import Origin
from tools.images import build, cache

SEEDS = int(os.environ.get("BOOTC_PY_COMPOSEFS_SEEDS", "4"))
"""So many random trees; a thousand take about five minutes."""


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Forky:
    work = tmp_path_factory.mktemp("forky")
    (work / "t").mkdir()
    return Forky(forky.root(forky.OSTREE), work)


# -- the writer, against mkcomposefs ---------------------------------------------------------


def dump(root: Node) -> bytes:
    """A tree as `mkcomposefs --from-file` takes it; see composefs-dump(5)."""
    lines: list[bytes] = []

    def quoted(value: bytes) -> bytes:
        return b"".join(b"\\x%02x" % byte for byte in value)

    def visit(path: bytes, node: Node) -> None:
        payload = quoted(node.target) if node.target else b"-"
        digest = node.digest.hex().encode() if node.digest else b"-"
        size = len(node.target) if stat.S_ISLNK(node.mode) else node.size
        fields = [
            path or b"/", b"%d" % size, b"%o" % node.mode, b"1", b"%d" % node.uid,
            b"%d" % node.gid, b"0", b"0.0", payload, b"-", digest,
            *(quoted(key) + b"=" + quoted(value) for key, value in node.xattrs),
        ]  # fmt: skip
        lines.append(b" ".join(fields))
        for name, child in node.children.items():
            visit(path + b"/" + quoted(name), child)

    visit(b"", root)
    return b"\n".join(lines) + b"\n"


def made_by_mkcomposefs(peer: Forky, root: Node) -> bytes:
    (peer.work / "dump").write_bytes(dump(root))
    peer.checked("mkcomposefs", "--min-version=0", "--from-file", "/mnt/dump", "/mnt/image")
    return (peer.work / "image").read_bytes()


def regular(size: int, **more: object) -> Node:
    target = b"ab/%062x.file" % size if size else b""
    return Node(stat.S_IFREG | 0o644, size=size, target=target, **more)  # type: ignore[arg-type]


def link(target: bytes) -> Node:
    return Node(stat.S_IFLNK | 0o777, target=target)


def directory(children: dict[bytes, Node] | None = None, **more: object) -> Node:
    return Node(stat.S_IFDIR | 0o755, children=children or {}, **more)  # type: ignore[arg-type]


def numbered(count: int, length: int) -> dict[bytes, Node]:
    return {b"%0*d" % (length, number): regular(0) for number in range(count)}


DIGEST = bytes(range(32))
LABEL = (b"security.selinux", b"system_u:object_r:usr_t:s0\0")
CAPABILITY = (b"security.capability", b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
ACL = (b"system.posix_acl_access", bytes.fromhex("0200000001000600ffffffff"))
TREES = {
    "nothing": directory(),
    "a file of each size": directory(
        {
            b"%d" % size: regular(size, digest=DIGEST if size % 2 else None)
            for size in (0, 1, 4095, 4096, 4097, 1 << 32, (1 << 32) - 1, 1 << 43, 12345678901)
        }
    ),
    "owners": directory(
        {b"%d-%d" % ids: regular(3, uid=ids[0], gid=ids[1]) for ids in
         ((0xFFFF, 0), (0x10000, 0), (0, 0xFFFF), (0, 0x10000), (0xFFFFFFFE, 5))},
        uid=3, gid=70_000,
    ),
    "modes": directory(
        {b"%o" % mode: Node(stat.S_IFREG | mode, size=1, target=b"x")
         for mode in (0, 0o4755, 0o2711, 0o1777, 0o7777)}
    ),
    "names that sort before the dots": directory(
        {b"!": regular(0), b"-": regular(0), b"...": regular(0), b".a": regular(0),
         b"\xc3\xbc": regular(0), b"\xff\xfe": regular(0), b" ": directory()}
    ),
    "long names": directory({bytes([97 + n]) * 255: directory(numbered(5, 255))
                             for n in range(20)}),
    "large directories": directory({b"%d" % n: directory(numbered(n, 30)) for n in
                                    (1, 47, 48, 49, 96, 97, 98, 99, 100, 145, 1000)}),
    "directories in directories": directory(
        {b"a": directory({b"b": directory({b"c": directory()}), b"x": link(b"b")}),
         b"e": directory({b"f": directory()})}
    ),
    "links": directory({b"%d" % n: link(b"t" * n) for n in (1, 31, 32, 2000, 3000, 4000, 4063)}),
    "names of what an overlay hides": directory(
        {b"00": regular(5), b"7f": directory(), b"ff": link(b"x")}
    ),
    "labels": directory(
        {b"a": regular(1, xattrs=(LABEL,)), b"b": regular(1, xattrs=(CAPABILITY, LABEL)),
         b"c": directory({b"d": regular(0, xattrs=(LABEL,))}, xattrs=(LABEL,))},
        xattrs=(LABEL,),
    ),
    "access control lists": directory({b"a": regular(1, xattrs=(ACL,)), b"b": regular(0)}),
    "xattrs of an overlay": directory(
        {b"a": regular(7, xattrs=((b"trusted.overlay.metacopy", b"x"),
                                  (b"trusted.overlay.overlay.opaque", b"y"),
                                  (b"trusted.overlayx", b""), (b"user.overlay.whiteout", b""))),
         b"b": directory(xattrs=((b"trusted.overlay.opaque", b"y"),))},
        xattrs=((b"trusted.overlay.origin", b"z"),),
    ),
    "xattrs of every kind": directory(
        {b"%d" % n: regular(n % 3, xattrs=((key, b"v" * n),))
         for n, key in enumerate((b"user.a", b"user.", b"trusted.t", b"security.s", b"lustre.lov",
                                  b"other", b"system.posix_acl_default", b"user." + b"k" * 250,
                                  b"system.posix_acl_access"))}
    ),
    "more xattrs than can be shared": directory(
        {name: regular(1, xattrs=tuple((b"user.%03d" % n, b"same") for n in range(200)))
         for name in (b"a", b"b", b"c")}
    ),
    "large xattrs": directory(
        {b"%d" % n: regular(1, xattrs=((b"user.big", bytes([n]) * n * 111),)) for n in range(90)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_an_image_has_the_bytes_of_mkcomposefs(peer: Forky, name: str) -> None:
    assert b"".join(erofs.image(TREES[name])) == made_by_mkcomposefs(peer, TREES[name])


def random_tree(rng: random.Random, budget: list[int], depth: int = 0) -> Node:
    """A directory with up to what is left of `budget` paths."""
    pool = [LABEL, CAPABILITY, (b"user.a", b"1"), (b"user.a", b"2"), (b"trusted.overlay.x", b"")]

    def xattrs() -> Xattrs:
        some = dict(rng.sample(pool, rng.choice((0, 0, 1, 2, 3))))
        if rng.random() < 0.1:
            some[b"user.own"] = rng.randbytes(rng.randrange(1500))
        return tuple(sorted(some.items()))

    def owner() -> dict[str, int]:
        return {"uid": rng.choice((0, 0, 7, 70_000)), "gid": rng.choice((0, 0, 65_535))}

    top = directory(xattrs=xattrs(), **owner())
    for _ in range(rng.choice((0, 3, 30, 300)) if depth else 1000):
        if not budget[0]:
            break
        budget[0] -= 1
        length = rng.choice((2, 5, 10, 20, 60, 255))
        name = bytes(rng.choice(b"!-.0123456789AZaz_\xc3\xff") for _ in range(length))
        if name in (b".", b".."):
            continue
        kind = rng.random()
        if kind < 0.2 and depth < 8:
            top.children[name] = random_tree(rng, budget, depth + 1)
        elif kind < 0.4:
            top.children[name] = link(b"l" * rng.choice((1, 9, 20, 100, rng.randrange(1, 4000))))
        else:
            size = rng.choice((0, 1, 5000, rng.randrange(1, 1 << 40)))
            node = regular(size, xattrs=xattrs(), **owner())
            node.digest = rng.choice((None, DIGEST)) if node.size else None
            top.children[name] = node
    return top


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_tree_has_the_bytes_of_mkcomposefs(peer: Forky, seed: int) -> None:
    tree = random_tree(random.Random(seed), [5000])
    assert b"".join(erofs.image(tree)) == made_by_mkcomposefs(peer, tree)


# -- deployments, against libostree ----------------------------------------------------------

_BOOTABLE = {
    "usr/lib/modules/6.1.0/vmlinuz": b"kernel",
    "usr/lib/modules/6.1.0/initramfs.img": b"initramfs",
    "usr/lib/os-release": b'ID=fake\nPRETTY_NAME="Fake OS 1"\n',
    "etc/hostname": b"fake\n",
}


def of_image(work: Path, enabled: str | None) -> str:
    """The reference of a small image that asks for composefs so."""
    members = [images.file(name, content) for name, content in _BOOTABLE.items()] + [
        images.file("usr/bin/tool", b"tool" * 3000, mode=0o4755, xattrs={"user.test": "x"}),
        images.file("usr/bin/overlay", b"y", xattrs={"trusted.overlay.opaque": "y"}),
        images.file("usr/empty"),
        images.hardlink("usr/same", "usr/bin/tool"),
        images.symlink("usr/link", "bin/tool"),
        images.directory("usr/owned", uid=7, mode=0o1777),
    ]
    if enabled is not None:
        text = f"[composefs]\nenabled={enabled}\n".encode()
        members.append(images.file("usr/lib/ostree/prepare-root.conf", text))
    return small.of_layers(work / f"image-{enabled}", members).reference


def switched(image: str, sysroot: Path) -> Path:
    """Deploys an image; the deployment's directory."""
    done = bootc_py("switch", image, "--sysroot", sysroot, "--json", "--quiet")
    assert done.code == 0, done.err
    of_it = done.json["deployment"]
    return sysroot / f"ostree/deploy/default/deploy/{of_it['checksum']}.{of_it['serial']}"


def modes(top: Path) -> dict[str, int]:
    return {str(each.relative_to(top)): each.lstat().st_mode for each in sorted(top.rglob("*"))}


@pytest.mark.parametrize("enabled", ["yes", "true", "maybe"])
def test_a_deployment_has_what_libostree_gives_it(
    peer: Forky, tmp_path: Path, enabled: str
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    deployed = switched(of_image(tmp_path, enabled), ours)
    commit = deployed.name.partition(".")[0]
    there = peer.bound(lab=tmp_path)
    lab = "/run/host/lab"
    theirs.mkdir()
    there.checked("ostree", "admin", "init-fs", "--modern", f"{lab}/theirs")
    there.checked("ostree", "admin", "os-init", f"--sysroot={lab}/theirs", "default")
    repo = f"--repo={lab}/theirs/ostree/repo"
    there.checked("ostree", "pull-local", repo, f"{lab}/ours/ostree/repo", commit)
    there.checked("ostree", "admin", "deploy", f"--sysroot={lab}/theirs", "--os=default", commit)
    same = theirs / deployed.relative_to(ours)
    assert (deployed / ".ostree.cfs").read_bytes() == (same / ".ostree.cfs").read_bytes()
    assert (deployed / ".ostree.cfs").stat().st_mode == (same / ".ostree.cfs").stat().st_mode
    backing = "ostree/deploy/default/backing"
    assert modes(ours / backing) == modes(theirs / backing)
    assert (ours / backing).stat().st_mode == (theirs / backing).stat().st_mode
    assert commit in there.checked("ostree", "admin", "status", f"--sysroot={lab}/ours")
    # Its commit is what it was: nothing of this is verified, so no digest is of use.
    shown = there.checked("ostree", "show", f"--repo={lab}/ours/ostree/repo", "--raw", commit)
    assert composefs.DIGEST_KEY not in shown


def test_without_being_asked_for_there_is_none(tmp_path: Path) -> None:
    for enabled in (None, "no", "false", "0"):
        place = tmp_path / f"host-{enabled}"
        deployed = switched(of_image(tmp_path, enabled), place)
        assert not (deployed / ".ostree.cfs").exists()
        assert not (place / "ostree/deploy/default/backing").exists()


@pytest.mark.parametrize(
    ("enabled", "code", "message"),
    [
        ("verity", 1, "boots only from a file system with fs-verity"),
        ("signed", 7, "boots with a signature only"),
        ("sure", 7, r"/usr/lib/ostree/prepare-root\.conf: \[composefs\] enabled='sure' is none of"),
    ],
)
def test_what_would_not_boot_is_refused(
    tmp_path: Path, enabled: str, code: int, message: str
) -> None:
    with disk.tmpfs(tmp_path / "host", 64) as host:
        before = switched(of_image(tmp_path, "yes"), host)
        entries = modes(host / "boot")
        done = bootc_py("switch", of_image(tmp_path, enabled), "--sysroot", host)
        assert done.code == code and re.search(message, done.error)
        assert [each.name for each in before.parent.iterdir() if each.is_dir()] == [before.name]
        assert modes(host / "boot") == entries
        backing = host / "ostree/deploy/default/backing"
        assert [each.name for each in backing.iterdir()] == [before.name]
        subprocess.run(["chattr", "-R", "-f", "-i", host], check=False)


def test_a_replaced_deployment_takes_its_directory_along(tmp_path: Path) -> None:
    host = tmp_path / "host"
    there = []
    for image in (of_image(tmp_path, "yes"), of_image(tmp_path, "true"), of_image(tmp_path, "1")):
        there.append(switched(image, host).name)
    backing = host / "ostree/deploy/default/backing"
    assert {each.name for each in backing.iterdir()} == set(there[1:])


def checkout(peer: Forky, commit: str, option: str) -> None:
    """Has libostree write the composefs image of a commit to /mnt/image."""
    command = f"cd /mnt && ostree checkout --repo=/run/host/repo {option} {commit} image"
    peer.checked("sh", "-c", command)


@pytest.mark.parametrize("enabled", ["verity", "signed"])
def test_a_commit_has_the_digest_that_libostree_records(
    peer: Forky, tmp_path: Path, enabled: str
) -> None:
    image = of_image(tmp_path, enabled)
    repos = {mode: tmp_path / mode for mode in ("bare", "archive")}
    commits = set()
    for mode, repo in repos.items():
        done = bootc_py("image", "pull", image, "--repo", repo, "--mode", mode, "--json")
        assert done.code == 0, done.err
        commits.add(done.json["image"]["commit"])
    (commit,) = commits
    there = peer.bound(repo=repos["bare"])
    theirs = there.checked(
        "ostree", "commit", "--repo=/run/host/repo", f"--tree=ref={commit}", "--orphan",
        "--generate-composefs-metadata",
    ).strip()  # fmt: skip
    there.checked("ostree", "fsck", "--repo=/run/host/repo")
    checkout(there, commit, "--composefs")
    with Repository.open(repos["bare"]) as repo:
        ours, of_theirs = (
            repo.read_commit(each).metadata[composefs.DIGEST_KEY] for each in (commit, theirs)
        )
    with (peer.work / "image").open("rb") as file:
        assert ours == of_theirs == fsverity.compute(file)[1]


def sign(repo: Path, commit: str) -> None:
    """Sign a commit as `ostree sign` does, which in Debian's libostree has no ed25519."""
    place = repo / "objects" / commit[:2] / commit[2:]
    there = place.with_suffix(".commitmeta")
    metadata = variant.decode("a{sv}", there.read_bytes())
    signature = Ed25519PrivateKey.generate().sign(place.with_suffix(".commit").read_bytes())
    metadata["ostree.sign.ed25519"] = Variant("aay", [signature])
    there.write_bytes(variant.encode("a{sv}", metadata))
    shown = store.ostree(repo, "show", "--print-detached-metadata-key=ostree.sign.ed25519", commit)
    assert shown.decode().startswith(f"[[byte 0x{signature[0]:02x}")


def test_what_is_to_be_verified_is_given_to_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ioctls are played: few kernels that tests run on have fs-verity."""
    given: set[int] = set()

    def enable(fd: int) -> bool:
        given.add(os.fstat(fd).st_ino)
        return True

    def enabled(fd: int) -> bytes | None:
        with open(os.dup(fd), "rb") as file:
            file.seek(0)
            return fsverity.compute(file)[1] if os.fstat(fd).st_ino in given else None

    monkeypatch.setattr(fsverity, "enable", enable)
    monkeypatch.setattr(fsverity, "enabled", enabled)
    host, origin = tmp_path / "host", Origin.for_image("ostree-unverified-registry:a/b:c")
    with initialise(host) as sysroot:
        done = bootc_py("image", "pull", of_image(tmp_path, "verity"), "--sysroot", host, "--json")
        assert done.code == 0, done.err
        checksum = done.json["image"]["commit"]
        deployed = host / "ostree" / deploy(sysroot, checksum, origin).deployment.path
        commit = sysroot.repo.read_commit(checksum)
        tree = Tree.stored(sysroot.repo, commit.tree, commit.meta)
        regular_files = {
            (host / "ostree/repo" / sysroot.repo.object_path(each, ObjectType.FILE)).lstat()
            for _path, below in tree.walk()
            for each in below.files.values()
        }
        image = deployed / ".ostree.cfs"
        inodes = {each.st_ino for each in regular_files if stat.S_ISREG(each.st_mode)}
        assert given == {*inodes, image.stat().st_ino}
        with image.open("rb") as file:
            assert fsverity.compute(file)[1] == commit.metadata[composefs.DIGEST_KEY]

        given.clear()
        verify(sysroot, sysroot.load(), mend=True)
        assert given == inodes

        # A commit that says something else is not deployed.
        other = {composefs.DIGEST_KEY: Variant("ay", bytes(32))}
        with Transaction(sysroot.repo) as transaction:
            wrong = transaction.write_commit(replace(commit, metadata=other))
            transaction.publish()
        with pytest.raises(DamagedRepository, match=f"the commit has {bytes(32).hex()}"):
            deploy(sysroot, wrong, origin)
        assert [each.checksum for each in sysroot.load().deployments] == [checksum]

        # What is signed is deployed once there is a signature.
        done = bootc_py("image", "pull", of_image(tmp_path, "signed"), "--sysroot", host, "--json")
        signed = done.json["image"]["commit"]
        with pytest.raises(MalformedImage, match="sign the commit with `ostree sign`"):
            deploy(sysroot, signed, origin)
        # An update that `upgrade --check` saw stands where signatures do, and is none.
        cached_update.write(sysroot.repo, signed, f"sha256:{'0' * 64}", b"{}", b"{}")
        with pytest.raises(MalformedImage, match="sign the commit with `ostree sign`"):
            deploy(sysroot, signed, origin)
        sign(host / "ostree/repo", signed)
        deploy(sysroot, signed, origin)
        assert sysroot.load().deployments[0].checksum == signed


# -- an image of real size, and its mount ----------------------------------------------------


@pytest.fixture(scope="module")
def base() -> Iterator[tuple[Path, str]]:
    """A repository with the base image, and the image's commit."""
    layout = build.image("base", "v1", "plain")
    with cache.scratch(cache.root() / "work") as work:
        done = bootc_py("image", "pull", layout.reference, "--repo", work / "repo", "--json")
        assert done.code == 0, done.err
        yield work / "repo", done.json["image"]["commit"]


def test_an_image_of_real_size_has_the_bytes_of_libostree(
    peer: Forky, base: tuple[Path, str]
) -> None:
    place, commit = base
    there = peer.bound(repo=place)
    for option, measured in (
        ("--composefs-noverity", composefs.as_stored),
        ("--composefs", fsverity.compute),
    ):
        checkout(there, commit, option)
        with Repository.open(place) as repo:
            found = repo.read_commit(commit)
            tree = Tree.stored(repo, found.tree, found.meta)
            ours = b"".join(composefs.image(repo, tree, measured))
        assert ours == (peer.work / "image").read_bytes()


def objects_of(fd: int, path: str, found: dict[str, str]) -> None:
    """Adds what is below a directory to `found`: by path, the object that it would be."""
    for name in os.listdir(fd):
        below = f"{path}/{name}"
        if stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
            with files.directory(fd, name) as child:
                found[below] = "directory"
                objects_of(child, below, found)
        else:
            meta, payload = content.open_bare(name, fd)
            digest = hashlib.sha256(objects.content_header(meta))
            if payload is not None:
                with payload:
                    while chunk := payload.read(1 << 20):
                        digest.update(chunk)
            found[below] = digest.hexdigest()


def test_a_mounted_image_shows_what_its_commit_has(base: tuple[Path, str], tmp_path: Path) -> None:
    place, commit = base
    expected = {f"/{name}": "directory" for name in ("etc", "boot", "var", "sysroot")}
    with Repository.open(place) as repo:
        found = repo.read_commit(commit)
        tree = Tree.stored(repo, found.tree, found.meta)
        with (tmp_path / "image").open("wb") as file:
            file.writelines(composefs.image(repo, tree, composefs.as_stored))
        for path, each in tree.walk():
            expected |= {f"/{path}": "directory"} if path else {}
            top = f"/{path}" if path else ""
            expected |= {f"{top}/{name}": checksum for name, checksum in each.files.items()}
        assert len(expected) > 15_000
        lower, root = tmp_path / "lower", tmp_path / "root"
        options = f"ro,metacopy=on,redirect_dir=on,lowerdir={lower}::{place}/objects"
        shown: dict[str, str] = {}
        with (
            disk.mounted(lower, "-t", "erofs", "-o", "ro,loop", str(tmp_path / "image")),
            disk.mounted(root, "-t", "overlay", "-o", options, "overlay"),
        ):
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                objects_of(fd, "", shown)
            finally:
                os.close(fd)
            for path, each in tree.walk():
                status, meta = (root / path).lstat(), repo.read_dirmeta(each.meta)
                of_it = (status.st_mode, status.st_uid, status.st_gid)
                assert of_it == (meta.mode, meta.uid, meta.gid), path
    assert shown == expected
