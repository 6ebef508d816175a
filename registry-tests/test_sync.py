"""Sync jobs between real registries: what moves, what is asked, what is left where it fails."""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rig import goregistry
from rig.crafted import Publisher
from rig.mirrored import HERE, Mirrored, asked, indexed, made, noise, run_mirrored
from rig.peers import require
from rig.registry import run_registry

from bridge.oci.artifact import fallback_tag
from bridge.oci.digest import Digest
from bridge.oci.reference import parse_registry_reference
from bridge.registry.client import Client
from bridge.registry.options import NetworkOptions
from bridge.sync.model import Conversion, Deletion, Hook, Hooks, Host, Kind, Place
from bridge.sync.report import TagOutcome


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Mirrored]:
    with run_mirrored(tmp_path) as running:
        yield running


@contextmanager
def serving(handler: Callable[..., Any]) -> Iterator[str]:
    """A plain web server; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_repository_is_copied_and_then_costs_one_request_a_tag(both: Mirrored) -> None:
    both.publish("a/b", {f"v{n}": made("base", f"v{n}") for n in range(5)})
    done = both.run(both.job("a/b"))
    assert done.exit_code == 0, done.failures
    assert done.totals.tags["copied"] == 5
    both.same("a/b")
    assert set(both.sent().values()) == {1}

    again = both.run(both.job("a/b"))
    assert again.totals.tags["unchanged"] == 5
    assert asked(both.source) == {"GET tags": 1, "HEAD manifests": 5, "GET referrers": 1}
    assert asked(both.target) == {"GET tags": 1}
    assert again.totals.moved.requests == 8


def test_without_a_state_it_costs_two(both: Mirrored, tmp_path: Path) -> None:
    both.publish("a/b", {f"v{n}": made("base", f"v{n}") for n in range(5)})
    both.run(both.job("a/b"))
    again = both.run(both.job("a/b"), state=tmp_path / "other")
    assert again.totals.tags["unchanged"] == 5
    assert asked(both.source) == {"GET tags": 1, "HEAD manifests": 5, "GET referrers": 1}
    assert asked(both.target) == {"GET tags": 1, "HEAD manifests": 5}
    third = both.run(both.job("a/b"), state=tmp_path / "other")
    assert third.totals.moved.requests == 8  # what was seen there is known now


def test_what_changed_moves_alone(both: Mirrored) -> None:
    both.publish("a/b", {f"v{n}": made("base", f"v{n}") for n in range(6)})
    both.run(both.job("a/b"))
    changed = {f"v{n}": made("base", f"v{n}-new") for n in (2, 4)}
    both.publish("a/b", changed)
    done = both.run(both.job("a/b"))
    assert done.totals.tags["copied"] == 2
    assert done.totals.tags["unchanged"] == 4
    new = {image.layers[1] for image in changed.values()}
    new |= {image.document["config"]["digest"] for image in changed.values()}
    assert both.sent() == dict.fromkeys(new, 1)
    sizes = sum(
        len(image.blobs[each]) for image in changed.values() for each in new & set(image.blobs)
    )
    assert done.totals.moved.sent == sizes
    both.same("a/b")


def test_each_blob_crosses_once_for_all_repositories(both: Mirrored) -> None:
    names = [f"r{n}/os" for n in range(6)]
    for number, name in enumerate(names):
        both.publish(name, {"a": made("base", "common", f"own {number}"), "b": made("base", "b")})
    done = both.run(both.job())
    assert done.exit_code == 0, done.failures
    assert done.totals.tags["copied"] == 12
    assert set(both.sent().values()) == {1}
    assert done.totals.moved.mounted > 0
    both.same(*names)


def test_indexes_signatures_and_referrers_follow(both: Mirrored) -> None:
    index, image = indexed("one", "two"), made("three")
    both.publish("a/b", {"i": index, "m": image})
    child = Digest(index.document["manifests"][0]["digest"])
    for subject in (index.digest, image.digest, child):
        both.publish("a/b", {f"{fallback_tag(subject)}.sig": made(f"signature of {subject}")})
    attached = [both.sign("a/b", each, f"of {each.digest}") for each in (index, image)]
    done = both.run(both.job("a/b"))
    assert done.exit_code == 0, done.failures
    assert {each.tag: each.followers for each in done.jobs[0].tags} == {"i": 3, "m": 2}
    both.same("a/b")
    for each in attached:
        both.whole("a/b", each)
    again = both.run(both.job("a/b"))
    assert again.totals.tags["unchanged"] == 2
    # Of the tags, the three signatures and the two lists of referrers one each.
    assert asked(both.source) == {"GET tags": 1, "HEAD manifests": 7, "GET referrers": 1}
    assert asked(both.target) == {"GET tags": 1}
    anew = both.run(both.job("a/b"), state=both.state / "none")
    assert anew.totals.tags["unchanged"] == 2
    both.sign("a/b", image, "another")
    later = both.run(both.job("a/b"))
    assert later.totals.tags["unchanged"] == 2
    assert sum(each.followers for each in later.jobs[0].tags) == 1
    both.same("a/b")


def test_a_repository_that_fails_leaves_the_others(both: Mirrored) -> None:
    for name in ("a", "b", "c"):
        both.publish(name, {"v1": made(name), "v2": made(name, "more")})
    both.source.refused.append(("GET", "/v2/b/tags", 403))
    done = both.run(both.job())
    assert [each.what for each in done.failures] == [f"{both.source.host}/b"]
    assert done.exit_code == 3
    both.same("a", "c")
    assert both.digests(both.copy, "b") == {}


def test_a_tag_that_fails_leaves_the_others(both: Mirrored) -> None:
    bad = made("damaged")
    both.publish("a", {"v1": made("a"), "v2": bad, "v3": made("c")})
    both.origin.replace_blob(bad.layers[0], b"x" * len(bad.blobs[bad.layers[0]]))
    done = both.run(both.job("a"), retry_times=0)
    assert [each.what for each in done.failures] == [f"{both.source.host}/a:v2"]
    assert done.exit_code == 6
    assert set(both.digests(both.copy, "a")) == {"v1", "v3"}


def test_a_dry_run_tells_and_writes_nothing(both: Mirrored) -> None:
    content = {"v1": made("base", "one"), "v2": made("base", "two"), "i": indexed("base")}
    both.publish("a", content)
    dry = both.run(both.job("a"), dry=True)
    assert dry.exit_code == 0, dry.failures
    assert dry.totals.tags["would-copy"] == 3
    assert {each.method for each in both.target.log} <= {"GET", "HEAD"}
    assert not both.state.exists()
    done = both.run(both.job("a"))
    assert done.totals.moved.sent == dry.totals.moved.sent
    none = both.run(both.job("a"), dry=True)
    assert none.totals.moved.sent == 0
    assert none.totals.tags["unchanged"] == 3


def test_only_what_is_missing(both: Mirrored) -> None:
    both.publish("a", {"v1": made("one"), "v2": made("two")})
    both.run(both.job("a"))
    before = both.digests(both.copy, "a")
    both.publish("a", {"v1": made("one, new"), "v3": made("three")})
    done = both.run(both.job("a"), missing_only=True)
    assert done.totals.tags["copied"] == 1
    assert done.totals.tags["skipped"] == 2
    after = both.digests(both.copy, "a")
    assert {tag: after[tag] for tag in before} == before
    assert asked(both.source)["HEAD manifests"] == 1


def test_what_vanished_is_deleted_if_it_is_ours(both: Mirrored) -> None:
    content = {f"v{n}": made(f"v{n}") for n in range(4)}
    both.publish("a", content)
    job = both.job("a", deletion=Deletion(2))
    both.run(job)
    theirs = made("theirs")
    Publisher(both.copy, "a").put(theirs, "v1")
    Publisher(both.copy, "a").put(theirs, "other")
    for tag in ("v0", "v1"):
        both.untag("a", tag)
    done = both.run(job)
    assert done.exit_code == 0, done.failures
    outcomes = {each.tag: each.outcome for each in done.jobs[0].tags}
    assert outcomes["v0"] is TagOutcome.DELETED
    assert outcomes["v1"] is TagOutcome.SKIPPED  # it is somebody else's by now
    assert set(both.digests(both.copy, "a")) == {"v1", "v2", "v3", "other"}
    # Two are as many as may go.
    for tag in ("v2", "v3"):
        both.untag("a", tag)
    both.publish("a", {"v4": made("v4")})
    few = both.job("a", deletion=Deletion(1))
    assert both.run(few).exit_code == 1
    assert {"v2", "v3"} < set(both.digests(both.copy, "a"))
    dry = both.run(job, dry=True)
    assert dry.totals.tags["would-delete"] == 2
    assert both.run(job).totals.tags["deleted"] == 2
    assert set(both.digests(both.copy, "a")) == {"v1", "v4", "other"}


def test_other_tags_of_a_deleted_image_stay(both: Mirrored) -> None:
    one = made("one")
    both.publish("a", {"v1": one, "latest": one})
    job = both.job("a", deletion=Deletion(1))
    both.run(job)
    both.untag("a", "v1")
    assert both.run(job).totals.tags["deleted"] == 1
    assert both.digests(both.copy, "a") == {"latest": one.digest}
    both.same("a")


def test_nothing_is_deleted_where_the_list_fails_or_is_empty(both: Mirrored) -> None:
    both.publish("a", {"v1": made("v1")})
    job = both.job("a", deletion=Deletion(5))
    both.run(job)
    both.source.refused.append(("GET", "/tags/list", 403))
    assert both.run(job).exit_code == 3
    both.source.refused.clear()
    both.untag("a", "v1")
    both.run(job)
    assert set(both.digests(both.copy, "a")) == {"v1"}


def test_nothing_is_deleted_by_a_damaged_state(both: Mirrored) -> None:
    both.publish("a", {"v1": made("v1"), "v2": made("v2")})
    job = both.job("a", deletion=Deletion(5))
    both.run(job)
    (state,) = both.state.glob("*.state")
    state.write_bytes(b"no database" * 1000)
    both.untag("a", "v1")
    done = both.run(job)
    assert done.exit_code == 0
    assert asked(both.target) == {"GET tags": 1, "HEAD manifests": 1}
    assert set(both.digests(both.copy, "a")) == {"v1", "v2"}


def test_the_image_before_is_kept_under_another_tag(both: Mirrored) -> None:
    old, new = made("old"), made("new")
    both.publish("a", {"v1": old})
    job = both.job("a", backup="old-{{.Ref.Tag}}")
    both.run(job)
    both.publish("a", {"v1": new})
    done = both.run(job)
    assert done.exit_code == 0, done.failures
    assert both.digests(both.copy, "a") == {"v1": new.digest, "old-v1": old.digest}
    assert done.totals.tags["backed-up"] == 1


def test_hooks_are_run(both: Mirrored, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f'echo "$BOOTC_PY_SYNC_EVENT $BOOTC_PY_SYNC_TARGET $BOOTC_PY_SYNC_DIGEST" >> {told}'
    hook = Hook("exec", ("/bin/sh", "-c", script))
    both.publish("a", {"v1": (image := made("one"))})
    job = both.job("a", hooks=Hooks(hook, hook, hook))
    both.run(job)
    both.run(job)
    name = f"{both.target.host}/a:v1 {image.digest}"
    assert told.read_text().splitlines() == [
        f"{event} {name}" for event in ("pre", "post", "unchanged")
    ]
    both.publish("a", {"v1": made("two")})
    done = both.run(both.job("a", hooks=Hooks(Hook("exec", ("/bin/false",)))))
    assert done.exit_code == 1
    assert both.digests(both.copy, "a") == {"v1": image.digest}


def test_a_bundle_goes_there_and_back(both: Mirrored, tmp_path: Path) -> None:
    """Several repositories, an index, a signature and a referrer; then only what changed."""
    index, image = indexed("one"), made("two")
    both.publish("a", {"v1": index, "v2": image})
    both.publish("b/c", {"v1": made("two", "three")})
    both.publish("a", {f"{fallback_tag(index.digest)}.sig": made("signature")})
    attached = both.sign("a", image, "attached")
    bundle = Place(Kind.ARCHIVE, str(tmp_path / "bundle.tar"))
    out = both.job(name="out", target=bundle)
    done = both.run(out)
    assert done.exit_code == 0, done.failures
    with tarfile.open(bundle.name) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    assert sorted(each.name for each in tmp_path.glob("*bundle*")) == ["bundle.tar"]
    back = both.job(name="back", source=bundle)
    home = both.run(back)
    assert home.exit_code == 0, home.failures
    for repository in ("a", "b/c"):
        here = both.digests(both.origin, repository)
        there = both.digests(both.copy, repository)
        listing = fallback_tag(image.digest)
        assert {t: d for t, d in there.items() if t != listing} == {
            t: d for t, d in here.items() if t != listing
        }
        for digest in there.values():
            both.whole(repository, digest)
    both.whole("a", attached)

    before = os.stat(bundle.name)
    assert both.run(out).totals.tags["copied"] == 0
    assert os.stat(bundle.name).st_ino == before.st_ino
    both.publish("a", {"v2": made("two", "changed")})
    changed = both.run(out)
    assert changed.totals.tags["copied"] == 1
    assert both.run(back).totals.tags["copied"] == 1
    both.whole("a", both.digests(both.copy, "a")["v2"])


def test_a_layout_takes_what_a_registry_has(both: Mirrored, tmp_path: Path) -> None:
    both.publish("a", {"v1": indexed("one"), "v2": made("one", "two")})
    both.sign("a", made("one", "two"), "attached")
    layout = tmp_path / "layout"
    job = both.job("a", target=Place(Kind.LAYOUT, str(layout)))
    assert both.run(job).exit_code == 0
    assert both.run(job).totals.tags["unchanged"] == 2
    for tag, digest in both.digests(both.origin, "a").items():
        if tag.startswith("v"):
            done = subprocess.run(
                [require("skopeo"), "inspect", "--raw", f"oci:{layout}:{tag}"],
                capture_output=True, check=True,
            )  # fmt: skip
            assert Digest.of(done.stdout) == digest


def test_an_ostree_repository_is_read_by_ostree(both: Mirrored, tmp_path: Path) -> None:
    both.publish("os/a", {"v1": made("one"), "v2": made("one", "two")})
    place = tmp_path / "repo"
    job = both.job("os/a", target=Place(Kind.OSTREE, str(place)))
    done = both.run(job)
    assert done.exit_code == 0, done.failures
    assert done.totals.tags["copied"] == 2
    again = both.run(job)
    assert again.totals.tags["unchanged"] == 2
    assert again.totals.moved.requests == 3
    handler = partial(SimpleHTTPRequestHandler, directory=str(place))
    with serving(handler) as url:
        client = tmp_path / "client"
        ostree = require("ostree")
        for command in (
            ["init", "--mode=bare-user"],
            ["remote", "add", "--no-gpg-verify", "mirror", url],
            ["pull", "mirror", "sync/os/a/v2"],
        ):
            subprocess.run([ostree, f"--repo={client}", *command], check=True)
        shown = subprocess.run(
            [ostree, f"--repo={client}", "cat", "mirror:sync/os/a/v2", "/usr/two"],
            capture_output=True, check=True,
        )  # fmt: skip
    assert shown.stdout == noise("two", 3000)


@pytest.mark.parametrize("kind", ["image", "index"])
def test_a_conversion_keeps_what_is_in_the_layers(both: Mirrored, kind: str) -> None:
    make = made if kind == "image" else indexed
    both.publish("a", {"v1": make("base", "one"), "v2": make("base", "two")})
    job = both.job("a", conversion=Conversion())
    done = both.run(job)
    assert done.exit_code == 0, done.failures
    assert set(both.sent().values()) == {1}
    there = both.digests(both.copy, "a")
    assert there != both.digests(both.origin, "a")
    for tag, digest in there.items():
        both.whole("a", digest)
        report = next(each for each in done.jobs[0].tags if each.tag == tag)
        assert report.target_digest == digest
    again = both.run(job)
    assert again.totals.tags["unchanged"] == 2
    assert asked(both.target) == {"GET tags": 1}
    both.publish("a", {"v3": make("base", "one"), "v4": make("base", "three")})
    more = both.run(job)
    assert more.totals.tags["copied"] == 2
    assert both.digests(both.copy, "a")["v3"] == there["v1"]
    base = make("base", "one")
    assert not set(both.sent()) & {base.layers[0] if kind == "image" else ""}


def test_content_is_put_into_layers_anew(both: Mirrored) -> None:
    image = made("one", "two", size=200_000)
    both.publish("a", {"v1": image, "latest": image})
    job = both.job("a", conversion=Conversion(rechunk=True))
    done = both.run(job)
    assert done.exit_code == 0, done.failures
    (digest,) = set(both.digests(both.copy, "a").values())
    both.whole("a", digest)
    layers = both.document("a", digest)["layers"]
    assert all("bootc-py.components" in each["annotations"] for each in layers)
    assert all("zstd" in each["mediaType"] for each in layers)
    again = both.run(job)
    assert again.totals.tags["unchanged"] == 2
    assert asked(both.target) == {"GET tags": 1}
    both.publish("a", {"v2": image})
    more = both.run(job)
    assert more.totals.tags["copied"] == 1
    assert not both.source.asked("/blobs/")
    assert both.digests(both.copy, "a")["v2"] == digest


@pytest.mark.parametrize("at_once", [1, 2])
def test_few_requests_at_once_are_enough(both: Mirrored, at_once: int) -> None:
    """Also for blobs that go on while they come, from and to the same registry."""
    for name in ("a", "b"):
        both.publish(name, {f"v{n}": made(name, f"{name}{n}", size=3_000_000) for n in range(3)})
    few = {"requests_at_once": at_once, "upload_part": 1_000_000, "upload_whole": 500_000}
    hosts = (Host(both.source.host, **few), Host(both.target.host, **few))
    done = both.run(hosts=hosts)
    assert done.exit_code == 0, done.failures
    both.same("a", "b")
    back = both.job("a", name="inside", target=Place(Kind.REPOSITORY, f"{both.source.host}/c"))
    inside = both.run(back, hosts=hosts)
    assert inside.exit_code == 0, inside.failures
    assert inside.totals.moved.sent == 0
    assert inside.totals.moved.mounted > 9_000_000


def test_a_run_that_is_told_to_end(both: Mirrored) -> None:
    both.publish("a", {f"v{n}": made(f"v{n}") for n in range(20)})
    stop = threading.Event()
    stop.set()
    done = both.run(both.job("a"), stop=stop)
    assert done.stopped
    assert done.exit_code == 1
    assert done.totals.tags["copied"] == 0
    assert both.run(both.job("a")).totals.tags["copied"] == 20


def test_platforms_of_an_index(both: Mirrored) -> None:
    index = indexed("one")
    both.publish("a", {"v1": index})
    here = f"linux/{HERE.architecture}"
    both.run(both.job("a", platforms=(here,)))
    assert both.digests(both.copy, "a") == {"v1": index.document["manifests"][0]["digest"]}
    again = both.run(both.job("a", platforms=(here,)))
    assert again.totals.tags["unchanged"] == 1
    assert asked(both.source) == {"GET tags": 1, "HEAD manifests": 1, "GET referrers": 1}


def test_a_large_blob_goes_on_while_it_comes(both: Mirrored) -> None:
    both.publish("a", {"v1": made("large", size=30_000_000)})
    part = Host(both.target.host, upload_part=6_000_000, upload_whole=1_000_000)
    done = both.run(both.job("a"), hosts=(part,))
    assert done.exit_code == 0, done.failures
    patches = [each for each in both.target.log if each.method == "PATCH"]
    assert len(patches) == 6
    both.same("a")


def test_a_large_blob_that_is_wrong_never_arrives(both: Mirrored) -> None:
    bad = made("large", size=9_000_000)
    both.publish("a", {"v1": bad})
    size = len(bad.blobs[bad.layers[0]])
    both.origin.replace_blob(bad.layers[0], bytes(size))
    part = Host(both.target.host, upload_part=2_000_000, upload_whole=1_000_000)
    done = both.run(both.job("a"), hosts=(part,))
    assert done.exit_code == 6
    assert both.digests(both.copy, "a") == {}
    assert not both.copy.blob_file(bad.layers[0]).exists()


@pytest.mark.parametrize(
    ("source", "target"),
    [("api", "plain"), ("plain", "api"), ("api", "api")],
    ids=["from-api", "to-api", "both-api"],
)
def test_referrers_between_registries_of_both_kinds(
    source: str, target: str, tmp_path: Path
) -> None:
    """One with the referrers API, one without: what refers to an image is found at the target."""
    kinds = {"plain": run_registry, "api": goregistry.run_api_registry}
    index, image = indexed("one"), made("two")
    with (
        kinds[source]() as origin,
        kinds[target]() as copy,
        run_mirrored(tmp_path, origin, copy) as both,
    ):
        both.publish("a", {"i": index, "m": image})
        attached = {
            each.digest: both.sign("a", each, f"of {each.digest}", fallback=source == "plain")
            for each in (index, image)
        }
        done = both.run(both.job("a"))
        assert done.exit_code == 0, done.failures
        client = Client(NetworkOptions(tls_verify=False))
        ref = parse_registry_reference(f"{both.copy.host}/a:x")
        for subject, digest in attached.items():
            (found,) = client.list_referrers(ref, subject)
            assert found.digest == digest
            both.whole("a", digest)
        client.close()
        again = both.run(both.job("a"))
        assert again.totals.tags["unchanged"] == 2
        # The question whether there is such an API, and then for each image and referrer its list;
        # without it the lists are under tags.
        probe = {"GET referrers": 1}
        assert asked(both.target) == {"GET tags": 1} | (probe if source == "plain" else {})
        lists = {"GET referrers": 5} if source == "api" else probe | {"GET manifests": 2}
        assert asked(both.source) == {"GET tags": 1, "HEAD manifests": 2} | lists
