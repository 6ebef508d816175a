"""JSON that others wrote, as plain values: RFC 8259 and no more.

Python's reader takes NaN, and gives texts that cannot be encoded (a lone `\\ud800`) and values so
deep that printing them fails. None of that gets past here.
"""

from __future__ import annotations

import json

from bridge import limits


def parse(raw: bytes | str) -> object:
    """Return the value that `raw` (bytes: UTF-8) stands for; `ValueError` if it stands for none."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8")
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _check_depth(value, limits.JSON_DEPTH_MAX)
    if "\\u" in text:  # the only way to write what is no character
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError("it is nested too deep")
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, left - 1)
