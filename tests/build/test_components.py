"""What of an image changes together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.images import Member, directory, file, image, symlink, write_layout

from bridge.build.components import Component, split
from bridge.contents.pulled import pulled
from bridge.errors import MalformedImage
from bridge.oci.reference import parse_reference
from bridge.packages.package import Package

DAY = 86_400


def package(name: str, *paths: str, source: str = "", changes: Sequence[int] = ()) -> Package:
    return Package("deb", name, "1", "all", source or name, paths, tuple(changes))


def components(
    tmp_path: Path, members: Sequence[Member], packages: Sequence[Package] = ()
) -> dict[str, Component]:
    write_layout(tmp_path / "layout", image(members))
    with pulled(parse_reference(f"oci:{tmp_path}/layout")) as found:
        return {each.name: each for each in split(found.contents, packages)}


def names(found: dict[str, Component]) -> dict[str, list[str]]:
    return {name: [node.path for node in each.nodes] for name, each in found.items()}


KERNEL = "usr/lib/modules/6.1"
MEMBERS = [
    file("usr/bin/a", "a"),
    file("usr/bin/b", "b"),
    symlink("usr/bin/c", "b"),
    file("usr/lib/py/x.py", "x"),
    file("usr/lib/py/__pycache__/x.cpython-311.pyc", "x"),
    file("usr/lib/py/__pycache__/x.cpython-311.opt-1.pyc", "x"),
    file("usr/lib/py/__pycache__/gone.cpython-311.pyc", "x"),
    file(f"{KERNEL}/vmlinuz", "kernel"),
    file(f"{KERNEL}/modules.dep", "made"),
    file(f"{KERNEL}/kernel/net/made.ko", "made"),
    file(f"{KERNEL}/initramfs.img", "made"),
    file("usr/lib/sysimage/dpkg/status", "status"),
    file("usr/lib/sysimage/dpkg/info/b.list", "list"),
    file("usr/lib/sysimage/dpkg/info/liba:amd64.md5sums", "sums"),
    file("usr/lib/sysimage/dpkg/info/unknown.list", "list"),
    file("etc/passwd", "root"),
    file("etc/b/made.conf", "made"),
    file("opt/small", "small"),
    file("opt/large", bytes(1024 * 1024)),
    directory("opt/empty"),
    directory("var/lib/b"),
    file("usr/share/both/made", "made"),
]
PACKAGES = [
    package("liba", "usr", "usr/bin", "usr/bin/a", "usr/share/both", source="a"),
    package(
        "b", "usr", "usr/bin", "usr/bin/b", "usr/bin/c", "etc/b", "var/lib/b", "usr/share/both"
    ),
    package("python", "usr/lib/py", "usr/lib/py/x.py"),
    package("kernel", "usr/lib/modules", KERNEL, f"{KERNEL}/kernel", f"{KERNEL}/kernel/net/x.ko"),
]


def test_files_are_with_what_they_change_with(tmp_path: Path) -> None:
    found = components(tmp_path, MEMBERS, PACKAGES)
    assert names(found) == {
        "a": ["usr/bin/a", "usr/lib/sysimage/dpkg/info/liba:amd64.md5sums"],
        "b": [
            "etc/b/made.conf", "usr/bin/b", "usr/bin/c",
            "usr/lib/sysimage/dpkg/info/b.list", "var/lib/b",
        ],
        "databases": [
            "etc/passwd", "usr/lib/sysimage/dpkg/info/unknown.list",
            "usr/lib/sysimage/dpkg/status",
        ],
        "initramfs": [f"{KERNEL}/initramfs.img"],
        "kernel": [f"{KERNEL}/kernel/net/made.ko", f"{KERNEL}/modules.dep", f"{KERNEL}/vmlinuz"],
        "opt/large": ["opt/large"],
        "python": [
            "usr/lib/py/__pycache__/gone.cpython-311.pyc",
            "usr/lib/py/__pycache__/x.cpython-311.opt-1.pyc",
            "usr/lib/py/__pycache__/x.cpython-311.pyc",
            "usr/lib/py/x.py",
        ],
        "unpackaged": ["opt/empty", "opt/small", "usr/share/both/made"],
    }  # fmt: skip
    assert found["opt/large"].size == 1024 * 1024
    assert found["a"].size == len("a" + "sums")


def test_every_name_is_in_one_component(tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", image(MEMBERS))
    with pulled(parse_reference(f"oci:{tmp_path}/layout")) as found:
        contents = found.contents
        there = [node.path for each in split(contents, PACKAGES) for node in each.nodes]
        assert len(there) == len(set(there))
        left = set(contents.nodes) - set(there)
        assert all(contents.children(path) for path in left)


def marked(name: str, interval: str | None = None) -> dict[str, str]:
    found = {"user.component": name}
    return found if interval is None else found | {"user.update-interval": interval}


def test_the_author_has_the_first_word(tmp_path: Path) -> None:
    found = components(
        tmp_path,
        [
            directory("usr/bin", xattrs=marked("tools", "monthly")),
            file("usr/bin/a", "a"),
            file("usr/bin/b", "b", xattrs=marked("mine", "10")),
            directory("usr/bin/deep"),
            file("usr/bin/deep/c", "c"),
            file("usr/bin/deep/d", "d", xattrs=marked("mine")),
        ],
        PACKAGES,
    )
    assert names(found) == {
        "mine": ["usr/bin/b", "usr/bin/deep/d"],
        "tools": ["usr/bin/a", "usr/bin/deep/c"],
    }
    assert found["mine"].rate == 36.5
    assert found["tools"].rate == pytest.approx(365 / 30)


def test_the_rate_is_that_of_the_last_year(tmp_path: Path) -> None:
    now = 2_000_000_000
    packages = [
        package("a", "x/a", changes=[now, now - DAY, now - 364 * DAY, now - 366 * DAY]),
        package("b", "x/b", changes=[now - 400 * DAY]),
        package("c1", "x/c1", source="c", changes=[now - 3, now - 5]),
        package("c2", "x/c2", source="c", changes=[now - 3, now - 4]),
        package("d", "x/d"),
    ]
    members = [file(f"x/{name}", name) for name in ("a", "b", "c1", "c2", "d", "e")]
    found = components(tmp_path, members, packages)
    assert {name: each.rate for name, each in found.items()} == {
        "a": 3.0, "b": 0.25, "c": 3.0, "d": 1.0, "unpackaged": 26.0,
    }  # fmt: skip


@pytest.mark.parametrize("value", ["0", "-1", "never", "1.5", "99999999", "١"])
def test_an_interval_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(MalformedImage, match="update-interval"):
        components(tmp_path, [file("a", "a", xattrs=marked("mine", value))])


def test_two_intervals_of_one_component_are_refused(tmp_path: Path) -> None:
    members = [
        file("a", "a", xattrs=marked("mine", "daily")),
        file("b", "b", xattrs=marked("mine", "weekly")),
    ]
    with pytest.raises(MalformedImage, match="component 'mine' has two values"):
        components(tmp_path, members)
