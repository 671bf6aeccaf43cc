"""An answer of many lines, one JSON object each, sent as they are made; it is cut off where it fails, never ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "application/x-ndjson"


class Lines(Response):
    """``first`` and what ``following`` gives until it gives nothing. ``place`` is left when that is sent, or when the
    reader has gone."""

    def __init__(
        self, first: bytes, following: Callable[[], Awaitable[bytes]], place: AbstractAsyncContextManager[object]
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._first, self._following, self._place = first, following, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the reader leaves."""
        del scope
        async with self._place:
            await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        part = self._first
        while part:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            part = await self._following()
        await send({"type": "http.response.body", "body": b""})


async def unless_gone(receive: Receive, sending: Coroutine[Any, Any, None]) -> None:
    """``sending``, until it has ended or the reader has left. What it raises passes through."""
    tasks = [asyncio.create_task(gone(receive)), asyncio.create_task(sending)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gone(receive: Receive) -> None:
    """Returns when the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
