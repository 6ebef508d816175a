"""The three-way merge of /etc, on plain directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.sysroot.etc_diff import Changes, diff
from bridge.sysroot.etc_merge import EtcMerge, merge, prepare

Tree = Mapping[str, str | None]
"""By path: a text, None for a directory, `-> target` for a symbolic link, `|` for a FIFO."""


def write(top: Path, tree: Tree) -> None:
    top.mkdir(parents=True)
    for name, content in sorted(tree.items()):
        path = top / name
        if content is None:
            path.mkdir()
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        elif content == "|":
            os.mkfifo(path)
        else:
            path.write_text(content)


def read(top: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[name] = f"-> {os.readlink(path)}"
        elif stat.S_ISDIR(mode):
            found[name] = None
        else:
            found[name] = "|" if stat.S_ISFIFO(mode) else path.read_text()
    return found


def merged(tmp: Path, opened: Callable[[Path], int], old: Tree, live: Tree, new: Tree) -> EtcMerge:
    for name, tree in (("old", old), ("live", live), ("new", new)):
        write(tmp / name, tree)
    return merge(*(opened(tmp / name) for name in ("old", "live", "new")))


@pytest.mark.parametrize(
    ("old", "live", "new", "expected", "counts"),
    [
        pytest.param({"a": "1"}, {"a": "1"}, {"a": "2"}, {"a": "2"}, (0, 0, 0), id="untouched"),
        pytest.param({"a": "1"}, {"a": "x"}, {"a": "2"}, {"a": "x"}, (1, 0, 0), id="edited wins"),
        pytest.param({"a": "1"}, {"a": "x"}, {}, {"a": "x"}, (1, 0, 0), id="edited, gone in image"),
        pytest.param({}, {"a": "x"}, {}, {"a": "x"}, (0, 0, 1), id="added"),
        pytest.param({}, {"a": "x"}, {"a": "2"}, {"a": "x"}, (0, 0, 1), id="added by both"),
        pytest.param({"a": "1"}, {}, {"a": "2"}, {}, (0, 1, 0), id="deleted"),
        pytest.param({"a": "1"}, {}, {}, {}, (0, 1, 0), id="deleted by both"),
        pytest.param({}, {}, {"a": "2"}, {"a": "2"}, (0, 0, 0), id="new in the image"),
        pytest.param(
            {"d": None, "d/f": "1"}, {}, {"d": None, "d/f": "1", "d/g": "2"}, {}, (0, 1, 0),
            id="deleted directory stays deleted",
        ),
        pytest.param(
            {}, {"d": None, "d/e": None, "d/e/f": "x"}, {}, {"d": None, "d/e": None, "d/e/f": "x"},
            (0, 0, 3), id="added directory",
        ),
        pytest.param(
            {}, {"d": None, "d/f": "x"}, {"d": None, "d/g": "2"},
            {"d": None, "d/f": "x", "d/g": "2"}, (0, 0, 2), id="directory added by both",
        ),
        pytest.param(
            {"d": None, "d/f": "1"}, {"d": None, "d/f": "x"}, {}, {"d": None, "d/f": "x"},
            (1, 0, 0), id="edited below a directory gone in the image",
        ),
        pytest.param(
            {"l": "-> a"}, {"l": "-> b"}, {"l": "-> c"}, {"l": "-> b"}, (1, 0, 0), id="link moved",
        ),
        pytest.param({"a": "1"}, {"a": "-> b"}, {"a": "2"}, {"a": "-> b"}, (1, 0, 0), id="to link"),
        pytest.param({"a": "-> b"}, {"a": "1"}, {"a": "2"}, {"a": "1"}, (1, 0, 0), id="from link"),
        pytest.param(
            {"a": "1"}, {"a": None, "a/f": "x"}, {"a": "2"}, {"a": None, "a/f": "x"}, (1, 0, 0),
            id="file made a directory",
        ),
        pytest.param(
            {"a": "1"}, {"a": None, "a/f": "x"}, {"a": None, "a/f": "2", "a/g": "2"},
            {"a": None, "a/f": "x", "a/g": "2"}, (1, 0, 0),
            id="file made a directory, as the image did",
        ),
        pytest.param(
            {}, {"d": None, "d/f": "x"}, {"d": "file"}, {"d": None, "d/f": "x"}, (0, 0, 2),
            id="added directory over the image's file",
        ),
        pytest.param(
            {}, {"d": None, "d/f": "x"}, {"d": "-> /usr"}, {"d": None, "d/f": "x"}, (0, 0, 2),
            id="added directory over the image's link",
        ),
        pytest.param({}, {"p": "|", "a": "x"}, {}, {"a": "x"}, (0, 0, 2), id="FIFO left out"),
        pytest.param({}, {"weird\udcff": "x"}, {}, {"weird\udcff": "x"}, (0, 0, 1), id="any name"),
    ],
)  # fmt: skip
def test_merge(
    tmp_path: Path,
    opened: Callable[[Path], int],
    old: Tree,
    live: Tree,
    new: Tree,
    expected: Tree,
    counts: tuple[int, int, int],
) -> None:
    assert merged(tmp_path, opened, old, live, new) == EtcMerge(*counts)
    assert read(tmp_path / "new") == expected
    assert read(tmp_path / "live") == dict(sorted(live.items()))


@pytest.mark.parametrize(
    ("old", "live", "new", "message"),
    [
        pytest.param(
            {"a": "1"}, {"a": "x"}, {"a": None, "a/f": "2"},
            "/etc/a is a file here and a directory in the image", id="file, directory",
        ),
        pytest.param(
            {}, {"a": "-> b"}, {"a": None}, "/etc/a is a file here", id="link, directory",
        ),
        pytest.param(
            {"d": None, "d/f": "1"}, {"d": None, "d/f": "x"}, {"d": "2"},
            "/etc/d is a directory here and a file in the image", id="directory, file",
        ),
        pytest.param(
            {"d": None, "d/f": "1"}, {"d": None, "d/f": "x"}, {"d": "-> ../escape"},
            "/etc/d is a directory here and a file in the image", id="directory, link",
        ),
        pytest.param(
            {}, {"d": None, "d/f": "x"}, {"d": None, "d/f": None},
            "/etc/d/f is a file here and a directory in the image", id="below an added directory",
        ),
        pytest.param(
            {"d": None, "d/e": None}, {"d": None, "d/e": None, "d/e/f": "x"}, {"d": "-> /"},
            "/etc/d is a directory here", id="added below a link",
        ),
    ],
)  # fmt: skip
def test_conflicts_are_named_before_anything_is_written(
    tmp_path: Path,
    opened: Callable[[Path], int],
    old: Tree,
    live: Tree,
    new: Tree,
    message: str,
) -> None:
    (tmp_path / "escape").mkdir()
    extra_old, extra_live = {**old, "gone": "1"}, {**live, "plus": "x"}
    with pytest.raises(BridgeError, match=message):
        merged(tmp_path, opened, extra_old, extra_live, {**new, "gone": "1"})
    assert read(tmp_path / "new") == dict(sorted({**new, "gone": "1"}.items()))
    assert list((tmp_path / "escape").iterdir()) == []


@pytest.mark.parametrize(
    ("old", "live", "new", "message"),
    [
        pytest.param(
            {"d": None, "d/f": "1"}, {"d": None}, {"d": "2"},
            "/etc/d/f is deleted here and /etc/d is a file in the image", id="deleted below",
        ),
        pytest.param(
            {"d": None, "d/f": "1"}, {"d": None}, {"d": "-> ../escape"},
            "/etc/d/f is deleted here and /etc/d is a file in the image", id="deleted by a link",
        ),
        pytest.param(
            {"f": "1"}, {"f": None, "f/g": "x"}, {"f": None, "f/h": "2"},
            "/etc/f was made a directory here and in the image", id="made a directory by both",
        ),
        pytest.param(
            {}, {"p": "|"}, {"p": None},
            "/etc/p is a special file here and a directory in the image", id="FIFO, directory",
        ),
        pytest.param(
            {"f": "1"}, {"f": None, "f/p": "|"}, {},
            "/etc/f/p is a special file, and /etc/f no directory in an image", id="FIFO below",
        ),
        pytest.param(
            {}, {"d": None, "d/p": "|"}, {"d": "2"},
            "/etc/d/p is a special file, and /etc/d no directory in an image", id="FIFO, file",
        ),
    ],
)  # fmt: skip
def test_what_libostree_cannot_merge_is_named_before_it_has_to(
    tmp_path: Path,
    opened: Callable[[Path], int],
    old: Tree,
    live: Tree,
    new: Tree,
    message: str,
) -> None:
    for name, tree in (("old", old), ("live", live), ("new", new)):
        write(tmp_path / name, tree)
    fds = [opened(tmp_path / name) for name in ("old", "live", "new")]
    with pytest.raises(BridgeError) as caught:
        prepare(*fds)
    assert str(caught.value) == f"merging /etc: {message}; move these aside and try again"
    assert read(tmp_path / "new") == dict(sorted(new.items()))
    merge(*fds)  # which can do it


def test_what_libostree_would_leave_is_done_before(
    tmp_path: Path, opened: Callable[[Path], int]
) -> None:
    write(tmp_path / "old", {"d": None, "d/f": "1", "e": None})
    write(tmp_path / "live", {"d": None, "d/f": "x", "e": None, "m": None, "m/n": None})
    write(tmp_path / "new", {"d": None, "d/f": "2", "e": None})
    for name in ("d", "m"):
        (tmp_path / "live" / name).chmod(0o700)
    os.mkfifo(tmp_path / "live/m/n/p")
    found = prepare(*(opened(tmp_path / name) for name in ("old", "live", "new")))
    assert found == EtcMerge(2, 0, 3)
    assert read(tmp_path / "new") == {"d": None, "d/f": "2", "e": None, "m": None, "m/n": None}
    modes = {name: (tmp_path / "new" / name).stat().st_mode & 0o777 for name in ("d", "e", "m")}
    assert modes == {"d": 0o700, "e": 0o755, "m": 0o700}


def test_several_conflicts_are_told_in_one_line(
    tmp_path: Path, opened: Callable[[Path], int]
) -> None:
    names = [f"f{number}" for number in range(5)]
    with pytest.raises(BridgeError, match=r"merging /etc: .*f0 .*f2 .* and 2 more; move") as caught:
        merged(tmp_path, opened, {}, dict.fromkeys(names, "x"), dict.fromkeys(names))
    assert "\n" not in str(caught.value)


def test_modes_times_and_xattrs_come_along(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    old: Tree = {"f": "1", "d": None, "d/f": "1", "only-mode": None}
    for name in ("old", "live", "new"):
        write(tmp_path / name, {**old, "d/g": "1"})
    live = tmp_path / "live"
    (live / "f").chmod(0o4710)
    (live / "d").chmod(0o711)
    (live / "d/f").write_text("x")
    (live / "only-mode").chmod(0o700)
    (live / "plus").mkdir(mode=0o750)
    (live / "plus/f").write_text("x")
    os.setxattr(live / "plus", "user.note", b"dir")
    os.setxattr(live / "plus/f", "user.note", b"file")
    os.utime(live / "plus/f", ns=(5, 1_000_000_007))
    os.utime(live / "f", ns=(5, 7))
    counts = merge(*(opened(tmp_path / name) for name in ("old", "live", "new")))
    assert counts == EtcMerge(modified=4, removed=0, added=2)
    new = tmp_path / "new"
    modes = {
        name: stat.S_IMODE((new / name).stat().st_mode) for name in ("f", "d", "only-mode", "plus")
    }
    assert modes == {"f": 0o4710, "d": 0o711, "only-mode": 0o700, "plus": 0o750}
    assert os.getxattr(new / "plus", "user.note") == b"dir"
    assert os.getxattr(new / "plus/f", "user.note") == b"file"
    assert (new / "plus/f").stat().st_mtime_ns == 1_000_000_007
    assert (new / "f").stat().st_mtime_ns == 7


def test_diff_names_what_libostree_names(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    write(
        tmp_path / "old", {"a": "1", "d": None, "d/x": "1", "gone": None, "gone/f": "1", "t": "1"}
    )
    write(tmp_path / "new", {"a": "2", "d": None, "d/x": "1", "d/y": "1", "t": None, "t/f": "1"})
    os.utime(tmp_path / "new/d/x", (1, 1))
    os.setxattr(tmp_path / "new/d/x", "user.note", b"no change")
    found = diff(opened(tmp_path / "old"), opened(tmp_path / "new"))
    assert found == Changes(modified=("a", "t"), removed=("gone",), added=("d/y",))


NAMES = st.sampled_from(["a", "b", "c"])
CONTENTS = st.sampled_from(["1", "2", "-> a", "-> ../../outside"])
TREES = st.recursive(
    CONTENTS, lambda below: st.dictionaries(NAMES, below, max_size=3), max_leaves=6
).filter(lambda tree: isinstance(tree, dict))


def flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found[prefix + name] = None
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = str(value)
    return found


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(TREES, TREES, TREES)
def test_any_merge_is_done_whole_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory,
    opened: Callable[[Path], int],
    old: dict[str, object],
    live: dict[str, object],
    new: dict[str, object],
) -> None:
    tmp = tmp_path_factory.mktemp("merge")
    try:
        merged(tmp, opened, flat(old), flat(live), flat(new))
    except BridgeError as error:
        assert "merging /etc" in str(error)
        assert read(tmp / "new") == dict(sorted(flat(new).items()))
        return
    result, before, mine, theirs = read(tmp / "new"), flat(old), flat(live), flat(new)
    for path in {*before, *mine, *theirs}:
        if path in mine and (path not in before or mine[path] != before[path]):
            assert result[path] == mine[path], f"{path} was changed here"
        elif path in before and path not in mine:
            assert path not in result, f"{path} was deleted here"
    assert list(tmp.iterdir()) and not (tmp / "outside").exists()
