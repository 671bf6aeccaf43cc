"""A recording of a window: one file with the traffic, the inventory, the coverage and the losses, made when asked for.

``fathom policy`` reads it with no server. The file says itself whether it is whole.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fathom.server.desk import AtDesk
from fathom.server.documented import sends_file
from fathom.server.filters import RecordingAsked
from fathom.server.ndjson import gone, unless_gone
from fathom.server.times import text_s

router = APIRouter(prefix="/api/v1", tags=["recordings"])
#: IANA, media types, "application/vnd.sqlite3".
MEDIA_TYPE = "application/vnd.sqlite3"
_CHUNK = 1 << 18
#: The status of an answer that nobody waits for; it is never sent.
_NOBODY = 499


@router.get(
    "/recording",
    summary="A recording",
    response_class=Response,
    responses=sends_file("One SQLite file; `fathom record info` says what it holds.", MEDIA_TYPE, "SQLite format 3…"),
)
async def recording(request: Request, asked: Annotated[RecordingAsked, Query()], desk: AtDesk) -> Response:
    """The traffic, inventory, coverage and losses of the window as one file. One is made at a time; an answer that
    fails on the way is cut off, and shorter than its `Content-Length`."""
    window = asked.window(desk.now_ns(), desk.settings)
    with ExitStack() as stack:
        place = desk.recorder.take()
        stack.callback(place.leave)
        making = asyncio.wrap_future(place.make(window))
        making.add_done_callback(_told)
        leaving = asyncio.create_task(gone(request.receive))
        try:
            await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not making.done():
                return Response(status_code=_NOBODY)
            file = making.result()
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        name = f"{text_s(window.since_s)}-{text_s(window.until_s)}.fathom".replace(":", "")
        return Sent(file, name, stack.pop_all())
    raise AssertionError("unreachable")


def _told(made: asyncio.Future[BinaryIO]) -> None:
    """An error that nobody waits for any more was looked at."""
    if not made.cancelled():
        made.exception()


class Sent(Response):
    """A file, sent as fast as it is taken. ``place`` is left when that is done, or when the reader has gone."""

    def __init__(self, file: BinaryIO, name: str, place: ExitStack) -> None:
        size = os.fstat(file.fileno()).st_size
        headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(media_type=MEDIA_TYPE, headers=headers)
        self._file, self._place = file, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the reader leaves."""
        del scope
        with self._place:
            await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while part := await asyncio.to_thread(self._file.read, _CHUNK):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
