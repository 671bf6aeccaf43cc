"""The typed client against the real application, and against servers that misbehave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from fathom.client import Client, StreamEvent
from fathom.errors import (
    AuthenticationError,
    FathomError,
    PermanentError,
    ServerUnavailable,
    UsageError,
    WireError,
)
from fathom.events.batches import Batch, BatchId, Clock, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.server import examples
from fathom.server.answers import Missing, StreamLoss, StreamNodes
from fathom.server.app import create_app
from fathom.server.hub import MemoryHub
from fathom.server.keys import Keys, StoredKey
from fathom.server.settings import ServerSettings
from fathom.store.opening import open_store

NOW = 1_769_860_800
NS = 1_000_000_000


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a real server that holds 25 edges."""
    store = open_store(f"sqlite://{tmp_path}/store", clock=lambda: NOW)
    edges = tuple(
        Edge(Workload(node="n1", kind="unit", name=f"w{i % 5}"), "egress", f"10.0.0.{i}", f"10.0.0.{i}", "TCP", 80)
        for i in range(25)
    )
    facts = np.zeros(25, FACT)
    facts["edge"], facts["bucket"], facts["connections"] = [edge.id for edge in edges], NOW - 20, range(25)
    observed = (Observed((NOW - 60) * NS, NOW * NS),)
    store.write(Batch(BatchId("n1", "b", 1), Clock(0, 0, NOW * NS), edges, facts, (), observed))
    keys = Keys([StoredKey("admin", "admin", sha256(b"right").hexdigest())])
    app = create_app(store, MemoryHub(), ServerSettings(), keys, now_ns=lambda: NOW * NS)
    async with Client("http://127.0.0.1:8600", "right", transport=httpx.ASGITransport(app)) as opened:
        yield opened
    app.state.desk.close()
    store.close()


def of(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    """A client of a server that answers with ``handler``."""
    return Client("http://127.0.0.1:8600", "right", transport=httpx.MockTransport(handler))


async def test_answers_are_typed(client: Client) -> None:
    page = await client.edges(since="1m", workload="unit/w1", limit=3)
    assert [edge.workload for edge in page.items] == ["unit/w1"] * 3
    assert page.next_cursor
    assert page.window.coverage.share == 1.0
    assert page.lost == 0
    (found,) = (await client.edge(page.items[0].id)).items
    assert found == page.items[0]
    series = await client.series(found.id, "10s", since="2m")
    assert [(point.time, point.connections) for point in series.items] == [("2026-01-31T11:59:40Z", found.connections)]
    assert [w.edges for w in (await client.workloads()).items] == [5] * 5
    status = await client.status()
    assert [node.node for node in status.items] == ["n1"]
    assert status.store.edges == 25
    assert (await client.events()).missing == [Missing("n1", "not connected")]


@pytest.mark.parametrize("limit", [1, 7, 25, 10_000])
async def test_all_pages(client: Client, limit: int) -> None:
    ids = [edge.id async for edge in client.all_edges(limit=limit)]
    assert len(ids) == len(set(ids)) == 25
    assert [int(i) for i in ids] == sorted(int(i) for i in ids)
    names = [workload.workload async for workload in client.all_workloads(limit=limit)]
    assert sorted(names) == [f"unit/w{i}" for i in range(5)]


async def test_a_wrong_key(client: Client) -> None:
    client._http.headers["Authorization"] = "Bearer wrong"
    with pytest.raises(AuthenticationError, match="the key was refused") as caught:
        await client.edges()
    assert "admin.token" in caught.value.do


async def test_a_question_that_makes_no_sense(client: Client) -> None:
    with pytest.raises(UsageError, match="'x' is no time") as caught:
        await client.edges(since="x")
    assert "5m" in caught.value.do
    for number in ("1", "x", "../status", "１"):
        with pytest.raises(UsageError):
            await client.edge(number)


@pytest.mark.parametrize("server", ["", "127.0.0.1:8600", "ftp://x", "http://", "/tmp/x"])
def test_what_is_no_server_is_refused(server: str) -> None:
    with pytest.raises(UsageError, match="is no server"):
        Client(server, "k")


async def test_nobody_there() -> None:
    def refused(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    async with of(refused) as client:
        with pytest.raises(ServerUnavailable, match=r"no server answers at http://127\.0\.0\.1:8600") as caught:
            await client.status()
        assert "fathom up" in caught.value.do
        with pytest.raises(ServerUnavailable):
            await anext(client.stream())


async def test_a_server_that_takes_too_long() -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    async with of(slow) as client:
        with pytest.raises(ServerUnavailable, match="did not answer in time"):
            await client.status()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationError), (403, AuthenticationError), (404, UsageError), (422, UsageError),
     (429, ServerUnavailable), (503, ServerUnavailable), (504, ServerUnavailable), (500, PermanentError)],
)  # fmt: skip
async def test_problems_become_errors_with_the_servers_words(status: int, kind: type[FathomError]) -> None:
    body = {
        "type": "about:blank",
        "title": "T",
        "status": status,
        "what": "it broke",
        "affects": "all",
        "do": "mend it",
    }
    async with of(lambda _: httpx.Response(status, json=body)) as client:
        with pytest.raises(kind, match="it broke") as caught:
            await client.edges()
        assert (caught.value.affects, caught.value.do) == ("all", "mend it")


async def test_a_defect_names_its_entry_in_the_log() -> None:
    body = {"type": "about:blank", "title": "T", "status": 500, "what": "it broke", "instance": "urn:uuid:1"}
    async with of(lambda _: httpx.Response(500, json=body)) as client:
        with pytest.raises(PermanentError, match="urn:uuid:1"):
            await client.edges()


@pytest.mark.parametrize("status", [404, 502, 301])
async def test_something_else_listens_there(status: int) -> None:
    async with of(lambda _: httpx.Response(status, text="<html>nginx</html>")) as client:
        with pytest.raises(PermanentError, match=rf"127\.0\.0\.1:8600 answers {status}, and not as Fathom does"):
            await client.edges()


@pytest.mark.parametrize("body", ["", "{", "[]", '{"items": 1}', "<html>"])
async def test_an_answer_that_makes_no_sense(body: str) -> None:
    async with of(lambda _: httpx.Response(200, text=body)) as client:
        with pytest.raises(WireError, match="makes no sense"):
            await client.edges()


async def test_fields_of_a_later_server_are_ignored() -> None:
    later = json.loads(msgspec.json.encode(examples.EDGES))
    later["items"][0]["new"] = later["new"] = {"x": 1}
    async with of(lambda _: httpx.Response(200, json=later)) as client:
        assert await client.edges() == examples.EDGES


async def test_filters_travel_as_they_are() -> None:
    asked: list[dict[str, str]] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, content=msgspec.json.encode(examples.EVENTS))

    async with of(note) as client:
        await client.events(kind="tcp", comm="a b&c=d", since="2026-01-31T12:00:00+01:00", port=0)
    assert asked == [{"kind": "tcp", "comm": "a b&c=d", "since": "2026-01-31T12:00:00+01:00", "port": "0"}]


async def test_the_key_goes_along_and_no_proxy_is_asked_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    for server in ("http://127.0.0.1:8600", "http://localhost:8600", "http://[::1]:8600"):
        async with Client(server, "right") as client:
            assert client._http.headers["authorization"] == "Bearer right"
            assert client._http._mounts == {}
    async with Client("http://fathom.example:8600", "right") as client:
        assert client._http._mounts


async def test_the_stream_is_typed_and_ends_with_the_server() -> None:
    def stream(request: httpx.Request) -> httpx.Response:
        assert dict(request.url.params) == {"kind": "tcp", "pid": "3"}
        later = 'event: from_a_later_server\ndata: {"x":1}\n\n'
        return httpx.Response(200, text=": hello\n\n" + examples.STREAM + later + 'id: 2\ndata: {"kind":"tcp"}\n\n')

    async with of(stream) as client:
        items = [item async for item in client.stream(kind="tcp", pid=3)]
    assert items[0] == StreamNodes(["web-1"], [])
    assert isinstance(items[1], StreamEvent)
    assert (items[1].number, items[1].event["node"]) == (1, "web-1")
    assert items[2] == StreamLoss("web-1", 12, "slow_reader")
    assert items[3] == StreamEvent(2, {"kind": "tcp"})
    assert len(items) == 4


@pytest.mark.parametrize("text", ["data: {\n\n", "data: []\n\n", "event: loss\ndata: {}\n\n"])
async def test_a_stream_that_makes_no_sense(text: str) -> None:
    async with of(lambda _: httpx.Response(200, text=text)) as client:
        with pytest.raises(WireError):
            [item async for item in client.stream()]


async def test_a_stream_that_is_refused() -> None:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": "T",
        "status": 503,
        "what": "too many live streams are open",
    }
    async with of(lambda _: httpx.Response(503, json=body)) as client:
        with pytest.raises(ServerUnavailable, match="too many live streams"):
            await anext(client.stream())
