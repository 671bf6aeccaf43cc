"""The server as a process of its own: ports, signals, kills, garbage, slow strangers, and a whole way through it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from fathom.agent.questions import Answer, EventFilter, EventsAnswer, EventsQuestion, Question
from fathom.client import Client, StreamEvent
from fathom.errors import AuthenticationError, UsageError
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.link.client import LinkClient
from fathom.link.settings import LinkClientSettings
from fathom.server.answers import StreamLoss, StreamNodes
from fathom.wire.messages import AgentHello

_PATIENCE = 20.0
T = TypeVar("T")


class Process:
    """A `fathom server` on free ports over ``directory``; its log is read as it comes."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory = directory
        self.log_path = directory.parent / f"{directory.name}.{time.monotonic_ns()}.log"
        given = {
            "FATHOM_DATA_DIR": str(directory),
            "FATHOM_LISTEN": "127.0.0.1:0",
            "FATHOM_LINK_LISTEN": "127.0.0.1:0",
            **env,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FATHOM_")}
        with self.log_path.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "fathom.cli.main", "server"],
                env={**inherited, **given},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.rest = self.link = 0

    def log(self) -> str:
        return self.log_path.read_text()

    def started(self) -> Process:
        """Wait until it listens."""
        end = time.monotonic() + _PATIENCE
        while not (found := re.search(r"REST on http://127\.0\.0\.1:(\d+), agents on 127\.0\.0\.1:(\d+)", self.log())):
            if self.popen.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the server did not start: {self.log()}")
            time.sleep(0.02)
        self.rest, self.link = int(found[1]), int(found[2])
        return self

    def ended(self) -> int:
        """Its exit status."""
        return self.popen.wait(_PATIENCE)

    @property
    def key(self) -> str:
        return (self.directory / "admin.token").read_text().strip()

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.rest}", self.key)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.rest), _PATIENCE)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """``serve(**env)``: a process over one directory; none is left."""
    processes: list[Process] = []

    def begin(directory: Path | None = None, **env: str) -> Process:
        processes.append(Process(directory or tmp_path / "data", **env))
        return processes[-1]

    yield begin
    for process in processes:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


class Agent:
    """What an agent answers: two events now, and one live event each time ``more`` is set."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.subscribers = 0

    async def answer(self, question: Question) -> Answer:
        if not isinstance(question, EventsQuestion):
            raise UsageError("not asked here")
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        return EventsAnswer([{"time": f"{now}.{n}Z", "kind": "tcp", "n": n} for n in (2, 1)], False, 0, 0)

    async def subscribe(self, wanted: EventFilter) -> AsyncIterator[dict[str, Any]]:
        self.subscribers += 1
        try:
            while True:
                await self.more.wait()
                self.more.clear()
                yield {"kind": wanted.kind or "tcp"}
        finally:
            self.subscribers -= 1


def agent_of(process: Process, directory: Path, answerer: Agent | None = None) -> LinkClient:
    settings = LinkClientSettings(
        link_server=f"127.0.0.1:{process.link}",
        link_token_file=str(process.directory / "join.token"),
        link_backoff_max_s=0.1,
        spool_dir=str(directory / "spool"),
    )
    hello = AgentHello("node-1", "aa", "0.1.0", ("tcp",))
    return LinkClient(settings, hello, lambda: Clock(1, 2, time.time_ns()), answerer)


def batch(sequence: int, bytes_sent: int) -> Batch:
    now_ns = time.time_ns()
    edge = Edge(Workload(node="node-1", kind="process", name="curl"), "egress", "10.0.0.7", "10.0.0.7", "TCP", 443)
    facts = np.zeros(1, FACT)
    facts["edge"], facts["bucket"] = edge.id, now_ns // 1_000_000_000 - 1
    facts["connections"], facts["bytes_sent"] = 1, bytes_sent
    observed = (Observed(now_ns - 60_000_000_000, now_ns),)
    losses = (Loss(now_ns // 1_000_000_000 - 1, "kernel", "tcp", "ring_full", 2),)
    return Batch(BatchId("node-1", "aa", sequence), Clock(1, 2, now_ns), (edge,), facts, losses, observed)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not happened():
            await asyncio.sleep(0.01)


async def until_async(ask: Callable[[], Awaitable[T]], happened: Callable[[T], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not happened(await ask()):
            await asyncio.sleep(0.05)


async def test_from_an_agent_to_a_person(serve: Callable[..., Process], tmp_path: Path) -> None:
    process, answerer = serve().started(), Agent()
    async with process.client() as client, agent_of(process, tmp_path, answerer) as agent:
        for sequence in (1, 2, 3):
            await agent.put(batch(sequence, 100))
        await until(lambda: agent.state().acknowledged == 3)
        page = await client.edges()
        assert [(e.workload, e.peer, e.connections, e.bytes_sent) for e in page.items] == [
            ("process/curl", "10.0.0.7", 3, 300)
        ]
        assert page.lost == 6
        assert page.window.coverage.share > 0.9
        status = await client.status()
        assert [(n.node, n.connected, n.boot) for n in status.items] == [("node-1", True, "aa")]
        assert (status.ingest.batches, status.ingest.facts, status.ingest.duplicates) == (3, 3, 0)
        events = await client.events()
        assert [(e["node"], e["n"]) for e in events.items] == [("node-1", 2), ("node-1", 1)]
        stream = client.stream(kind="flow")
        assert await anext(stream) == StreamNodes(["node-1"], [])
        await until(lambda: answerer.subscribers == 1)
        answerer.more.set()
        item = await anext(stream)
        assert isinstance(item, StreamEvent)
        assert item.event == {"kind": "flow", "node": "node-1"}
        await stream.aclose()
        await until(lambda: answerer.subscribers == 0)  # the reader left, so the agent stops
        assert (await client.status()).streams == 0


class Talker(Agent):
    """Tells ``burst`` events, then one each 20 ms; each holds its number, from 1 on. It is as quick as an agent that
    drops none itself, so that what is lost is lost between the server and the reader."""

    burst = 40_000

    async def subscribe(self, wanted: EventFilter) -> AsyncIterator[dict[str, Any]]:
        del wanted
        for number in itertools.count(1):
            if number > self.burst or number % 500 == 0:
                await asyncio.sleep(0.02)
            self.told = number
            yield {"number": number, "padding": "x" * 500}

    told = 0


async def test_a_slow_reader_loses_events_and_is_told_exactly_how_many(
    serve: Callable[..., Process], tmp_path: Path
) -> None:
    process, talker = serve(FATHOM_LINK_LIVE_EVENTS="500").started(), Talker()
    async with process.client() as client, agent_of(process, tmp_path, talker):
        await until_async(client.status, lambda status: len(status.items) == 1)
        stream = client.stream()
        await anext(stream)
        await until(lambda: talker.told > talker.burst)  # nothing was read meanwhile
        seen = lost = 0
        async with asyncio.timeout(_PATIENCE):
            async for item in stream:
                if isinstance(item, StreamLoss):
                    lost += item.events
                elif isinstance(item, StreamEvent):
                    seen += 1
                    told = item.event["number"]
                    if told > talker.burst and seen + lost == told:  # all that waited is read
                        break
        assert lost > 0
        assert seen > 100
        await stream.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_with_streams_and_agents_open(
    serve: Callable[..., Process], tmp_path: Path, number: signal.Signals
) -> None:
    process = serve().started()
    async with process.client() as client, agent_of(process, tmp_path, Agent()) as agent:
        await agent.put(batch(1, 5))
        await until(lambda: agent.state().acknowledged == 1)
        stream = client.stream()
        await anext(stream)
        process.popen.send_signal(number)
        assert [item async for item in stream] == []  # ends as a whole answer, not as a broken one
        assert await asyncio.to_thread(process.ended) == 0
    messages = [json.loads(line)["message"] for line in process.log().splitlines()]
    assert messages[-1] == "ended"
    assert "Traceback" not in process.log()


async def test_kills_lose_nothing_that_was_acknowledged_and_count_nothing_twice(
    serve: Callable[..., Process], tmp_path: Path
) -> None:
    process = serve().started()
    port, key = process.link, process.key
    async with agent_of(process, tmp_path) as agent:
        for turn in range(3):
            await agent.put(batch(2 * turn + 1, 1))
            await until(lambda turn=turn: agent.state().acknowledged >= 2 * turn + 1)  # type: ignore[misc]
            process.popen.kill()
            process.ended()
            await agent.put(batch(2 * turn + 2, 1))
            process = serve(FATHOM_LINK_LISTEN=f"127.0.0.1:{port}").started()
            await until(lambda: not agent.state().queued)
    assert process.key == key
    async with process.client() as client:
        (edge,) = (await client.edges()).items
        assert (edge.connections, edge.bytes_sent) == (6, 6)


async def test_garbage_on_both_ports_disturbs_nobody(serve: Callable[..., Process], tmp_path: Path) -> None:
    process = serve().started()
    random = np.random.default_rng(7)
    pieces = [
        b"garbage\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 500, bytes(5_000),
        b"GET /api/v1/edges HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        *(random.bytes(int(size)) for size in random.integers(1, 20_000, 40)),
    ]  # fmt: skip
    for port in (process.rest, process.link):
        for piece in pieces:
            stranger = socket.create_connection(("127.0.0.1", port), _PATIENCE)
            with stranger, contextlib.suppress(ConnectionError):  # it may be thrown out at any moment
                stranger.sendall(piece)
                with contextlib.suppress(OSError):  # not connected any more
                    stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(65_536):
                    pass
    async with process.client() as client, agent_of(process, tmp_path) as agent:
        await agent.put(batch(1, 9))
        await until(lambda: agent.state().acknowledged == 1)
        assert [edge.bytes_sent for edge in (await client.edges()).items] == [9]
    assert "Traceback" not in process.log()


def test_what_is_no_http_is_told_so(serve: Callable[..., Process]) -> None:
    process = serve().started()
    with process.connect() as stranger:
        stranger.sendall(b"garbage\r\n\r\n")
        head, _, body = _all(stranger).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n")
    assert json.loads(body)["do"] == "speak HTTP/1.1"


def test_connections_that_send_nothing_or_half_a_request_are_ended(serve: Callable[..., Process]) -> None:
    process = serve(FATHOM_HEADER_TIMEOUT_S="0.3").started()
    for beginning in (b"", b"GET /healthz HTTP/1.1\r\nHost: loc"):
        with process.connect() as stranger:
            stranger.sendall(beginning)
            assert _all(stranger).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    with process.connect() as stranger:  # a second request on the same connection is held to it too
        stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stranger.recv(4_096).startswith(b"HTTP/1.1 200 OK\r\n")
        stranger.sendall(b"GET /heal")
        assert b"HTTP/1.1 408" in _all(stranger)
    with process.connect() as stranger:  # and a body that never comes is not waited for
        stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
        answer = _all(stranger)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_more_connections_than_allowed_are_told_to_come_back(serve: Callable[..., Process]) -> None:
    process = serve(FATHOM_MAX_CONNECTIONS="5").started()
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(process.connect())
        with process.connect() as sixth:
            assert _all(sixth).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    end = time.monotonic() + _PATIENCE
    while True:
        with process.connect() as again:
            again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if _all(again).startswith(b"HTTP/1.1 200 OK\r\n"):
                return
        assert time.monotonic() < end, "the places of those who left stay taken"


@pytest.mark.parametrize("which", ["FATHOM_LISTEN", "FATHOM_LINK_LISTEN"])
def test_a_port_that_is_taken_is_named(serve: Callable[..., Process], which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = serve(**{which: f"127.0.0.1:{port}"})
        assert process.ended() == 2
    assert str(port) in process.log()
    assert "to do:" in process.log()
    assert "Traceback" not in process.log()


def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(serve: Callable[..., Process]) -> None:
    first = serve().started()
    second = serve()
    assert second.ended() == 2
    assert f"another server uses {first.directory} (pid {first.popen.pid})" in second.log()
    assert first.popen.poll() is None


def test_a_data_directory_that_cannot_be_made_is_named(serve: Callable[..., Process]) -> None:
    process = serve(FATHOM_DATA_DIR="/proc/fathom")
    assert process.ended() == 2
    assert "cannot write to the data directory /proc/fathom" in process.log()
    assert "--data-dir" in process.log()


async def test_ipv6_loopback(serve: Callable[..., Process]) -> None:
    process = serve(FATHOM_LISTEN="[::1]:0")
    end = time.monotonic() + _PATIENCE
    while not (found := re.search(r"REST on (http://\[::1\]:\d+)", process.log())):
        assert process.popen.poll() is None, process.log()
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    async with Client(found[1], process.key) as client:
        assert (await client.status()).problems == ["no agent is connected: nothing new is seen"]


async def test_the_key_of_another_server_does_not_open(serve: Callable[..., Process], tmp_path: Path) -> None:
    first, second = serve().started(), serve(tmp_path / "other").started()
    async with Client(f"http://127.0.0.1:{second.rest}", first.key) as client:
        with pytest.raises(AuthenticationError):
            await client.status()
    for process in (first, second):
        assert process.key not in process.log()
        assert (process.directory / "join.token").read_text().strip() not in process.log()


def _all(stranger: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    while piece := stranger.recv(65_536):
        found += piece
    return found
