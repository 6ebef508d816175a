"""Caches that are large: each machine downloads and keeps them, and none uses them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge import limits
from bridge.layer.tar import EntryType
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Subject

_KINDS = (
    (
        re.compile(r"(var/cache/apt)/.+"),
        "apt's cache",
        "end the step that installs with: apt-get clean",
    ),
    (
        re.compile(r"(var/lib/apt/lists)/.+"),
        "apt's package lists",
        "end the step that installs with: rm -rf /var/lib/apt/lists/*",
    ),
    (
        re.compile(r"(var/cache/(?:dnf|yum|libdnf5|PackageKit))/.+"),
        "dnf's cache",
        "end the step that installs with: dnf clean all && rm -rf /var/cache/{dnf,yum,libdnf5}",
    ),
    (
        re.compile(r"(var/cache/(?:pacman/pkg|zypp|apk))/.+"),
        "a package manager's cache",
        "end the step that installs with its command that cleans, or mount the cache: "
        "RUN --mount=type=cache,target=DIR",
    ),
    (
        re.compile(
            r"((?:.*/)?(?:\.cache|\.npm/_cacache|\.cargo/registry|\.m2/repository|\.gradle/caches"
            r"|go/pkg/mod))/.+"
        ),
        "a user's cache",
        "mount it while a step runs: RUN --mount=type=cache,target=DIR; or have the tool keep none "
        "(pip install --no-cache-dir)",
    ),
    (
        re.compile(r"(var/cache)/(?!debconf/).+"),
        "a cache",
        "end the step with: find /var/cache -type f -not -path '/var/cache/debconf/*' -delete",
    ),
)
_BYTE_CODE = re.compile(r"(.*/)?__pycache__/([^/]+?)\.[a-z]+-?\d+[^/]*\.pyc")


@dataclass(slots=True)
class _Cache:
    problem: str
    cure: str
    files: int = 0
    size: int = 0
    keys: set[str] = field(default_factory=set)


def _large_caches(subject: Subject) -> Iterator[Finding]:
    found: dict[str, _Cache] = {}
    for node in subject.nodes:
        path = node.path
        if node.type is not EntryType.FILE:
            continue
        match = _matched(subject, path)
        if match is None:
            continue
        where, problem, cure = match
        cache = found.setdefault(where, _Cache(problem, cure))
        cache.files += 1
        if not node.key or node.key not in cache.keys:  # names of one file cost nothing
            cache.keys.add(node.key)
            cache.size += node.size
    for where, cache in found.items():
        if cache.size >= limits.CACHE_LEAST:
            detail = f"{cache.size / limits.MIB:.1f} MiB in {cache.files:,} files"
            yield Finding(f"/{where}", cache.problem, cache.cure, detail)


def _matched(subject: Subject, path: str) -> tuple[str, str, str] | None:
    """Return the cache that a file belongs to, what is wrong with it, and the cure."""
    if "cache" in path or "/apt/lists/" in path or "/." in path or "go/pkg/mod/" in path:
        code = _BYTE_CODE.fullmatch(path)
        if code is not None:
            directory = code[1] or ""
            if subject.get(f"{directory}{code[2]}.py") is not None:
                return None
            return (
                f"{directory}__pycache__",
                "byte code without its source, which Python does not use",
                "remove it with the source: find / -xdev -name __pycache__ -prune -exec rm -r {} +",
            )
        for pattern, what, cure in _KINDS:
            match = pattern.fullmatch(path)
            if match is not None:
                return match[1], f"{what} was left in the image", cure
    return None


LINTS = (
    Lint(
        "large-caches",
        Level.WARNING,
        "Check for caches of a mebibyte and more: package archives and lists, caches of users and "
        "language tools, byte code without its source.",
        _large_caches,
    ),
)
