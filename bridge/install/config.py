"""What an image asks of its installation: the drop-ins `/usr/lib/bootc/install/*.toml`.

TOML files, merged in the order of their names: single values of later ones win, `kargs` add up.
Those that are for other architectures are passed over. Source: bootc-install-config(5).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import MalformedImage
from bridge.sysroot import kargs_d

DIRECTORY = "usr/lib/bootc/install"
FILESYSTEMS = ("ext4", "xfs")
DEFAULT_FILESYSTEM = "ext4"
LOADERS = ("grub", "systemd", "none")

_IGNORED = frozenset(
    {
        "block",
        "bootupd",
        "discoverable-partitions",
        "enforce-container-sigpolicy",
        "ostree",
    }
)
"""Keys of bootc's that have no meaning here."""


@dataclass(frozen=True, slots=True)
class InstallConfig:
    """The merged configuration; `None` is what no file says."""

    filesystem: str | None = None
    """Type of the root file system."""
    kargs: tuple[str, ...] = ()
    karg_deletes: tuple[str, ...] = ()
    stateroot: str | None = None
    root_mount_spec: str | None = None
    boot_mount_spec: str | None = None
    bootloader: str | None = None


def merge(texts: Iterable[tuple[str, str]], architecture: str | None = None) -> InstallConfig:
    """Return what (name, text) of the drop-ins say together; they are taken by name.

    `architecture` is this machine's by default, by its Rust name. Raises
    `MalformedImage` for what is no such file.
    """
    here = architecture or kargs_d.architecture()
    config = InstallConfig()
    for name, text in sorted(texts):
        table = _table(name, text)
        # An empty list is one that this machine is not in, as for bootc.
        if "match-architectures" not in table or here in _strings(
            name, table, "match-architectures"
        ):
            config = _merged(config, name, table)
    return config


def document(config: InstallConfig) -> dict[str, Any]:
    """Return the configuration as bootc's `print-configuration` shows it."""
    found: dict[str, Any] = {}
    if config.filesystem:
        found["filesystem"] = {"root": {"type": config.filesystem}}
    for key, value in (
        ("kargs", list(config.kargs)),
        ("karg-deletes", list(config.karg_deletes)),
        ("stateroot", config.stateroot),
        ("root-mount-spec", config.root_mount_spec),
        ("boot-mount-spec", config.boot_mount_spec),
        ("bootloader", config.bootloader),
    ):
        if value is not None and value != []:
            found[key] = value
    return found


def _table(name: str, text: str) -> Mapping[str, Any]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MalformedImage(f"/{DIRECTORY}/{name}: {error}") from None
    table = document.get("install", {})
    if not isinstance(table, dict) or set(document) - {"install"}:
        raise MalformedImage(f"/{DIRECTORY}/{name} has more than one table [install]")
    return table


def _merged(config: InstallConfig, name: str, table: Mapping[str, Any]) -> InstallConfig:
    known = {"match-architectures", "filesystem", "root-fs-type", "kargs", "karg-deletes"}
    single = {
        "stateroot": "stateroot",
        "root-mount-spec": "root_mount_spec",
        "boot-mount-spec": "boot_mount_spec",
        "bootloader": "bootloader",
    }
    for key in table.keys() - known - single.keys() - _IGNORED:
        raise MalformedImage(f"/{DIRECTORY}/{name}: the key {key!r:.100} is not known")
    changes: dict[str, Any] = {
        field: _string(name, table[key], key) for key, field in single.items() if key in table
    }
    kind = table.get("root-fs-type")
    filesystem = table.get("filesystem")
    if isinstance(filesystem, dict) and isinstance(filesystem.get("root"), dict):
        kind = filesystem["root"].get("type", kind)
    elif filesystem is not None:
        raise MalformedImage(f"/{DIRECTORY}/{name}: filesystem has no table root")
    if kind is not None:
        changes["filesystem"] = _string(name, kind, "type")
    if changes.get("bootloader", "none") not in LOADERS:
        raise MalformedImage(
            f"/{DIRECTORY}/{name}: the boot loader {changes['bootloader']!r:.100} is not one of "
            f"{', '.join(LOADERS)}"
        )
    return replace(
        config,
        kargs=(*config.kargs, *_strings(name, table, "kargs")),
        karg_deletes=(*config.karg_deletes, *_strings(name, table, "karg-deletes")),
        **changes,
    )


def _string(name: str, value: object, key: str) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    raise MalformedImage(f"/{DIRECTORY}/{name}: {key} is no text")


def _strings(name: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise MalformedImage(f"/{DIRECTORY}/{name}: {key} is no list")
    return tuple(_string(name, each, key) for each in value)
