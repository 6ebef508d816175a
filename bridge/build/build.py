"""Build: a Containerfile becomes a stored OS image.

buildah runs the steps. What came of them is pulled into the store like any image, and written out
again in layers that last (`rechunk`), which is pulled too: so what is stored was verified, and
what any two builds have alike is there once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bridge.build import buildah, workplace
from bridge.build.buildah import Steps
from bridge.build.initramfs import with_packed_initramfs
from bridge.build.packing import Group
from bridge.build.rechunk import LAYERS, placed, rechunk
from bridge.contents.commit import of_commit
from bridge.errors import MalformedImage, NotFound
from bridge.lint import sources
from bridge.lint.subject import Subject
from bridge.oci.digest import Digest
from bridge.oci.model import Index, Manifest, Platform
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import images
from bridge.pull.progress import Progress
from bridge.pull.pull import pull
from bridge.pull.refnames import image_ref
from bridge.pull.source import open_source
from bridge.push.layouts import LayoutWriter
from bridge.registry.options import NetworkOptions

_BOOTABLE = {"containers.bootc": "1", "ostree.bootable": "true"}


@dataclass(frozen=True, slots=True)
class Finishing:
    """What is done with what buildah built."""

    epoch: int | None = None
    """When the image says it was made, in seconds since 1970; without it that is now, and no two
    builds are the same."""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_layers: int = LAYERS
    previous: ImageReference | None = None
    """The image before this one, whose layers are to be kept where they can be."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was built."""

    reference: str
    digest: Digest
    """Of the stored image's manifest, its layers uncompressed."""
    commit: str
    groups: tuple[Group, ...]
    """What is in which layer, lowest first."""
    kept: int
    """Layers of the previous image that are in this one too."""
    seconds: Mapping[str, float]


def build(
    repo: Repository,
    reference: ImageReference,
    steps: Steps,
    finishing: Finishing | None = None,
    *,
    check: Callable[[Subject], None] | None = None,
    network: NetworkOptions | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an image, and store it as `reference`, once `check` has let it pass.

    Raises what that raises, `BridgeError` where a step fails, and what pulling and rechunking
    raise.
    """
    finishing = finishing or Finishing()
    progress = progress or Progress()
    previous = _previous(repo, finishing.previous, network, progress)
    clock = _Clock()
    with workplace.workplace(repo) as name:
        work = Path(name)
        image_id = buildah.build(steps, work, finishing.epoch)
        clock.lap("steps")
        raw, made_of_it = (parse_reference(f"oci:{name}/{each}") for each in workplace.IMAGES)
        buildah.write(image_id, work / "steps")
        progress.message("taking in what was built")
        pull(repo, raw, labelled=False)
        clock.lap("import")
        image = images.find(repo, raw)
        with ExitStack() as stack:
            contents, packed = with_packed_initramfs(
                of_commit(repo, image.checksum), name, stack, progress
            )
            layout = stack.enter_context(LayoutWriter.open(f"{work}/layers", None))
            made = rechunk(
                image,
                contents,
                layout,
                created=int(time.time()) if finishing.epoch is None else finishing.epoch,
                labels=_BOOTABLE | dict(finishing.labels),
                budget=finishing.max_layers,
                previous=previous,
            )
        count = sum(len(group) for group in made.groups)
        progress.message(f"{count} components are in {len(made.groups)} layers")
        clock.lap("rechunk")
        stored = pull(repo, made_of_it, labelled=False)
        clock.lap("store")
        if check is not None:
            check(sources.stored(repo, made_of_it, finishing.epoch, packed))
            clock.lap("lint")
        with Transaction(repo) as transaction:
            transaction.set_ref(image_ref(reference), stored.commit)
            transaction.publish()
    before = set() if previous is None else {_contents(each) for each in placed(previous)}
    return BuildReport(
        reference=str(reference),
        digest=made.digest,
        commit=stored.commit,
        groups=made.groups,
        kept=sum(_contents(each) in before for each in made.groups),
        seconds=clock.laps,
    )


def _previous(
    repo: Repository,
    reference: ImageReference | None,
    network: NetworkOptions | None,
    progress: Progress,
) -> Manifest | None:
    """Return the previous image's manifest; nothing else of it is fetched. None, with a word to
    the user, where there is no such image yet."""
    if reference is None:
        return None
    with ExitStack() as stack:
        source = open_source(reference, network or NetworkOptions(), repo, stack, progress.message)
        try:
            top = source.top()
        except NotFound as error:
            progress.message(f"no previous image: {error}")
            return None
        if isinstance(top, Index):
            top = source.manifest(top.select(Platform.host()))
    if isinstance(top, Index):
        raise MalformedImage(f"{reference} is an index of indexes")
    return top


def _contents(group: Group) -> frozenset[tuple[str, str]]:
    return frozenset((each.name, each.content) for each in group)


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now
