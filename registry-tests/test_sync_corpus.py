"""A mirror of many repositories: what it costs, that it is the same, and what breaks it not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import corpus
from rig.answer import Answer, Exchange
from rig.peers import require
from rig.syncing import Mirror, kills, run_mirror

FEW = (10, 3)
"""Repositories and tags, where it is not about many."""


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Mirror]:
    with run_mirror(tmp_path, corpus.made(*FEW)) as running:
        yield running


def test_what_a_mirror_costs(tmp_path: Path) -> None:
    """20 repositories with 25 tags each: at first, again, without what was kept, and changed."""
    content = corpus.made()
    count = content.tag_count
    digest_tags = sum(len(each.digest_tags) for each in content.repositories.values())
    assert count == 500 and digest_tags == 180
    # The catalog, the probe for an API of referrers, and each repository's tags at both sides.
    listings = 2 * len(content.repositories) + 6
    with run_mirror(tmp_path, content) as mirror:
        first = mirror.sync()
        assert first.done.code == 0, first.done.err
        assert first.tags == {"copied": count}
        assert first.fetched == dict.fromkeys(content.blobs, 1)
        assert first.report["totals"]["sentBytes"] == content.blob_bytes
        assert first.report["totals"]["requests"] == first.requests
        assert corpus.differences(content, mirror.copy.storage) == []

        again = mirror.sync()
        assert again.done.code == 0, again.done.err
        assert again.tags == {"unchanged": count}
        assert again.requests <= count + digest_tags + listings
        assert mirror.source.blob_requests == mirror.target.blob_requests == 0
        assert [each for each in mirror.target.log if "/manifests/v" in each.path] == []

        forgotten = mirror.sync(state="empty")
        assert forgotten.tags == {"unchanged": count}
        assert forgotten.requests <= 2 * (count + digest_tags) + listings
        assert mirror.source.blob_requests == mirror.target.blob_requests == 0
        gets = [each for each in mirror.target.asked("/manifests/v") if each.method == "GET"]
        assert gets == []

        changed = [(f"os/repository-{number:02}", f"v1.{number}") for number in (0, 2, 4, 9, 13)]
        newer = corpus.made(changed=changed)
        mirror.stock(newer)
        check = mirror.sync(verb="check")
        assert check.tags == {"unchanged": count - 5, "would-copy": 5}
        assert mirror.target.asked("/uploads/") == []
        new = set(newer.blobs) - set(content.blobs)
        moved = mirror.sync()
        assert moved.tags == {"unchanged": count - 5, "copied": 5}
        assert moved.fetched == dict.fromkeys(new, 1)
        sizes = sum(len(newer.blobs[each]) for each in new)
        assert moved.report["totals"]["sentBytes"] == sizes
        assert check.report["totals"]["sentBytes"] == sizes
        assert corpus.differences(newer, mirror.copy.storage) == []


def test_shards_share_the_work(few: Mirror) -> None:
    commands = [
        few.command("once", "--json", "--quiet", f"--shard={number}/4", state=f"state-{number}")
        for number in range(4)
    ]
    processes = [
        subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for each in commands
    ]
    said = [each.communicate() for each in processes]
    assert [each.returncode for each in processes] == [0] * 4, said
    reports = [json.loads(out) for out, _ in said]
    tags = [
        (tag["repository"], tag["tag"])
        for report in reports
        for job in report["jobs"]
        for tag in job["tags"]
    ]
    content = corpus.made(*FEW)
    assert len(tags) == len(set(tags)) == content.tag_count
    assert [report["shard"] for report in reports] == ["0/4", "1/4", "2/4", "3/4"]
    assert corpus.differences(content, few.copy.storage) == []


SICK = "os/repository-03"
STATUSES = {429: 5, 401: 3, 403: 3, 404: 4, 500: 5}


@pytest.mark.parametrize("status", STATUSES)
def test_a_repository_that_is_refused(few: Mirror, status: int) -> None:
    for method in ("GET", "HEAD"):
        few.source.refused.append((method, f"/v2/{SICK}/", status))
    ran = few.sync("--retry-times=0")
    _nine_of_ten(few, ran.done.err, ran.report)
    assert ran.done.code == STATUSES[status], ran.done.err


def _nonsense(exchange: Exchange, answer: Answer) -> Answer:
    body = b"<html>hello</html>"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer(200, headers, [body])


def test_a_repository_that_is_garbage(few: Mirror) -> None:
    few.source.spoil(f"/v2/{SICK}/", _nonsense, always=True)
    ran = few.sync("--retry-times=0")
    _nine_of_ten(few, ran.done.err, ran.report)
    assert ran.done.code not in (0, 2)


def _nine_of_ten(mirror: Mirror, said: str, report: dict[str, object]) -> None:
    content = corpus.made(*FEW)
    del content.repositories[SICK]
    used = {each for found in content.repositories.values() for each in found.blobs}
    content.blobs = {digest: raw for digest, raw in content.blobs.items() if digest in used}
    assert corpus.differences(content, mirror.copy.storage) == []
    assert corpus.holes(mirror.copy.storage) == []
    (job,) = report["jobs"]  # type: ignore[misc]
    assert {SICK in failure["what"] for failure in job["failures"]} == {True}
    lines = said.splitlines()
    assert any(line.startswith("failed: mirror: ") and SICK in line for line in lines)
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]


RATE = 20_000_000


def test_a_cap_of_bandwidth_is_held(tmp_path: Path) -> None:
    """All bytes are at the target before its last manifest is: no sooner than the cap allows."""
    with run_mirror(tmp_path, corpus.made(1, 4, layer=10_000_000)) as mirror:
        mirror.config(registry="bandwidth: 20MB/s")
        ran = mirror.sync()
        assert ran.done.code == 0, ran.done.err
        begun = min(each.came for each in mirror.source.asked("/blobs/"))
        ended = max(each.came for each in mirror.target.asked("/manifests/"))
        assert mirror.source.body_bytes > 5 * RATE / 2
        assert mirror.source.body_bytes / (ended - begun) <= RATE * 1.05


def test_jobs_that_are_killed_leave_nothing_broken(tmp_path: Path) -> None:
    content = corpus.made(6, 10)
    with run_mirror(tmp_path, content) as mirror:
        for round_ in kills(mirror, content, 4, seed=1, most=6):
            assert round_.faults == []


# -- other tools' files ----------------------------------------------------------------------


def test_a_file_of_skopeo_does_what_skopeo_does(tmp_path: Path) -> None:
    """The example of skopeo-sync(1), with these hosts and repositories, by both programs."""
    skopeo = require("skopeo")
    content = corpus.made(3, 12)
    with (
        run_mirror(tmp_path / "ours", content) as ours,
        run_mirror(tmp_path / "theirs", content) as theirs,
    ):
        one = content.repositories["os/repository-02"].tags["v1.3"]
        file = tmp_path / "skopeo.yaml"
        file.write_text(
            f"{ours.origin.host}:\n"
            "    tls-verify: false\n"
            "    images:\n"
            "        os/repository-00: []\n"
            "        os/repository-01:\n"
            '            - "v1.0"\n'
            '            - "v1.2"\n'
            "        os/repository-02:\n"
            f'            - "{one}"\n'
            "    images-by-tag-regex:\n"
            "        os/repository-01: ^v1\\.1[01]$\n"
            "    images-by-semver:\n"
            '        os/repository-02: ">= 1.5.0, < 1.9.0"\n'
        )
        done = subprocess.run(
            [skopeo, "sync", "--all", "--src=yaml", "--dest=docker",
             "--dest-tls-verify=false", str(file), f"{theirs.copy.host}/mirror"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "sync", "once", str(file),
             f"--dest={ours.copy.host}/mirror", "--tls-verify=false",
             "--state", str(tmp_path / "state")],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        wanted = _listed(theirs.copy.storage)
        found = _listed(ours.copy.storage)
        assert set(wanted) <= set(found)
        # skopeo writes lists of referrers anew, without what it does not know in them.
        images = {each for each in wanted if not each[1].startswith("sha256-")}
        assert len(images) == 12 + 4
        assert {each: found[each] for each in images} == {each: wanted[each] for each in images}
        # What we have beside: versions, which Debian's skopeo passes over, and what follows.
        more = {each for each in set(found) - set(wanted) if not each[1].startswith("sha256-")}
        assert more == {("mirror/repository-02", f"v1.{number}") for number in (5, 6, 7, 8)}


def _listed(storage: Path) -> dict[tuple[str, str], str]:
    root = storage / "docker/registry/v2/repositories"
    return {
        (repository.relative_to(root).as_posix(), tag): digest
        for repository in corpus.repositories(storage)
        for tag, digest in corpus.tags(repository).items()
    }


def test_a_file_of_regsync_runs_as_it_is(tmp_path: Path) -> None:
    """The shape of regsync's documented example: creds, defaults, three types of entries."""
    content = corpus.made(4, 6)
    with run_mirror(tmp_path / "m", content) as mirror:
        source, target = mirror.source.host, mirror.target.host
        (mirror.work / "sync.yaml").write_text(
            "version: 1\n"
            "creds:\n"
            f"  - registry: {source}\n    tls: disabled\n"
            f"  - registry: {target}\n    tls: disabled\n    reqConcurrent: 4\n"
            "defaults:\n"
            "  ratelimit:\n    min: 100\n    retry: 15m\n"
            "  parallel: 2\n"
            "  interval: 60m\n"
            "  digestTags: true\n"
            "  referrers: true\n"
            '  backup: "backup-{{.Ref.Tag}}"\n'
            "sync:\n"
            f"  - source: {source}/os/repository-00\n"
            f"    target: {target}/first\n"
            "    type: repository\n"
            "    tags:\n      allow:\n      - v1\\.[0-3]\n      deny:\n      - v1\\.2\n"
            f"  - source: {source}/os/repository-01:v1.4\n"
            f"    target: {target}/second:stable\n"
            "    type: image\n"
            f"  - source: {source}\n"
            f"    target: {target}/all\n"
            "    type: registry\n"
            "    repos:\n      allow:\n      - os/repository-0[23]\n"
            '    tags:\n      semverRange:\n      - ">=1.3.0"\n'
        )
        ran = mirror.sync()
        assert ran.done.code == 0, ran.done.err
        found = _listed(mirror.copy.storage)
        tags = {each for each in found if not each[1].startswith("sha256-")}
        assert tags == {
            *(("first", f"v1.{number}") for number in (0, 1, 3)),
            ("second", "stable"),
            *((f"all/os/repository-0{r}", f"v1.{t}") for r in (2, 3) for t in (3, 4, 5)),
        }
        assert found["second", "stable"] == content.repositories["os/repository-01"].tags["v1.4"]
        again = mirror.sync()
        assert again.tags == {"unchanged": 10}
        assert mirror.target.blob_requests == 0
