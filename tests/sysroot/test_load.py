"""Reading a sysroot: boot order, versions, and what is wrong with a part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import BridgeError, NotFound, UsageError
from bridge.sysroot.rollback import rollback_deployment
from bridge.sysroot.sysroot import State, Sysroot, check_stateroot

from .conftest import BOOTCSUM, Fake

A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_deployments_come_in_boot_order(fake: Fake, sysroot: Sysroot) -> None:
    fake.entry(A, 1, name="ostree-1-default.conf")
    fake.entry(B, 10, serial=3, options='root=x "a b"')
    fake.entry(C, 9, stateroot="other")
    (fake.path / "boot/loader.1/entries/other.conf").write_text("title not ours\n")
    state = sysroot.load()
    assert (state.bootversion, state.subbootversion) == (1, 1)
    assert [(each.name, each.index) for each in state.deployments] == [
        (f"{B}.3", 0),
        (f"{C}.0", 1),
        (f"{A}.0", 2),
    ]
    first = state.deployments[0]
    assert first.kargs == ("root=x", '"a b"')
    assert first.bootcsum == BOOTCSUM
    assert first.origin is not None and first.origin.get("origin", "refspec") == "x"
    assert state.booted is None
    assert state.current is first
    assert state.merge_deployment("other") is state.deployments[1]
    assert state.merge_deployment("none") is None
    assert rollback_deployment(state) is state.deployments[2], "of the same stateroot"


def test_an_empty_sysroot(sysroot: Sysroot, fake: Fake) -> None:
    state = sysroot.load()
    assert (state.deployments, state.problems, state.current) == ((), (), None)
    assert rollback_deployment(state) is None
    (fake.path / "boot/loader").unlink()
    assert sysroot.load().bootversion == 0


@pytest.mark.parametrize(
    ("origin", "problem"),
    [(None, "no origin file"), ("nonsense", "cannot be read"), ("\udcff", "cannot be read")],
)
def test_an_origin_that_cannot_be_read(
    fake: Fake, sysroot: Sysroot, origin: str | None, problem: str
) -> None:
    root = fake.entry(A, 2, origin=None)
    fake.entry(B, 1)
    if origin is not None:
        root.with_name(f"{root.name}.origin").write_bytes(origin.encode(errors="surrogateescape"))
    state = sysroot.load()
    assert [each.checksum for each in state.deployments] == [A, B]
    assert problem in state.deployments[0].problem
    assert (state.deployments[0].pinned, state.deployments[0].image_reference) == (False, None)
    assert state.deployments[1].problem == ""


def break_link(path: Path) -> None:
    (path / f"ostree/boot.1.1/default/{BOOTCSUM}/0").unlink()


def break_target(path: Path) -> None:
    link = path / f"ostree/boot.1.1/default/{BOOTCSUM}/0"
    link.unlink()
    link.symlink_to("../../../deploy/default/deploy/nonsense")


def break_directory(path: Path) -> None:
    (path / f"ostree/deploy/default/deploy/{A}.0").rmdir()


def break_options(path: Path) -> None:
    (path / "boot/loader.1/entries/ostree-2.conf").write_text("title x\n")


def break_bytes(path: Path) -> None:
    (path / "boot/loader.1/entries/ostree-2.conf").write_bytes(b"title \xff\n")


def break_size(path: Path) -> None:
    (path / "boot/loader.1/entries/ostree-2.conf").write_bytes(b"x" * 70000)


@pytest.mark.parametrize(
    "damage",
    [break_link, break_target, break_directory, break_options, break_bytes, break_size],
)
def test_an_entry_that_cannot_be_read_costs_that_one(
    fake: Fake, sysroot: Sysroot, damage: object
) -> None:
    fake.entry(A, 2)
    fake.entry(B, 1)
    assert callable(damage)
    damage(fake.path)
    state = sysroot.load()
    assert [(each.checksum, each.index) for each in state.deployments] == [(B, 0)]
    assert len(state.problems) == 1
    assert state.problems[0].startswith("boot entry ostree-2.conf: ")


@pytest.mark.parametrize(
    ("target", "message"), [("loader.2", "points at 'loader.2'"), (None, "no symbolic link")]
)
def test_a_loader_that_is_not_ostrees(
    fake: Fake, sysroot: Sysroot, target: str | None, message: str
) -> None:
    (fake.path / "boot/loader").unlink()
    if target is None:
        (fake.path / "boot/loader").mkdir()
    else:
        (fake.path / "boot/loader").symlink_to(target)
    with pytest.raises(BridgeError, match=message):
        sysroot.load()


def test_no_sysroot(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no OSTree sysroot"):
        Sysroot.open(tmp_path)
    with pytest.raises(NotFound, match="is no OSTree sysroot"):
        Sysroot.open(tmp_path / "missing")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "a b", "a\nb"])
def test_names_that_no_stateroot_can_have(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        check_stateroot(name)
    assert check_stateroot("fedora-coreos_1.x") == "fedora-coreos_1.x"


def test_an_order_that_is_replaced_while_it_is_read(
    fake: Fake, sysroot: Sysroot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader takes no lock: what it read may be gone before it is done."""
    fake.entry(A, 2)
    fake.entry(B, 1)
    boot, links = fake.path / "boot", fake.path / "ostree"
    load = Sysroot._load
    reads = 0

    def replaced(self: Sysroot) -> State:
        nonlocal reads
        reads += 1
        if reads == 1:
            # The way of a writer: everything new beside the old, one rename, the old removed.
            (links / "boot.1.1").rename(links / "boot.0.1")
            (links / "boot.0").symlink_to("boot.0.1")
            (boot / "loader.1").rename(boot / "loader.0")
            for entry in (boot / "loader.0/entries").iterdir():
                entry.write_text(entry.read_text().replace("/boot.1/", "/boot.0/"))
            (boot / "loader").unlink()
            (boot / "loader").symlink_to("loader.0")
            (links / "boot.1").unlink()
            return State(1, 1, ())
        return load(self)

    monkeypatch.setattr(Sysroot, "_load", replaced)
    state = sysroot.load()
    assert (state.bootversion, state.subbootversion, state.problems) == (0, 1, ())
    assert [each.checksum for each in state.deployments] == [A, B]
    assert reads == 2
