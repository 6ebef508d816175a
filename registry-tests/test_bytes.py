"""The report's bytes and requests are those that went through a counting proxy: to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig.command import PLAIN_HTTP, bootc_py, pull, report
from rig.credentials import Credentials
from rig.misbehaving import cut
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import small
from rig.tokens import TokenServer, run_token_server

from bridge.errors import NotFound
from bridge.oci.reference import parse_registry_reference
from bridge.registry.client import Client
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions
from tools.images.layout import Layout

SECRET = Credentials("user", "pass:word")


@dataclass(frozen=True)
class Bench:
    """A registry behind a proxy, with what a client needs to be let in."""

    registry: Registry
    proxy: CountingProxy
    tokens: TokenServer | None
    authfile: Path

    @property
    def image(self) -> str:
        return f"{self.proxy.host}/a/b:stable"

    def push(self, layout: Layout) -> None:
        push(layout, self.registry, "a/b", "stable")
        self.reset()

    def reset(self) -> None:
        self.proxy.reset()
        if self.tokens:
            self.tokens.requests.clear()
            self.tokens.body_bytes = 0

    def sent(self) -> tuple[int, int]:
        """Bytes and requests since the last call, the token server's among them."""
        tokens = self.tokens
        total = (
            self.proxy.body_bytes + (tokens.body_bytes if tokens else 0),
            self.proxy.requests + (len(tokens.requests) if tokens else 0),
        )
        self.reset()
        return total


KINDS = ("anonymous", "basic", "token", "anonymous token")


@contextmanager
def run_bench(kind: str, work: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        tokens = None
        if "token" in kind:
            user = None if "anonymous" in kind else SECRET
            tokens = stack.enter_context(run_token_server(work / "tokens", user))
        basic = SECRET if kind == "basic" else None
        registry = stack.enter_context(run_registry(basic=basic, tokens=tokens))
        proxy = stack.enter_context(run_proxy(registry.port))
        through = Registry(proxy.port, registry.storage, registry.log, registry.credentials)
        authfile = through.write_auth_file(work / "auth.json")
        yield Bench(registry, proxy, tokens, authfile)


def transferred(document: dict[str, Any]) -> tuple[int, int]:
    transfer = document["transfer"]
    return transfer["receivedBytes"], transfer["requests"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_reports_what_the_proxy_sent(tmp_path: Path, kind: str) -> None:
    first = small(tmp_path / "first", version="1")
    second = small(tmp_path / "second", version="2")
    sysroot = tmp_path / "sysroot"
    with run_bench(kind, tmp_path) as bench:
        options = (f"--authfile={bench.authfile}", PLAIN_HTTP, "--sysroot", str(sysroot))

        bench.push(first)
        cold = report("switch", bench.image, *options)
        assert bench.tokens is None or bench.tokens.requests
        sent = bench.sent()
        assert transferred(cold) == sent
        assert sent[0] > cold["transfer"]["imageBytes"] > 3_000_000

        nothing = report("upgrade", *options)
        assert transferred(nothing) == (sent := bench.sent())
        assert 0 < sent[0] < 20_000
        assert not nothing["changed"]

        bench.push(second)
        upgrade = report("upgrade", *options)
        assert transferred(upgrade) == (sent := bench.sent())
        assert upgrade["changed"]
        assert 2_500_000 < sent[0] < cold["transfer"]["imageBytes"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_fails_counts_too(tmp_path: Path, kind: str) -> None:
    """A failure has no report, so its meter is looked at."""
    with run_bench(kind, tmp_path) as bench:
        bench.push(small(tmp_path / "image"))
        meter = Meter()
        client = Client(NetworkOptions(authfile=str(bench.authfile), tls_verify=False), meter)
        wrong = parse_registry_reference(f"{bench.proxy.host}/a/b:wrong")
        with pytest.raises(NotFound):
            client.get_manifest(wrong)
        client.close()
        assert (meter.received_bytes, meter.requests) == (sent := bench.sent())
        assert sent[0] > 0
        assert sent[1] == {"anonymous": 1, "basic": 2}.get(kind, 3)


def test_bodies_that_break_off_count_as_far_as_they_came(tmp_path: Path) -> None:
    image = small(tmp_path / "image")
    with run_bench("anonymous", tmp_path) as bench:
        bench.push(image)
        bench.proxy.spoil(image.layers[1]["digest"], cut(1_200_000), cut(7))
        broken = pull(bench.image, tmp_path / "repo")
        log = [each for each in bench.proxy.log if image.layers[1]["digest"] in each.path]
        assert [each.body_bytes for each in log[:2]] == [1_200_000, 7]
        assert [each.range for each in log] == [None, "bytes=1200000-", "bytes=1200007-"]
        assert transferred(broken) == bench.sent()
        assert broken["transfer"]["retries"] == 2


def test_bytes_are_told_by_layer(tmp_path: Path) -> None:
    image = small(tmp_path / "image")
    with run_bench("anonymous", tmp_path) as bench:
        bench.push(image)
        document = pull(bench.image, tmp_path / "repo")
        for layer in document["layers"]:
            log = [each for each in bench.proxy.log if layer["digest"] in each.path]
            assert layer["receivedBytes"] == layer["size"] == sum(each.body_bytes for each in log)
            assert layer["requests"] == len(log) == 1


def test_a_real_image(counting_proxy: CountingProxy, scratch: Path) -> None:
    document = pull(f"{counting_proxy.host}/os/base:v1-zstd", scratch / "repo")
    assert transferred(document) == (counting_proxy.body_bytes, counting_proxy.requests)
    assert document["transfer"]["receivedBytes"] > 100_000_000


def test_layouts_move_nothing(tmp_path: Path) -> None:
    image = small(tmp_path / "image")
    done = bootc_py("image", "pull", image.reference, "--repo", tmp_path / "repo", "--json")
    assert transferred(done.json) == (0, 0)
