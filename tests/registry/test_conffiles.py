"""Which files registries.conf is made of, and in which order they count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.errors import UsageError
from bridge.registry.conffiles import load_registries
from bridge.registry.registriesconf import RegistriesConf

UID = 1234


class Host:
    """The places where files may be."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.environ = {"HOME": str(top / "home")}

    def write(self, name: str, text: str = "") -> Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, uid: int = UID) -> RegistriesConf:
        system = (self.top / "etc/containers", self.top / "usr/containers")
        return load_registries(self.environ, uid, system)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


USER = "home/.config/containers"


def alias(host: Host, *names: str) -> None:
    """Have each file give the alias `x` to itself."""
    for number, name in enumerate(names):
        host.write(name, f'[aliases]\nx = "h.io/n{number}"\nonly{number} = "h.io/n{number}"')


@pytest.mark.parametrize("first", range(3))
def test_one_main_file(host: Host, first: int) -> None:
    mains = [f"{place}/registries.conf" for place in (USER, "etc/containers", "usr/containers")]
    alias(host, *mains)
    for each in mains[:first]:
        (host.top / each).unlink()
    assert host.load().aliases == {"x": f"h.io/n{first}", f"only{first}": f"h.io/n{first}"}


def test_no_file(host: Host) -> None:
    assert host.load() == RegistriesConf()
    host.environ["HOME"] = "/dev/null"
    assert host.load() == RegistriesConf()


# The later of each pair wins.
PAIRS = [
    ("etc/containers/registries.conf", "usr/containers/registries.conf.d/00.conf"),
    (f"{USER}/registries.conf", "usr/containers/registries.conf.d/00.conf"),
    # The name counts and not the place,
    (f"{USER}/registries.conf.d/10.conf", "usr/containers/registries.conf.d/20.conf"),
    ("usr/containers/registries.conf.d/10.conf", f"{USER}/registries.conf.d/20.conf"),
    (
        "etc/containers/registries.rootless.conf.d/10.conf",
        "etc/containers/registries.conf.d/2.conf",
    ),
    # and only what podman wrote itself is later.
    (f"{USER}/registries.conf.d/99.conf", "home/.cache/containers/short-name-aliases.conf"),
]


@pytest.mark.parametrize(("weaker", "stronger"), PAIRS)
def test_drop_ins_in_the_order_of_their_names(host: Host, weaker: str, stronger: str) -> None:
    alias(host, weaker, stronger)
    assert host.load().aliases == {"x": "h.io/n1", "only0": "h.io/n0", "only1": "h.io/n1"}


# Of files with one name only the last is read.
SAME = [
    "usr/containers/registries.conf.d",
    "usr/containers/registries.rootless.conf.d",
    f"usr/containers/registries.rootless.conf.d/{UID}",
    "etc/containers/registries.conf.d",
    "etc/containers/registries.rootless.conf.d",
    f"etc/containers/registries.rootless.conf.d/{UID}",
    f"{USER}/registries.conf.d",
]


@pytest.mark.parametrize("count", range(1, len(SAME) + 1))
def test_of_two_drop_ins_with_one_name_the_nearest_is_read(host: Host, count: int) -> None:
    alias(host, *(f"{place}/50.conf" for place in SAME[:count]))
    last = count - 1
    assert host.load().aliases == {"x": f"h.io/n{last}", f"only{last}": f"h.io/n{last}"}


def test_drop_ins_for_root_and_for_others(host: Host) -> None:
    alias(
        host,
        "etc/containers/registries.rootful.conf.d/1.conf",
        "etc/containers/registries.rootless.conf.d/2.conf",
        "etc/containers/registries.rootless.conf.d/1234/3.conf",
        "etc/containers/registries.rootless.conf.d/4321/4.conf",
    )
    assert set(host.load(0).aliases) == {"x", "only0"}
    assert set(host.load(UID).aliases) == {"x", "only1", "only2"}
    assert set(host.load(4321).aliases) == {"x", "only1", "only3"}


def test_what_is_no_drop_in(host: Host) -> None:
    for name in ("a.conf.bak", "README", "b.toml"):
        host.write(f"{USER}/registries.conf.d/{name}", "broken = ")
    (host.top / USER / "registries.conf.d/dir.conf").mkdir()
    (host.top / USER / "registries.conf.d/gone.conf").symlink_to("nowhere")
    (host.top / USER / "registries.conf.d/masked.conf").symlink_to("/dev/null")
    assert host.load() == RegistriesConf()


def test_the_variable_names_the_only_file(host: Host) -> None:
    alias(host, "named.conf", f"{USER}/registries.conf", f"{USER}/registries.conf.d/1.conf")
    host.environ["CONTAINERS_REGISTRIES_CONF"] = str(host.top / "named.conf")
    assert host.load().aliases == {"x": "h.io/n0", "only0": "h.io/n0"}
    alias(host, "named.conf", "last.conf")
    host.environ["CONTAINERS_REGISTRIES_CONF_OVERRIDE"] = str(host.top / "last.conf")
    assert host.load().aliases == {"x": "h.io/n1", "only0": "h.io/n0", "only1": "h.io/n1"}


@pytest.mark.parametrize(
    "variable", ["CONTAINERS_REGISTRIES_CONF", "CONTAINERS_REGISTRIES_CONF_OVERRIDE"]
)
def test_a_file_that_is_named_must_be_there(host: Host, variable: str) -> None:
    host.environ[variable] = str(host.top / "nowhere.conf")
    with pytest.raises(UsageError, match=r"nowhere\.conf: No such file"):
        host.load()


def test_the_last_file_is_read_after_all_others(host: Host) -> None:
    alias(host, f"{USER}/registries.conf.d/zz.conf", "last.conf")
    host.environ["CONTAINERS_REGISTRIES_CONF_OVERRIDE"] = str(host.top / "last.conf")
    assert host.load().aliases["x"] == "h.io/n1"


def test_xdg_directories_take_the_place_of_home(host: Host) -> None:
    alias(host, f"{USER}/registries.conf", "xdg/containers/registries.conf")
    host.environ["XDG_CONFIG_HOME"] = str(host.top / "xdg")
    assert host.load().aliases["x"] == "h.io/n1"
    alias(host, "cache/containers/short-name-aliases.conf")
    host.environ["XDG_CACHE_HOME"] = str(host.top / "cache")
    assert host.load().aliases["x"] == "h.io/n0"


def test_what_podman_wrote_is_read_for_aliases_only(host: Host) -> None:
    text = '[[registry]]\nlocation="a.io"\nblocked=true\n[aliases]\na="b.io/a"'
    host.write("home/.cache/containers/short-name-aliases.conf", text)
    assert host.load() == RegistriesConf(aliases={"a": "b.io/a"})


@pytest.mark.parametrize("name", ["registries.conf", "registries.conf.d/x.conf"])
@pytest.mark.parametrize("raw", [b"x = ", b"\xff", b"[registries.block]\nregistries=['a']"])
def test_a_broken_file_is_named(host: Host, name: str, raw: bytes) -> None:
    host.write(f"{USER}/{name}").write_bytes(raw)
    with pytest.raises(UsageError, match=name.rpartition("/")[2]):
        host.load()


def test_what_cannot_be_read_is_not_passed_over(host: Host) -> None:
    """It may say what is forbidden. A directory, because root may read every file."""
    (host.top / USER / "registries.conf").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"registries\.conf: Is a directory"):
        host.load()


def test_a_loop_of_links_is_an_error(host: Host) -> None:
    directory = host.top / "etc/containers"
    directory.mkdir(parents=True)
    os.symlink("registries.conf", directory / "registries.conf")
    with pytest.raises(UsageError, match="symbolic links"):
        host.load()
