"""What an earlier process left of a download: used where it is right, fetched anew where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import store
from rig.command import PLAIN_HTTP, bootc_py, pull
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import small

from bridge.ostree.repository import Repository
from tools.images.layout import Layout


class Bench:
    """A registry with a small image, and a repository that an earlier process left something in."""

    def __init__(self, registry: Registry, proxy: CountingProxy, image: Layout, repo: Path) -> None:
        self.registry = registry
        self.proxy = proxy
        self.image = image
        self.repo = repo
        self.layer: dict[str, Any] = image.layers[1]
        self.content = image.blob(self.layer["digest"]).read_bytes()
        Repository.create(repo, "bare-user").close()

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/a/b:v1"

    def leave(self, content: bytes) -> None:
        """Puts `content` where the process before would have left its part of the layer."""
        downloads = self.repo / "extensions/bootc-py/downloads"
        downloads.mkdir(parents=True)
        (downloads / self.layer["digest"].replace(":", "-")).write_bytes(content)

    def ranges(self) -> list[str | None]:
        return [each.range for each in self.proxy.log if self.layer["digest"] in each.path]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        image = small(tmp_path / "image")
        push(image, registry, "a/b", "v1")
        yield Bench(registry, proxy, image, tmp_path / "repo")


WRONG = {
    "zeros": lambda content: bytes(700_000),
    "a hole at its end": lambda content: content[:300_000] + bytes(400_000),
    "all of it zeros": lambda content: bytes(len(content)),
    "longer than the blob": lambda content: bytes(len(content) + 1000),
    "one bit": lambda content: content[:99_999] + bytes([content[99_999] ^ 1]) + content[100_000:],
}


@pytest.mark.parametrize("left", WRONG)
def test_wrong_bytes_are_fetched_anew_once(bench: Bench, left: str) -> None:
    bench.leave(WRONG[left](bench.content))
    report = pull(bench.name, bench.repo)
    assert bench.ranges()[-1] is None
    assert bench.ranges()[:-1] in ([], ["bytes=700000-"])
    assert report["transfer"]["receivedBytes"] == bench.proxy.body_bytes
    store.fsck(bench.repo)
    assert (
        pull(bench.name, bench.repo.with_name("other"))["image"]["commit"]
        == (report["image"]["commit"])
    )


@pytest.mark.parametrize("length", (1, 700_000))
def test_right_bytes_are_not_fetched_again(bench: Bench, length: int) -> None:
    bench.leave(bench.content[:length])
    report = pull(bench.name, bench.repo)
    assert bench.ranges() == [f"bytes={length}-"]
    (layer,) = (each for each in report["layers"] if each["digest"] == bench.layer["digest"])
    assert layer["receivedBytes"] == len(bench.content) - length


def test_a_registry_with_wrong_bytes_is_asked_no_third_time(bench: Bench) -> None:
    bench.leave(bench.content[:1000])
    changed = bytes([bench.content[5000] ^ 1])
    bench.registry.replace_blob(
        bench.layer["digest"], bench.content[:5000] + changed + bench.content[5001:]
    )
    done = bootc_py("image", "pull", bench.name, "--repo", bench.repo, PLAIN_HTTP)
    assert done.code == 6 and bench.layer["digest"] in done.error
    assert bench.ranges() == ["bytes=1000-", None]
    assert (
        not (bench.repo / "extensions/bootc-py/downloads")
        .joinpath(bench.layer["digest"].replace(":", "-"))
        .exists()
    )
