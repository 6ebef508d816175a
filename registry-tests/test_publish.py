"""Publishing to real registries: what peers make of it, and what is left where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rig import goregistry, misbehaving, store
from rig.command import PLAIN_HTTP, Done, bootc_py, measured, pull, report
from rig.forky import run_forky
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry
from rig.small import medium, small
from rig.twopkg import write_image
from support import images

from bridge.oci import artifact
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_MANIFEST, Descriptor, Platform, parse_document
from bridge.oci.reference import parse_registry_reference
from bridge.registry import referrers
from bridge.registry.client import Client
from bridge.registry.options import NetworkOptions
from bridge.registry.push import Pusher
from bridge.registry.transport import Transport
from tools.images import build, cache
from tools.images import layout as oci
from tools.images.layout import Layout

SPDX = "application/spdx+json"
CYCLONEDX = "application/vnd.cyclonedx+json"
OPTIONS = NetworkOptions(tls_verify=False)


def publish(source: str, target: str, *options: str | Path) -> dict[str, Any]:
    return report("publish", source, target, PLAIN_HTTP, *options)


def raw_manifest(host: str, name: str) -> bytes:
    """A manifest or index as the registry serves it."""
    repository, _, tag = name.rpartition(":")
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{tag}")
    kinds = ("oci.image.manifest.v1", "oci.image.index.v1")
    request.add_header("Accept", ", ".join(f"application/vnd.{kind}+json" for kind in kinds))
    with urllib.request.urlopen(request) as answer:
        body: bytes = answer.read()
    return body


def tags(host: str, repository: str) -> set[str]:
    """The tags of a repository, without those that list referrers."""
    try:
        with urllib.request.urlopen(f"http://{host}/v2/{repository}/tags/list") as answer:
            found = json.load(answer)["tags"] or []
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return set()
    return {tag for tag in found if not tag.startswith("sha256-")}


def listed(registry: Registry, repository: str, subject: str, kind: str | None = None) -> list[str]:
    """The referrers that our own client finds, each fetched and held to its subject."""
    client = Client(OPTIONS)
    ref = parse_registry_reference(f"{registry.host}/{repository}:x")
    found = client.list_referrers(ref, Digest(subject), kind)
    for each in found:
        fetched = client.get_manifest(ref.with_digest(each.digest))
        artifact.require_subject(parse_document(fetched.raw, fetched.media_type), Digest(subject))
    client.close()
    return [each.digest for each in found]


def oras(*arguments: str) -> Any:
    done = subprocess.run(
        [goregistry.oras(), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def discovered(registry: Registry, name: str) -> dict[str, str]:
    """Digest by artifact type of what the current oras finds."""
    found = oras("discover", "--plain-http", "--format=json", f"{registry.host}/{name}")
    return {each["artifactType"]: each["digest"] for each in found["referrers"]}


@pytest.fixture
def plain() -> Iterator[Registry]:
    with run_registry() as running:
        yield running


@pytest.fixture
def packages(tmp_path: Path) -> Layout:
    """An image with a package database."""
    status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5:1-2\n"
    layer = [
        images.directory("usr"),
        images.directory("usr/lib"),
        images.file("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n"),
        images.directory("usr/lib/modules"),
        images.directory("usr/lib/modules/6.1"),
        images.file("usr/lib/modules/6.1/vmlinuz", b"kernel"),
        images.file("usr/lib/modules/6.1/initramfs.img", b"initramfs"),
        images.directory("usr/lib/sysimage"),
        images.directory("usr/lib/sysimage/dpkg"),
        images.file("usr/lib/sysimage/dpkg/status", status),
    ]
    return oci.read(images.write_layout(tmp_path / "packages", {"v1": images.image(layer)}))


# -- what peers make of it -----------------------------------------------------------------------


def test_a_real_image_is_published_as_it_is(plain: Registry, scratch: Path) -> None:
    """Today's podman and skopeo take it; the bill of materials is found from it."""
    layout = build.image("base", "v1", "gzip")
    name = f"{plain.host}/os/base:v1"
    digest_file = scratch / "digest"
    done = publish(
        layout.reference, name, "--tag=latest", "--sbom=spdx", "--digestfile", digest_file
    )
    assert done["destination"]["digest"] == layout.digest == digest_file.read_text()
    assert done["destination"]["tags"] == ["v1", "latest"]
    sizes = [layer["size"] for layer in layout.layers] + [layout.manifest["config"]["size"]]
    assert done["transfer"]["pushedBytes"] == sum(sizes)
    for tag in ("v1", "latest"):
        assert raw_manifest(plain.host, f"os/base:{tag}") == layout.blob(layout.digest).read_bytes()

    with run_forky(scratch / "forky") as peer:
        peer.checked(
            "skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
            f"docker://{name}", "dir:/mnt/t/copied",
        )  # fmt: skip
        copied = peer.work / "t/copied"
        assert (copied / "manifest.json").read_bytes() == layout.blob(layout.digest).read_bytes()
        pulled = peer.pull(name)
        assert pulled.code == 0, pulled.err
        config = layout.manifest["config"]["digest"].removeprefix("sha256:")
        assert pulled.out.strip() == config

    (attached,) = done["referrers"]
    assert listed(plain, "os/base", layout.digest, SPDX) == [attached["digest"]]
    manifest = json.loads(fetched(plain, "os/base", attached["digest"]))
    bill = json.loads(plain.blob_file(manifest["layers"][0]["digest"]).read_bytes())
    names = {each["name"] for each in bill["packages"]}
    assert {"bash", "dpkg", "libc6", "systemd"} <= names and len(names) > 100

    again = publish(layout.reference, name, "--tag=latest", "--sbom=spdx")
    assert again["transfer"]["pushedBytes"] == 0
    assert again["referrers"] == done["referrers"]


def fetched(registry: Registry, repository: str, digest: str) -> bytes:
    client = Client(OPTIONS)
    ref = parse_registry_reference(f"{registry.host}/{repository}:x")
    found = client.get_manifest(ref.with_digest(Digest(digest)))
    client.close()
    return found.raw


@pytest.mark.parametrize("compression", ["gzip", "zstd", "zstd:chunked"])
def test_layers_are_packed_anew_where_that_is_asked_for(
    plain: Registry, tmp_path: Path, compression: str
) -> None:
    layout = small(tmp_path / "image")
    name = f"{plain.host}/a/b:v1"
    done = publish(layout.reference, name, f"--compression={compression}")
    if compression == "gzip":
        assert done["destination"]["digest"] == layout.digest and done["compression"] is None
        return
    assert done["compression"] == compression
    found = json.loads(raw_manifest(plain.host, "a/b:v1"))
    assert found["config"]["digest"] == layout.manifest["config"]["digest"]
    kinds = {layer["mediaType"].rpartition("+")[2] for layer in found["layers"]}
    assert kinds == {"zstd"}
    first = pull(layout.reference, tmp_path / "repo")
    back = pull(name, tmp_path / "repo")
    assert back["image"]["contentChecksum"] == first["image"]["contentChecksum"]
    again = publish(name, f"{plain.host}/c/d:v1", f"--compression={compression}")
    assert again["destination"]["digest"] == done["destination"]["digest"]
    assert again["transfer"]["mountedBytes"] and not again["transfer"]["pushedBytes"]


def test_a_stored_image(plain: Registry, packages: Layout, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    pull(packages.reference, repo)
    name = f"{plain.host}/a/b:v1"
    done = publish(packages.reference, name, "--repo", repo, "--sbom=cyclonedx")
    assert done["compression"] == "zstd:chunked"
    digest = done["destination"]["digest"]
    assert digest == f"sha256:{Digest.of(raw_manifest(plain.host, 'a/b:v1')).hex}"
    assert listed(plain, "a/b", digest) == [done["referrers"][0]["digest"]]
    pushed = report("image", "push", packages.reference, name, "--repo", repo, PLAIN_HTTP)
    assert pushed["destination"]["digest"] == digest


def test_an_index_is_copied_whole(plain: Registry, tmp_path: Path) -> None:
    one, two = images.image([images.file("a")]), images.image([images.file("b", "b")])
    made = images.index((one, Platform("linux", "amd64")), (two, Platform("linux", "s390x")))
    images.write_layout(tmp_path / "image", {"v": made})
    first, second = f"{plain.host}/a/b:v", f"{plain.host}/c/d:v"
    publish(f"oci:{tmp_path / 'image'}:v", first)
    done = publish(first, second)
    assert done["transfer"]["pushedBytes"] == 0 and done["transfer"]["mountedBytes"] > 0
    publish(second, f"oci-archive:{tmp_path / 'out.tar'}:v")
    for name in ("a/b:v", "c/d:v"):
        assert raw_manifest(plain.host, name) == made.manifest
    refused = bootc_py("publish", first, second, PLAIN_HTTP, "--sbom=spdx")
    assert refused.code == 2 and "index of several images" in refused.error
    subprocess.run(
        [require("skopeo"), "copy", "--quiet", "--all", "--preserve-digests",
         f"oci-archive:{tmp_path / 'out.tar'}:v", f"dir:{tmp_path / 'copied'}"],
        check=True,
    )  # fmt: skip
    assert (tmp_path / "copied/manifest.json").read_bytes() == made.manifest


def test_what_is_printed(plain: Registry, packages: Layout, tmp_path: Path) -> None:
    name = f"{plain.host}/a/b"
    done = bootc_py("publish", packages.reference, name, "--tag=one", "--tag=two", PLAIN_HTTP)
    assert done.code == 0, done.err
    assert done.out == f"{packages.digest}\n"
    assert tags(plain.host, "a/b") == {"one", "two"}
    for options, match in (
        (["--tag=no tag"], "is not a tag"),
        (["--compression-level=3"], "needs --compression"),
        (["--compression=gzip", "--compression-level=30"], "compression level 30"),
    ):
        failed = bootc_py("publish", packages.reference, f"{name}:three", PLAIN_HTTP, *options)
        assert failed.code == 2 and match in failed.error
    at = bootc_py("publish", packages.reference, f"{name}@{packages.digest}", PLAIN_HTTP)
    assert at.code == 2 and "give a tag" in at.error
    assert tags(plain.host, "a/b") == {"one", "two"}


@pytest.mark.parametrize("is_stored", [False, True])
def test_the_encapsulated_form_is_the_same_commit(
    plain: Registry, packages: Layout, tmp_path: Path, is_stored: bool
) -> None:
    there = report("image", "pull", packages.reference, "--repo", tmp_path / "source")
    options = ["--repo", tmp_path / "source"] if is_stored else []
    name = f"{plain.host}/a/commit"
    done = publish(
        packages.reference, f"{name}:v1", "--format=ostree", "--tag=v2", "--sbom=spdx", *options
    )
    assert tags(plain.host, "a/commit") == {"v1", "v2"}
    document = json.loads(raw_manifest(plain.host, "a/commit:v2"))
    assert document["annotations"]["ostree.commit"] == there["image"]["commit"]
    assert discovered(plain, "a/commit:v1")[SPDX] == done["referrers"][0]["digest"]
    here = report("image", "pull", f"{name}:v1", "--repo", tmp_path / "target", PLAIN_HTTP)
    assert here["image"]["contentChecksum"] == there["image"]["contentChecksum"]
    commits = store.ostree(tmp_path / "target", "show", there["image"]["commit"])
    assert there["image"]["commit"] in commits.decode()


# -- what refers to an image -----------------------------------------------------------------------


def test_oras_finds_it_by_the_tag_that_stands_in(plain: Registry, packages: Layout) -> None:
    name = f"{plain.host}/a/b:v1"
    done = [publish(packages.reference, name, f"--sbom={kind}") for kind in ("spdx", "cyclonedx")]
    expected = {kind["artifactType"]: kind["digest"] for each in done for kind in each["referrers"]}
    assert set(expected) == {SPDX, CYCLONEDX}
    assert discovered(plain, "a/b:v1") == expected
    assert sorted(listed(plain, "a/b", packages.digest)) == sorted(expected.values())
    assert listed(plain, "a/b", packages.digest, SPDX) == [expected[SPDX]]


def test_oras_finds_it_by_the_api(packages: Layout) -> None:
    with goregistry.run_api_registry() as registry, run_proxy(registry.port) as proxy:
        name = f"{registry.host}/a/b:v1"
        done = publish(packages.reference, name, "--sbom=spdx")
        digest = done["referrers"][0]["digest"]
        assert list(discovered(registry, "a/b:v1").values()) == [digest]
        client = Client(OPTIONS)
        ref = parse_registry_reference(f"{proxy.host}/a/b:v1")
        found = client.list_referrers(ref, Digest(packages.digest))
        client.close()
        assert [each.digest for each in found] == [digest]
        assert [each.path.split("/")[4] for each in proxy.log] == ["referrers"]


@pytest.mark.parametrize("api", [False, True])
def test_what_oras_attached_stays(packages: Layout, tmp_path: Path, api: bool) -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(goregistry.run_api_registry() if api else run_registry())
        name = f"{registry.host}/a/b:v1"
        publish(packages.reference, name)
        (tmp_path / "note.txt").write_text("a note")
        theirs = subprocess.run(
            [goregistry.oras(), "attach", "--plain-http", "--format=json",
             "--artifact-type=application/vnd.example.note", name, "note.txt:text/plain"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        note = json.loads(theirs.stdout)["digest"]
        ours = publish(packages.reference, name, "--sbom=spdx")["referrers"][0]["digest"]
        found = oras("discover", "--plain-http", "--format=json", name)["referrers"]
        assert sorted(each["digest"] for each in found) == sorted([note, ours])
        assert sorted(listed(registry, "a/b", packages.digest)) == sorted([note, ours])


def test_oras_finds_it_in_a_layout(packages: Layout, tmp_path: Path) -> None:
    done = publish(packages.reference, f"oci:{tmp_path / 'out'}:v1", "--sbom=spdx", "--tag=v2")
    found = oras("discover", "--oci-layout", "--format=json", f"{tmp_path / 'out'}:v2")
    assert [each["digest"] for each in found["referrers"]] == [done["referrers"][0]["digest"]]
    inspected = subprocess.run(
        [require("skopeo"), "inspect", f"oci:{tmp_path / 'out'}:v1"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(inspected.stdout)["Digest"] == packages.digest
    # Without a tag it is the image that is meant, for us at least.
    again = publish(f"oci:{tmp_path / 'out'}", f"oci-archive:{tmp_path / 'out.tar'}:v")
    assert again["destination"]["digest"] == packages.digest


def test_many_writers_lose_nothing(plain: Registry, packages: Layout) -> None:
    """Each adds to the same list at once, at a registry that keeps none itself."""
    name = f"{plain.host}/a/b:v1"
    publish(packages.reference, name)
    raw = packages.blob(packages.digest).read_bytes()
    subject = Descriptor(OCI_MANIFEST, Digest(packages.digest), len(raw))
    empty = artifact.EMPTY

    def attach(number: int) -> str:
        pusher = Pusher(parse_registry_reference(name), OPTIONS)
        document = artifact.artifact(f"application/x.{number}", subject, [])
        try:
            with open(os.memfd_create("empty"), "w+b", buffering=0) as file:
                file.write(empty)
                pusher.push_blob(file.fileno(), Digest.of(empty), len(empty))
            return referrers.push(pusher, document, OCI_MANIFEST, None, referrers.Support())
        finally:
            pusher.close()

    with ThreadPoolExecutor(8) as pool:
        expected = list(pool.map(attach, range(8)))
    assert sorted(listed(plain, "a/b", packages.digest)) == sorted(expected)


def test_a_link_that_the_registry_is_about_to_write(plain: Registry, packages: Layout) -> None:
    """It is empty for a moment when another client sends that blob, too; of a manifest that
    names the blob it is then said that its digest is wrong."""
    name = f"{plain.host}/a/b:v1"
    publish(packages.reference, name)
    raw = packages.blob(packages.digest).read_bytes()
    layer = parse_document(raw).layers[0].digest
    link = plain.storage / f"docker/registry/v2/repositories/a/b/_layers/sha256/{layer.hex}/link"
    written = link.read_bytes()
    link.write_bytes(b"")

    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        link.write_bytes(written)

    pusher = Pusher(
        parse_registry_reference(name), OPTIONS, transport=Transport(OPTIONS, sleep=pause)
    )
    try:
        assert pusher.push_manifest(raw, OCI_MANIFEST, "v2") == packages.digest
    finally:
        pusher.close()
    assert len(pauses) == pusher.meter.retries == 1
    assert raw_manifest(plain.host, "a/b:v2") == raw


def test_a_referrer_that_was_deleted(plain: Registry, packages: Layout) -> None:
    """Its entry is left in the list, which the registry then takes from nobody."""
    name = f"{plain.host}/a/b:v1"
    first = publish(packages.reference, name, "--sbom=spdx")["referrers"][0]["digest"]
    url = f"http://{plain.host}/v2/a/b/manifests/{first}"
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE")) as answer:
        assert answer.status == 202
    done = publish(packages.reference, name, "--sbom=cyclonedx")
    assert listed(plain, "a/b", packages.digest) == [done["referrers"][0]["digest"]]


# -- failures --------------------------------------------------------------------------------------


@pytest.fixture
def proxy(plain: Registry) -> Iterator[CountingProxy]:
    with run_proxy(plain.port) as running:
        yield running


def attempt(proxy: CountingProxy, layout: Layout, *options: str) -> Done:
    return bootc_py(
        "publish", layout.reference, f"{proxy.host}/a/b:v1", "--tag=v2", PLAIN_HTTP,
        "--sbom=spdx", "--retry-times=0", *options,
    )  # fmt: skip


REFUSALS = {
    "the upload's beginning": ("POST", "/blobs/uploads/", 403, 3),
    "a blob": ("PUT", "/blobs/uploads/", 400, 5),
    "a blob, for its size": ("PUT", "/blobs/uploads/", 413, 5),
    "a blob, for it is down": ("PUT", "/blobs/uploads/", 503, 5),
    "manifests by digest": ("PUT", "/manifests/sha256:", 405, 5),
    "all manifests": ("PUT", "/manifests/", 400, 5),
    "the list of referrers": ("PUT", "/manifests/sha256-", 429, 5),
    "to show that list": ("GET", "/manifests/sha256-", 500, 5),
    "the first tag": ("PUT", "/manifests/v1", 403, 3),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_registry_that_refuses(
    plain: Registry, proxy: CountingProxy, packages: Layout, tmp_path: Path, what: str
) -> None:
    """No tag is moved; when it does not refuse any more, the next run does what was left."""
    old = small(tmp_path / "old")
    for tag in ("v1", "v2"):
        publish(old.reference, f"{plain.host}/a/b:{tag}")
    method, part, status, code = REFUSALS[what]
    proxy.refused = [(method, part, status)]
    failed = attempt(proxy, packages)
    assert failed.code == code, failed.err
    assert str(status) in failed.error and "127.0.0.1" in failed.error
    before = old.blob(old.digest).read_bytes()
    for tag in ("v1", "v2"):
        assert raw_manifest(plain.host, f"a/b:{tag}") == before
    proxy.refused = []
    done = attempt(proxy, packages)
    assert done.code == 0 and done.out.strip() == packages.digest
    assert tags(plain.host, "a/b") == {"v1", "v2"}


def test_a_registry_that_refuses_the_second_tag(
    plain: Registry, proxy: CountingProxy, packages: Layout
) -> None:
    """The first one has all of the image then."""
    proxy.refused = [("PUT", "/manifests/v2", 403)]
    failed = attempt(proxy, packages)
    assert failed.code == 3
    assert tags(plain.host, "a/b") == {"v1"}
    publish(f"{plain.host}/a/b:v1", f"{plain.host}/c/d:v1")


def test_an_upload_that_breaks_goes_on(
    plain: Registry, proxy: CountingProxy, tmp_path: Path
) -> None:
    image = medium(tmp_path / "image")
    target = f"{proxy.host}/a/b:v1"
    proxy.cut_uploads = [10, 10, 10, 10]
    failed = bootc_py("publish", image.reference, target, PLAIN_HTTP, "--retry-times=0")
    assert failed.code == 5 and tags(plain.host, "a/b") == set()
    proxy.cut_uploads = [10]
    done = publish(image.reference, target)
    assert done["transfer"]["retries"] >= 1
    again = publish(image.reference, target)
    assert again["transfer"]["pushedBytes"] == 0
    assert again["transfer"]["requests"] == len(again["blobs"]) + 1


def test_a_source_that_breaks_goes_on_and_one_that_lies_is_refused(
    plain: Registry, proxy: CountingProxy, tmp_path: Path
) -> None:
    image = small(tmp_path / "image")
    publish(image.reference, f"{plain.host}/a/b:v1")
    layer = image.layers[1]
    proxy.spoil(layer["digest"], misbehaving.cut(layer["size"] // 2))
    with run_registry() as other:
        target = f"{other.host}/c/d:v1"
        proxy.spoil(layer["digest"], misbehaving.flips(1000), always=True)
        lies = bootc_py("publish", f"{proxy.host}/a/b:v1", target, PLAIN_HTTP)
        assert lies.code == 6 and layer["digest"] in lies.error
        assert tags(other.host, "c/d") == set()
        assert not other.blob_file(layer["digest"]).exists()
        proxy.forgive()
        proxy.spoil(layer["digest"], misbehaving.cut(layer["size"] // 2))
        done = publish(f"{proxy.host}/a/b:v1", target)
        assert done["destination"]["digest"] == image.digest
        assert done["transfer"]["retries"] == 1
        moved = done["transfer"]["pushedBytes"]  # the others were there by then
        assert moved >= layer["size"]
        assert moved <= done["transfer"]["receivedBytes"] < moved + 20_000


def test_memory_is_not_a_matter_of_size(plain: Registry) -> None:
    """A layer of 300 MiB passes through files, not through memory."""
    with cache.scratch(cache.root() / "work") as work:
        noise = os.urandom(1 << 20) * 300
        image = write_image(work / "image", "v1", [{"usr/share/data": noise}])
        del noise
        name = f"{plain.host}/a/b:v1"
        done, cost = measured(work, "publish", image.reference, name, PLAIN_HTTP)
        assert done.code == 0 and cost.peak < 150 << 20, (done.err, cost)
        target = f"oci:{work / 'out'}:v1"
        done, cost = measured(work, "publish", name, target, PLAIN_HTTP)
        assert done.code == 0 and cost.peak < 150 << 20, (done.err, cost)
