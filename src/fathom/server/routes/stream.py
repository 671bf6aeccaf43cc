"""Live events as server-sent events (HTML standard, section 9.2): what the nodes see, less than a second later.

A reader that is too slow loses events and is told how many; it holds up nobody. When it leaves, its subscription ends
on every node.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Send

from fathom.agent.questions import EventFilter
from fathom.errors import WireError
from fathom.link.hub import LiveEvents, NodeEvents
from fathom.server import examples
from fathom.server.answers import Missing, StreamLoss, StreamNodes
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import streams
from fathom.server.filters import LiveAsked
from fathom.server.sse import ALIVE, RETRY, Sse, check_room, message, say

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
    check_room(desk)
    return EventStream(desk, asked.filter(), asked.node, returning=last_event_id is not None)


class EventStream(Sse[LiveEvents]):
    """The answer of one reader."""

    def __init__(self, desk: Desk, wanted: EventFilter, node: str, *, returning: bool) -> None:
        super().__init__(desk, desk.hub.subscribe(wanted))
        self._only, self._returning = node, returning
        self._numbers = itertools.count(1)
        self._missing: dict[str, str] = {}
        self._nodes: StreamNodes | None = None

    async def _speak(self, live: LiveEvents, send: Send) -> None:
        first = [RETRY]
        if self._returning:
            first.append(message(StreamLoss("", -1, "reconnected"), "loss"))
        text = b"".join((*first, *self._who()))
        coming: asyncio.Future[NodeEvents] = asyncio.ensure_future(anext(live))
        try:
            while True:
                await say(send, text)
                done, _ = await asyncio.wait((coming,), timeout=self._desk.settings.heartbeat_s)
                if not done:
                    text = b"".join(self._who()) or ALIVE
                    continue
                try:
                    text = b"".join(self._tell(coming.result()))
                except StopAsyncIteration:
                    return
                except WireError as error:
                    text = message(StreamLoss("", -1, f"unreadable: {error.what}"), "loss")
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
            yield message(StreamLoss(part.node, part.dropped, "slow_reader"), "loss")
        self._desk.meters.stream_events += len(part.events)
        for event in part.events:
            yield message({**event, "node": part.node}, number=next(self._numbers))

    def _who(self) -> Iterable[bytes]:
        """The nodes whose events this stream carries, when that changed."""
        names = [state.node for state in self._desk.hub.nodes() if state.connected]
        if self._only:
            names = [name for name in names if name == self._only]
        missing = [Missing(node, why) for node, why in sorted(self._missing.items())]
        now = StreamNodes([name for name in names if name not in self._missing], missing)
        if now != self._nodes:
            self._nodes = now
            yield message(now, "nodes")
