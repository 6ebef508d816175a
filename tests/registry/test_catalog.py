"""A registry's catalog: pages, and what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bridge import limits
from bridge.errors import BridgeError, NetworkError, NotAuthorised, NotFound
from bridge.registry.client import Client

from .conftest import Answer, Rig, Server

PATH = "/v2/_catalog"


@pytest.fixture
def client(rig: Callable[..., Rig]) -> Client:
    return rig(retry_times=0).client


def page(names: Any, link: str | None = None, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/json"}
    if link:
        headers["Link"] = f'<{link}>; rel="next"'
    return Answer(status, json.dumps({"repositories": names}).encode(), headers)


def listed(server: Server, client: Client) -> list[str]:
    return list(client.repositories(server.host))


def test_all_pages_come_each_name_once(server: Server, client: Client) -> None:
    server.on(f"{PATH}?n=1000", page(["a", "b/c", "No", 7, ""], "/v2/_catalog?n=1000&last=b"))
    server.on(f"{PATH}?n=1000&last=b", page(["b/c", "d"]))
    assert listed(server, client) == ["a", "b/c", "d"]


def test_a_page_size_may_be_refused(server: Server, client: Client) -> None:
    server.on(f"{PATH}?n=1000", page([], status=400))
    server.on(PATH, page(["a"]))
    assert listed(server, client) == ["a"]


def test_an_empty_one(server: Server, client: Client) -> None:
    server.on(PATH, page(None))
    assert listed(server, client) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(404), NotFound),
        (Answer(405), NotFound),
        (Answer(403), NotAuthorised),
        (Answer(401), NotAuthorised),
        (Answer(200, b"<html>"), NetworkError),
        (Answer(200, b"[]"), NetworkError),
        (page({"a": 1}), NetworkError),
        (page(["a"], "http://other.example/v2/_catalog"), NetworkError),
        (page(["a"], f"{PATH}?n=1000"), NetworkError),
    ],
    ids=["none", "not-so", "forbidden", "secret", "html", "list", "object", "elsewhere", "again"],
)
def test_what_is_none_is_told(
    server: Server, client: Client, answer: Answer, error: type[BridgeError]
) -> None:
    server.on(PATH, answer)
    with pytest.raises(error):
        listed(server, client)


def test_it_has_an_end(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPOSITORIES_MAX", 3)
    server.on(PATH, page(["a", "b", "c", "d"]))
    with pytest.raises(NetworkError, match="more than 3"):
        listed(server, client)
