"""Where registries.conf is: the files that containers-registries.conf(5) names, and their order.

One main file: the user's, else that of /etc, else that of /usr/share. Then the drop-in files of
all directories, sorted by their names alone; of two with one name the user's wins, then that of
/etc. `$CONTAINERS_REGISTRIES_CONF` stands for all of these, and what
`$CONTAINERS_REGISTRIES_CONF_OVERRIDE` names is read last. A later file overrides an earlier one.
Older releases of containers/image read fewer directories, in another order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bridge.errors import UsageError
from bridge.registry.registriesconf import RegistriesConf, parse

_SYSTEM = (Path("/etc/containers"), Path("/usr/share/containers"))


def load_registries(
    environ: Mapping[str, str] = os.environ,
    uid: int | None = None,
    system: tuple[Path, ...] = _SYSTEM,
) -> RegistriesConf:
    """Read and merge the files that are there.

    `system` are the directories of the system, the strongest first. `UsageError` for a file that
    cannot be read or understood: what it forbids must not be allowed for that. One that a
    variable names must be there.
    """
    uid = os.geteuid() if uid is None else uid
    home = Path(environ.get("HOME") or "/")
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers"
    named = environ.get("CONTAINERS_REGISTRIES_CONF")
    merged = RegistriesConf()
    if named:
        merged = merged.merged(_read(Path(named)))
    else:
        for directory in (user, *system):
            main = directory / "registries.conf"
            if _exists(main):
                merged = merged.merged(_read(main))
                break
        for path in _drop_ins(user, system, uid):
            merged = merged.merged(_read(path))
    if last := environ.get("CONTAINERS_REGISTRIES_CONF_OVERRIDE"):
        merged = merged.merged(_read(Path(last)))
    # What podman's users chose when they were asked is stronger than any file of theirs.
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    chosen = (cache if uid else Path("/var/cache")) / "containers/short-name-aliases.conf"
    if _exists(chosen):
        merged = merged.merged(RegistriesConf(aliases=_read(chosen).aliases))
    return merged


def _drop_ins(user: Path, system: tuple[Path, ...], uid: int) -> list[Path]:
    """Return the drop-in files in the order they are read."""
    directories = [user / "registries.conf.d"]
    for parent in system:
        if uid:
            directories.append(parent / f"registries.rootless.conf.d/{uid}")
            directories.append(parent / "registries.rootless.conf.d")
        else:
            directories.append(parent / "registries.rootful.conf.d")
        directories.append(parent / "registries.conf.d")
    found: dict[str, Path] = {}
    for directory in reversed(directories):
        try:
            entries = list(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"reading {directory}: {error.strerror}") from None
        found |= {path.name: path for path in entries if path.name.endswith(".conf")}
    ordered = (found[name] for name in sorted(found))
    return [path for path in ordered if _exists(path) and not path.is_dir()]


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UsageError(f"reading {path}: {error.strerror}") from None
    return True


def _read(path: Path) -> RegistriesConf:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"reading {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return parse(text, str(path))
