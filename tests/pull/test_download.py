"""Downloads against a client that says what a test tells it to; the real one has its own tests."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from support.images import file, tar

from bridge.errors import BridgeError, NetworkError, NoSpace, VerificationFailed
from bridge.limits import BLOB_BUFFER
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import RegistryReference, parse_registry_reference
from bridge.ostree.repository import Repository
from bridge.pull.download import Downloads
from bridge.pull.streams import tar_stream
from bridge.registry.blob import BlobStream
from bridge.registry.client import Client, WholeBlob
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Turn

REFERENCE = parse_registry_reference("quay.io/a/b:t")
TAR = tar([file("a", os.urandom(600_000))])
BLOB = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(TAR), len(TAR))

Body = Callable[[int], Generator[bytes, None, None]]


@dataclass
class FakeClient:
    """Serves `body(start)` for every blob and remembers where it was asked to start."""

    body: Body
    starts: list[int] = field(default_factory=list)
    ends: list[int | None] = field(default_factory=list)
    opened: list[WholeBlob | None] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def iter_blob(
        self,
        ref: RegistryReference,
        descriptor: Descriptor,
        start: int,
        meter: Meter,
        *,
        end: int | None = None,
        opened: WholeBlob | None = None,
    ) -> Generator[bytes, None, None]:
        assert (ref, descriptor) == (REFERENCE, BLOB)
        self.starts.append(start)
        self.ends.append(end)
        self.opened.append(opened)
        try:
            for chunk in self.body(start):
                meter.add(received=len(chunk))
                yield chunk
        finally:
            self.closed.set()


def whole(start: int) -> Generator[bytes, None, None]:
    for at in range(start, len(TAR), BLOB_BUFFER):
        yield TAR[at : at + BLOB_BUFFER]


def downloads(repo: Repository, body: Body) -> tuple[FakeClient, Downloads]:
    client = FakeClient(body)
    return client, Downloads(cast(Client, client), REFERENCE, repo)


def kept(repo: Repository) -> dict[str, int]:
    directory = Path(repo.path) / "extensions/bootc-py/downloads"
    return {each.name: each.stat().st_size for each in directory.iterdir()}


def leave(repo: Repository, data: bytes) -> None:
    """Have an earlier process leave a part of the blob."""
    with downloads(repo, whole)[1]:
        path = Path(repo.path) / "extensions/bootc-py/downloads" / NAME
        path.write_bytes(data)


NAME = f"sha256-{BLOB.digest.hex}"


def writers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "download"]


def test_a_blob_is_written_read_and_forgotten(repo: Repository) -> None:
    client, blobs = downloads(repo, whole)
    meter = Meter()
    with blobs:
        assert b"".join(blobs.chunks(BLOB, meter)) == TAR
        assert kept(repo) == {NAME: len(TAR)}
        blobs.forget(BLOB)
        blobs.forget(BLOB)
    assert kept(repo) == {} and client.starts == [0] and client.closed.is_set()
    assert meter.received_bytes == len(TAR)
    assert not writers()


@pytest.mark.parametrize("length", [1, BLOB_BUFFER + 7, len(TAR) - 1])
def test_what_an_earlier_process_left_is_not_fetched_again(repo: Repository, length: int) -> None:
    leave(repo, TAR[:length])
    client, blobs = downloads(repo, whole)
    meter = Meter()
    with blobs:
        assert b"".join(blobs.chunks(BLOB, meter)) == TAR
    assert client.starts == [length]
    assert meter.received_bytes == len(TAR) - length


@pytest.mark.parametrize("extra", [b"", b"more than there may be"])
def test_a_blob_that_lies_there_whole_is_not_asked_for(repo: Repository, extra: bytes) -> None:
    leave(repo, TAR + extra)
    client, blobs = downloads(repo, whole)
    with blobs:
        assert b"".join(blobs.chunks(BLOB, Meter())) == TAR
    assert client.starts == []


def test_wrong_bytes_left_behind_do_not_pass(repo: Repository) -> None:
    leave(repo, b"\0" * 1000)
    _, blobs = downloads(repo, whole)
    with blobs, pytest.raises(VerificationFailed):
        b"".join(tar_stream(blobs.chunks(BLOB, Meter()), BLOB, BLOB.digest))


@pytest.mark.parametrize("left", [0, 1, len(TAR), len(TAR) + 1])
def test_what_lay_there_before_is_known_once(repo: Repository, left: int) -> None:
    leave(repo, TAR[:left] + bytes(max(0, left - len(TAR))))
    _, blobs = downloads(repo, whole)
    with blobs:
        assert not blobs.was_resumed(BLOB)
        assert b"".join(blobs.chunks(BLOB, Meter())) == TAR
        assert [blobs.was_resumed(BLOB), blobs.was_resumed(BLOB)] == [left > 0, False]


def test_the_reader_follows_a_slow_writer(repo: Repository) -> None:
    sent: queue.Queue[bytes] = queue.Queue()

    def body(start: int) -> Generator[bytes, None, None]:
        done = 0
        while done < len(TAR):
            chunk = sent.get()
            done += len(chunk)
            yield chunk

    _, blobs = downloads(repo, body)
    with blobs:
        chunks = blobs.chunks(BLOB, Meter())
        sent.put(TAR[:10])
        assert next(chunks) == TAR[:10]
        sent.put(TAR[10:11])
        assert next(chunks) == TAR[10:11]
        sent.put(TAR[11:])
        assert b"".join(chunks) == TAR[11:]


def test_a_reader_that_may_stop_is_not_left_far_behind(repo: Repository) -> None:
    """The writer waits: what it has fetched when the reader stops is known to the byte."""
    reached = threading.Event()

    def body(start: int) -> Generator[bytes, None, None]:
        for at in range(0, len(TAR), 1000):
            if at == 202_000:
                reached.set()  # never before the reader asked for more
            yield TAR[at : at + 1000]

    _, blobs = downloads(repo, body)
    meter = Meter()
    with blobs:
        reader = blobs.chunks(BLOB, meter, ahead=100_000)
        got = next(reader)
        while len(got) < 101_000:
            got += next(reader)
        assert meter.received_bytes <= 202_000 and not reached.is_set()
        rest = b"".join(reader)
    assert got + rest == TAR and meter.received_bytes == len(TAR)


def test_the_last_bytes_are_asked_for_too(repo: Repository) -> None:
    """More of them at once than the writer may be ahead."""

    def body(start: int) -> Generator[bytes, None, None]:
        yield TAR[:-200_000]
        yield TAR[-200_000:]

    _, blobs = downloads(repo, body)
    with blobs:
        assert b"".join(blobs.chunks(BLOB, Meter(), ahead=1000)) == TAR


def test_an_error_comes_after_what_there_is_and_the_rest_comes_next_time(repo: Repository) -> None:
    def breaking(start: int) -> Generator[bytes, None, None]:
        yield TAR[:5000]
        raise NetworkError("reset")

    _, blobs = downloads(repo, breaking)
    seen = b""
    with blobs, pytest.raises(NetworkError, match="reset"):
        for chunk in blobs.chunks(BLOB, Meter()):
            seen += chunk
    assert seen == TAR[:5000] and kept(repo) == {NAME: 5000}
    client, blobs = downloads(repo, whole)
    with blobs:
        assert b"".join(blobs.chunks(BLOB, Meter())) == TAR
    assert client.starts == [5000]


def endless(start: int) -> Generator[bytes, None, None]:
    while True:
        yield TAR[:1]


def test_a_body_that_goes_on_is_an_error_whoever_is_faster(repo: Repository) -> None:
    read = threading.Event()

    def too_long(start: int) -> Generator[bytes, None, None]:
        yield TAR
        read.wait(10)
        raise VerificationFailed("longer than its descriptor says")

    _, blobs = downloads(repo, too_long)
    with blobs, pytest.raises(VerificationFailed, match="longer"):
        got = b""
        for chunk in blobs.chunks(BLOB, Meter()):
            got += chunk
            if got == TAR:
                read.set()


def test_a_reader_that_stops_stops_the_writer(repo: Repository) -> None:
    client, blobs = downloads(repo, endless)
    with blobs:
        chunks = cast("Generator[bytes, None, None]", blobs.chunks(BLOB, Meter()))
        assert next(chunks)
        chunks.close()
        assert client.closed.is_set() and not writers()


def test_no_writer_outlives_the_downloads(repo: Repository) -> None:
    client, blobs = downloads(repo, endless)
    before = len(os.listdir("/proc/self/fd"))
    with blobs:
        blobs.chunks(BLOB, Meter())  # nobody reads
        reading = blobs.chunks(BLOB, Meter())
        next(reading)
    assert client.closed.is_set() and not writers()
    assert len(os.listdir("/proc/self/fd")) == before - 1  # that of the directory


def test_nobody_waits_for_a_peer_that_says_nothing(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.pull.download.PATIENCE", 0.01)
    silence = threading.Event()

    def stalled(start: int) -> Generator[bytes, None, None]:
        yield TAR[:10]
        silence.wait()

    client, blobs = downloads(repo, stalled)
    with blobs:
        chunks = blobs.chunks(BLOB, Meter())
        assert next(chunks) == TAR[:10]
        blobs.stop()
        with pytest.raises(BridgeError, match="cancelled"):
            next(chunks)
        with pytest.raises(BridgeError, match="cancelled"):
            list(blobs.chunks(BLOB, Meter()))  # nor does anything start that is not wanted
    assert writers() and not client.closed.is_set()
    silence.set()
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join()
    assert client.closed.is_set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, BridgeError)],
)
def test_a_full_disk_is_told_as_such(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[BridgeError]
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("bridge.ostree.durable.write_all_at", full)
    _, blobs = downloads(repo, whole)
    with blobs, pytest.raises(kind, match=os.strerror(code)) as raised:
        b"".join(blobs.chunks(BLOB, Meter()))
    assert raised.type is kind


def test_an_empty_blob_needs_no_byte(repo: Repository) -> None:
    empty = Descriptor(BLOB.media_type, Digest.of(b""), 0)
    client, blobs = downloads(repo, whole)
    with blobs:
        assert list(blobs.chunks(empty, Meter())) == []
    assert client.starts == []


def test_a_link_in_the_place_of_a_download_is_not_followed(
    repo: Repository, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    _, blobs = downloads(repo, whole)
    with blobs:
        (Path(repo.path) / "extensions/bootc-py/downloads" / NAME).symlink_to(victim)
        with pytest.raises(OSError, match=r"symbolic links|Too many levels"):
            blobs.chunks(BLOB, Meter())
    assert victim.read_bytes() == b"mine"


# -- tails, and bodies that came unasked -------------------------------------------------------

END = len(TAR) - 100_000


def head(start: int) -> Generator[bytes, None, None]:
    for at in range(start, END, BLOB_BUFFER):
        yield TAR[at : min(at + BLOB_BUFFER, END)]


@pytest.mark.parametrize("body", [head, whole])
@pytest.mark.parametrize("length", [0, 1, END - 1, END, END + 1, len(TAR) - 1, len(TAR)])
def test_a_tail_that_is_here_is_not_fetched(repo: Repository, body: Body, length: int) -> None:
    """Whether a registry keeps to the range or sends all; whatever lay here before."""
    leave(repo, TAR[:length])
    client, blobs = downloads(repo, body)
    with blobs:
        assert b"".join(blobs.chunks(BLOB, Meter(), tail=TAR[END:])) == TAR
        assert (Path(repo.path) / "extensions/bootc-py/downloads" / NAME).read_bytes() == TAR
    assert (client.starts, client.ends) == (([length], [END]) if length < END else ([], []))


def test_a_tail_does_not_make_a_broken_blob_whole(repo: Repository) -> None:
    def breaking(start: int) -> Generator[bytes, None, None]:
        yield TAR[:5000]
        raise NetworkError("reset")

    _, blobs = downloads(repo, breaking)
    with blobs, pytest.raises(NetworkError, match="reset"):
        list(blobs.chunks(BLOB, Meter(), tail=TAR[END:]))
    assert kept(repo) == {NAME: 5000}


@dataclass
class FakeStream:
    """Stands for a body that is on its way."""

    closed: bool = False

    def close(self) -> None:
        self.closed = True


def met() -> tuple[FakeStream, WholeBlob]:
    stream = FakeStream()
    return stream, WholeBlob(cast(Turn, None), cast(BlobStream, stream))


def test_a_body_that_came_unasked_is_the_download(repo: Repository) -> None:
    leave(repo, TAR[:1000])
    client, blobs = downloads(repo, whole)
    (stream, body), (second, late) = met(), met()
    with blobs:
        blobs.adopt(BLOB, Meter(), body)
        blobs.adopt(BLOB, Meter(), late)
        assert second.closed and not stream.closed
        assert b"".join(blobs.chunks(BLOB, Meter(), tail=TAR[END:])) == TAR
        assert (client.starts, client.opened) == ([0], [body])
        assert not blobs.was_resumed(BLOB)
        # It was used up: another reader has the file.
        assert b"".join(blobs.chunks(BLOB, Meter())) == TAR
    assert client.starts == [0]


def test_a_body_that_nobody_reads_comes_in_all_the_same(repo: Repository) -> None:
    client, blobs = downloads(repo, whole)
    with blobs:
        blobs.adopt(BLOB, Meter(), met()[1])
        assert client.closed.wait(10)
    assert kept(repo) == {NAME: len(TAR)}


def test_no_body_is_taken_in_at_the_end(repo: Repository) -> None:
    client, blobs = downloads(repo, whole)
    stream, body = met()
    with blobs:
        blobs.stop()
        blobs.adopt(BLOB, Meter(), body)
    assert stream.closed and client.starts == []
