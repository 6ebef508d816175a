"""The package database of dpkg, read from an image.

Its directory is `/var/lib/dpkg`, a link for images that keep it in `/usr`. `status` has a paragraph
for each package (deb822), `info/NAME.list` or `info/NAME:ARCH.list` what it owns, `diversions` what
is not where its package put it. Images without dpkg, as those called distroless, have a paragraph
a file in `status.d`, beside a `.md5sums` that names the files.
Source: dpkg's man pages deb-control(5), dpkg-query(1), dpkg-divert(1).
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.contents.contents import Contents
from bridge.errors import MalformedImage
from bridge.packages import debian_changelog
from bridge.packages.package import Package

_PLACES = ("var/lib/dpkg", "usr/lib/sysimage/dpkg")
_GONE = ("not-installed", "config-files")
"""States (the third word of Status) in which a package has no files."""

Paragraph = dict[str, str]


def installed(contents: Contents) -> list[Package]:
    """Return the packages that dpkg has installed; none without its database.

    `MalformedImage` for a database that cannot be read.
    """
    for place in _PLACES:
        found = contents.resolve(place)
        if found is not None and found.is_directory:
            return list(_Database(contents, found.path).packages())
    return []


def paragraphs(text: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of deb822 text: fields by name in lower case, folded lines joined by
    newlines. What is no field is passed over, as dpkg's own readers in other programs do."""
    current: Paragraph = {}
    name = ""
    for line in text.split("\n"):
        if not line.strip():
            if current:
                yield current
            current, name = {}, ""
        elif line[0] in " \t":
            if name:
                current[name] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower() if colon else ""
            if name:
                current[name] = value.strip()
    if current:
        yield current


def diverted(text: str) -> dict[str, tuple[str, str]]:
    """Return what a `diversions` file says: by path, where it is instead, and the package that
    owns the path itself (`:` for none). `MalformedImage` where lines are missing."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if len(lines) % 3:
        raise MalformedImage("dpkg's diversions file ends in the middle of one")
    triples = zip(lines[::3], lines[1::3], lines[2::3], strict=True)
    return {path: (instead, package) for path, instead, package in triples}


class _Database:
    def __init__(self, contents: Contents, place: str) -> None:
        self._contents = contents
        self._place = place
        self._diverted = diverted(self._text(f"{place}/diversions"))
        self._parents: dict[str, str] = {}

    def packages(self) -> Iterator[Package]:
        for each in paragraphs(self._text(f"{self._place}/status")):
            state = each.get("status", "").split()
            if len(state) == 3 and state[2] not in _GONE:
                yield self._package(each, self._owned(each))
        for node in self._contents.children(f"{self._place}/status.d"):
            if node.is_file and not node.name.endswith(".md5sums"):
                names = self._text(f"{node.path}.md5sums").split("\n")
                owned = [f"/{line.partition('  ')[2]}" for line in names if "  " in line]
                for each in paragraphs(self._text(node.path)):
                    yield self._package(each, owned)

    def _package(self, fields: Paragraph, owned: list[str]) -> Package:
        try:
            name, version = fields["package"], fields["version"]
        except KeyError as error:
            raise MalformedImage(
                f"dpkg's database has a package without {error.args[0].capitalize()}"
            ) from None
        paths = (self._path(path, name) for path in owned)
        source = fields.get("source", name).partition(" ")[0]
        return Package(
            kind="deb",
            name=name,
            version=version,
            architecture=fields.get("architecture", ""),
            source=source or name,
            paths=tuple(dict.fromkeys(path for path in paths if path)),
            changes=debian_changelog.times(self._contents, name),
        )

    def _owned(self, fields: Paragraph) -> list[str]:
        name = fields.get("package", "")
        for stem in (f"{name}:{fields.get('architecture', '')}", name):
            path = f"{self._place}/info/{stem}.list"
            if self._contents.get(path) is not None:
                return self._text(path).split("\n")
        return []

    def _path(self, path: str, package: str) -> str:
        """Return where the image has what a package owns as `path`: links on the way followed."""
        instead, owner = self._diverted.get(path, (path, package))
        where = (path if owner == package else instead).strip("/")
        if where == ".":
            return ""
        parent, slash, name = where.rpartition("/")
        if not slash:
            return where
        if parent not in self._parents:
            found = self._contents.resolve(parent)
            self._parents[parent] = parent if found is None else found.path
        return f"{self._parents[parent]}/{name}"

    def _text(self, path: str) -> str:
        node = self._contents.get(path)
        if node is None or not node.is_file:
            return ""
        # Descriptions are in any encoding; names and versions are ASCII.
        return self._contents.read(node, limits.PACKAGES_MAX).decode("utf-8", "surrogateescape")
