from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fathom.cli import readiness
from fathom.cli.premises import Address
from fathom.cli.readiness import answers


@asynccontextmanager
async def listener(reply: bytes | None) -> AsyncIterator[Address]:
    """A server that gives ``reply`` to the first line of a request; None: it stays silent."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if reply is not None:
            writer.write(reply)
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("reply", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"\x00\x01garbage\n", False),
        (b"", False),
        (b"x" * 200_000, False),
    ],
)
async def test_only_status_200_is_ready(reply: bytes, ready: bool) -> None:
    async with listener(reply) as where:
        assert await answers(where, "/readyz") is ready


async def test_nobody_there_and_nothing_said_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PATIENCE", 0.05)
    async with listener(None) as where:
        assert not await answers(where, "/readyz")
    assert not await answers(where, "/readyz")
