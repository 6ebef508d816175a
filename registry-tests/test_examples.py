"""The examples that users start from, and the tool that tells whether they can be built twice.

The desktop is big: it is looked at where BOOTC_PY_DESKTOP is set, and built if need be. Each is
built twice where BOOTC_PY_TWICE is set: that takes minutes.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig import store
from rig.command import pull
from rig.peers import require

from tools.images import build, cache, layout, reproduce
from tools.images.layout import Layout
from tools.images.spec import ALL, EXAMPLES, IMAGES, SOURCE_DATE_EPOCH, Image

WITH_DESKTOP = [
    name if name in IMAGES else pytest.param(
        name,
        marks=pytest.mark.skipif(
            not os.environ.get("BOOTC_PY_DESKTOP"), reason="BOOTC_PY_DESKTOP is not set"
        ),
    )
    for name in EXAMPLES
]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="builds images as root")
@pytest.mark.skipif(not os.environ.get("BOOTC_PY_TWICE"), reason="BOOTC_PY_TWICE is not set")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_built_twice_is_one_image(name: str) -> None:
    """Elsewhere, later, by a user with another umask, and lint has nothing to say of either."""
    pairs = 0
    for pair in reproduce.reproduce([name], "v1"):
        assert list(reproduce.differences(pair.first, pair.second)) == []
        assert pair.first.digest == pair.second.digest
        assert pair.first.path != pair.second.path
        pairs += 1
    assert pairs == 1


PROGRAMS = ("dash", "date", "mkdir")
MAKE_ROOTFS = """#!/bin/sh
set -eu
cd "${{0%/*}}"
umask 022
mkdir root root/usr root/usr/share && ln -s usr/bin usr/lib usr/lib64 root
for file in {files}; do
    mkdir -p "root/usr/${{file%/*}}" && cp -L "$file" "root/usr/$file"
done
mv root/usr/usr/bin root/usr/bin && mv root/usr/bin/dash root/usr/bin/sh && rm -r root/usr/usr
tar -cf "$1" --owner=0 --group=0 --sort=name --mtime=@0 -C root .
"""
CONTAINERFILE = """FROM scratch
ADD rootfs.tar /
ARG SOURCE_DATE_EPOCH
RUN date +%F >/usr/share/day && date -d "@$SOURCE_DATE_EPOCH" >/usr/share/epoch && \\
    mkdir /usr/share/made
"""


@dataclass(frozen=True)
class Dated(Image):
    """An image whose step writes what day it is."""

    place: Path = Path()

    @property
    def directory(self) -> Path:
        return self.place


def needed(program: str) -> set[str]:
    """A program of this machine, and the libraries that it takes."""
    path = require(program)
    shown = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    return {path, *(word for word in shown.split() if word.startswith("/"))}


@pytest.mark.skipif(os.geteuid() != 0, reason="builds images as root")
def test_the_day_of_a_build_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is built twice is built on two days: a step that writes the date makes two images."""
    files = sorted(set[str]().union(*map(needed, PROGRAMS)))
    script = tmp_path / "make-rootfs"
    script.write_text(MAKE_ROOTFS.format(files=" ".join(files)))
    script.chmod(0o755)
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    monkeypatch.setitem(ALL, "dated", Dated("dated", place=tmp_path))
    skipped = ("api-base-directories", "baseimage-composefs", "baseimage-root", "nonempty-boot")
    for pair in reproduce.reproduce(["dated"], "v1", skipped):
        assert not pair.same
        (difference,) = reproduce.differences(pair.first, pair.second)
        assert re.fullmatch(r"layer \d+: usr/share/day: content \w+ and \w+", difference)


@pytest.mark.parametrize("name", WITH_DESKTOP)
def test_an_example_is_what_its_documentation_says(name: str) -> None:
    image = build.image(name, "v1", "plain")
    with cache.scratch(cache.root() / "work") as work:
        commit = pull(image.reference, work / "repo")["image"]["commit"]
        tree = store.tree(work / "repo", commit)

        def content(path: str) -> str:
            return store.ostree(work / "repo", "cat", commit, path).decode()

        # One kernel, with its initramfs, and nothing where the host mounts its own.
        kernels = [path for path in tree if re.fullmatch("/usr/lib/modules/[^/]+/vmlinuz", path)]
        assert len(kernels) == 1
        assert f"{Path(kernels[0]).parent}/initramfs.img" in tree
        assert [path for path in tree if path.startswith(("/boot/", "/run/", "/tmp/"))] == []

        # A machine makes its /var of tmpfiles.d alone.
        below = {path: record.kind for path, record in tree.items() if path.startswith("/var/")}
        assert set(below.values()) == {"directory", "symlink"}
        known = set()
        for path in tree:
            if re.fullmatch(r"/usr/lib/tmpfiles\.d/.*\.conf", path):
                lines = [line.split() for line in content(path).splitlines()]
                known |= {words[1] for words in lines if len(words) > 1 and words[0] != "#"}
        assert set(below) <= known

        # And the accounts that it lacks of sysusers.d.
        declared = {
            words[1]
            for path in tree
            if re.fullmatch(r"/usr/lib/sysusers\.d/.*\.conf", path)
            for line in content(path).splitlines()
            if len(words := line.split()) > 1 and words[0] in ("u", "g")
        }
        for file in ("/usr/etc/passwd", "/usr/etc/group"):
            names = {line.split(":")[0] for line in content(file).splitlines()}
            assert names <= declared
        for line in content("/usr/etc/shadow").splitlines():
            assert line.split(":")[1].startswith(("*", "!"))


def made(directory: Path, files: dict[str, bytes], time: int, mode: int = 0o644) -> Layout:
    """An image of one layer with these files, in their order, written at a time."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), time, mode
            tar.addfile(member, io.BytesIO(content))
    directory.mkdir()
    layer = layout.add_blob(directory, data.getvalue(), "layer")
    config = layout.add_blob(directory, b"{}", "config")
    return layout.write(directory, "one", {"config": config, "layers": [layer]})


FILES = {"a": b"one", "b": b"two"}
OLD, NEW = SOURCE_DATE_EPOCH - 9, SOURCE_DATE_EPOCH + 9


@pytest.mark.parametrize(
    ("files", "time", "mode", "expected"),
    [
        (FILES, NEW, 0o644, []),
        (FILES, NEW + 9, 0o644, []),
        (FILES, OLD, 0o644, [f"layer 0: {each}: time {NEW - 9} and {OLD}" for each in "ab"]),
        (FILES, NEW, 0o600, [f"layer 0: {each}: mode 0o644 and 0o600" for each in "ab"]),
        ({"a": b"one"}, NEW, 0o644, ["layer 0: b: only in the first"]),
        ({**FILES, "c": b""}, NEW, 0o644, ["layer 0: c: only in the second"]),
        ({"b": b"two", "a": b"one"}, NEW, 0o644, ["layer 0: the order of its entries"]),
        (
            {"a": b"one", "b": b"six"},
            NEW,
            0o644,
            ["layer 0: b: content 3fc4ccfe7458 and 44778d82365e"],
        ),
    ],
)
def test_reproduce_names_what_differs(
    tmp_path: Path, files: dict[str, bytes], time: int, mode: int, expected: list[str]
) -> None:
    first = made(tmp_path / "first", FILES, NEW)
    second = made(tmp_path / "second", files, time, mode)
    assert list(reproduce.differences(first, second)) == expected
