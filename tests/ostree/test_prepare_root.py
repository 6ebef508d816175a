"""prepare-root.conf as libostree takes it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridge.errors import BridgeError, MalformedImage
from bridge.ostree import prepare_root
from bridge.ostree.objects import DirMeta, FileMeta
from bridge.ostree.prepare_root import Composefs
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree

REGULAR, LINK = FileMeta(0, 0, stat.S_IFREG | 0o644), stat.S_IFLNK | 0o777
CONF = "ostree/prepare-root.conf"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Composefs.NO),
        ("[sysroot]\nreadonly=true\n", Composefs.NO),
        ("[composefs]\n", Composefs.NO),
        ("[composefs]\nenabled=no\n", Composefs.NO),
        ("[composefs]\nenabled=false\n", Composefs.NO),
        ("[composefs]\nenabled=0\n", Composefs.NO),
        ("[composefs]\nenabled = yes\n", Composefs.YES),
        ("[composefs]\nenabled=true\n", Composefs.YES),
        ("[composefs]\nenabled=1\n", Composefs.YES),
        ("[composefs]\nenabled=maybe\n", Composefs.MAYBE),
        ("[composefs]\nenabled=verity\n", Composefs.VERITY),
        ("[composefs]\nkeypath=/x\nenabled=signed\n", Composefs.SIGNED),
        ("[composefs]\nenabled=no\nenabled=yes\n", Composefs.YES),
    ],
)
def test_values(text: str, expected: Composefs) -> None:
    assert prepare_root.parse(text) is expected


@pytest.mark.parametrize("value", ["", "Yes", "on", "yes ", "yes no", "verity,signed"])
def test_a_value_that_stops_the_boot_is_none(value: str) -> None:
    with pytest.raises(BridgeError, match=r"\[composefs\] enabled=.* is none of no, maybe, yes"):
        prepare_root.parse(f"[composefs]\nenabled={value}\n")


def tree(transaction: Transaction, files: dict[str, str]) -> Tree:
    """A tree with these files; one of which the text begins with `->` is a link."""
    meta = transaction.write_dirmeta(DirMeta(0, 0, stat.S_IFDIR | 0o755))
    top = Tree(meta)
    for path, text in files.items():
        *parents, name = path.split("/")
        here = top
        for each in parents:
            if each not in here.dirs:
                here.set_dir(each, Tree(meta))
            here = here.dirs[each]
        if text.startswith("->"):
            here.set_file(name, transaction.write_link(FileMeta(0, 0, LINK, (), text[2:])))
        else:
            here.set_file(name, transaction.write_payload(REGULAR, text.encode("latin-1")))
    return top


ASKS = "[composefs]\nenabled=%s\n"


@pytest.mark.parametrize(
    ("usr", "etc", "expected"),
    [
        (None, None, Composefs.NO),
        (ASKS % "yes", None, Composefs.YES),
        (None, ASKS % "maybe", Composefs.MAYBE),
        (ASKS % "yes", ASKS % "no", Composefs.NO),
        # The second file takes the first one's place, as a whole.
        (ASKS % "yes", "[sysroot]\nreadonly=true\n", Composefs.NO),
    ],
)
def test_the_file_in_etc_takes_the_place_of_the_other(
    tmp_path: Path, usr: str | None, etc: str | None, expected: Composefs
) -> None:
    named = {f"usr/lib/{CONF}": usr, f"etc/{CONF}": etc}
    files = {path: text for path, text in named.items() if text is not None}
    with (
        Repository.create(tmp_path / "repo", "archive") as repo,
        Transaction(repo) as transaction,
    ):
        assert prepare_root.read(transaction, tree(transaction, files)) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense\n", r"/usr/lib/ostree/prepare-root\.conf: .*'nonsense'"),
        (ASKS % "sure", r"/usr/lib/ostree/prepare-root\.conf: .*enabled='sure' is none of"),
        ("\xff\xfe", "is not text"),
        ("->other.conf", "is a link"),
        (f"# {'x' * 2_000_000}", "larger than"),
    ],
)
def test_what_cannot_be_told_is_the_images_fault(tmp_path: Path, text: str, message: str) -> None:
    with (
        Repository.create(tmp_path / "repo", "archive") as repo,
        Transaction(repo) as transaction,
        pytest.raises(MalformedImage, match=message),
    ):
        prepare_root.read(transaction, tree(transaction, {f"usr/lib/{CONF}": text}))
