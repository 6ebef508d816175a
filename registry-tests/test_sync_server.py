"""The sync server as a process: what it tells systemd and scrapers, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import corpus
from rig.ports import free_port
from rig.syncing import Mirror, run_mirror

_SECONDS = 120


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with run_mirror(tmp_path, corpus.made(2, 3)) as running:
        running.config(job="interval: 1h")
        yield running


def ask(port: int, path: str, accept: str = "*/*") -> tuple[int, str]:
    connection = http.client.HTTPConnection(f"127.0.0.1:{port}", timeout=_SECONDS)
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server(mirror: Mirror, tmp_path: Path) -> None:
    port, file = free_port(), mirror.work / "sync.yaml"
    good = file.read_text()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(_SECONDS)
        process = subprocess.Popen(
            mirror.command("server", f"--listen=127.0.0.1:{port}"),
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=")
            assert ask(port, "/readyz") == (200, "ok\n")

            def told(line: str) -> bool:
                return f"\nbootc_py_sync_{line}\n" in ask(port, "/metrics")[1]

            until(lambda: told('runs_total{job="mirror",result="success"} 1'))
            assert told('tags_total{job="mirror",outcome="copied"} 6')
            assert corpus.differences(corpus.made(2, 3), mirror.copy.storage) == []
            text = ask(port, "/metrics", "application/openmetrics-text")[1]
            assert text.endswith("# EOF\n")

            file.write_text(good + "    sorce: nowhere\n")
            until(lambda: told("config_last_reload_successful 0"))
            error = json.loads(ask(port, "/healthz")[1])["configuration"]["error"]
            assert f"{file}:10" in error and "sorce" in error
            file.write_text(good)
            until(lambda: told("config_last_reload_successful 1"))

            mirror.stock(corpus.made(2, 3, changed=[("os/repository-01", "v1.2")]))
            file.write_text(good.replace("interval: 1h", "interval: 1s"))
            process.send_signal(signal.SIGHUP)
            until(lambda: not told('runs_total{job="mirror",result="success"} 1'))
            until(lambda: told('tags_total{job="mirror",outcome="copied"} 7'))
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=_SECONDS)
            messages = []
            manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    messages.append(manager.recv(4096))
            assert messages[-1].startswith(b"STOPPING=1\n")
            assert sum(each.startswith(b"RELOADING=1\n") for each in messages) >= 3
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert "the configuration stays as it was: " in said
        assert "mirror: 6 copied" in said


def test_a_server_that_is_stopped_ends_what_it_is_at(mirror: Mirror) -> None:
    """Every tag that is there is whole, and the next run brings the others alone."""
    content = corpus.made(4, 10)
    mirror.stock(content)
    process = subprocess.Popen(
        mirror.command("server", "--listen=none"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if ": copied" in line:
            break
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    assert process.wait(_SECONDS) == 0, said
    assert corpus.holes(mirror.copy.storage) == []
    (run,) = (mirror.work / "state/history.jsonl").read_text().splitlines()
    assert json.loads(run)["stopped"] is True
    ran = mirror.sync()
    assert ran.done.code == 0, ran.done.err
    assert ran.tags["copied"] < content.tag_count
    assert corpus.differences(content, mirror.copy.storage) == []
