"""composefs' EROFS image, fs-verity and XXH32: digests as other programs have computed them.

`registry-tests/test_composefs.py` compares bytes with libcomposefs' own.
"""

from __future__ import annotations

import hashlib
import io
import random
import stat
from pathlib import Path

import pytest

from bridge.errors import MalformedImage
from bridge.ostree import composefs, erofs, fsverity
from bridge.ostree.erofs import Node
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree
from bridge.ostree.xxhash32 import xxhash32

from .conftest import store_all

FILE, DIR, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        (b"", 0, 0x02CC5D05),
        (b"a", 0, 0x550D7456),
        (b"abc", 0, 0x32D153FF),
        (b"Nobody inspects the spammish repetition", 0, 0xE2293B2F),
    ],
)
def test_xxhash32(data: bytes, seed: int, expected: int) -> None:
    assert xxhash32(data, seed) == expected


# By `composefs-info measure-file`, but for the empty file: there it is the kernel's.
MEASURED = {
    0: "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
    1: "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551",
    4096: "13e9b8848ae484a36acb3f3cac0ceb2f7601e96633d15c92f9bd3dd44e492157",
    4097: "b0d074abef4d544404facfab6ba242f6a8ccbde90f1325cd286f3c8aa8d0f8aa",
    4096 * 128: "d82861203d50ae9b60948504a704f35f5118bd229aeb1a22d6dae47b1767c4c4",
    4096 * 128 + 1: "4dc6905041c9c4ee73e13b53f63f5d289c46da359b664a965ead7f8cc4d799d4",
    4096 * 129: "dd56ffe5de24c1229fe22d25f91db9e735f6adc921510dcf480094624458c92a",
}


@pytest.mark.parametrize("size", MEASURED)
def test_fs_verity_digests(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    assert fsverity.compute(io.BytesIO(data[:size])) == (size, bytes.fromhex(MEASURED[size]))


def test_a_digest_does_not_depend_on_the_pieces() -> None:
    rng = random.Random(1)
    data = rng.randbytes(700_000)
    measure = fsverity.Measure()
    position = 0
    while position < len(data):
        size = rng.choice((0, 1, 17, 4095, 4096, 4097, 100_000))
        measure.update(data[position : position + size])
        position += size
    assert measure.digest() == fsverity.compute(io.BytesIO(data))[1]


def test_a_file_system_without_fs_verity_has_none(tmp_path: Path) -> None:
    with Path("/proc/self/status").open("rb") as file:
        assert fsverity.enabled(file.fileno()) is None
        assert not fsverity.enable(file.fileno())


def tree() -> Node:
    """A bit of everything."""
    label = (b"security.selinux", b"system_u:object_r:usr_t:s0\0")
    many = {b"%03d" % number: Node(FILE, xattrs=(label,)) for number in range(300)}
    return Node(
        DIR,
        xattrs=(label,),
        children={
            b"usr": Node(DIR, 0, 70_000, children=many),
            b"a": Node(FILE, 5, 6, size=5, target=b"ab/cd.file", digest=bytes(range(32))),
            b"!": Node(FILE, xattrs=((b"trusted.overlay.opaque", b"y"), (b"user.x", b"1"))),
            b"big": Node(FILE | 0o4000, size=5 << 30, target=b"ab/ef.file"),
            b"link": Node(LINK, target=b"usr/000"),
            "ü".encode() * 120: Node(LINK, target=b"x" * 3000),
        },
    )


def test_an_image_is_that_of_mkcomposefs() -> None:
    data = b"".join(erofs.image(tree()))
    assert (
        hashlib.sha256(data).hexdigest()
        == "038de331579ffc065b8c4695ff26d8e2bfbe3cd0dde875114ff4c15c5f460b69"
    )


def test_an_image_depends_on_names_and_not_on_their_order() -> None:
    node = tree()
    turned = tree()
    turned.children = dict(reversed(turned.children.items()))
    assert list(erofs.image(turned)) == list(erofs.image(node))
    assert node == node and list(erofs.image(node)) == list(erofs.image(node))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(FILE, size=(1 << 43) + 1), "too large for composefs"),
        (Node(FILE, xattrs=((b"user.x", bytes(33_000)),)), "are too large for composefs"),
        (Node(LINK, target=b"x" * 4064), "too long for composefs"),
        (Node(stat.S_IFIFO | 0o644), "cannot be in a composefs image"),
    ],
)
def test_what_no_image_can_have_is_refused(node: Node, message: str) -> None:
    with pytest.raises(MalformedImage, match=message):
        erofs.image(Node(DIR, children={b"x": node}))


def test_the_digest_of_a_tree_is_the_same_in_every_mode(repo: Repository) -> None:
    """As `ostree commit --generate-composefs-metadata` (2026.4) has it for this tree."""
    found = repo.read_commit(store_all(repo))
    digest = composefs.digest(repo, Tree.stored(repo, found.tree, found.meta))
    assert digest.hex() == "0354c17258fc3cf650ba2cb1fb4c20f091135629abfa3c583377fc89fe89c2c9"
