"""Asks a server over REST, and gives typed answers or Fathom's own errors. It keeps nothing but one connection pool.

It refuses to send a key through a proxy to this very machine: for loopback no proxy of the environment is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypedDict, Unpack

import msgspec

from fathom.client.asking import decoded
from fathom.client.audits import AuditQuestions
from fathom.errors import UsageError
from fathom.server.answers import (
    Edge,
    EdgeAnswer,
    Edges,
    Events,
    Series,
    Status,
    StreamLoss,
    StreamNodes,
    Workload,
    Workloads,
)

#: Items of one page when all are wanted.
_PAGE = 10_000
#: Seconds to wait for a recording to begin, or to go on.
_RECORDING_S = 3_600.0


class Asked(TypedDict, total=False):
    """A stretch of time: durations before now (``5m``) or RFC 3339."""

    since: str
    until: str


class EdgesAsked(Asked, total=False):
    """Filters of edges and workloads, as REST has them."""

    workload: str
    peer: str
    protocol: str
    port: int
    direction: str
    verdict: str
    node: str
    order: str
    limit: int
    cursor: str


class LiveAsked(TypedDict, total=False):
    """Filters of live events, as REST has them."""

    kind: str
    workload: str
    pid: int
    comm: str
    address: str
    port: int
    node: str


class EventsAsked(LiveAsked, Asked, total=False):
    """Filters of recent events, as REST has them."""

    limit: int
    cursor: str


class StreamEvent(msgspec.Struct, frozen=True):
    """One live event: its number in this stream and its fields."""

    number: int
    event: dict[str, Any]


StreamItem = StreamEvent | StreamLoss | StreamNodes


class Client(AuditQuestions):
    """A client of ``server`` (a URL) that shows ``key``. Use it in ``async with``.

    Every question raises ServerUnavailable if the server does not answer or is too busy, AuthenticationError if the
    key is refused, UsageError if the question makes no sense, and WireError if the answer makes none.
    """

    async def status(self, **asked: Unpack[Asked]) -> Status:
        """How server, store and nodes are."""
        return await self._get("/status", Status, asked)

    async def edges(self, **asked: Unpack[EdgesAsked]) -> Edges:
        """One page of edges."""
        return await self._get("/edges", Edges, asked)

    async def workloads(self, **asked: Unpack[EdgesAsked]) -> Workloads:
        """One page of workloads."""
        return await self._get("/workloads", Workloads, asked)

    async def edge(self, number: str, **asked: Unpack[Asked]) -> EdgeAnswer:
        """The edge whose id is ``number``."""
        return await self._get(f"/edges/{_digits(number)}", EdgeAnswer, asked)

    async def series(self, number: str, step: str = "", **asked: Unpack[Asked]) -> Series:
        """The edge whose id is ``number`` over time; ``step`` is a duration."""
        return await self._get(f"/edges/{_digits(number)}/series", Series, {**asked, "step": step})

    async def events(self, **asked: Unpack[EventsAsked]) -> Events:
        """One page of recent raw events, newest first."""
        return await self._get("/events", Events, asked)

    async def all_edges(self, **asked: Unpack[EdgesAsked]) -> AsyncIterator[Edge]:
        """Every edge, page by page; all pages are of the window of the first."""
        asked = {"order": "id", "limit": _PAGE, **asked}
        while True:
            page = await self.edges(**asked)
            for item in page.items:
                yield item
            if not page.next_cursor:
                return
            asked = {**asked, "cursor": page.next_cursor}

    async def all_workloads(self, **asked: Unpack[EdgesAsked]) -> AsyncIterator[Workload]:
        """Every workload, page by page; all pages are of the window of the first."""
        asked = {"order": "id", "limit": _PAGE, **asked}
        while True:
            page = await self.workloads(**asked)
            for item in page.items:
                yield item
            if not page.next_cursor:
                return
            asked = {**asked, "cursor": page.next_cursor}

    async def stream(self, **asked: Unpack[LiveAsked]) -> AsyncIterator[StreamItem]:
        """Live events as they come, and what is missing among them; ends when the server ends it."""
        async for kind, number, data in self._messages("/stream", asked):
            if (item := _item(kind, number, data)) is not None:
                yield item

    async def recording(
        self, begin: Callable[[int], None], write: Callable[[bytes], None], **asked: Unpack[Asked]
    ) -> None:
        """A recording of the window: ``begin`` is told its bytes (0: not known), ``write`` takes each part of it.

        Raises WireError if it is cut off; whether it is whole the recording itself says (``open_recording``).
        """
        async for part in self._data("/recording", asked, begin, _RECORDING_S):
            write(part)


def _item(kind: str, number: str, data: bytes) -> StreamItem | None:
    """A message of the stream; None for kinds that a later version may have."""
    if kind == "message":
        return StreamEvent(int(number) if number.isascii() and number.isdigit() else 0, decoded(data, dict[str, Any]))
    if kind == "loss":
        return decoded(data, StreamLoss)
    return decoded(data, StreamNodes) if kind == "nodes" else None


def _digits(number: str) -> str:
    if not (number.isascii() and number.isdigit()):
        raise UsageError(f"{number!r} is no id of an edge", do="take an id from the edges")
    return number
