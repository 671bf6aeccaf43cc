"""Live events as server-sent events (HTML standard, section 9.2): what the nodes see, less than a second later.

A reader that is too slow loses events and is told how many; it holds up nobody. When it leaves, its subscription ends
on every node.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fathom.agent.questions import EventFilter
from fathom.errors import WireError
from fathom.link.hub import LiveEvents, NodeEvents
from fathom.server import examples
from fathom.server.answers import Missing, StreamLoss, StreamNodes
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import streams
from fathom.server.filters import LiveAsked
from fathom.server.problems import ProblemError

router = APIRouter(prefix="/api/v1", tags=["events"])
_LAST_ID = Header(alias="Last-Event-ID", description="Sent by a reader that comes back; it is told that it was away.")


@router.get(
    "/stream",
    summary="Live events",
    response_class=Response,
    responses=streams(
        "Server-sent events: messages are raw events; `loss`, `nodes` say what is missing; comments are signs of life.",
        examples.STREAM,
    ),
)
async def stream(
    asked: Annotated[LiveAsked, Query()], desk: AtDesk, last_event_id: Annotated[str | None, _LAST_ID] = None
) -> Response:
    """Events as they happen, of all nodes that are connected now or later, until the reader leaves."""
    if desk.meters.streams >= desk.settings.max_streams:
        raise ProblemError(
            503, "too many live streams are open", do="close one, or ask again later", headers={"Retry-After": "10"}
        )
    if desk.closing.is_set():
        raise ProblemError(503, "the server is about to end", do="ask again", headers={"Retry-After": "1"})
    return EventStream(desk, asked.filter(), asked.node, returning=last_event_id is not None)


class EventStream(Response):
    """The answer of one reader."""

    def __init__(self, desk: Desk, wanted: EventFilter, node: str, *, returning: bool) -> None:
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._desk, self._wanted, self._only, self._returning = desk, wanted, node, returning
        self._numbers = itertools.count(1)
        self._missing: dict[str, str] = {}
        self._nodes: StreamNodes | None = None
        desk.meters.streams += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, all nodes end, or the server ends."""
        del scope
        tasks = []
        try:
            async with self._desk.hub.subscribe(self._wanted) as live:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                tasks = [
                    asyncio.create_task(self._left(receive)),
                    asyncio.create_task(self._desk.closing.wait()),
                    asyncio.create_task(self._speak(live, send)),
                ]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._desk.meters.streams -= 1
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, OSError):
                    raise ended
        await send({"type": "http.response.body", "body": b""})

    async def _left(self, receive: Receive) -> None:
        """Returns when the reader has gone."""
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _speak(self, live: LiveEvents, send: Send) -> None:
        first = [b"retry: 3000\n\n"]
        if self._returning:
            first.append(_message(StreamLoss("", -1, "reconnected"), "loss"))
        text = b"".join((*first, *self._who()))
        coming: asyncio.Future[NodeEvents] = asyncio.ensure_future(anext(live))
        try:
            while True:
                await send({"type": "http.response.body", "body": text, "more_body": True})
                done, _ = await asyncio.wait((coming,), timeout=self._desk.settings.heartbeat_s)
                if not done:
                    text = b"".join(self._who()) or b": alive\n\n"
                    continue
                try:
                    text = b"".join(self._tell(coming.result()))
                except StopAsyncIteration:
                    return
                except WireError as error:
                    text = _message(StreamLoss("", -1, f"unreadable: {error.what}"), "loss")
                coming = asyncio.ensure_future(anext(live))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    def _tell(self, part: NodeEvents) -> Iterable[bytes]:
        """What one node's events are on the wire."""
        if self._only and part.node != self._only:
            return
        if part.error:
            self._missing[part.node] = part.error
        elif part.events:
            self._missing.pop(part.node, None)
        yield from self._who()
        if part.dropped:
            self._desk.meters.stream_dropped += part.dropped
            yield _message(StreamLoss(part.node, part.dropped, "slow_reader"), "loss")
        self._desk.meters.stream_events += len(part.events)
        for event in part.events:
            yield _message({**event, "node": part.node}, number=next(self._numbers))

    def _who(self) -> Iterable[bytes]:
        """The nodes whose events this stream carries, when that changed."""
        names = [state.node for state in self._desk.hub.nodes() if state.connected]
        if self._only:
            names = [name for name in names if name == self._only]
        missing = [Missing(node, why) for node, why in sorted(self._missing.items())]
        now = StreamNodes([name for name in names if name not in self._missing], missing)
        if now != self._nodes:
            self._nodes = now
            yield _message(now, "nodes")


def _message(data: object, event: str = "", number: int = 0) -> bytes:
    """One message; JSON holds no line feed, so it is one ``data`` line."""
    head = (f"id: {number}\n" if number else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"
