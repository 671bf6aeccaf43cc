"""Server-sent events (HTML standard, section 9.2) to one reader, until it leaves or the server ends.

How many streams are open at once is bounded; a silent one shows signs of life.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fathom.server.desk import Desk
from fathom.server.ndjson import gone
from fathom.server.problems import ProblemError

L = TypeVar("L")
#: The first words of a stream: how long a reader waits before it comes back.
RETRY = b"retry: 3000\n\n"
ALIVE = b": alive\n\n"


def check_room(desk: Desk) -> None:
    """Raises ProblemError (503) if there are too many streams, or the server is about to end."""
    if desk.meters.streams >= desk.settings.max_streams:
        raise ProblemError(
            503, "too many live streams are open", do="close one, or ask again later", headers={"Retry-After": "10"}
        )
    if desk.closing.is_set():
        raise ProblemError(503, "the server is about to end", do="ask again", headers={"Retry-After": "1"})


class Sse(Response, Generic[L]):
    """The answer of one reader, told from ``source``; a subclass says what."""

    def __init__(self, desk: Desk, source: AbstractAsyncContextManager[L]) -> None:
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._desk, self._source = desk, source
        desk.meters.streams += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, the source ends, or the server ends."""
        del scope
        tasks = []
        try:
            async with self._source as live:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                tasks = [
                    asyncio.create_task(gone(receive)),
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

    async def _speak(self, live: L, send: Send) -> None:
        """Send what ``live`` tells, until it ends."""
        raise NotImplementedError


async def say(send: Send, text: bytes) -> None:
    """Send some messages."""
    await send({"type": "http.response.body", "body": text, "more_body": True})


def message(data: object, event: str = "", number: int = 0) -> bytes:
    """One message; JSON holds no line feed, so it is one ``data`` line."""
    head = (f"id: {number}\n" if number else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"
