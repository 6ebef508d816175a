"""Which shard a repository is in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.sync import shard

NAMES = [f"registry.example/path-{n % 7}/repository-{n}" for n in range(1000)]


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        (None, {}, None),
        (None, {"JOB_COMPLETIONS": "4"}, None),
        ("0/4", {}, (0, 4)),
        ("3/4", {}, (3, 4)),
        ("0/1", {}, (0, 1)),
        (None, {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "4"}, (2, 4)),
        ("1/2", {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "4"}, (1, 2)),
    ],
)
def test_shards_are_read(
    text: str | None, environment: dict[str, str], expected: tuple[int, int] | None
) -> None:
    assert shard.parse(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        *(
            (text, {})
            for text in (
                "",
                "4",
                "/",
                "/4",
                "1/",
                "4/4",
                "-1/4",
                "0/0",
                "a/b",
                "0/1001",
                "0/9999999",
                "1/2/3",
                "٣/4",
            )
        ),
        (None, {"JOB_COMPLETION_INDEX": "0"}),
        (None, {"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "4"}),
        (None, {"JOB_COMPLETION_INDEX": "x", "JOB_COMPLETIONS": "4"}),
        (None, {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "many"}),
    ],
)
def test_what_is_no_shard(text: str | None, environment: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        shard.parse(text, environment)


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_shards_have_everything_once_and_about_as_much(count: int) -> None:
    parts = [[name for name in NAMES if shard.has((n, count), name)] for n in range(count)]
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    assert min(map(len, parts)) > len(NAMES) / count / 2


def test_where_a_repository_is_never_changes() -> None:
    """Another release that spread them in another way would copy everything to new shards."""
    assert [shard.shard_of(f"quay.io/a/{n}", 8) for n in range(8)] == [1, 4, 1, 0, 2, 5, 5, 7]
    assert shard.has(None, "anything")


@given(st.text(max_size=50), st.integers(1, 1000))
def test_any_name_is_in_one_shard(name: str, count: int) -> None:
    found = shard.shard_of(name, count)
    assert 0 <= found < count
    assert shard.has((found, count), name)
