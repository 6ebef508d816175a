"""SOURCE_DATE_EPOCH, as the environment has it."""

from __future__ import annotations

import pytest

from bridge.errors import UsageError
from bridge.oci.epoch import source_date_epoch


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("", None), ("0", 0), ("1783728000", 1783728000), ("99999999999", 99999999999)],
)
def test_what_it_says(
    monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int | None
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if text is not None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert source_date_epoch() == expected


@pytest.mark.parametrize(
    "text", ["x", "1.5", "-1", "+1", "1_0", " 1", "\u0661", "9" * 12, "9" * 30]
)
def test_what_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match="is no number of seconds since 1970"):
        source_date_epoch()
