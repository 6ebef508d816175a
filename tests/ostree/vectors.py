"""Objects as `ostree` 2022.7 wrote them, of one small tree: name, bytes, and what they mean.

The tree: `e` empty; `f` "hello\\n", mode 4755, two xattrs; `l` a link to `f` owned by 7:8; `d`
mode 1777 with an xattr, in it `ü` "x", mode 0640, 1000:1001; `empty` an empty directory.
"""

from __future__ import annotations

import stat

from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta

E = "cc700d46f407c6c5ab2d5dde474366a928b7398277e61162e7f8ec06f469f07e"
F = "a591c65fb8d6e0b1625912be525361fab11df8572724a7f4df16dd6218354b44"
L = "5b35e9d6a1d5c18b0241c01361912a335317520ae2f0bc0f8b058c5b0fa6b7cf"
U = "ef59c0ea1d18f9257d6260a40ce9cea9a44e4469d11942571b106b569bc26188"
META_755 = "446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488"
META_D = "aaa53aee7a87e37cdfa71df503866422b91baaabc2e9e0a570fc249f04e5ad94"
TREE_ROOT = "112842ab55a1aee910e0035d64fe9f2768faf20a40eb86ec8e40f5542bf3fe12"
TREE_D = "e06f22a698d0192e1a8d097ad950e722f02971377568ae3100b62e0fa3e62173"
TREE_EMPTY = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
COMMIT = "47ebbb464cc7da34be86abac7a8f207c3e869feda4a504cca82514a0892bf1d7"

DIRMETAS = {
    META_755: ("0000000000000000000041ed", DirMeta(0, 0, stat.S_IFDIR | 0o755)),
    META_D: (
        "0000000000000000000043ff757365722e6400760709",
        DirMeta(0, 0, stat.S_IFDIR | 0o1777, ((b"user.d", b"v"),)),
    ),
}
DIRTREES = {
    TREE_EMPTY: ("00", DirTree({}, {})),
    TREE_D: (f"c3bc00{U}032425", DirTree({"ü": U}, {})),
    TREE_ROOT: (
        f"6500{E}026600{F}026c00{L}02234669"
        f"6400{TREE_D}{META_D}2202656d70747900{TREE_EMPTY}{META_755}26064"
        "48c6c",
        DirTree(
            {"e": E, "f": F, "l": L},
            {"d": (TREE_D, META_D), "empty": (TREE_EMPTY, META_755)},
        ),
    ),
}
COMMIT_BYTES = bytes.fromhex(
    "76657273696f6e0034320000730800007a000000000000007000710002040061730200000000"
    "00006e0000000000000007000000007502006f73747265652e7265662d62696e64696e670000"
    "00000000782f790004006173130e223759746865207375626a6563740074686520626f64790a"
    "6f6620697400000000003a7b8372112842ab55a1aee910e0035d64fe9f2768faf20a40eb86ec"
    "8e40f5542bf3fe12446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c"
    "5488a078695d5d5d"
)
COMMIT_VALUE = Commit(
    tree=TREE_ROOT,
    meta=META_755,
    metadata={
        "version": "42",
        "z": ["p", "q"],
        "n": 7,
        "ostree.ref-binding": ["x/y"],
    },
    subject="the subject",
    body="the body\nof it",
    timestamp=981173106,
)

FILES: dict[str, tuple[FileMeta, bytes, str, str]] = {
    # checksum: metadata, payload, the `.filez`, bare-user's user.ostreemeta
    E: (
        FileMeta(0, 0, stat.S_IFREG | 0o644),
        b"",
        "0000001a0000000000000000000000000000000000000000000081a40000000000190300",
        "0000000000000000000081a4",
    ),
    F: (
        FileMeta(0, 0, stat.S_IFREG | 0o4755, ((b"user.a", b"1"), (b"user.b", b"two"))),
        b"hello\n",
        "000000300000000000000000000000060000000000000000000089ed0000000000757365722e61003107"
        "757365722e620074776f07091419cb48cdc9c9e70200",
        "0000000000000000000089ed757365722e61003107757365722e620074776f070914",
    ),
    L: (
        FileMeta(7, 8, stat.S_IFLNK | 0o777, (), "f"),
        b"",
        "0000001b00000000000000000000000000000007000000080000a1ff0000000066001a",
        "00000007000000080000a1ff",
    ),
    U: (
        FileMeta(1000, 1001, stat.S_IFREG | 0o640),
        b"x",
        "0000001a000000000000000000000001000003e8000003e9000081a0000000000019ab0000",
        "000003e8000003e9000081a0",
    ),
}
