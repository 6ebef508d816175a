"""The package database of rpm, read from an image.

It is in `/usr/lib/sysimage/rpm`, formerly `/var/lib/rpm`, or in `/usr/share/rpm` for rpm-ostree:
an SQLite file with a header for each package. rpm's two other kinds of databases are told and not
read: that of Berkeley DB, from before rpm 4.16, and SUSE's, which is called ndb.
Source: https://github.com/rpm-software-management/rpm/tree/master/lib/backend
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.contents.contents import Contents, Node
from bridge.errors import MalformedImage
from bridge.packages import rpm_header as tags
from bridge.packages import rpm_sqlite
from bridge.packages.package import Package
from bridge.packages.rpm_header import Header

_PLACES = ("usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm")
_SQLITE = "rpmdb.sqlite"
_OTHERS = {"Packages.db": "ndb", "Packages": "Berkeley DB"}
_KEY = "gpg-pubkey"
"""What the keys are called that rpm keeps as if they were packages."""
_GONE = (1, 2, 4)
"""States of files: another package's now, not installed, not of this machine's kind."""


def installed(contents: Contents) -> list[Package]:
    """Return the packages that rpm has installed; none without its database.

    `MalformedImage` for a database that cannot be read, or is of a kind that is not.
    """
    parents: dict[str, str] = {}
    paths = 0
    found = []
    for raw in _headers(contents):
        package = _package(contents, Header.parse(raw), parents)
        paths += len(package.paths)
        if paths > limits.ENTRIES_MAX:
            raise MalformedImage(f"rpm's database names more than {limits.ENTRIES_MAX} files")
        if package.name != _KEY:
            found.append(package)
    return found


def _headers(contents: Contents) -> Iterator[bytes]:
    """Yield the headers of the first database that there is."""
    for place in _PLACES:
        sqlite = _file(contents, f"{place}/{_SQLITE}")
        if sqlite is not None:
            journal = _file(contents, f"{place}/{_SQLITE}-wal")
            later = None if journal is None else contents.chunks(journal)
            yield from rpm_sqlite.headers(contents.chunks(sqlite), later)
            return
        for name, kind in _OTHERS.items():
            if _file(contents, f"{place}/{name}") is not None:
                raise MalformedImage(
                    f"rpm's database in /{place} is of the kind {kind}, which is not read; "
                    "`rpmdb --rebuilddb --define '_db_backend sqlite'` in the image makes an "
                    "SQLite one of it"
                )


def _file(contents: Contents, path: str) -> Node | None:
    node = contents.resolve(path)
    return node if node is not None and node.is_file and node.size else None


def _package(contents: Contents, header: Header, parents: dict[str, str]) -> Package:
    name, version = header.text(tags.NAME), header.text(tags.VERSION)
    if not name or not version:
        raise MalformedImage("rpm's database has a package without name or version")
    release, epoch = header.text(tags.RELEASE), header.numbers(tags.EPOCH)
    whole = f"{version}-{release}" if release else version
    owned = (_where(contents, *each, parents) for each in _owned(header))
    return Package(
        kind="rpm",
        name=name,
        version=f"{epoch[0]}:{whole}" if epoch else whole,
        architecture=header.text(tags.ARCHITECTURE),
        source=source_name(header.text(tags.SOURCE)) or name,
        paths=tuple(dict.fromkeys(path for path in owned if path)),
        changes=header.numbers(tags.CHANGE_TIMES),
        license=header.text(tags.LICENSE),
    )


def source_name(file: str) -> str:
    """Return the name in that of a source package's file, NAME-VERSION-RELEASE.src.rpm."""
    parts = file.rsplit("-", 2)
    return parts[0] if len(parts) == 3 else ""


def _owned(header: Header) -> Iterator[tuple[str, str]]:
    """Yield directory and name of the files that are there."""
    names = header.texts(tags.BASE_NAMES)
    directories = header.texts(tags.DIRECTORY_NAMES)
    indexes = header.numbers(tags.DIRECTORY_INDEXES)
    states = header.numbers(tags.FILE_STATES)
    if not names:  # rpm 3
        whole = header.texts(tags.OLD_FILE_NAMES)
        directories = [path.rpartition("/")[0] for path in whole]
        names = [path.rpartition("/")[2] for path in whole]
        indexes = tuple(range(len(whole)))
    if len(indexes) != len(names) or any(index >= len(directories) for index in indexes):
        raise MalformedImage("a header in rpm's database: its files and directories disagree")
    if len(states) not in (0, len(names)):
        raise MalformedImage("a header in rpm's database: its files and their states disagree")
    for position, (name, index) in enumerate(zip(names, indexes, strict=True)):
        if not states or states[position] not in _GONE:
            yield directories[index].strip("/"), name


def _where(contents: Contents, parent: str, name: str, parents: dict[str, str]) -> str:
    """Return where the image has a file that the database names: links on the way followed."""
    if parent not in parents:
        found = contents.resolve(parent)
        parents[parent] = parent if found is None else found.path
    return "/".join(part for part in (parents[parent], name) if part)
