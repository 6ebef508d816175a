"""Sync jobs: configurations in three formats, templates, schedules, versions, tags."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bridge.errors import ConfigurationError, UsageError
from bridge.sync import config, cron, regsync_ranges, select, semver, versions
from bridge.sync.config import templates
from bridge.sync.config.template_functions import Outside
from bridge.sync.model import Config, Kind, Place

from .harness import Target

NOW = datetime(2026, 2, 3, 16, 5, 6, tzinfo=UTC)
OUTSIDE = Outside(lambda _: "variable", lambda _: "file", lambda: NOW)
DATA = {"Ref": {"Tag": "1.0"}, "Sync": {"Source": "a/b", "List": ["x", "y"]}}
TARGET = Place(Kind.REGISTRY, "r.local/mirror")

OURS = b"""version: 1
registries: {q.io: {requests-at-once: 4, bandwidth: 20MB/s, mirrors: [m.local]}}
defaults: &d {schedule: 15 3 * * *, jitter: 10m}
jobs:
- name: a
  source: q.io/a/b
  target: r.local/a/
  tags: {allow: 4.*, deny: [rc], semver: ">= 1, < 3 || ^4", newest: 3, younger-than: 90d}
  referrers: {artifact-types: [a/b], annotations: {k: v}}
  backup: old-{{.Ref.Tag}}
  convert: {compression: gzip, level: 9}
  delete: {at-most: 20}
- {name: b, source: q.io/x/, target: "oci:/x", repositories: {deny: a}, hooks: {pre: [x]}}
"""
SKOPEO = b"""q.io:
  images: {a: [], b/c: ["1", 2.0]}
  images-by-tag-regex: {n: ^1$}
  images-by-semver: {v: ">= 3"}
  credentials: {username: u, password: p}
  tls-verify: yes
"""
REGSYNC = b"""version: 1
creds: [{registry: q.io, tls: disabled, user: '{{env "A"}}', credExpire: 1h}]
defaults: {ratelimit: {min: 1, retry: 15m}, backup: "b-{{.Ref.Tag}}", interval: 60m}
x-a: &a {type: repository}
sync:
- <<: *a
  source: q.io/a
  target: r.local/{{ index (split .Sync.Source "/") 1 }}
  tags: {allow: [a], semverRange: [">=1 <2"]}
- {source: "b:1", target: "ocidir://x:1", type: image, platforms: [linux/amd64]}
"""
WORDS = (
    b"&a ", b"*a", b"<<: ", b"[", b"]", b"{", b"}", b"- ", b": ", b"\n", b"\t", b"!!str ", b"'",
    b'"', b"|\n", b"#", b"\x00", b"\xff", b"~", b"\xef\xbb\xbf", b"---\n", b"{{", b"}}", b"(",
    b"9" * 30, b"x-", b"version: 2\n", b"@every 1h", b"sha256:" + b"0" * 64,
)  # fmt: skip


def _config(data: bytes, target: Place | None) -> Config:
    try:
        return config.read(data, "/etc/sync.yaml", target=target, with_secrets=False)
    except ConfigurationError as error:
        # Each has a line of its own where they are shown.
        raise max(
            (UsageError(each) for each in error.mistakes), key=lambda e: len(str(e))
        ) from None


def _names_are_unique(_data: bytes, found: Config) -> None:
    assert len({job.name for job in found.jobs}) == len(found.jobs)
    for job in found.jobs:
        assert job.source != job.target
        assert job.source.kind is not Kind.OSTREE
        select.wanted(["1.0", "latest", "sha256-" + "0" * 64], job.tags)
        if job.schedule.cron is not None or job.schedule.interval is not None:
            assert cron.due(job.schedule, NOW) is not None


def _template(data: bytes) -> str:
    return templates.parse(data.decode("utf-8", "replace")).expand(DATA, OUTSIDE)


def _cron(data: bytes) -> datetime | None:
    return cron.parse(data.decode("utf-8", "replace")).after(NOW)


def _is_later(_data: bytes, found: datetime | None) -> None:
    assert found is not None and found > NOW


def _range(data: bytes) -> Any:
    """Look which of some versions are in a range, in the dialect that the first byte says."""
    text = data[1:].decode("utf-8", "replace")
    parse: Any = regsync_ranges.parse_range if data[:1] == b"r" else semver.parse_range
    found = parse(text)
    return [found(tag) for tag in ("1", "v1.2.3", "1.2-rc.1", "0.0.0", "x", "2.0.0+b", "1.2.3.4")]


def _tag(data: bytes) -> tuple[Any, ...]:
    text = data.decode("utf-8", "replace")
    version = semver.loose(text)
    if version is not None:
        assert semver.loose(str(version)) == version
        assert semver.parse_range("*-0").has(version)
    return version, regsync_ranges.parse(text), versions.key(text), select.digest_tag_of(text)


TARGETS = [
    Target(
        "sync-config",
        lambda: [OURS, REGSYNC],
        lambda data: _config(data, None),
        (UsageError,),
        _names_are_unique,
        WORDS,
    ),
    Target(
        "sync-skopeo",
        lambda: [SKOPEO],
        lambda data: _config(data, TARGET),
        (UsageError,),
        _names_are_unique,
        WORDS,
    ),
    Target(
        "sync-template",
        lambda: [
            b'{{if eq .Ref.Tag "1.0"}}a{{else}}b{{end}}-{{- .Sync.Source | upper -}} x',
            b'{{index (split .Sync.Source "/") 1}}{{printf "%s-%05d" "a" 7}}{{/* c */}}',
            b'{{(time.Now.UTC).Format "2006-01-02T15:04:05.000Z07:00"}}{{join .Sync.List ","}}',
        ],
        _template,
        (UsageError,),
        words=(b"{{", b"}}", b"-}}", b"{{- ", b"|", b"(", b")", b'"', b"`", b".Ref.Tag", b"end"),
    ),
    Target(
        "cron",
        lambda: [b"15 3 * * mon-fri", b"TZ=Europe/Berlin */5 0-6/2 1,15 jan *", b"@every 1h30m"],
        _cron,
        (UsageError,),
        _is_later,
        (b"*", b"/", b"-", b",", b"?", b"@daily", b"CRON_TZ=", b" ", "٣".encode(), b"9" * 30),
    ),
    Target(
        "version-range",
        lambda: [b"s>= 1.2, <3 || ~1.4 || ^0.2 || 1.x - 2", b"r>=1.0.0 <2.0.0-rc1 ^1 ~2.1"],
        _range,
        (UsageError,),
        words=(b"||", b",", b" - ", b"x", b"*", b"!=", b"~>", b"-rc.1", b"+b", b"9" * 30, b"v"),
    ),
    Target(
        "tag",
        lambda: [b"v1.2.3-rc.1+b", b"sha256-" + b"0a" * 32 + b".sig", b"jammy-20240101", b"1.0"],
        _tag,
        words=(b".", b"-", b"+", b"9" * 5000, "٣".encode(), b"0", b"\n"),
    ),
]
