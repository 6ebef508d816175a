"""Fixtures with the real peers: images built here, a registry that holds them, a proxy.

The images are taken from the cache and built first if they are missing (root, minutes).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

for _place in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))

from rig import twopkg  # noqa: E402
from rig.proxy import CountingProxy, run_proxy  # noqa: E402
from rig.push import push  # noqa: E402
from rig.registry import Registry, run_registry  # noqa: E402

from tools.images import build  # noqa: E402
from tools.images.layout import Layout  # noqa: E402
from tools.images.spec import FORMATS, IMAGES, VERSIONS  # noqa: E402

Images = Mapping[tuple[str, str, str], Layout]


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
def registry(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with os/base and os/server: tags v1 (gzip), v1-gzip, v1-zstd, v1-plain, v2, ...

    Shared by all tests: who moves or damages something uses a repository of their own.
    """
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        for (name, version, form), layout in images.items():
            repository = IMAGES[name].repository
            push(layout, running, repository, f"{version}-{form}")
            if form == "gzip":
                push(layout, running, repository, version)
        yield running


@pytest.fixture
def counting_proxy(registry: Registry) -> Iterator[CountingProxy]:
    """A proxy in front of `registry` that starts at zero."""
    with run_proxy(registry.port) as proxy:
        yield proxy


@pytest.fixture
def push_image() -> Callable[..., str]:
    """`push(layout, registry, repository, tag)`."""
    return push
