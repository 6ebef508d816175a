"""When a Debian package was changed: the times in the changelog that it brings.

Source: deb-changelog(5). An entry ends with ` -- NAME <ADDRESS>  DATE`, the date as in mails.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

from bridge import limits
from bridge.contents.contents import Contents

_NAMES = ("changelog.Debian.gz", "changelog.gz")
"""The latter is that of a package which is Debian's own."""
_END = re.compile(rb"^ -- .*>  (.{10,40})$", re.MULTILINE)


def times(contents: Contents, package: str) -> tuple[int, ...]:
    """Return when a package was changed, in seconds since 1970, newest first: as far back as the
    first `limits.CHANGELOG_READ` bytes of its changelog go. None where it has none."""
    for name in _NAMES:
        node = contents.resolve(f"usr/share/doc/{package}/{name}")
        if node is not None and node.is_file:
            return parse(_head(contents.chunks(node)))
    return ()


def parse(changelog: bytes) -> tuple[int, ...]:
    """Return the times of a changelog's entries, in their order; what is no date is left out."""
    found = []
    for each in _END.findall(changelog):
        try:
            found.append(int(parsedate_to_datetime(each.decode("ascii").strip()).timestamp()))
        except (ValueError, TypeError, OverflowError):
            continue
    return tuple(found)


def _head(compressed: Iterable[bytes]) -> bytes:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    found = b""
    try:
        for chunk in compressed:
            found += inflater.decompress(chunk, limits.CHANGELOG_READ - len(found))
            if len(found) >= limits.CHANGELOG_READ or inflater.eof:
                break
    except zlib.error:
        pass  # it is no gzip, or not whole: what there is, is a hint and no more
    return found
