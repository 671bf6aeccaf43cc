"""The live stream, spoken to as ASGI: messages, losses, signs of life, bounds, and nothing left when a reader goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fathom.errors import WireError
from fathom.link.hub import NodeEvents

Message = tuple[str, str, Any]  # kind, id, data


class Reader:
    """One reader of the stream. ``leave`` breaks the connection; with ``reading`` unset, it takes nothing."""

    def __init__(self, app: Any, key: str, query: str, headers: dict[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.reading = asyncio.Event()
        self.reading.set()
        self._gone = asyncio.Event()
        self._text = b""
        self._came = asyncio.Condition()
        given = {"host": "localhost", "authorization": f"Bearer {key}", **headers}
        scope = {
            "type": "http", "method": "GET", "path": "/api/v1/stream", "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8600), "scheme": "http", "http_version": "1.1",
            "root_path": "", "raw_path": b"/api/v1/stream", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        async with self._came:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self._text += message["body"]
                self.ended = not message.get("more_body", False)
            self._came.notify_all()

    def leave(self) -> None:
        self._gone.set()

    def raw(self) -> str:
        return self._text.decode()

    def messages(self) -> list[Message]:
        """All whole messages until now, comments and ``retry`` left out."""
        found = []
        for block in self.raw().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if "data" in fields:
                found.append((fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])))
        return found

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(happened)


@pytest.fixture
async def reader_of(world: Any) -> AsyncIterator[Callable[..., Any]]:
    """``async with reader_of("kind=tcp") as reader``: a reader whose stream has begun, and that leaves at the end."""

    @asynccontextmanager
    async def begin(query: str = "", **headers: str) -> AsyncIterator[Reader]:
        reader = Reader(world.app, world.key, query, headers)
        await reader.until(lambda: reader.ended or len(reader.messages()) > 0)
        try:
            yield reader
        finally:
            reader.reading.set()
            reader.leave()
            await asyncio.wait_for(reader.task, 10)

    yield begin
    assert world.hub.subscribers == 0
    assert world.meters.streams == 0
    assert len(asyncio.all_tasks()) == 1


async def test_events_come_as_messages_with_numbers_and_their_node(world: Any, reader_of: Any) -> None:
    world.hub.connect(world.state("n1"), world.answering())
    async with reader_of() as reader:
        assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert reader.headers["cache-control"] == "no-store"
        world.hub.publish(NodeEvents("n1", [{"kind": "tcp", "comm": "a\nb"}, {"kind": "tcp"}]))
        await reader.until(lambda: len(reader.messages()) == 3)
        assert reader.raw().startswith("retry: 3000\n\n")
        assert reader.messages() == [
            ("nodes", "", {"connected": ["n1"], "missing": []}),
            ("message", "1", {"kind": "tcp", "comm": "a\nb", "node": "n1"}),
            ("message", "2", {"kind": "tcp", "node": "n1"}),
        ]
    assert world.meters.stream_events == 2


async def test_the_filter_reaches_the_nodes(world: Any, reader_of: Any) -> None:
    async with reader_of("kind=tcp&workload=unit/x&pid=3&comm=curl&address=10.0.0.1&port=80"):
        (subscriber,) = world.hub._subscribers
        wanted = subscriber.wanted
        assert (wanted.kind, wanted.workload, wanted.pid, wanted.comm, wanted.address, wanted.port) == (
            "tcp", "unit/x", 3, "curl", "10.0.0.1", 80,
        )  # fmt: skip


async def test_one_node_can_be_followed(world: Any, reader_of: Any) -> None:
    for name in ("n1", "n2"):
        world.hub.connect(world.state(name), world.answering())
    async with reader_of("node=n2") as reader:
        world.hub.publish(NodeEvents("n1", [{"n": 1}], dropped=3))
        world.hub.publish(NodeEvents("n2", [{"n": 2}]))
        await reader.until(lambda: len(reader.messages()) == 2)
        assert reader.messages() == [
            ("nodes", "", {"connected": ["n2"], "missing": []}),
            ("message", "1", {"n": 2, "node": "n2"}),
        ]


async def test_what_a_slow_reader_missed_is_told(world: Any, reader_of: Any) -> None:
    async with reader_of() as reader:
        world.hub.publish(NodeEvents("n1", [{"n": 1}], dropped=12))
        await reader.until(lambda: len(reader.messages()) == 3)
        assert reader.messages()[1:] == [
            ("loss", "", {"node": "n1", "events": 12, "reason": "slow_reader"}),
            ("message", "1", {"n": 1, "node": "n1"}),
        ]
    assert world.meters.stream_dropped == 12


async def test_a_reader_that_takes_nothing_holds_up_nobody(world: Any, reader_of: Any) -> None:
    async with reader_of() as slow, reader_of() as quick:
        slow.reading.clear()
        for n in range(100):
            world.hub.publish(NodeEvents("n1", [{"n": n}]))
        await quick.until(lambda: len(quick.messages()) == 101)
        assert len(slow.messages()) == 1
        slow.reading.set()
        await slow.until(lambda: len(slow.messages()) == 101)


async def test_a_reader_that_takes_nothing_can_still_leave(world: Any, reader_of: Any) -> None:
    async with reader_of() as reader:
        reader.reading.clear()
        world.hub.publish(NodeEvents("n1", [{"n": 1}]))
        await asyncio.sleep(0)
        reader.leave()
        await asyncio.sleep(0.01)
        assert world.hub.subscribers == 0


async def test_a_reader_that_comes_back_is_told_that_it_was_away(reader_of: Any) -> None:
    async with reader_of(**{"last-event-id": "41"}) as reader:
        await reader.until(lambda: len(reader.messages()) == 2)
        assert reader.messages()[0] == ("loss", "", {"node": "", "events": -1, "reason": "reconnected"})


@pytest.mark.parametrize("settings", [{"heartbeat_s": 0.05}], indirect=True)
async def test_silence_is_broken_by_signs_of_life_and_by_nodes_that_come_and_go(world: Any, reader_of: Any) -> None:
    async with reader_of() as reader:
        await reader.until(lambda: reader.raw().count(": alive\n\n") >= 2)
        world.hub.connect(world.state("n1"), world.answering())
        await reader.until(lambda: len(reader.messages()) == 2)
        world.hub.disconnect("n1")
        await reader.until(lambda: len(reader.messages()) == 3)
        assert [data["connected"] for _, _, data in reader.messages()] == [[], ["n1"], []]


async def test_a_node_that_refuses_to_stream_is_named_with_its_words(world: Any, reader_of: Any) -> None:
    world.hub.connect(world.state("n1"), world.answering())
    async with reader_of() as reader:
        world.hub.publish(NodeEvents("n1", [], error="too many subscribers"))
        await reader.until(lambda: len(reader.messages()) == 2)
        missing = [{"node": "n1", "why": "too many subscribers"}]
        assert reader.messages()[1] == ("nodes", "", {"connected": [], "missing": missing})
        world.hub.publish(NodeEvents("n1", [{"n": 1}]))
        await reader.until(lambda: len(reader.messages()) == 4)
        assert reader.messages()[2] == ("nodes", "", {"connected": ["n1"], "missing": []})


async def test_the_end_of_the_server_ends_the_stream_in_order(world: Any, reader_of: Any) -> None:
    async with reader_of() as reader:
        world.app.state.desk.closing.set()
        await asyncio.wait_for(reader.task, 10)
        assert reader.ended
    async with reader_of() as late:
        assert late.status == 503


async def test_bytes_from_a_node_that_make_no_sense_are_told_and_the_stream_goes_on(world: Any, reader_of: Any) -> None:
    async with reader_of() as reader:
        world.hub.publish(WireError("not a valid array of events"))
        world.hub.publish(NodeEvents("n1", [{"n": 2}]))
        await reader.until(lambda: len(reader.messages()) == 3)
        assert [(kind, data) for kind, _, data in reader.messages()][1:] == [
            ("loss", {"node": "", "events": -1, "reason": "unreadable: not a valid array of events"}),
            ("message", {"n": 2, "node": "n1"}),
        ]


@pytest.mark.parametrize("settings", [{"max_streams": 2}], indirect=True)
async def test_the_number_of_streams_is_bounded(reader_of: Any) -> None:
    async with reader_of(), reader_of(), reader_of() as third:
        assert (third.status, third.headers["retry-after"]) == (503, "10")
        assert third.headers["content-type"] == "application/problem+json"
    async with reader_of() as again:
        assert again.status == 200


@pytest.mark.parametrize("query", ["address=nonsense", "pid=x", "since=5m", "limit=1"])
async def test_a_filter_that_makes_no_sense_is_refused_before_the_stream_begins(reader_of: Any, query: str) -> None:
    async with reader_of(query) as reader:
        assert reader.status == 422
