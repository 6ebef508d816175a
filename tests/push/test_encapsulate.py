"""A stored commit is written as an image, and comes back as the very same commit."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.encapsulated import LABEL, Dir, File, as_image, encapsulated, name, store
from support.images import file, image, write_layout
from support.trees import nodes

from bridge.errors import DamagedRepository, NotFound, UsageError
from bridge.oci.digest import Digest
from bridge.oci.layout import Layout
from bridge.oci.model import ImageConfig, Manifest, Platform, parse_config, parse_document
from bridge.oci.reference import parse_reference
from bridge.ostree import fsck, refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.variant import Variant
from bridge.pull.encapsulated import detached_path
from bridge.pull.pull import pull
from bridge.pull.refnames import layer_ref
from bridge.push.commit_tar import Content, commit_layer, content_layer, contents
from bridge.push.compress import Compression
from bridge.push.encapsulate import Source, encapsulate, source_named, source_of_image
from bridge.push.packing import Chunk, Packing, by_directory, chunks_of, nothing, packed
from bridge.push.push import push

BIG = File(bytes(range(256)) * 20_000)
SHELL = File(b"\x7fELF" * 2000, 0o4755, xattrs=((LABEL, b"bin_t\0"), (b"user.k", b"v")))
LONG = "n" * 120
TREE = Dir(
    {
        "usr": Dir(
            {
                "bin": Dir({"sh": SHELL, "bash": SHELL, "link": File(target="..//x")}),
                "etc": Dir({"conf": File(b"conf", 0o600, 7, 8), "d": Dir()}),
                "lib": Dir({"big": BIG, "empty": File(), LONG: File(b"long")}),
            }
        ),
        "sysroot": Dir({"kept": Dir({"f": File(b"odd")})}),
        "boot": Dir(),
    },
    xattrs=((LABEL, b"root_t\0"),),
)
MORE: dict[str, Any] = {
    "subject": "What was done",
    "timestamp": 1_714_979_289,
    "metadata": {
        "version": "1.2",
        "ostree.bootable": Variant("b", True),
        "ostree.linux": "6.1",
        "rpmostree.inputhash": "abc",
        "ostree.container-cmd": Variant("as", ["/sbin/init"]),
    },
    "detached": {"sig": Variant("ay", b"\1")},
}


def target(at: Path) -> Any:
    return parse_reference(f"oci:{at}:v1")


def documents(at: Path) -> tuple[Manifest, ImageConfig, Layout]:
    layout = Layout.open(str(at))
    descriptor = layout.resolve("v1")
    manifest = parse_document(layout.read_blob(descriptor), descriptor.media_type)
    assert isinstance(manifest, Manifest)
    return manifest, parse_config(layout.read_blob(manifest.config)), layout


def brought_back(at: Path, tmp: Path, mode: str = "bare-user") -> tuple[str, str]:
    """Pull the image into a new store; return the commit that was in it, and the image's."""
    with Repository.create(tmp, mode) as repo:
        report = pull(repo, target(at))
        manifest, _, _ = documents(at)
        assert fsck.fsck(repo).faults == ()
        commit = refs.current(repo, layer_ref(manifest.layers[0].digest))
        assert commit is not None
        return commit, report.commit


@pytest.mark.parametrize("mode", ["bare-user", "archive", "bare"])
@pytest.mark.parametrize("compression", Compression)
def test_it_comes_back_as_the_same_commit(
    tmp_path: Path, compression: Compression, mode: str
) -> None:
    with Repository.create(tmp_path / "repo", mode) as repo:
        commit = store(repo, TREE, **MORE)
        source = Source("test", commit)
        one = encapsulate(repo, source, target(tmp_path / "one"), compression=compression)
        two = encapsulate(repo, source, target(tmp_path / "two"), compression=compression)
        assert one.digest == two.digest
        detached = (tmp_path / "repo" / detached_path(commit)).read_bytes()
    assert brought_back(tmp_path / "one", tmp_path / "again")[0] == commit
    assert (tmp_path / "again" / detached_path(commit)).read_bytes() == detached


def test_what_the_documents_say(repo: Repository, tmp_path: Path) -> None:
    commit = store(repo, TREE, **MORE)
    report = encapsulate(repo, Source("test", commit), target(tmp_path / "out"), labels={"a": "b"})
    manifest, config, _ = documents(tmp_path / "out")
    assert manifest.digest == report.digest
    labels = {
        "a": "b",
        "containers.bootc": "1",
        "org.opencontainers.image.version": "1.2",
        "ostree.bootable": "true",
        "ostree.commit": commit,
        "ostree.final-diffid": str(config.diff_ids[-1]),
        "ostree.linux": "6.1",
        "rpmostree.inputhash": "abc",
    }
    assert (dict(config.labels), dict(manifest.annotations)) == (labels, labels)
    raw = json.loads(config.raw)
    assert raw["created"] == "2024-05-06T07:08:09Z"
    assert raw["config"]["Cmd"] == ["/sbin/init"]
    assert raw["history"] == [
        {"created": "2024-05-06T07:08:09Z", "created_by": "What was done"},
        {"created": "2024-05-06T07:08:09Z", "created_by": "usr/lib"},
    ]
    assert config.platform == Platform.host()
    assert [each.annotations.get("ostree.components") for each in manifest.layers] == [
        None, "usr/lib",
    ]  # fmt: skip


def test_a_commit_that_says_nothing(repo: Repository, tmp_path: Path) -> None:
    commit = store(repo, Dir())
    encapsulate(repo, Source("test", commit), target(tmp_path / "out"))
    manifest, config, _ = documents(tmp_path / "out")
    assert dict(config.labels) == {
        "ostree.commit": commit,
        "ostree.final-diffid": str(config.diff_ids[0]),
    }
    assert config.history[0]["created_by"] == f"ostree export of commit {commit}"
    assert len(manifest.layers) == 1
    assert brought_back(tmp_path / "out", tmp_path / "again")[0] == commit


def entries(stream: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        found = archive.getmembers()
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


def test_the_layers_as_container_tools_see_them(repo: Repository) -> None:
    commit = store(repo, TREE, **MORE)
    found = contents(repo, commit)
    first = entries(b"".join(commit_layer(repo, commit, [])))
    second = entries(b"".join(content_layer(repo, found.items())))
    assert list(first)[:2] == [".", "sysroot"]
    assert {"usr/bin", "etc", "etc/d", "usr/lib", "boot", "var/tmp"} <= first.keys()
    assert first["var/tmp"].mode == 0o1777
    assert name(commit, "commit") in first
    assert "usr/etc" not in first
    assert "sysroot/kept" not in first
    shell = name(SHELL.checksum, "file")
    assert second["usr/bin/sh"].linkname == second["usr/bin/bash"].linkname == shell
    assert second[shell].mode == 0o4755
    assert second[shell].pax_headers["SCHILY.xattr.user.k"] == "v"
    assert not any("selinux" in key for key in second[shell].pax_headers)
    assert second["etc/conf"].islnk()
    assert second["usr/lib/empty"].isreg()
    assert second[name(File(target="..//x").checksum, "file")].linkname == "..//x"
    assert f"usr/lib/{LONG}" in second
    assert all(each.mtime == 0 for each in (*first.values(), *second.values()))


# -- images ------------------------------------------------------------------------------------


def test_a_plain_image_is_written_as_its_own_commit(repo: Repository, tmp_path: Path) -> None:
    made = image([file("usr/a", "a")], labels={"containers.bootc": "1", "x": "y"})
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'source', made)}:latest")
    report = pull(repo, reference)
    source = source_of_image(repo, reference)
    assert source.commit == report.commit
    encapsulate(repo, source, target(tmp_path / "out"))
    manifest, config, _ = documents(tmp_path / "out")
    assert config.labels["x"] == "y"
    assert "x" not in manifest.annotations
    assert manifest.annotations["containers.bootc"] == "1"
    assert config.labels["ostree.commit"] == report.commit
    base, _ = brought_back(tmp_path / "out", tmp_path / "again")
    assert base == report.commit


@pytest.mark.parametrize("top", [None, [file("usr/new", "n")]])
def test_an_encapsulated_image_is_written_as_what_was_in_it(
    repo: Repository, tmp_path: Path, top: list[Any] | None
) -> None:
    made = encapsulated(TREE)
    layers = [made.whole(), *([] if top is None else [top])]
    packed_image = as_image(*layers, last=0, commit=made.commit)
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'source', packed_image)}:latest")
    report = pull(repo, reference)
    source = source_of_image(repo, reference)
    assert source.commit == (made.commit if top is None else report.commit)
    encapsulate(repo, source, target(tmp_path / "out"))
    again, merged = brought_back(tmp_path / "out", tmp_path / "again")
    assert again == source.commit
    with Repository.open(tmp_path / "again") as other:
        assert nodes(other, merged) == nodes(repo, report.commit)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD_CHUNKED])
def test_push_gives_the_layers_that_were_pulled(
    repo: Repository, tmp_path: Path, compression: Compression
) -> None:
    commit = store(repo, TREE, **MORE)
    encapsulate(repo, Source("t", commit), target(tmp_path / "one"), packing=by_directory)
    with Repository.create(tmp_path / "other", "bare-user") as other:
        pull(other, target(tmp_path / "one"))
        report = push(
            other, target(tmp_path / "one"), target(tmp_path / "two"), compression=compression
        )
    first, second = documents(tmp_path / "one")[0], documents(tmp_path / "two")[0]
    assert first.config.digest == second.config.digest == report.config
    assert first.annotations == second.annotations
    assert second.layers[1].annotations["ostree.components"] == "usr/lib"
    assert brought_back(tmp_path / "two", tmp_path / "again")[0] == commit


def test_names(repo: Repository, tmp_path: Path) -> None:
    commit = store(repo, TREE)
    assert source_named(repo, "test/commit") == Source("test/commit", commit)
    assert source_named(repo, commit) == Source(commit, commit)
    with pytest.raises(NotFound, match="no image, ref or commit nothing"):
        source_named(repo, "nothing")
    made = image([file("usr/a", "a")])
    reference = f"oci:{write_layout(tmp_path / 'source', made)}:latest"
    report = pull(repo, parse_reference(reference))
    assert source_named(repo, reference).commit == report.commit


# -- packings ----------------------------------------------------------------------------------

CONTENTS = {each: Content(1, (f"usr/{each}",)) for each in ("a", "b", "c")}
WRONG: dict[str, tuple[Packing, str]] = {
    "an object that is none of the commit's": (chunks_of([["a"], ["x"]]), "has no file x"),
    "an object in two chunks": (chunks_of([["a", "b"], ["b"]]), "in another"),
    "an object twice in one": (chunks_of([["a", "a"]]), "in another"),
}


@pytest.mark.parametrize(("packing", "reason"), WRONG.values(), ids=WRONG)
def test_packings_that_are_refused(packing: Packing, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        packed(CONTENTS, packing)


def test_too_many_chunks() -> None:
    many = {f"{i:04}": Content(1, (f"{i}",)) for i in range(401)}
    with pytest.raises(UsageError, match="401 chunks"):
        packed(many, chunks_of([[each] for each in many]))


def test_packings() -> None:
    assert packed(CONTENTS, nothing) == (["a", "b", "c"], [])
    rest, chunks = packed(CONTENTS, chunks_of([["c", "a"], []]))
    assert rest == ["b"]
    assert [(chunk.name, objects) for chunk, objects in chunks] == [("chunk 1", ["a", "c"])]


def test_packing_by_directory() -> None:
    large = 5 * 1024**2
    found = by_directory(
        {
            "1": Content(large, ("usr/lib/modules/6.1/vmlinuz", "boot/x")),
            "2": Content(large, ("usr/bin/x",)),
            "3": Content(5, ("usr/bin/y",)),
            "4": Content(5, ("usr/sbin/y",)),
            "5": Content(large, ("top",)),
        }
    )
    assert [(chunk.name, list(chunk.objects)) for chunk in found] == [
        ("", ["5"]), ("usr/bin", ["2", "3"]), ("usr/lib/modules", ["1"]),
    ]  # fmt: skip


# -- damage ------------------------------------------------------------------------------------


def damaged(repo: Repository, checksum: str, data: bytes | None) -> None:
    path = Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)
    if data is None:
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(data)


@pytest.mark.parametrize("data", [None, b"", b"x" * len(SHELL.data), SHELL.data + b"x"])
def test_a_damaged_object_makes_no_image(
    repo: Repository, tmp_path: Path, data: bytes | None
) -> None:
    commit = store(repo, TREE)
    damaged(repo, SHELL.checksum, data)
    with pytest.raises(DamagedRepository):
        encapsulate(repo, Source("test", commit), target(tmp_path / "out"))
    assert not (tmp_path / "out" / "index.json").exists()


# -- any tree ----------------------------------------------------------------------------------

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda text: text not in (".", "..") and not text.startswith(".wh."))
XATTRS = st.dictionaries(
    st.sampled_from([b"user.a", b"user.b=c", b"trusted.x", LABEL]),
    st.binary(min_size=1, max_size=20),
).map(lambda found: tuple(sorted(found.items())))
IDS = st.integers(0, 2**32 - 2)
FILES = st.builds(
    File, data=st.binary(max_size=600), mode=st.integers(0, 0o7777), uid=IDS, gid=IDS, xattrs=XATTRS
)
LINKS = st.builds(File, target=NAMES, uid=IDS)
TREES = st.recursive(
    st.dictionaries(NAMES, FILES | LINKS, max_size=4),
    lambda below: st.dictionaries(
        NAMES, FILES | LINKS | below.map(lambda entries: Dir(entries)), max_size=4
    ),
    max_leaves=12,
).map(lambda entries: Dir(entries))


def random_packing(picks: Sequence[int]) -> Packing:
    def pack(found: Mapping[str, Content]) -> Sequence[Chunk]:
        lists: dict[int, list[str]] = {}
        for checksum, pick in zip(found, picks, strict=False):
            if pick:
                lists.setdefault(pick, []).append(checksum)
        return chunks_of([lists[each] for each in sorted(lists)])(found)

    return pack


@settings(max_examples=60, deadline=None)
@given(
    tree=TREES,
    picks=st.lists(st.integers(0, 3), max_size=20),
    subject=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    timestamp=st.integers(0, 2**33),
)
def test_any_tree_comes_back(tree: Dir, picks: list[int], subject: str, timestamp: int) -> None:
    with TemporaryDirectory() as directory:
        at = Path(directory)
        with Repository.create(at / "repo", "bare-user") as repo:
            commit = store(repo, tree, subject=subject, timestamp=timestamp)
            encapsulate(
                repo,
                Source("test", commit),
                target(at / "out"),
                packing=random_packing(picks),
                compression=Compression.NONE,
            )
        assert brought_back(at / "out", at / "again")[0] == commit


def test_digests_are_those_of_the_streams(repo: Repository, tmp_path: Path) -> None:
    commit = store(repo, TREE)
    report = encapsulate(
        repo, Source("t", commit), target(tmp_path / "out"), packing=nothing,
        compression=Compression.NONE,
    )  # fmt: skip
    (layer,) = report.layers
    stream = b"".join(commit_layer(repo, commit, contents(repo, commit).items()))
    assert layer.diff_id == layer.blob.digest == Digest.of(stream)
