"""Layers in parts that are not what they say they are: another way gives the right file, or nothing
becomes visible. Never a wrong file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import misbehaving as bad
from rig import small, store, toc
from rig.answer import Fault
from rig.command import PLAIN_HTTP, Done, bootc_py, pull
from rig.crafted import Publisher
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry
from rig.toc import PREFIX, Chunked
from support.images import Image, descriptor, dumps

WHOLE, PARTIAL, NOTHING = "whole", "partial", ""
"""What becomes of a pull: how its layer was fetched, or that it failed and left nothing."""
REFUSED = (6, 7)
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@dataclass
class Bench:
    """A registry behind a proxy; a repository that has version 1 of the small image."""

    registry: Registry
    proxy: CountingProxy
    repo: Path
    right: str
    """The content checksum of version 2."""

    def pull(self, name: str, *options: str) -> Done:
        return bootc_py(
            "image", "pull", f"{self.proxy.host}/{name}", "--repo", self.repo, PLAIN_HTTP,
            "--retry-times=1", "--json", *options,
        )  # fmt: skip

    def check(self, name: str, mode: str) -> Done:
        """Pulls; the content must be right or, with no mode, there must be nothing of the image."""
        before = store.refs(self.repo)
        done = self.pull(name)
        if mode:
            assert done.code == 0, done.err
            assert done.json["image"]["contentChecksum"] == self.right
            assert [layer["mode"] for layer in done.json["layers"]] == [mode]
            # Of what was under way when it was given up, not all may have come.
            assert done.json["transfer"]["receivedBytes"] <= self.proxy.body_bytes
        else:
            assert done.code in REFUSED, done.err
            assert done.error
            assert store.refs(self.repo) == before
        store.fsck(self.repo)
        return done

    def publish(self, name: str, made: Image) -> str:
        Publisher(self.registry, f"crafted/{name}").put(made, "v2")
        return f"crafted/{name}:v2"

    def written(self) -> tuple[dict[str, Any], Chunked]:
        """The manifest of version 2, and its layer taken apart."""
        document = toc.manifest(self.registry, "a/b:v2")
        layer = document["layers"][0]
        blob = self.registry.blob_file(layer["digest"]).read_bytes()
        return document, toc.parse(blob, layer["annotations"])

    def image(self, document: dict[str, Any], blob: bytes, annotations: dict[str, str]) -> Image:
        """Version 2 with another blob for its layer; its config, so its DiffID, stays."""
        layer = descriptor(blob, ZSTD) | {"annotations": annotations}
        config = self.registry.blob_file(document["config"]["digest"]).read_bytes()
        return Image(
            dumps(document | {"layers": [layer]}),
            {document["config"]["digest"]: config, layer["digest"]: blob},
        )


@pytest.fixture(scope="module")
def right(small_chunked: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    repo = tmp_path_factory.mktemp("right") / "repo"
    done = pull(f"{small_chunked.host}/a/b:v2", repo, "--partial", "never")
    checksum: str = done["image"]["contentChecksum"]
    return checksum


@pytest.fixture(scope="module")
def first(small_chunked: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1."""
    repo = tmp_path_factory.mktemp("first") / "repo"
    pull(f"{small_chunked.host}/a/b:v1", repo)
    return repo


@pytest.fixture
def bench(small_chunked: Registry, first: Path, right: str, tmp_path: Path) -> Iterator[Bench]:
    repo = tmp_path / "repo"
    subprocess.run(["cp", "--archive", str(first), str(repo)], check=True)
    with run_proxy(small_chunked.port) as proxy:
        yield Bench(small_chunked, proxy, repo, right)


# -- written wrongly, with digests that are right --------------------------------------------------


def _damage(chunked: Chunked, name: str) -> None:
    entry = chunked.entry(name)
    at = (entry["offset"] + entry["endOffset"]) // 2
    data = bytearray(chunked.frames)
    data[at] ^= 1
    chunked.frames = bytes(data)


def _set(name: str, **members: object) -> Callable[[Chunked], None]:
    return lambda chunked: chunked.entry(name).update(members)


def _swap(chunked: Chunked) -> None:
    """Two files of one size, each with the other's content: no digest is wrong but the DiffID."""
    one, two = chunked.entry("usr/new"), chunked.entry("usr/tool")
    keys = ("digest", "offset", "endOffset")
    for each, other in ((one, dict(two)), (two, dict(one))):
        each.update({key: other[key] for key in keys})


def _another(chunked: Chunked) -> None:
    """A file has the content, and the size, of one that is here: also as the tar-split says."""
    chunked.entry("usr/new").update(
        digest=chunked.entry("usr/share/05")["digest"], size=chunked.entry("usr/share/05")["size"]
    )


def _again(chunked: Chunked) -> None:
    chunked.entries.append(dict(chunked.entry("usr/new")))


def _extra(chunked: Chunked) -> None:
    chunked.entries.append(dict(chunked.entry("usr/empty"), name="usr/bin-that-is-not-there"))


def _without(name: str) -> Callable[[Chunked], None]:
    return lambda chunked: chunked.entries.remove(chunked.entry(name))


def _all_zeros(chunked: Chunked) -> None:
    chunked.entry("usr/tool")["chunkType"] = "zeros"


def _over_another(chunked: Chunked) -> None:
    other = chunked.entry("usr/last")
    chunked.entry("usr/new").update(offset=other["offset"] - 5)


def _no_digests(chunked: Chunked) -> None:
    del chunked.entry("usr/new")["digest"]


def _split(change: Callable[[list[str]], list[str]]) -> Callable[[Chunked], None]:
    def damage(chunked: Chunked) -> None:
        lines = change(chunked.tar_split.decode().splitlines())
        chunked.tar_split = "".join(f"{line}\n" for line in lines).encode()

    return damage


def _flip(lines: list[str]) -> list[str]:
    """Another time in the header of a file."""
    at = next(number for number, line in enumerate(lines) if json.loads(line)["type"] == 2)
    entry = json.loads(lines[at])
    entry["payload"] = ("B" if entry["payload"][0] != "B" else "C") + entry["payload"][1:]
    return [*lines[:at], json.dumps(entry), *lines[at + 1 :]]


WRITTEN: dict[str, tuple[Callable[[Chunked], None], str]] = {
    "a chunk of a new file is damaged": (lambda chunked: _damage(chunked, "usr/new"), NOTHING),
    "a chunk that is not fetched is damaged": (
        lambda chunked: _damage(chunked, "usr/share/05"),
        PARTIAL,
    ),
    "toc: the digest of a new file": (_set("usr/new", digest=f"sha256:{'0' * 64}"), WHOLE),
    "toc: a digest that is none": (_set("usr/new", digest="sha256:../../etc/passwd"), WHOLE),
    "toc: a digest of another kind": (_set("usr/new", digest="md5:0"), WHOLE),
    "toc: no digest": (_no_digests, WHOLE),
    "toc: contents swapped": (_swap, WHOLE),
    "toc: another file's content": (_another, WHOLE),
    "toc: an entry twice": (_again, WHOLE),
    "toc: an entry too many": (_extra, WHOLE),
    "toc: a file too few": (_without("usr/new"), WHOLE),
    "toc: an empty file too few": (_without("usr/empty"), WHOLE),
    "toc: a link too few": (_without("usr/link"), WHOLE),
    "toc: a mode": (_set("usr/tool", mode=0o4755), WHOLE),
    "toc: an owner": (_set("usr/share/05", uid=1000), WHOLE),
    "toc: a group": (_set("usr/share/05", gid=1000), WHOLE),
    "toc: a time": (_set("usr/share/05", modtime="2020-01-01T00:00:00Z"), WHOLE),
    "toc: a size": (_set("usr/new", size=99_999), WHOLE),
    "toc: a size without end": (_set("usr/new", size=1 << 70), WHOLE),
    "toc: a link's target": (_set("usr/link", linkName="/etc/shadow"), WHOLE),
    "toc: a hard link's target": (_set("usr/hard", linkName="usr/share/03"), WHOLE),
    "toc: an xattr": (_set("usr/marked", xattrs={"security.capability": "AAAA"}), WHOLE),
    "toc: a type": (_set("usr/empty", type="fifo"), WHOLE),
    "toc: zeros that are none": (_all_zeros, WHOLE),
    "toc: two contents over one another": (_over_another, WHOLE),
    "toc: a beginning beyond the blob": (_set("usr/new", offset=1 << 40, endOffset=1 << 41), WHOLE),
    "toc: a negative beginning": (_set("usr/new", offset=-1), WHOLE),
    "toc: an end before the beginning": (_set("usr/new", endOffset=1), WHOLE),
    "toc: another version": (lambda chunked: chunked.toc.update(version=2), WHOLE),
    "tar-split: a header": (_split(_flip), WHOLE),
    "tar-split: cut off": (_split(lambda lines: lines[:-2]), WHOLE),
    "tar-split: in another order": (_split(lambda lines: lines[::-1]), WHOLE),
    "tar-split: nothing": (_split(lambda lines: []), WHOLE),
    "tar-split: no JSON": (_split(lambda lines: ["{", *lines]), WHOLE),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_wrongly(bench: Bench, name: str) -> None:
    change, mode = WRITTEN[name]
    document, chunked = bench.written()
    change(chunked)
    made = bench.image(document, *chunked.render())
    bench.check(bench.publish(f"w{list(WRITTEN).index(name)}", made), mode)


ANNOTATIONS: dict[str, dict[str, str | None]] = {
    "another digest": {"manifest-checksum": f"sha256:{'0' * 64}"},
    "a digest that is none": {"manifest-checksum": "sha256:x"},
    "no digest": {"manifest-checksum": None},
    "no position": {"manifest-position": None},
    "a position beyond the blob": {"manifest-position": "99999999999:10:10:1"},
    "a position at the beginning": {"manifest-position": "8:10:10:1"},
    "a negative position": {"manifest-position": "-8:10:10:1"},
    "a position of words": {"manifest-position": "a:b:c:d"},
    "a size without end": {"manifest-position": f"1000:{1 << 62}:{1 << 62}:1"},
    "another kind": {"manifest-position": "1000:10:10:2"},
    "no tar-split": {"tarsplit-position": None},
    "a tar-split elsewhere": {"tarsplit-position": "1000:10:10"},
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotated_wrongly(bench: Bench, name: str) -> None:
    document, chunked = bench.written()
    blob, annotations = chunked.render()
    for key, value in ANNOTATIONS[name].items():
        if value is None:
            del annotations[PREFIX + key]
        else:
            annotations[PREFIX + key] = value
    made = bench.image(document, blob, annotations)
    bench.check(bench.publish(f"a{list(ANNOTATIONS).index(name)}", made), WHOLE)


@pytest.mark.parametrize("part", ["toc", "tar-split"])
def test_a_byte_of_the_end_is_wrong(bench: Bench, part: str) -> None:
    """The digest in the annotation, or the table's, tells."""
    document, chunked = bench.written()
    blob, annotations = chunked.render()
    place = toc.toc_place if part == "toc" else toc.split_place
    at, size = place(annotations)
    damaged = bytearray(blob)
    damaged[at + size // 2] ^= 1
    made = bench.image(document, bytes(damaged), annotations)
    done = bench.check(bench.publish(f"e-{part}", made), WHOLE)
    assert "digest" in done.json["layers"][0]["reason"]


# -- damaged on the way ----------------------------------------------------------------------------

WAYS: dict[str, tuple[tuple[Fault, ...], str]] = {
    "the tail": ((bad.garbage,), WHOLE),
    "the first range": ((bad.nothing, bad.garbage), PARTIAL),
    "a bit of a range": ((bad.nothing, bad.flips(10)), PARTIAL),
    "all ranges": ((bad.nothing, bad.for_ranges(bad.garbage)), WHOLE),
    "all there is": ((bad.nothing, bad.garbage), NOTHING),
}


@pytest.mark.parametrize("name", WAYS)
def test_damaged_on_the_way(bench: Bench, name: str) -> None:
    faults, mode = WAYS[name]
    layer = toc.manifest(bench.registry, "a/b:v2")["layers"][0]["digest"]
    bench.proxy.spoil(layer, *faults, always=name.startswith("all"))
    bench.check("a/b:v2", mode)


# -- damaged here ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["usr/share/02", "usr/tool", "usr/disk"])
def test_damaged_here(bench: Bench, path: str) -> None:
    """What the store has is read and hashed before it is used: if it is wrong it is fetched."""
    (reference,) = (each for each in store.refs(bench.repo) if "/image/" in each)
    listing = store.ostree(bench.repo, "ls", "-C", reference, f"/{path}").decode().split()
    checksum = next(word for word in listing if len(word) == 64)
    damaged = bench.repo / "objects" / checksum[:2] / f"{checksum[2:]}.file"
    with damaged.open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    done = bench.pull("a/b:v2")
    assert done.code == 0, done.err
    assert "warning:" in done.err and checksum in done.err
    assert done.json["image"]["contentChecksum"] == bench.right
    healed = bootc_py("fsck", "--repair", "--repo", bench.repo, PLAIN_HTTP)
    assert healed.code in (0, 5), healed.err
    store.fsck(bench.repo)


# -- old writers -----------------------------------------------------------------------------------


def test_zeros_that_old_writers_dropped(tmp_path: Path) -> None:
    """Containers/storage before 1.52 left out the zeros at a tar stream's end: no layer of it
    has its DiffID, however it is fetched."""
    image = small.of_layers(tmp_path / "image", small.changing(2))
    with run_registry() as registry:
        subprocess.run(
            [
                require("skopeo"), "copy", "--quiet", "--dest-tls-verify=false",
                "--dest-compress-format=zstd:chunked", image.reference,
                f"docker://{registry.host}/a/b:v1",
            ],
            check=True,
        )  # fmt: skip
        layer = toc.manifest(registry, "a/b:v1")["layers"][0]
        assert any(key.startswith("io.containers.zstd-chunked.") for key in layer["annotations"])
        done = bootc_py(
            "image", "pull", f"{registry.host}/a/b:v1", "--repo", tmp_path / "repo", PLAIN_HTTP
        )
    assert done.code in REFUSED
    assert "zeros" in done.error
    assert store.refs(tmp_path / "repo") == []
