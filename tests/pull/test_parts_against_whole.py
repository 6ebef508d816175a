"""Layers in parts, from what their blobs say to their commits: the same as of whole blobs, or the
whole blob after all."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.chunked import Blob, chunked, chunked_image, grouped
from support.crafted import KINDS as KINDS_OF_CASES
from support.images import Image, directory, file, hardlink, image, symlink, tar, write_layout
from support.trees import nodes, objects

from bridge import limits
from bridge.errors import NetworkError, NoSpace, RangeRefused, VerificationFailed
from bridge.layer.compression import decompress
from bridge.layer.toc_entry import NotHeld
from bridge.layer.zstd_chunked import PREFIX
from bridge.oci.model import Descriptor, Platform, layer_compression
from bridge.oci.reference import parse_reference
from bridge.ostree import lock, refs
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.staging import Staging
from bridge.pull import assembly, inside, plan, rebuild
from bridge.pull.catch_up import catch_up
from bridge.pull.coalesce import Link
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.import_layer import LayerImporter
from bridge.pull.inside import look_inside
from bridge.pull.places import read_place, stream_place
from bridge.pull.plan import LayerPlan, Mode, in_parts
from bridge.pull.progress import Progress
from bridge.pull.report import LayerReport
from bridge.pull.resolve import resolve
from bridge.pull.source import Parts, Source, open_source
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions

CHANCE = random.Random(3)
SEVERAL = CHANCE.randbytes(300_000) + bytes(5000) + CHANCE.randbytes(100_000)
TAR = tar(
    [
        directory("usr", 0o755, xattrs={"user.a": "b"}),
        file("usr/several", SEVERAL, 0o755),
        file("usr/one", "content\n", uid=5),
        file("usr/same", "content\n", 0o600),
        symlink("usr/link", "one"),
        hardlink("usr/hard", "usr/one"),
        file("usr/empty"),
    ]
)
BLOB = chunked(TAR)


class Messages(Progress):
    """Keeps the lines for the user, and what was counted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.read = 0

    def message(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, plan: LayerPlan, count: int) -> None:
        self.read += count


class Changed:
    """A source that is another one but for some of its ways."""

    def __init__(self, source: Source, **changes: Any) -> None:
        self._source = source
        self.__dict__ |= changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


@dataclass
class World:
    """A repository, an image, and what it takes to import the image's layers."""

    repo: Repository
    source: Source
    plans: list[LayerPlan]
    contents: ContentIndex
    messages: Messages = field(default_factory=Messages)

    def looked(self, source: Any = None) -> list[LayerPlan]:
        return look_inside(source or self.source, self.plans, lambda _: Meter())

    def here(self) -> Mapping[bytes, Place]:
        catch_up(self.repo, self.contents)
        found = self.looked()
        files = [each for one in found if one.inside for each in one.inside.index.files]
        digests = {each.digest for each in files} | {p.digest for f in files for p in f.pieces}
        return self.contents.find(digests)

    def parted(self, places: Mapping[bytes, Place]) -> list[LayerPlan]:
        return in_parts(self.looked(), places, Link())

    def imported(self, plans: Sequence[LayerPlan], source: Any = None) -> list[LayerReport]:
        importer = LayerImporter(
            self.repo, parse_reference("oci:image"), source or self.source, self.messages,
            self.contents,
        )  # fmt: skip
        return [importer.run(each) for each in plans]


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    # Small layers in parts too, and all of one, so that there is no way around it.
    monkeypatch.setattr(inside, "PARTIAL_LEAST", 0)
    monkeypatch.setattr(plan, "PARTIAL_PERCENT_MAX", 1_000_000)
    with ExitStack() as opened:
        yield opened


def world(repo: Repository, made: Image, path: Path, stack: ExitStack) -> World:
    reference = parse_reference(f"oci:{write_layout(path, made)}")
    stack.enter_context(lock.writing(repo))
    source = open_source(reference, NetworkOptions(), repo, stack)
    found = resolve(source, Platform.host(), repo)
    contents = stack.enter_context(ContentIndex.open(repo))
    return World(repo, source, plan.plan(repo, found.manifest, found.config), contents)


def one_layer(blob: Blob = BLOB, stream: bytes = TAR) -> Image:
    made = image(stream, compression="none")
    return chunked_image(made, {made.layers[0]: blob})


def forget(repo: Repository) -> None:
    """Leave the objects, but no layer."""
    for name in refs.listing(repo):
        refs.delete(repo, name)


# -- what a blob says ------------------------------------------------------------------------


def test_a_layer_that_says_what_is_inside(
    repo: Repository, tmp_path: Path, stack: ExitStack
) -> None:
    [found] = world(repo, one_layer(), tmp_path / "image", stack).looked()
    assert found.inside is not None
    assert found.inside.tail == BLOB.tail
    assert found.inside.index.files == BLOB.index.files
    assert found.mode is Mode.WHOLE and found.parts is None


def annotated(**changes: str | None) -> Image:
    """Return the image with other annotations; None leaves one out."""
    keys = {PREFIX + key.replace("_", "-"): value for key, value in changes.items()}
    annotations = {k: v for k, v in (dict(BLOB.annotations) | keys).items() if v is not None}
    return one_layer(Blob(BLOB.data, annotations))


def damaged(at: int) -> Image:
    """Return the image with a changed byte in its blob, whose digest is right for it."""
    data = bytearray(BLOB.data)
    data[at] ^= 0x80
    return one_layer(Blob(bytes(data), BLOB.annotations))


def lying(change: Callable[[dict[str, Any], list[dict[str, Any]]], object]) -> Blob:
    return BLOB.changed(change)


def entry(toc: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in toc["entries"] if each["name"] == name)
    return found


NOT_INSIDE: dict[str, tuple[Callable[[], Image], str]] = {
    "plain zstd": (lambda: image(TAR, compression="zstd"), "does not say what is inside"),
    "gzip": (lambda: image(TAR, compression="gzip"), "does not say what is inside"),
    "not compressed": (lambda: image(TAR, compression="none"), "does not say what is inside"),
    "no annotations": (
        lambda: annotated(manifest_checksum=None, manifest_position=None, tarsplit_position=None),
        "does not say what is inside",
    ),
    "no tar-split": (lambda: annotated(tarsplit_position=None), "without a tar-split"),
    "a position that is none": (lambda: annotated(manifest_position="x"), "is not 4 numbers"),
    "another digest": (
        lambda: annotated(manifest_checksum="sha256:" + "0" * 64),
        "digest that the manifest gives",
    ),
    "a damaged table": (lambda: damaged(BLOB.location.toc.offset + 9), "digest that the manifest"),
    "a damaged tar-split": (
        lambda: damaged(BLOB.location.tar_split.offset + 9),
        "digest that its table",
    ),
    "a damaged footer": (lambda: damaged(len(BLOB.data) - 70 + 10), "footer"),
}


@pytest.mark.parametrize(("make", "reason"), NOT_INSIDE.values(), ids=NOT_INSIDE)
def test_a_layer_that_does_not_is_fetched_whole(
    repo: Repository,
    tmp_path: Path,
    stack: ExitStack,
    make: Callable[[], Image],
    reason: str,
) -> None:
    here = world(repo, make(), tmp_path / "image", stack)
    [found] = here.looked()
    assert found.inside is None and found.mode is Mode.WHOLE
    assert reason in found.reason
    [report] = here.imported([found])  # and can be
    assert report.plan.commit is not None


def test_a_small_layer_is_not_asked(
    repo: Repository, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "PARTIAL_LEAST", len(BLOB.data) + 1)
    [found] = world(repo, one_layer(), tmp_path / "image", stack).looked()
    assert found.inside is None and found.reason == "it is small"


def test_a_layer_that_is_here_is_not_asked(
    repo: Repository, tmp_path: Path, stack: ExitStack
) -> None:
    here = world(repo, one_layer(), tmp_path / "image", stack)
    here.plans = [LayerPlan(here.plans[0].layer, here.plans[0].diff_id, Mode.PRESENT, "c" * 64)]
    assert here.looked() == here.plans


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_where_ranges_are_not_served(repo: Repository, tmp_path: Path, stack: ExitStack) -> None:
    here = world(repo, one_layer(), tmp_path / "image", stack)
    for tail, reason in (
        (lambda *_, **__: None, "does not serve parts"),
        (raising(NetworkError("the host went away")), "the host went away"),
        (lambda *_, **__: BLOB.tail[:-1], "length"),
        (lambda *_, **__: b"", "length"),
        (lambda *_, **__: BLOB.tail + b"x", "length"),
    ):
        [found] = here.looked(Changed(here.source, tail=tail))
        assert found.inside is None and found.mode is Mode.WHOLE
        assert reason in found.reason


def test_a_full_disk_is_told(repo: Repository, tmp_path: Path, stack: ExitStack) -> None:
    here = world(repo, one_layer(), tmp_path / "image", stack)
    with pytest.raises(NoSpace):
        here.looked(Changed(here.source, tail=raising(NoSpace("full"))))


# -- the same commits ------------------------------------------------------------------------


# Those kinds of cases that are about what is in a layer; sparse files cannot be had in parts.
KINDS = ["paths", "links", "whiteouts", "merging", "devices", "owners", "xattrs", "headers",
         "sizes", "pax"]  # fmt: skip


def crafted(kind: str) -> dict[str, tuple[bytes, Blob]]:
    """Return the layers of all good cases that can be had in parts, with their cases' names."""
    streams: dict[bytes, str] = {}
    for name, case in KINDS_OF_CASES[kind].items():
        if not case.legal:
            continue
        made = case.make()
        for layer in made.document["layers"]:
            compression = layer_compression(layer["mediaType"])
            stream = b"".join(decompress([made.blobs[layer["digest"]]], compression))
            if stream:  # of nothing there is no tar-split
                streams.setdefault(stream, name)
    held = {}
    for number, (stream, name) in enumerate(streams.items()):
        try:
            if b"LIBARCHIVE.xattr." in stream:  # which only libarchive reads
                raise NotHeld("")
            held[f"{name}, {number}"] = stream, chunked(stream)
        except NotHeld:
            continue
    return held


@pytest.mark.parametrize("kind", KINDS)
def test_crafted_layers(repo: Repository, tmp_path: Path, stack: ExitStack, kind: str) -> None:
    """Whole; in parts where nothing of it is here; in parts where all of it is: one commit."""
    layers = crafted(kind)
    assert len(layers) > 20
    made = image(*(stream for stream, _ in layers.values()), compression="none")
    blobs = zip(made.layers, (blob for _, blob in layers.values()), strict=True)
    made = chunked_image(made, dict(blobs))
    here = world(repo, made, tmp_path / "here", stack)
    whole = here.imported([each.whole("") for each in here.plans])
    commits = dict(zip(layers, (each.plan.commit for each in whole), strict=True))

    other = stack.enter_context(Repository.create(tmp_path / "other", repo.mode))
    there = world(other, made, tmp_path / "there", stack)
    for one, places in ((there, {}), (here, here.here())):
        plans = one.parted(places)
        whole_after_all = {
            name: each.reason
            for name, each in zip(layers, plans, strict=True)
            if each.mode is not Mode.PARTIAL
        }
        assert whole_after_all == {}
        if places and kind != "whiteouts":  # whose content is nowhere
            assert not any(each.parts and each.parts.ranges for each in plans)
        done = one.imported(plans)
        assert one.messages.lines == []
        assert dict(zip(layers, (each.plan.commit for each in done), strict=True)) == commits
        assert [each.plan for each in done] == [
            replace(each, commit=commits[name]) for each, name in zip(plans, layers, strict=True)
        ]


# -- the whole blob after all ----------------------------------------------------------------


@dataclass
class Fallen:
    """A layer that was to be had in parts, and was not."""

    report: LayerReport
    line: str


def fallen(here: World, places: Mapping[bytes, Place] | None = None, source: Any = None) -> Fallen:
    plans = here.parted(places or {})
    assert [each.mode for each in plans] == [Mode.PARTIAL]
    [report] = here.imported(plans, source)
    [line] = here.messages.lines
    assert "\n" not in line and "cannot be had in parts" in line
    assert report.planned == plans[0] and report.plan.mode is Mode.WHOLE
    assert report.plan.parts is None and "in parts it failed" in report.plan.reason
    return Fallen(report, line)


def pieces_swapped(toc: dict[str, Any], _split: object) -> None:
    one, same = entry(toc, "usr/one"), entry(toc, "usr/several")
    one["digest"] = same["digest"]


def split_changed(_toc: object, split: list[dict[str, Any]]) -> None:
    """Change a byte of padding, which no entry shows."""
    last = max(at for at, line in enumerate(split) if line["type"] == 2 and line["payload"])
    data = bytearray(base64.b64decode(split[last]["payload"]))
    data[-1] ^= 1
    split[last]["payload"] = base64.b64encode(data).decode()


def split_cut(_toc: object, split: list[dict[str, Any]]) -> None:
    """Leave out what comes behind the first file with content."""
    at = next(at for at, line in enumerate(split) if line.get("size"))
    del split[at + 1 :]


def left_out(toc: dict[str, Any], _split: object) -> None:
    toc["entries"].remove(entry(toc, "usr/link"))


def added(toc: dict[str, Any], _split: object) -> None:
    toc["entries"].append({"type": "dir", "name": "more"})


def of(name: str, **fields: Any) -> Callable[[dict[str, Any], Any], None]:
    return lambda toc, _split: entry(toc, name).update(fields)


LIES: dict[str, tuple[Callable[[dict[str, Any], list[dict[str, Any]]], object], str]] = {
    "another mode": (of("usr/one", mode=0o777), "mode of 'usr/one'"),
    "setuid": (of("usr/several", mode=0o4755), "mode of 'usr/several'"),
    "another owner": (of("usr/one", uid=0), "owner of 'usr/one'"),
    "another group": (of("usr/one", gid=9), "group of 'usr/one'"),
    "another time": (of("usr/one", modtime="2001-01-01T00:00:00Z"), "time of 'usr/one'"),
    "another target": (of("usr/link", linkName="/etc/shadow"), "target of 'usr/link'"),
    "another hard link": (of("usr/hard", linkName="usr/several"), "target of 'usr/hard'"),
    "another type": (of("usr/empty", type="fifo"), "type of 'usr/empty'"),
    "another xattr": (of("usr/", xattrs={"user.a": "Yw=="}), "xattrs of 'usr"),
    "an entry less": (left_out, "less often"),
    "an entry more": (added, "its tar stream has not"),
    "content of another digest": (
        of("usr/one", digest="sha256:" + "0" * 64),
        "wrong content in bytes",
    ),
    "pieces that do not make their file": (
        of("usr/several", digest="sha256:" + "0" * 64),
        "do not make it",
    ),
    "a piece of another digest": (
        of("usr/several", chunkDigest="sha256:" + "0" * 64),
        "wrong content in bytes",
    ),
    "a digest of another file": (pieces_swapped, "wrong content in bytes"),
    "zeros that are none": (of("usr/one", chunkType="zeros"), "do not make it"),
    "a byte of padding": (split_changed, "DiffID"),
    "another name": (
        lambda toc, _: entry(toc, "usr/one").update(name="x"),
        "disagree on 'usr/one'",
    ),
    "a file that the tar-split lacks": (split_cut, "tar-split lacks"),
}


@pytest.mark.parametrize(("change", "words"), LIES.values(), ids=LIES)
def test_what_a_blob_says_wrong_of_itself(
    repo: Repository,
    tmp_path: Path,
    stack: ExitStack,
    change: Callable[[dict[str, Any], list[dict[str, Any]]], object],
    words: str,
) -> None:
    """The layer is what the stream says, all the same; and there is nothing else in the store."""
    honest = world(repo, one_layer(), tmp_path / "honest", stack)
    [right] = honest.imported(honest.parted({}))
    other = stack.enter_context(Repository.create(tmp_path / "other", repo.mode))
    here = world(other, one_layer(lying(change)), tmp_path / "lying", stack)
    found = fallen(here)
    assert words in found.line
    assert found.report.plan.commit == right.plan.commit
    assert objects(other) == objects(repo)
    # What the index was told is true: of the stream, not of the table.
    for digest, place in here.here().items():
        assert read_place(other, place, digest) is not None
    assert here.messages.read == here.plans[0].layer.size


def test_where_ranges_are_refused_on_the_way(
    repo: Repository, tmp_path: Path, stack: ExitStack
) -> None:
    here = world(repo, one_layer(), tmp_path / "image", stack)

    class Refusing:
        def __enter__(self) -> Refusing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        read = again = staticmethod(raising(RangeRefused("no more ranges")))

    found = fallen(here, source=Changed(here.source, parts=lambda *_: Refusing()))
    assert "no more ranges" in found.line
    assert found.report.plan.commit is not None


def test_where_the_network_fails_there_is_no_second_way(
    repo: Repository, tmp_path: Path, stack: ExitStack
) -> None:
    """It would fail as well, and what came in parts is worth keeping."""
    here = world(repo, one_layer(), tmp_path / "image", stack)
    done: list[object] = []
    source = Changed(here.source, parts=raising(NetworkError("gone")), done=done.append)
    with pytest.raises(NetworkError, match="gone"):
        here.imported(here.parted({}), source)
    assert here.messages.lines == [] and done == []
    assert objects(repo) == set()


def test_a_blob_that_is_wrong_as_a_whole_too(
    repo: Repository, tmp_path: Path, stack: ExitStack
) -> None:
    """Content of the right digests, which is not the image's: the DiffID says so twice."""
    stream = tar([file("usr/one", "another\n")])
    made = image(TAR, compression="none")
    made = chunked_image(made, {made.layers[0]: chunked(stream)})
    here = world(repo, made, tmp_path / "image", stack)
    with pytest.raises(VerificationFailed):
        here.imported(here.parted({}))
    assert len(here.messages.lines) == 1
    assert objects(repo) == set() and refs.listing(repo) == {}


@pytest.mark.parametrize("least", [assembly.LEAST, 1], ids=["by themselves", "by a process"])
@pytest.mark.parametrize("small", [limits.SMALL_FILE, 1000], ids=["held", "streamed"])
def test_a_damaged_object_is_fetched_and_written_anew(
    repo: Repository,
    tmp_path: Path,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    small: int,
    least: int,
) -> None:
    _small(monkeypatch, small)
    monkeypatch.setattr(assembly, "LEAST", least)
    here = world(repo, one_layer(), tmp_path / "image", stack)
    [before] = here.imported([each.whole("") for each in here.plans])
    places = here.here()
    file = next(each for each in BLOB.index.files if each.path == "usr/several")
    place = places[file.digest]
    path = Path(repo.path) / repo.object_path(place.checksum, ObjectType.FILE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    plans = here.parted(places)
    opened: list[Sequence[tuple[int, int]]] = []

    def parts(layer: Descriptor, ranges: Sequence[tuple[int, int]], meter: Meter) -> Parts:
        opened.append(ranges)
        return here.source.parts(layer, ranges, meter)

    [report] = here.imported(plans, Changed(here.source, parts=parts))
    assert len(opened) == 1, "what is on its way is not asked for again"
    assert report.plan.mode is Mode.PARTIAL and report.plan.commit == before.plan.commit
    again, line = here.messages.lines
    assert "putting it together again, with a look at each piece" in again
    assert line.startswith(f"warning: object {place.checksum} does not hold what it should")
    # The whole layer once, and then the end of it, which is counted once for both tries.
    assert here.messages.read == here.plans[0].layer.size + len(BLOB.tail)
    assert path.read_bytes() != bytes(data)
    stored = stream_place(repo, place, file.digest)
    assert stored is not None and b"".join(stored) == SEVERAL


def reversed_table(toc: dict[str, Any], _split: object) -> None:
    """Have the entries in another order, each file's pieces behind it."""
    groups = grouped(toc["entries"])
    toc["entries"] = [each for group in reversed(groups) for each in group]


def renamed(_toc: object, split: list[dict[str, Any]]) -> None:
    """Have the tar-split call a file something else than its own header, which stays."""
    next(line for line in split if line.get("name") == "usr/one")["name"] = "usr/none"


def other_size(_toc: object, split: list[dict[str, Any]]) -> None:
    next(line for line in split if line.get("name") == "usr/one")["size"] += 1


@pytest.mark.parametrize(
    ("change", "mode", "words"),
    [
        (reversed_table, Mode.PARTIAL, ["putting it together again"]),
        (renamed, Mode.PARTIAL, []),
        (other_size, Mode.WHOLE, ["putting it together again", "disagree on 'usr/one'"]),
        (split_cut, Mode.WHOLE, ["putting it together again", "tar-split lacks"]),
        (split_changed, Mode.WHOLE, ["putting it together again", "DiffID"]),
    ],
)
def test_a_process_is_given_what_is_wrong(
    repo: Repository,
    tmp_path: Path,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any], list[dict[str, Any]]], object],
    mode: Mode,
    words: list[str],
) -> None:
    """What it says nothing of is found out here, or else fetched whole."""
    monkeypatch.setattr(assembly, "LEAST", 1)
    here = world(repo, one_layer(lying(change)), tmp_path / "image", stack)
    [before] = here.imported([each.whole("") for each in here.plans])
    plans = here.parted(here.here())
    assert [each.mode for each in plans] == [Mode.PARTIAL]
    [report] = here.imported(plans)
    assert report.plan.commit == before.plan.commit and report.plan.mode is mode
    assert len(here.messages.lines) == len(words)
    for line, expected in zip(here.messages.lines, words, strict=True):
        assert expected in line


def _small(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Have files up to `size` be small ones."""
    for module in (limits, rebuild):
        monkeypatch.setattr(module, "SMALL_FILE", size)


def _streams(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have files of more than 1000 bytes be large ones; return the sizes of those written."""
    _small(monkeypatch, 1000)
    sizes: list[int] = []
    write = Staging.write_stream

    def counted(self: Staging, meta: FileMeta, size: int, *rest: Any) -> tuple[str, str]:
        sizes.append(size)
        return write(self, meta, size, *rest)

    monkeypatch.setattr(Staging, "write_stream", counted)
    return sizes


@pytest.mark.parametrize("least", [assembly.LEAST, 1], ids=["by themselves", "by a process"])
def test_large_files_that_are_here_are_not_written(
    repo: Repository,
    tmp_path: Path,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    least: int,
) -> None:
    monkeypatch.setattr(assembly, "LEAST", least)
    written = _streams(monkeypatch)
    here = world(repo, one_layer(), tmp_path / "image", stack)
    [before] = here.imported([each.whole("") for each in here.plans])
    assert written == [len(SEVERAL)]
    [after] = here.imported(here.parted(here.here()))
    assert after.plan.commit == before.plan.commit
    assert written == [len(SEVERAL)]
    assert here.messages.lines == []


def test_large_files_that_are_here_with_other_metadata_are_written(
    repo: Repository, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tar([file("usr/other-name", SEVERAL, 0o600)])
    here = world(repo, one_layer(chunked(first), first), tmp_path / "first", stack)
    here.imported([each.whole("") for each in here.plans])
    stack.close()
    written = _streams(monkeypatch)
    here = world(repo, one_layer(), tmp_path / "second", stack)
    [report] = here.imported(here.parted(here.here()))
    assert written == [len(SEVERAL)]
    tree = nodes(repo, str(report.plan.commit))
    assert tree["usr/several"] == (FileMeta(0, 0, 0o100755), SEVERAL)


def test_the_index_lacks_nothing_of_a_layer_that_says_what_is_inside(
    repo: Repository, tmp_path: Path, stack: ExitStack
) -> None:
    here = world(repo, one_layer(), tmp_path / "image", stack)
    here.imported(here.parted({}))
    assert len(here.contents.objects()) == 5, "four files and a link"
    assert catch_up(repo, here.contents) == 0
