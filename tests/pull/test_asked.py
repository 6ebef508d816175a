"""What is asked early is not asked again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from bridge.pull.asked import Asked
from bridge.pull.content_index import Place


def place(digest: bytes) -> Place:
    return Place(digest.hex() * 2, 0, 7)


class Contents:
    """Has what is even, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        self.asked += digests
        return {each: place(each) for each in digests if each[-1] % 2 == 0}


def digests(*numbers: int) -> set[bytes]:
    return {number.to_bytes(32, "big") for number in numbers}


def test_each_digest_is_asked_for_once() -> None:
    contents = Contents()
    asked = Asked(contents)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(asked.find, [digests(*range(at, at + 20)) for at in range(0, 100, 10)]))
    assert sorted(contents.asked) == sorted(digests(*range(110)))
    found = asked.find(digests(3, 4, 200))
    assert sorted(contents.asked) == sorted(digests(*range(110), 200))
    wanted = digests(3, 4, 200)
    assert {each: found[each] for each in wanted if each in found} == {
        each: place(each) for each in digests(4, 200)
    }
