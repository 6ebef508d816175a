"""What the service manager is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.sync import notify


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_what_is_sent(manager: socket.socket) -> None:
    assert notify.notify("READY=1", "STATUS=two\nREADY=0")
    assert manager.recv(1000) == b"READY=1\nSTATUS=two READY=0"
    assert notify.reloading()
    name, _, monotonic = manager.recv(1000).decode().partition("\n")
    assert name == "RELOADING=1" and monotonic.startswith("MONOTONIC_USEC=")


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"bootc-py-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify.notify("READY=1")
        assert receiver.recv(1000) == b"READY=1"


@pytest.mark.parametrize("place", [None, "", "relative", "vsock:2:1", "/no/such/socket"])
def test_nobody_to_tell(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if place is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    assert not notify.notify("READY=1")


WATCHDOG = {
    ("", ""): None,
    ("30000000", ""): 30.0,
    ("30000000", str(os.getpid())): 30.0,
    ("30000000", "1"): None,
    ("0", ""): None,
    ("-1", ""): None,
    ("x", ""): None,
}


@pytest.mark.parametrize("case", range(len(WATCHDOG)))
def test_how_often_it_wants_to_hear(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (usec, pid), seconds = list(WATCHDOG.items())[case]
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert notify.watchdog_seconds() == seconds
