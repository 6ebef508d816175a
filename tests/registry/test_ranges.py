"""Parts of blobs, from a registry that serves them, refuses them, or sends something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from bridge import limits
from bridge.errors import BridgeError, NetworkError, NotFound, RangeRefused
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_CONFIG, Descriptor
from bridge.oci.reference import RegistryReference, parse_registry_reference
from bridge.registry.client import WholeBlob
from bridge.registry.meter import RateLimit
from bridge.registry.observed import HostSpeed
from bridge.registry.registriesconf import parse

BLOB = bytes(range(256)) * 1200
OTHER = bytes(reversed(range(256))) * 100


def descriptor(data: bytes) -> Descriptor:
    return Descriptor(OCI_CONFIG, Digest.of(data), len(data))


def path(data: bytes) -> str:
    return f"/v2/a/b/blobs/{Digest.of(data)}"


def reference(server: Any) -> RegistryReference:
    return parse_registry_reference(f"{server.host}/a/b:1")


def ask(made: Any, server: Any, start: int, end: int, data: bytes = BLOB, **more: Any) -> bytes:
    return b"".join(made.client.iter_range(reference(server), descriptor(data), start, end, **more))


def ranges(server: Any) -> list[str | None]:
    return [seen.headers.get("range") for seen in server.seen]


def within(data: bytes, server: Any, **more: Any) -> Callable[[Any], Any]:
    """Serve the range that is asked for, with `more` for its Answer."""

    def serve(seen: Any) -> Any:
        answer = server.ranged(data)(seen)
        for name, value in more.items():
            setattr(answer, name, value)
        return answer

    return serve


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (0, len(BLOB)), (1000, 2000), (len(BLOB) - 1, len(BLOB))]
)
def test_a_part_is_asked_for_alone(server: Any, rig: Any, start: int, end: int) -> None:
    server.on(path(BLOB), server.ranged(BLOB))
    made = rig()
    mine = made.meter.child()
    assert ask(made, server, start, end, meter=mine) == BLOB[start:end]
    assert ranges(server) == [f"bytes={start}-{end - 1}"]
    assert (mine.requests, mine.received_bytes, mine.retries) == (1, end - start, 0)
    assert made.meter.received_bytes == server.body_bytes


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"Content-Range": "bytes 999-1999/307200"}),
        (206, {"Content-Range": "bytes 1000-2000/307200"}),
        (206, {"Content-Range": "bytes 1000-1998/307200"}),
        (206, {"Content-Range": "bytes 1000-1999/307201"}),
        (206, {"Content-Range": "bytes=1000-1999"}),
        (206, {}),
        (
            206,
            {
                "Content-Range": "bytes 1000-1999/307200",
                "Content-Type": "multipart/byteranges; boundary=x",
            },
        ),
        (400, {}),
        (403, {}),
        (405, {}),
        (416, {"Content-Range": "bytes */307200"}),
        (501, {}),
    ],
)
def test_a_host_that_serves_no_ranges_is_asked_once(
    server: Any, rig: Any, status: int, headers: dict[str, str]
) -> None:
    server.on(path(BLOB), server.Answer(status, BLOB[1000:2000], headers))
    server.on(path(OTHER), server.ranged(OTHER))
    made = rig()
    for _ in range(2):
        with pytest.raises(RangeRefused, match=server.host):
            ask(made, server, 1000, 2000)
    with pytest.raises(RangeRefused):
        ask(made, server, 0, 5, OTHER)
    assert len(server.seen) == made.meter.requests == 1
    assert made.meter.received_bytes == server.body_bytes == 1000
    assert made.sleeps == []


def test_a_longer_part_than_asked_for_is_refused(server: Any, rig: Any) -> None:
    server.on(path(BLOB), within(BLOB, server, body=BLOB[1000:3000], announced=False))
    made = rig()
    with pytest.raises(RangeRefused, match="something else than the part"):
        ask(made, server, 1000, 2000)
    assert made.meter.received_bytes <= 1001 and len(server.seen) == 1


def test_a_whole_blob_instead_is_used_once_and_not_asked_for_again(server: Any, rig: Any) -> None:
    server.on(path(BLOB), server.Answer(200, BLOB))
    made = rig()
    met: list[WholeBlob] = []
    for _ in range(2):
        with pytest.raises(RangeRefused, match=server.host):
            ask(made, server, 1000, 2000, on_whole=met.append)
    (whole,) = met
    body = made.client.iter_blob(reference(server), descriptor(BLOB), opened=whole)
    assert b"".join(body) == BLOB
    assert made.meter.requests == len(server.seen) == 1
    assert made.meter.received_bytes == server.body_bytes == len(BLOB)


def test_a_whole_blob_that_breaks_is_gone_on_with(server: Any, rig: Any) -> None:
    server.on(path(BLOB), server.Answer(200, BLOB, sent=100_000), server.ranged(BLOB))
    made = rig()
    met: list[WholeBlob] = []
    with pytest.raises(RangeRefused):
        ask(made, server, 1000, 2000, on_whole=met.append)
    body = made.client.iter_blob(reference(server), descriptor(BLOB), opened=met[0])
    assert b"".join(body) == BLOB
    assert ranges(server) == ["bytes=1000-1999", "bytes=100000-"]
    assert made.meter.received_bytes == server.body_bytes == len(BLOB)


def test_a_whole_blob_that_nobody_wants_is_not_taken_in(server: Any, rig: Any) -> None:
    server.on(path(BLOB), server.Answer(200, BLOB))
    made = rig()
    with pytest.raises(RangeRefused):
        ask(made, server, 1000, 2000)
    assert made.meter.received_bytes == 0


def test_who_asks_first_asks_for_all(server: Any, rig: Any) -> None:
    """However many do at once: nobody else asks a host of which it is not known yet."""
    asked, answer = threading.Event(), threading.Event()

    def slow(seen: Any) -> Any:
        asked.set()
        answer.wait(10)
        return server.Answer(501)

    server.on(path(BLOB), slow)
    server.on(path(OTHER), slow)
    made = rig()
    met: list[BridgeError] = []

    def one(data: bytes) -> None:
        try:
            ask(made, server, 0, 10, data)
        except BridgeError as error:
            met.append(error)

    threads = [threading.Thread(target=one, args=(data,)) for data in (BLOB, OTHER, BLOB, OTHER)]
    threads[0].start()
    asked.wait(10)
    for thread in threads[1:]:
        thread.start()
    answer.set()
    for thread in threads:
        thread.join()
    assert [type(error) for error in met] == [RangeRefused] * 4
    assert len(server.seen) == 1


def test_nobody_waits_once_it_is_known(server: Any, rig: Any) -> None:
    """Those who waited for the first to find out ask side by side."""
    together = threading.Barrier(4)

    def serve(seen: Any) -> Any:
        if seen.headers["range"] != "bytes=0-9":
            together.wait(10)
        return server.ranged(BLOB)(seen)

    asked, answer = threading.Event(), threading.Event()

    def first(seen: Any) -> Any:
        asked.set()
        answer.wait(10)
        return server.ranged(BLOB)(seen)

    server.on(path(BLOB), first, serve)
    made = rig()
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda at=at: got.append(ask(made, server, at, at + 10)))
        for at in (0, 10, 20, 30, 40)
    ]
    threads[0].start()
    asked.wait(10)
    for thread in threads[1:]:
        thread.start()
    answer.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(BLOB[at : at + 10] for at in (0, 10, 20, 30, 40))
    assert len(server.seen) == 5


def test_a_part_that_breaks_is_gone_on_with_where_it_broke(server: Any, rig: Any) -> None:
    server.on(
        path(BLOB),
        within(BLOB, server, sent=10),
        server.Answer(503),
        within(BLOB, server, sent=0),
        server.ranged(BLOB),
    )
    made = rig()
    assert ask(made, server, 1000, 2000) == BLOB[1000:2000]
    assert ranges(server) == ["bytes=1000-1999"] + ["bytes=1010-1999"] * 3
    assert made.meter.received_bytes == server.body_bytes == 1000
    assert (made.meter.requests, made.meter.retries, len(made.sleeps)) == (4, 3, 3)


def test_a_part_that_always_breaks_ends_in_an_error(server: Any, rig: Any) -> None:
    server.on(path(BLOB), within(BLOB, server, sent=0))
    made = rig()
    with pytest.raises(NetworkError, match=server.host):
        ask(made, server, 1000, 2000)
    assert made.meter.requests == 1 + limits.RETRIES
    # It serves them: that it is slow of speech is another matter.
    server.on(path(BLOB), server.ranged(BLOB))
    assert ask(made, server, 0, 10) == BLOB[:10]


def test_ranges_that_are_refused_in_the_middle(server: Any, rig: Any) -> None:
    server.on(path(BLOB), within(BLOB, server, sent=10), server.Answer(416))
    made = rig()
    chunks = made.client.iter_range(reference(server), descriptor(BLOB), 0, 2000)
    assert next(chunks) == BLOB[:10]
    with pytest.raises(RangeRefused):
        next(chunks)


def test_a_missing_blob_is_not_found(server: Any, rig: Any) -> None:
    made = rig()
    with pytest.raises(NotFound):
        ask(made, server, 0, 10)


# -- where redirects lead ----------------------------------------------------------------------


@pytest.fixture
def storage(new_server: Any, server: Any) -> Any:
    """The server that `server` sends its clients on to: `/1`, `/2` ..., a new URL each time."""
    found = new_server()
    count = iter(range(1, 100))

    def redirect(seen: Any) -> Any:
        return server.Answer(307, b"", {"Location": f"http://{found.host}/{next(count)}?sig=a%2Fb"})

    server.on(path(BLOB), redirect)
    found.on("/1", found.ranged(BLOB))
    found.on("/2", found.ranged(BLOB))
    return found


def test_where_a_redirect_led_is_asked_next(server: Any, storage: Any, rig: Any) -> None:
    made = rig(creds="ann:s3cret")
    server.rules[path(BLOB)].insert(
        0, server.Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    )
    for start in (0, 5000, 10_000):
        assert ask(made, server, start, start + 10) == BLOB[start : start + 10]
    assert len(server.seen) == 2 and server.authorizations()[1] is not None
    assert storage.paths() == ["/1?sig=a%2Fb"] * 3
    assert storage.authorizations() == [None] * 3
    assert made.meter.requests == 5
    assert made.meter.received_bytes == server.body_bytes + storage.body_bytes


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_url_that_has_run_out_is_made_anew(
    server: Any, storage: Any, rig: Any, status: int
) -> None:
    storage.on("/1", storage.ranged(BLOB), storage.Answer(status, b"expired"))
    made = rig()
    for start in (0, 5000, 10_000):
        assert ask(made, server, start, start + 10) == BLOB[start : start + 10]
    assert [where[:2] for where in storage.paths()] == ["/1", "/1", "/2", "/2"]
    assert len(server.seen) == 2
    assert (made.meter.requests, made.meter.retries, made.sleeps) == (6, 1, [])
    assert made.meter.received_bytes == server.body_bytes + storage.body_bytes


def test_a_storage_that_fails_is_looked_up_anew(server: Any, storage: Any, rig: Any) -> None:
    storage.on("/1", storage.ranged(BLOB), storage.Answer(503))
    made = rig()
    for start in (0, 5000):
        assert ask(made, server, start, start + 10) == BLOB[start : start + 10]
    assert [where[:2] for where in storage.paths()] == ["/1", "/1", "/2"]
    assert (made.meter.retries, len(made.sleeps)) == (1, 1)


def test_a_storage_that_is_gone_is_looked_up_anew(
    server: Any, storage: Any, rig: Any, new_server: Any
) -> None:
    made = rig()
    assert ask(made, server, 0, 10) == BLOB[:10]
    storage.close()
    made.transport.close()  # and its connection with it
    other = new_server()
    other.on("/x", other.ranged(BLOB))
    server.on(path(BLOB), server.Answer(307, b"", {"Location": f"http://{other.host}/x"}))
    assert ask(made, server, 20, 30) == BLOB[20:30]
    assert (made.meter.retries, len(other.seen)) == (1, 1)


def test_a_url_that_never_was_any_good_is_an_end(server: Any, storage: Any, rig: Any) -> None:
    """The registry is believed no longer than its tries last."""
    server.on(path(BLOB), server.Answer(307, b"", {"Location": f"http://{storage.host}/none"}))
    storage.on("/none", storage.Answer(403))
    made = rig()
    with pytest.raises(RangeRefused, match="403"):
        ask(made, server, 0, 10)
    assert len(storage.seen) == 1 + limits.RETRIES


# -- mirrors -----------------------------------------------------------------------------------


@pytest.fixture
def mirrored(new_server: Any, server: Any, rig: Any) -> tuple[Any, Any]:
    """A rig for which `server` has a mirror, and that mirror."""
    mirror = new_server()
    conf = parse(
        f'[[registry]]\nlocation = "{server.host}"\n'
        f'[[registry.mirror]]\nlocation = "{mirror.host}"\n',
        "x.conf",
    )
    mirror.on(path(BLOB), mirror.ranged(BLOB))
    server.on(path(BLOB), server.ranged(BLOB))
    return rig(registries=conf), mirror


def test_a_mirror_serves_until_it_fails(server: Any, mirrored: tuple[Any, Any]) -> None:
    made, mirror = mirrored
    assert ask(made, server, 0, 10) == BLOB[:10]
    mirror.on(path(BLOB), within(BLOB, mirror, sent=10))
    assert ask(made, server, 0, 100) == BLOB[:100]
    assert ranges(server) == [f"bytes={10 * (1 + limits.RETRIES)}-99"]
    assert "going on with" in made.told[-1]
    assert ask(made, server, 7, 8) == BLOB[7:8]
    assert len(server.seen) == 2


def test_a_mirror_that_serves_no_parts_is_still_the_mirror(
    server: Any, mirrored: tuple[Any, Any]
) -> None:
    made, mirror = mirrored
    mirror.on(path(BLOB), mirror.Answer(501))
    with pytest.raises(RangeRefused):
        ask(made, server, 0, 10)
    assert server.seen == [] and len(mirror.seen) == 1


def test_wrong_parts_of_a_mirror_are_asked_of_the_next(
    server: Any, mirrored: tuple[Any, Any]
) -> None:
    made, mirror = mirrored
    ask(made, server, 0, 10)
    assert made.client.distrust(reference(server), Digest.of(BLOB))
    assert ask(made, server, 0, 10) == BLOB[:10]
    assert (len(mirror.seen), len(server.seen)) == (1, 1)


# -- all but the tail --------------------------------------------------------------------------


def head(made: Any, server: Any, end: int, start: int = 0) -> bytes:
    return b"".join(made.client.iter_blob(reference(server), descriptor(BLOB), start, end=end))


def test_a_blob_without_its_tail(server: Any, rig: Any) -> None:
    server.on(path(BLOB), within(BLOB, server, sent=1000), server.ranged(BLOB))
    made = rig()
    assert head(made, server, 300_000) == BLOB[:300_000]
    assert ranges(server) == ["bytes=0-299999", "bytes=1000-299999"]
    assert made.meter.received_bytes == server.body_bytes == 300_000


@pytest.mark.parametrize("status", [200, 416, 501])
def test_all_of_it_where_parts_are_not_served(server: Any, rig: Any, status: int) -> None:
    refusing = server.Answer(status, BLOB if status == 200 else b"")
    server.on(path(BLOB), refusing, server.Answer(200, BLOB))
    made = rig()
    assert head(made, server, 300_000) == BLOB
    assert made.meter.received_bytes == len(BLOB)
    assert len(server.seen) == (1 if status == 200 else 2)


def test_no_range_is_asked_of_a_host_that_refused_one(server: Any, rig: Any) -> None:
    server.on(path(BLOB), server.Answer(501), server.Answer(200, BLOB))
    made = rig()
    with pytest.raises(RangeRefused):
        ask(made, server, 0, 10)
    assert head(made, server, 300_000) == BLOB
    assert ranges(server) == ["bytes=0-9", None]


def test_parts_keep_to_the_rate(server: Any, rig: Any) -> None:
    """All of them together, to the second."""
    server.on(path(BLOB), server.ranged(BLOB))
    made = rig()
    slept: list[float] = []
    made.transport._rate = RateLimit(1000, clock=lambda: sum(slept), sleep=slept.append)
    for at in range(0, 10_000, 1000):
        assert ask(made, server, at, at + 1000) == BLOB[at : at + 1000]
    assert 10 - RateLimit.BURST <= sum(slept) <= 10


# -- what was seen of a host -------------------------------------------------------------------


def test_a_round_trip_is_known_of_a_warm_connection_only(server: Any, rig: Any) -> None:
    server.on(path(BLOB), server.ranged(BLOB))
    made = rig()
    ask(made, server, 0, 10)
    assert made.client.observed(reference(server)) == (None, None)
    ask(made, server, 0, 10)
    seen = made.client.observed(reference(server))
    assert seen.round_trip is not None and 0 < seen.round_trip < 5
    assert seen.bytes_per_second is None


def test_figures_of_a_host() -> None:
    now = 0.0
    speed = HostSpeed(lambda: now)
    for seconds in (0.5, 0.2, 0.3):
        speed.answered(seconds)
    assert speed.observed() == (0.2, None)
    speed.begin()
    speed.came(limits.BLOB_BUFFER)
    now = 1.0
    speed.begin()  # two at once: their bytes add up, their time does not
    speed.came(limits.BLOB_BUFFER)
    speed.came(limits.BLOB_BUFFER)
    now = 3.0
    speed.end()
    speed.end()
    now = 100.0  # nothing was under way
    assert speed.observed() == (0.2, limits.BLOB_BUFFER)


def test_large_bodies_tell_how_fast_a_host_is(server: Any, rig: Any) -> None:
    large = BLOB * 4
    server.on(path(large), server.ranged(large))
    made = rig()
    for at in range(0, 300_000, 60_000):
        ask(made, server, at, at + 60_000, large)
    assert made.client.observed(reference(server)).bytes_per_second is None
    ask(made, server, 0, len(large), large)
    assert (made.client.observed(reference(server)).bytes_per_second or 0) > 0


def test_where_blobs_come_from_counts(server: Any, storage: Any, rig: Any) -> None:
    made = rig()
    server.on("/v2/a/b/manifests/1", server.Answer(200, b"{}"))
    made.client.get_manifest(reference(server))
    ask(made, server, 0, 10)
    of_registry = made.client.observed(reference(server)).round_trip
    assert of_registry is not None  # nothing is known of the storage yet
    assert of_registry == made.transport.observed(server.host).round_trip
    ask(made, server, 0, 10)
    of_storage = made.client.observed(reference(server)).round_trip
    assert of_storage == made.transport.observed(storage.host).round_trip is not None
