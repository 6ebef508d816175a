"""Every limit has its reason, and docs/security.md gives its value."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bridge import limits

TOP = Path(__file__).parents[1]
UNITS = {"KIB", "MIB", "GIB"}
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \|", re.MULTILINE)


def described() -> dict[str, str]:
    """The constants of the module, each with the text that stands below it."""
    body = ast.parse(Path(limits.__file__).read_text()).body
    found = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = str(following.value.value)
            found[node.targets[0].id] = text
    return found


def value_text(value: float) -> str:
    """The value as the table has it: in the largest unit that divides it, if it is a size."""
    if isinstance(value, float):
        return f"{value:g} s"
    for unit, name in ((limits.GIB, "GiB"), (limits.MIB, "MiB"), (limits.KIB, "KiB")):
        if value and value % unit == 0 and value != 4096:
            return f"{value // unit:,} {name}"
    return f"{value:,}"


REASONS = described()


@pytest.mark.parametrize("name", REASONS)
def test_a_limit_has_its_reason(name: str) -> None:
    assert len(REASONS[name]) > 20


def test_the_documentation_has_every_limit_with_its_value() -> None:
    table = dict(ROW.findall((TOP / "docs/security.md").read_text()))
    assert table == {name: value_text(getattr(limits, name)) for name in REASONS}


def test_no_other_module_sets_a_limit() -> None:
    """A size, a count or a time that something must not exceed stands in `limits`."""
    pattern = re.compile(r"^_?[A-Z][A-Z_]*_(?:MAX|LIMIT|TIMEOUT)\b", re.MULTILINE)
    elsewhere = {
        f"{path.relative_to(TOP)}: {name}"
        for path in sorted((TOP / "bridge").rglob("*.py"))
        if path.name != "limits.py"
        for name in pattern.findall(path.read_text())
    }
    # What a format itself defines is a fact of it, not a choice of ours.
    assert elsewhere == {
        "bridge/layer/compression.py: _ZSTD_BLOCK_MAX",
        "bridge/layer/estargz.py: _FOOTER_MAX",
        "bridge/layer/header.py: _NUMBER_MAX",
        "bridge/layer/pax.py: ID_MAX",
        "bridge/layer/pax.py: _LENGTH_DIGITS_MAX",
        "bridge/layer/pax.py: _SIZE_MAX",
        "bridge/oci/reference.py: NAME_MAX",
        "bridge/ostree/erofs.py: _FILE_MAX",
        "bridge/ostree/erofs.py: _SHARED_MAX",
        "bridge/ostree/erofs.py: _XATTRS_MAX",
        "bridge/ostree/variant.py: _TYPE_MAX",
    }
