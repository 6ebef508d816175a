"""The house rules: imports go down only, modules stay small, what is public is described."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
MODULES = sorted((TOP / "bridge").rglob("*.py"))
LINES_MAX = 400

# What each package may import, besides itself and the ground floor. A package that is not listed
# has no floor yet: it gets one when it is made.
FLOORS: dict[str, set[str]] = {
    "oci": set(),
    "ostree": set(),
    "layer": set(),
    "initramfs": {"layer"},
    "registry": {"oci"},
    "pull": {"oci", "ostree", "layer", "registry"},
    "push": {"oci", "ostree", "layer", "registry", "pull"},
    "contents": {"oci", "ostree", "layer", "registry", "pull"},
    "packages": {"layer", "contents"},
    "compare": {"oci", "ostree", "layer", "registry", "pull", "contents", "packages"},
    "sysroot": {"oci", "ostree", "layer", "registry", "pull"},
    "install": {"oci", "ostree", "layer", "registry", "pull", "sysroot"},
    "lint": {"oci", "ostree", "layer", "initramfs", "registry", "pull", "contents", "sysroot"},
    "build": {
        "oci",
        "ostree",
        "layer",
        "initramfs",
        "registry",
        "pull",
        "push",
        "contents",
        "packages",
        "lint",
    },
    "sync": {"oci", "ostree", "layer", "registry", "pull", "push", "contents", "build"},
    "cli": {
        "oci",
        "ostree",
        "layer",
        "registry",
        "pull",
        "push",
        "compare",
        "sysroot",
        "install",
        "lint",
        "build",
        "sync",
    },
}
GROUND = {"errors", "limits"}
DOORS = {"__init__", "__main__"}
"""Not on any floor: the package itself, and its way in, which calls the command line."""


def room(path: Path) -> str:
    """Return the first part below `bridge`: a package, or a module of the ground floor."""
    first = path.relative_to(TOP / "bridge").parts[0]
    return first.removesuffix(".py")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, room) of every import from `bridge`: at the top, in functions, for types."""
    for node in ast.walk(parsed(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            # `from bridge import limits` names the room in the second part.
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "bridge" and len(parts) > 1 and not parts[1].startswith("__"):
                yield node.lineno, parts[1]


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    here = room(path)
    if here in DOORS:
        return
    allowed = set() if here in GROUND else GROUND | FLOORS[here] | {here}
    wrong = [
        f"{name_of(path)}:{line} imports {to}" for line, to in imports(path) if to not in allowed
    ]
    assert wrong == []


def test_no_floor_is_reached_from_below() -> None:
    """The table itself has no way up: order it, and everybody only sees what was before."""
    seen: set[str] = set()
    for name, below in FLOORS.items():
        assert below <= seen, name
        seen.add(name)
    assert {room(path) for path in MODULES} - GROUND - DOORS == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def public(
    node: ast.Module | ast.ClassDef,
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the classes and functions that others may use, methods among them."""
    for each in node.body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if each.name.startswith("_"):
                continue
            yield each
            if isinstance(each, ast.ClassDef):
                yield from public(each)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_are(path: Path) -> None:
    tree = parsed(path)
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_described(path: Path) -> None:
    """Classes and functions of a module; methods are held to their annotations only."""
    bare = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert bare == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_annotated(path: Path) -> None:
    bare = []
    for node in public(parsed(path)):
        if isinstance(node, ast.ClassDef):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments += [each for each in (node.args.vararg, node.args.kwarg) if each]
        missing = [each.arg for each in arguments if not each.annotation]
        if [each for each in missing if each not in ("self", "cls")] or not node.returns:
            bare.append(f"{name_of(path)}:{node.lineno} {node.name}")
    assert bare == []


def texts() -> list[Path]:
    """Return what is written here and kept: code, tests, documents, tools."""
    listed = subprocess.run(
        ["git", "-C", str(TOP), "ls-files", "-z"], capture_output=True, check=False
    )
    if listed.returncode == 0:
        names = [TOP / name for name in listed.stdout.decode().split("\0") if name]
    else:  # not a clone: an unpacked archive
        names = [path for path in TOP.rglob("*") if ".git" not in path.parts]
    kinds = {".py", ".md", ".toml", ".cfg", ".sh", ".yml", ".yaml", ".txt", ".json", ""}
    return [path for path in names if path.suffix in kinds and path.is_file()]


def test_no_path_of_one_machine_is_named() -> None:
    words = [f"/{top}/".encode() for top in ("work", "root/.cache")]
    found = [
        f"{name_of(path)}: {word.decode()}"
        for path in texts()
        for word in words
        if word in path.read_bytes()
    ]
    assert found == []


def test_help_does_not_wait_for_heavy_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bridge", "--help"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "usage: bootc-py" in done.stdout
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "bridge" in loaded
    heavy = {"requests", "cryptography", "zstandard", "oras", "urllib3", "sqlite3", "isal"}
    assert loaded & heavy == set()
