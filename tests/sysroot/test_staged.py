"""What is staged for the shutdown: the file in /run, and what it means for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.ostree import variant
from bridge.ostree.variant import Variant
from bridge.sysroot import staged, staging, systemd
from bridge.sysroot import sysroot as sysroot_module
from bridge.sysroot.cleanup import cleanup
from bridge.sysroot.deploy import Stage
from bridge.sysroot.rollback import rollback
from bridge.sysroot.staged import Staged
from bridge.sysroot.sysroot import Sysroot

from .conftest import Fake

A, B, C = "a" * 64, "b" * 64, "c" * 64
SUM = "d" * 64


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /run/ostree of its own."""
    place = tmp_path / "run-ostree"
    monkeypatch.setattr(staged, "RUN", place)
    return place


@pytest.fixture
def booted(fake: Fake, sysroot: Sysroot, monkeypatch: pytest.MonkeyPatch) -> Sysroot:
    """B runs, A is what it can be rolled back to, and the sysroot is that of this machine."""
    root = fake.entry(B, 2)
    fake.entry(A, 1)
    status = root.stat()
    sysroot.__dict__["is_booted"] = True
    monkeypatch.setattr(sysroot_module, "_booted_directory", lambda: (status.st_dev, status.st_ino))
    return sysroot


def stage(fake: Fake, checksum: str = C, *, locked: bool = False) -> Path:
    """Stages a deployment; its directory."""
    tree = fake.path / f"ostree/deploy/default/deploy/{checksum}.0"
    tree.mkdir()
    tree.with_name(f"{checksum}.0.origin").write_text(
        "[origin]\ncontainer-image-reference=ostree-unverified-registry:example.org/new:1\n"
    )
    staged.write(
        Staged("default", checksum, 0, SUM, ("default", f"{B}.0"), ("quiet", "a=b"), (), locked)
    )
    return tree


def test_the_file_is_what_libostree_writes(run: Path) -> None:
    found = Staged("os", A, 3, SUM, ("os", f"{B}.1"), ("quiet", 'x="a b"'), (("x-y", "z"),))
    document = variant.decode("a{sv}", staged.render(found))
    assert list(document) == ["target", "merge-deployment", "kargs", "bootconfig-extra"]
    assert document["target"] == Variant(
        "a{sv}",
        {
            "name": Variant("s", f"{A}.3"),
            "osname": Variant("s", "os"),
            "bootcsum": Variant("s", SUM),
        },
    )
    assert document["kargs"] == Variant("as", ["quiet", 'x="a b"'])
    assert document["bootconfig-extra"] == Variant("a{ss}", {"x-y": "z"})


@given(
    st.builds(
        Staged,
        st.sampled_from(["os", "default"]),
        st.sampled_from([A, B]),
        st.integers(0, 99),
        st.just(SUM),
        st.none() | st.just(("os", f"{C}.0")),
        st.none() | st.lists(st.sampled_from(["a", "b=c", 'd="e f"'])).map(tuple),
        st.sampled_from([(), (("k", "v"),)]),
        st.booleans(),
    )
)
def test_it_is_read_back(found: Staged) -> None:
    assert staged.parse(staged.render(found)) == found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        variant.encode("a{sv}", {"target": Variant("s", "x")}),
        variant.encode("a{sv}", {"target": Variant("a{sv}", {"name": Variant("s", f"{A}.0")})}),
        variant.encode(
            "a{sv}",
            {
                "target": Variant(
                    "a{sv}",
                    {
                        "name": Variant("s", "../../x"),
                        "osname": Variant("s", "o"),
                        "bootcsum": Variant("s", ""),
                    },
                )
            },
        ),
    ],
)
def test_what_cannot_be_read_keeps_everything_as_it_is(
    fake: Fake, booted: Sysroot, run: Path, data: bytes
) -> None:
    tree = stage(fake)
    (run / "staged-deployment").write_bytes(data)
    with pytest.raises(BridgeError):
        staged.parse(data)
    state = booted.load()
    assert state.staged is None and "the staged deployment" in state.problems[0]
    cleanup(booted, state)
    assert tree.is_dir()


def test_what_is_staged_boots_next_and_is_kept_by_a_cleanup(
    fake: Fake, booted: Sysroot, run: Path
) -> None:
    tree = stage(fake)
    state = booted.load()
    assert state.staged is not None and state.staged.checksum == C
    assert state.staged.image_reference == "ostree-unverified-registry:example.org/new:1"
    assert state.next is state.staged and not state.staged_locked
    assert [each.checksum for each in state.all] == [C, B, A]
    cleanup(booted, state)
    assert tree.is_dir()
    (run / "staged-deployment").unlink()
    cleanup(booted, booted.load())
    assert not tree.exists()


def test_a_rollback_holds_it_back_and_undoing_that_lets_it_go(
    fake: Fake, booted: Sysroot, run: Path
) -> None:
    tree = stage(fake)
    rollback(booted)
    state = booted.load()
    assert state.staged is not None and state.staged_locked
    assert state.next is not None and state.next.checksum == A
    assert tree.is_dir()
    rollback(booted)
    state = booted.load()
    assert not state.staged_locked and state.next is state.staged


def test_what_was_only_downloaded_stays_so_through_a_rollback(
    fake: Fake, booted: Sysroot, run: Path
) -> None:
    stage(fake, locked=True)
    for _ in range(2):
        rollback(booted)
        assert booted.load().staged_locked
    staged.unlock()
    state = booted.load()
    assert not state.staged_locked and state.next is state.staged


def test_unlocking_keeps_what_we_do_not_know(run: Path) -> None:
    target = Staged("os", A, 0, SUM, None, None)
    document = variant.decode("a{sv}", staged.render(target))
    others = {"overlay-initrds": Variant("as", ["x.img"]), "later": Variant("t", 7)}
    run.mkdir()
    (run / "staged-deployment").write_bytes(
        variant.encode("a{sv}", {**document, "locked": Variant("b", True), **others})
    )
    found = staged.read()
    assert found is not None and found.locked
    staged.unlock()
    assert staged.read() == target
    data = (run / "staged-deployment").read_bytes()
    assert variant.decode("a{sv}", data) == {**document, **others}
    staged.lock()
    found = staged.read()
    assert found is not None and found.locked
    assert (run / "staged-deployment").read_bytes() == data


def test_without_kernel_arguments_it_has_those_of_its_merge_deployment(
    fake: Fake, booted: Sysroot, run: Path
) -> None:
    stage(fake)
    for merge, expected in ((f"{B}.0", ("rw",)), (f"{C}.7", ())):
        staged.write(Staged("default", C, 0, SUM, ("default", merge), None))
        state = booted.load()
        assert state.staged is not None and state.staged.kargs == expected


def test_another_takes_its_place(fake: Fake, booted: Sysroot, run: Path) -> None:
    first = stage(fake, locked=True)
    second = stage(fake, "e" * 64)
    state = booted.load()
    assert state.staged is not None and state.staged.checksum == "e" * 64
    assert not state.staged_locked, "the lock was the other's"
    cleanup(booted, state)
    assert second.is_dir() and not first.exists()


@pytest.mark.parametrize("starts", [True, False])
def test_where_nothing_can_be_staged_that_is_told(
    booted: Sysroot, run: Path, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    def start(unit: str) -> None:
        assert unit == "ostree-finalize-staged.service"
        if not starts:
            raise BridgeError("systemctl start: Unit not found")

    monkeypatch.setattr(systemd, "is_running", lambda: True)
    monkeypatch.setattr(systemd, "start_and_wait", start)
    told: list[str] = []
    found = staging.how(booted, told.append, locked=True)
    if starts:
        assert (found, told) == (Stage.LOCKED, [])
    else:
        assert found is None and len(told) == 1
        assert "written at once" in told[0] and "systemctl status" in told[0]
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    assert staging.how(booted, told.append) is None and len(told) == (not starts)
