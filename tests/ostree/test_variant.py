"""GVariant values: the specification's own examples, round trips, and broken bytes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import DamagedRepository
from bridge.ostree import variant
from bridge.ostree.variant import Variant

# -- the specification, section 2.6 "Examples" (those of types that we have) ---------------------

SPECIFICATION = [
    ("s", "hello world", b"hello world\0"),
    ("(si)", ("foo", -1), b"foo\0\xff\xff\xff\xff\x04"),
    ("a(si)", [("hi", -2), ("bye", -1)],
     b"hi\0\0\xfe\xff\xff\xff\x03\0\0\0bye\0\xff\xff\xff\xff\x04\x09\x15"),
    ("as", ["i", "can", "has", "strings?"], b"i\0can\0has\0strings?\0\x02\x06\x0a\x13"),
    ("((ys)as)", ((0x69, "can"), ["has", "strings?"]),
     b"ican\0has\0strings?\0\x04\x0d\x05"),
    ("(yy)", (0x70, 0x80), b"\x70\x80"),
    ("(iy)", (96, 0x70), b"\x60\0\0\0\x70\0\0\0"),
    ("a(iy)", [(96, 0x70), (648, 0xF7)],
     b"\x60\0\0\0\x70\0\0\0\x88\x02\0\0\xf7\0\0\0"),
    ("ay", b"\x04\x05\x06\x07", b"\x04\x05\x06\x07"),
    ("ai", [4, 258], b"\x04\0\0\0\x02\x01\0\0"),
]  # fmt: skip


@pytest.mark.parametrize(("type_string", "value", "data"), SPECIFICATION)
def test_the_specifications_examples(type_string: str, value: Any, data: bytes) -> None:
    assert variant.encode(type_string, value) == data
    assert variant.decode(type_string, data) == value


NORMAL_FORMS = [
    ("()", (), "00"),
    ("b", True, "01"),
    ("n", -2, "feff"),
    ("x", -1, "ff" * 8),
    ("t", 1 << 63, "0000000000000080"),
    ("ay", b"", ""),
    ("as", [], ""),
    ("a{sv}", {}, ""),
    ("v", Variant("u", 7), "07000000" + "00" + "75"),
    ("v", Variant("v", Variant("s", "a")), "6100" + "00" + "73" + "00" + "76"),
    # A member that is aligned to 8 behind one that is not; the value ends where the offsets start.
    ("(yt)", (1, 2), "01" + "00" * 7 + "02" + "00" * 7),
    ("(yv)", (1, Variant("y", 2)), "01" + "00" * 7 + "020079"),
    ("(say)", ("a", b"\x01\x02"), "6100" + "0102" + "02"),
    ("a{sv}", {"k": Variant("b", True)}, "6b00" + "00" * 6 + "010062" + "02" + "0c"),
]  # fmt: skip


@pytest.mark.parametrize(("type_string", "value", "data"), NORMAL_FORMS)
def test_normal_forms(type_string: str, value: Any, data: str) -> None:
    assert variant.encode(type_string, value).hex() == data
    assert variant.decode(type_string, bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    ("body", "width"), [(1, 1), (252, 1), (253, 1), (254, 2), (65_000, 2), (65_532, 2), (65_533, 4)]
)
def test_framing_offsets_grow_with_the_whole_container(body: int, width: int) -> None:
    """An offset is as wide as the container's end needs, its offsets included."""
    # A tuple of a string and a byte array has one offset.
    text = "x" * body
    data = variant.encode("(say)", (text, b""))
    assert len(data) == body + 1 + width
    assert data[-width:] == (body + 1).to_bytes(width, "little")
    assert variant.decode("(say)", data) == (text, b"")


# -- round trips -----------------------------------------------------------------------------------

_INTEGERS = {"y": (0, 8), "n": (1, 16), "q": (0, 16), "i": (1, 32), "u": (0, 32), "x": (1, 64),
             "t": (0, 64)}  # fmt: skip
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)


def _basic() -> st.SearchStrategy[str]:
    return st.sampled_from("bynqiuxtso")


_TYPES = st.recursive(
    st.one_of(_basic(), st.sampled_from(["v", "ay"])),
    lambda inner: st.one_of(
        inner.map(lambda each: f"a{each}"),
        st.lists(inner, max_size=4).map(lambda each: f"({''.join(each)})"),
        st.tuples(_basic(), inner).map(lambda each: f"a{{{each[0]}{each[1]}}}"),
    ),
    max_leaves=6,
).filter(lambda each: len(each) < 40)


def _split(types: str) -> list[str]:
    """Return the complete types in a row of them."""
    result = []
    while types:
        end = 1
        while True:
            with contextlib.suppress(ValueError):
                variant.codec(types[:end])
                break
            end += 1
        if types[:end] == "a":
            end += 1
        result.append(types[:end])
        types = types[end:]
    return result


def _values(kind: str) -> st.SearchStrategy[Any]:
    if kind == "b":
        return st.booleans()
    if kind in _INTEGERS:
        signed, bits = _INTEGERS[kind]
        low = -(1 << (bits - 1)) if signed else 0
        return st.integers(low, low + (1 << bits) - 1)
    if kind in "so":
        return _TEXT
    if kind == "v":
        # One level is enough: what is inside is a type like any other.
        return st.sampled_from(["u", "as", "(sy)", "ay", "t"]).flatmap(
            lambda inner: _values(inner).map(lambda value: Variant(inner, value))
        )
    if kind == "ay":
        return st.binary(max_size=300)
    if kind.startswith("a{"):
        return st.dictionaries(_values(kind[2]), _values(kind[3:-1]), max_size=3)
    if kind.startswith("a"):
        return st.lists(_values(kind[1:]), max_size=3)
    return st.tuples(*[_values(each) for each in _split(kind[1:-1])])


@settings(max_examples=300, deadline=None)
@given(_TYPES.flatmap(lambda kind: st.tuples(st.just(kind), _values(kind))))
def test_values_of_any_type_come_back(pair: tuple[str, Any]) -> None:
    kind, value = pair
    data = variant.encode(kind, value)
    assert variant.decode(kind, data) == value
    fixed = variant.codec(kind).fixed
    assert fixed is None or len(data) == fixed


# -- broken bytes ----------------------------------------------------------------------------------

USED = (
    "(uuua(ayay))", "(uuuusa(ayay))", "(tuuuusa(ayay))", "(a(say)a(sayay))",
    "(a{sv}aya(say)sstayay)", "a{sv}", "v", "as", "a(ss)", "a(say)", "s",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(USED), st.binary(max_size=200))
def test_random_bytes_are_a_value_or_damaged(kind: str, data: bytes) -> None:
    with contextlib.suppress(DamagedRepository):
        variant.decode(kind, data)


_SEEDS = {
    "(uuua(ayay))": (1, 2, 3, [(b"user.a\0", b"1"), (b"user.b\0", b"two")]),
    "(a(say)a(sayay))": ([("a", bytes(32)), ("b", bytes(32))], [("c", bytes(32), bytes(32))]),
    "(a{sv}aya(say)sstayay)": (
        {"k": Variant("as", ["x", "y"]), "l": Variant("v", Variant("a{sv}", {}))},
        bytes(32), [], "s", "b", 1, bytes(32), bytes(32),
    ),
    "a{sv}": {"k": Variant("a(ss)", [("x", "y")])},
}  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(_SEEDS)), st.data())
def test_good_bytes_with_a_few_changed_are_in_normal_form_or_damaged(kind: str, data: Any) -> None:
    raw = bytearray(variant.encode(kind, _SEEDS[kind]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for each in (bytes(raw), bytes(raw[:cut])):
        try:
            value = variant.decode(kind, each)
        except DamagedRepository:
            continue
        # One form for a value; but of several values of a key in a dict only the first is read.
        again = variant.encode(kind, value)
        assert again == each or ("{" in kind and len(again) < len(each))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("s", ""),
        ("s", "61"),  # no NUL
        ("s", "610062" + "00"),  # two
        ("s", "ff00"),  # not UTF-8
        ("u", "000000"),
        ("u", "0000000000"),
        ("ai", "0000000000"),
        ("(yy)", "00"),
        ("()", ""),
        ("as", "6100" + "ff"),  # the offset table starts behind the end
        ("as", "6100" + "03"),  # ... at the end
        ("as", "61006200" + "0402" + "04"),  # ends that go back
        ("as", "6100" + "0102"),  # an item that is cut off
        ("(ss)", "61006200" + "05"),
        ("(sss)", "6100" + "02"),
        ("v", ""),
        ("v", "0101"),  # no NUL before the type
        ("v", "00"),  # no type
        ("v", "01000000" + "00" + "7575"),  # two types
        ("v", "00" + "6d73"),  # a type that OSTree has no use for
        ("v", "01" + "00" + "ff"),
        ("v", "00" + "28"),  # type without an end
        ("v", "00" + "617b61737" + "37d"),  # an array as key
        ("v", "6100" + "00" + "0c" + "00" + "617b6173737d"),
        ("v", "00" + "617b76737d"),  # a variant as key
        ("v", "00" + "617b737d"),  # no value
        ("v", "00" + "7b73737d"),  # an entry of nothing
        ("v", ("00" + "76") * 4000),  # deeper than anyone reads
        ("v", "00" + "61" * 256),
    ],
)
def test_broken_framing_is_damage(kind: str, data: str) -> None:
    with pytest.raises(DamagedRepository, match="not a serialised"):
        variant.decode(kind, bytes.fromhex(data))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("b", "02"),
        ("()", "01"),
        ("(yq)", "01ff0200"),  # padding before a member
        ("(qy)", "010002ff"),  # ... and behind the last one
        ("(say)", "6100" + "0102" + "0200"),  # offsets of two bytes where one would do
        ("as", "6100" + "0200"),
        ("(ayy)", "01" + "02" + "ff" + "01"),  # something after the last member
        ("a(yv)", "01" + "ff" * 7 + "020079" + "0b"),
        ("aq", "010002"),
        ("aas", "6100" + "02" + "ff" + "03"),  # something after the last item
    ],
)
def test_what_is_not_in_normal_form_is_damage(kind: str, data: str) -> None:
    with pytest.raises(DamagedRepository, match="not a serialised"):
        variant.decode(kind, bytes.fromhex(data))


def test_of_two_values_of_a_key_the_first_counts() -> None:
    """As g_variant_lookup has it; `ostree commit` writes both."""
    data = variant.encode("a(sv)", [("k", Variant("y", 1)), ("k", Variant("y", 2))])
    assert variant.decode("a{sv}", data) == {"k": Variant("y", 1)}


@pytest.mark.parametrize(
    "kind", ["", "ss", "a", "(s", "a{s}", "a{sss}", "a{vs}", "a{ass}", "{ss}", "z", "a" * 300]
)
def test_what_is_no_type_is_refused(kind: str) -> None:
    with pytest.raises(ValueError):
        variant.codec(kind)


def test_a_string_with_a_nul_is_not_written() -> None:
    with pytest.raises(ValueError, match="NUL"):
        variant.encode("s", "a\0b")
