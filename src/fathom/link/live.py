"""Live events of all nodes for one reader, through the bus: bounded, and what is left out is counted and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import msgspec

from fathom.link.bus import Bus, Reader
from fathom.link.hub import NodeEvents
from fathom.wire import questions


class Chunk(msgspec.Struct, frozen=True):
    """Events on the bus, still as JSON; ``unreadable`` chunks of a node become its ``error``."""

    node: str
    events: bytes
    dropped: int
    error: str = ""


def topic(number: int) -> str:
    """Where the chunks of subscription ``number`` are published."""
    return f"live/{number}"


class Live:
    """See ``fathom.link.hub.LiveEvents``."""

    def __init__(self, bus: Bus, number: int, limit: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._bus, self._number, self._limit = bus, number, limit
        self._begin, self._end = begin, end
        self._reader: Reader | None = None

    async def __aenter__(self) -> Self:
        self._reader = self._bus.subscribe(topic(self._number), self._limit)
        self._begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop on all nodes; an iteration ends after what is already here."""
        if self._reader:
            self._reader.close()
            self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NodeEvents:
        if self._reader is None:
            raise StopAsyncIteration
        chunk = msgspec.msgpack.decode(await self._reader.__anext__(), type=Chunk)
        dropped = chunk.dropped + self._reader.take_dropped()
        return NodeEvents(chunk.node, questions.decode_events(chunk.events), dropped, chunk.error)
