"""Whether a process of ours answers: one small HTTP request, without a client library, so waiting costs nothing."""

from __future__ import annotations

import asyncio

from fathom.cli.premises import Address

#: Seconds after which no answer is an answer.
PATIENCE = 2.0


async def answers(where: Address, path: str) -> bool:
    """Whether ``GET path`` at ``where`` gives status 200 within ``PATIENCE`` (HTTP/1.1, RFC 9112)."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(where.host, where.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False  # not there yet, or not HTTP: the caller asks again
