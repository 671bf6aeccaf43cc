"""Asks a server over REST, and gives typed answers or Fathom's own errors. It keeps nothing but one connection pool.

It refuses to send a key through a proxy to this very machine: for loopback no proxy of the environment is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address
from typing import Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import urlsplit

import httpx
import msgspec

from fathom.client.failures import error_of, unreachable
from fathom.client.sse import messages
from fathom.errors import UsageError, WireError
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

A = TypeVar("A")
#: Items of one page when all are wanted.
_PAGE = 10_000
_API = "/api/v1"
#: Seconds to wait for an answer, and for a sign of life in a stream; both longer than what the server allows itself.
_PATIENCE_S, _SILENCE_S = 35.0, 60.0


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


class Client:
    """A client of ``server`` (a URL) that shows ``key``. Use it in ``async with``.

    Every question raises ServerUnavailable if the server does not answer or is too busy, AuthenticationError if the
    key is refused, UsageError if the question makes no sense, and WireError if the answer makes none.
    """

    def __init__(self, server: str, key: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """``transport`` takes the network's place in tests. Raises UsageError if ``server`` is no URL of a server."""
        host = _host(server)
        self.server = server.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.server,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_PATIENCE_S,
            transport=transport,
            trust_env=not _is_here(host),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let all connections go."""
        await self._http.aclose()

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
        timeout = httpx.Timeout(_PATIENCE_S, read=_SILENCE_S)
        try:
            async with self._http.stream("GET", f"{_API}/stream", params=_params(asked), timeout=timeout) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(response)
                async for kind, number, data in messages(response.aiter_bytes()):
                    if (item := _item(kind, number, data)) is not None:
                        yield item
        except httpx.HTTPError as error:
            raise unreachable(self.server, error) from error

    async def _get(self, path: str, kind: type[A], asked: Mapping[str, Any]) -> A:
        try:
            response = await self._http.get(_API + path, params=_params(asked))
        except httpx.HTTPError as error:
            raise unreachable(self.server, error) from error
        if response.status_code != 200:
            raise error_of(response)
        return _decode(response.content, kind)


def _decode(data: bytes, kind: type[A]) -> A:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise WireError(
            f"the server's answer makes no sense: {error}", do="use a client and a server of the same version"
        ) from error


def _item(kind: str, number: str, data: bytes) -> StreamItem | None:
    """A message of the stream; None for kinds that a later version may have."""
    if kind == "message":
        return StreamEvent(int(number) if number.isdigit() else 0, _decode(data, dict[str, Any]))
    if kind == "loss":
        return _decode(data, StreamLoss)
    return _decode(data, StreamNodes) if kind == "nodes" else None


def _params(asked: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in asked.items() if value is not None}


def _digits(number: str) -> str:
    if not (number.isascii() and number.isdigit()):
        raise UsageError(f"{number!r} is no id of an edge", do="take an id from the edges")
    return number


def _host(server: str) -> str:
    """The host of the URL ``server``. Raises UsageError if it is no http or https URL."""
    try:
        parts = urlsplit(server)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            httpx.URL(server)
            return parts.hostname
    except (ValueError, httpx.InvalidURL):
        pass  # brackets that do not close, a port above 65535, a host that is no name
    raise UsageError(f"{server!r} is no server", do="write for example http://127.0.0.1:8600")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
