"""Fixtures with the real peers: images built here, a registry that holds them, a proxy.

The images are taken from the cache and built first if they are missing (root, minutes).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

for _place in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))

from rig import chunked, forky, mounts, published, small, twopkg  # noqa: E402
from rig.proxy import CountingProxy, run_proxy  # noqa: E402
from rig.registry import Registry, run_registry  # noqa: E402
from support.removable import removable  # noqa: E402

from tools.images import build, cache  # noqa: E402
from tools.images.layout import Layout  # noqa: E402
from tools.images.spec import FORMATS, IMAGES, VERSIONS  # noqa: E402

__all__ = ["removable"]

mounts.be_private()

Images = Mapping[tuple[str, str, str], Layout]

LONG = ("test_boot.py", "test_boot_loaders.py", "test_composefs_boot.py")
"""Files that take minutes with a few tests. What starts last is what all wait for, so they start
first, and all others by how many tests they have (tools/test.sh has xdist keep this order)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files in the order in which they are to start."""
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        name = item.path.name
        return LONG.index(name) if name in LONG else len(LONG), -tests[item.path], name

    items.sort(key=place)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make room, once: the processes that xdist starts have a session each."""
    if not hasattr(session.config, "workerinput"):
        cache.tidy()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which files took longest: what to look at when all of it takes too long."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for each in reports:
            if isinstance(each, pytest.TestReport):
                seconds[each.nodeid.partition("::")[0]] += each.duration
    if seconds:
        terminalreporter.section("seconds by file")
    for name, took in seconds.most_common(20):
        terminalreporter.write_line(f"{took:7.1f} {name}")


@pytest.fixture(scope="session")
def images() -> Images:
    """The layouts of every image: `images["server", "v1", "zstd"]`."""
    return {
        (name, version, form): build.image(name, version, form)
        for name in IMAGES
        for version in VERSIONS
        for form in FORMATS
    }


@pytest.fixture(scope="session")
def two_packages() -> twopkg.TwoImages:
    """Two images with the same packages in different layers."""
    return twopkg.cached()


@pytest.fixture(scope="session")
def registry(images: Images) -> Iterator[Registry]:
    """A registry with os/base and os/server: tags v1 (gzip), v1-gzip, v1-zstd, v1-plain, v2, ...

    Shared by all tests: who moves or damages something does it in a repository of their own.
    What they change is gone afterwards.
    """
    content = {}
    for (name, version, form), layout in images.items():
        repository = IMAGES[name].repository
        content[f"{repository}:{version}-{form}"] = layout
        if form == "gzip":
            content[f"{repository}:{version}"] = layout
    source = published.storage(content)
    with cache.scratch(cache.root() / "work") as work:
        published.clone(source, work / "storage")
        with run_registry(work / "storage") as running:
            yield running


@pytest.fixture(scope="session")
def small_chunked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with a/b:v1 and :v2, the image that changes of `rig.small`, written by skopeo.

    Its layers are zstd:chunked. Who adds to it, adds other repositories.
    """
    work = tmp_path_factory.mktemp("small-chunked")
    with run_registry() as running, forky.run_forky(work / "forky", 2048) as peer:
        for version in (1, 2):
            image = small.of_layers(work / str(version), small.changing(version))
            chunked.write(peer, image, running, f"a/b:v{version}")
        yield running


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory beside the cache, gone afterwards: repositories are large."""
    with cache.scratch(cache.root() / "work") as work:
        yield work


@pytest.fixture
def counting_proxy(registry: Registry) -> Iterator[CountingProxy]:
    """A proxy in front of `registry` that starts at zero."""
    with run_proxy(registry.port) as proxy:
        yield proxy
