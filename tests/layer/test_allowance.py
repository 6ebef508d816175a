"""What an image may grow to: by itself, with its other layers, in zeros and in what is none."""

from __future__ import annotations

import pytest

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.allowance import Allowance, LayerAllowance

RATIO, FREE, SOLID = 1000, 100_000, 20_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONTENT_RATIO_MAX", RATIO)
    monkeypatch.setattr(limits, "CONTENT_FREE", FREE)
    monkeypatch.setattr(limits, "SOLID_FREE", SOLID)
    monkeypatch.setattr(limits, "CONTENT_MAX", 10_000_000)
    monkeypatch.setattr(limits, "ENTRIES_MAX", 10)
    monkeypatch.setattr(limits, "NAMES_MAX", 50)


def grow(layer: LayerAllowance, taken: int, size: int, content: bytes = b"x") -> None:
    """Have a layer take so many bytes of its blob and make so many of them."""
    for _ in layer.taking([b"b" * taken]):
        pass
    for _ in layer.making([content * size]):
        pass


GOOD = {
    "as it is": (1000, 1000, b"x"),
    "at the ratio": (5000, 5_000_000, b"x"),
    "beyond it, within what is free": (0, SOLID, b"x"),
    "zeros, within what is free": (0, FREE, b"\0"),
    "nothing": (0, 0, b""),
}


@pytest.mark.parametrize(("taken", "size", "content"), GOOD.values(), ids=GOOD)
def test_good(taken: int, size: int, content: bytes) -> None:
    grow(Allowance().layer(), taken, size, content)


BAD = {
    "a byte more": (0, SOLID + 1, b"x", "a bomb"),
    "a byte more than the ratio": (1000, 1_000_001, b"x", "a bomb"),
    "zeros, a byte more": (0, FREE + 1, b"\0", "a bomb"),
    "more than there may be": (11_000_000, 11_000_000, b"x", "which is the limit"),
}


@pytest.mark.parametrize(("taken", "size", "content", "phrase"), BAD.values(), ids=BAD)
def test_bad(taken: int, size: int, content: bytes, phrase: str) -> None:
    with pytest.raises(MalformedImage, match=phrase):
        grow(Allowance().layer(), taken, size, content)


def test_layers_share_what_is_free() -> None:
    image = Allowance()
    for _ in range(4):
        grow(image.layer(), 1, SOLID // 4)
    with pytest.raises(MalformedImage, match="a bomb"):
        grow(image.layer(), 0, 1)
    grow(Allowance().layer(), 0, 1)


def test_a_layer_gives_back_what_its_blob_makes_up_for() -> None:
    image = Allowance()
    layer = image.layer()
    grow(layer, 0, SOLID)
    grow(layer, 100, 1)  # and so is within the ratio
    grow(image.layer(), 0, SOLID)


def test_holes_count_as_zeros() -> None:
    layer = Allowance().layer()
    layer.hole(FREE)
    with pytest.raises(MalformedImage, match="a bomb"):
        layer.hole(1)


def test_entries_and_their_names_are_counted() -> None:
    image = Allowance()
    one, other = image.layer(), image.layer()
    for _ in range(5):
        one.name("a")
        other.name("b")
    with pytest.raises(MalformedImage, match="more than 10 entries"):
        one.name("c")
    with pytest.raises(MalformedImage, match="paths have more than 50"):
        Allowance().layer().name("n" * 51)


def test_a_layer_that_failed_gives_all_back() -> None:
    image = Allowance()
    for _ in range(3):
        with pytest.raises(RuntimeError), image.layer() as layer:
            grow(layer, 0, SOLID)
            for _ in range(10):
                layer.name("aaaaa")
            raise RuntimeError
    with image.layer() as layer:
        grow(layer, 0, SOLID)
        layer.name("a" * 50)
    with pytest.raises(MalformedImage):
        image.layer().name("a")
    with pytest.raises(MalformedImage):
        grow(image.layer(), 0, 1)
