"""A very small HTTP/1.1 server for GET on a loopback port: no framework, since memory is counted on the node.

It answers ``GET`` and ``HEAD`` without a body and nothing else; each connection is closed after a bounded number of
requests, a bounded time and a bounded number of bytes, and a silent one loses its place to who comes next. The Host
header is checked, so that a page in a browser cannot read it by a name that it lets point here (DNS rebinding).
Format: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

_LOG = logging.getLogger(__name__)
MAX_HEAD = 8_192
MAX_CONNECTIONS = 64
_MAX_REQUESTS = 100
_WRITE_S = 30.0
_TEXT = "text/plain; charset=utf-8"
_REQUEST = re.compile(r"([A-Z]{1,16}) ([!-~]{1,4096}) HTTP/1\.([01])", re.ASCII)
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([^\0\r\n]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body. ``query`` holds each parameter's last value."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``stream`` instead of ``body`` sends pieces until it ends or the client leaves."""

    status: int = 200
    body: bytes = b""
    type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncIterator[bytes] | None = field(default=None, compare=False)


class Refused(Exception):
    """A request that is not answered as it asks: ``status`` and a text for a person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves ``handler`` on ``host``:``port`` (0: any free one). ``hosts``: names that Host may hold besides
    ``localhost`` and loopback addresses; when it listens beyond loopback, any address is allowed too. A request must
    come within ``read_s`` seconds, the first byte of the first one within ``first_s``.

    A context manager; ``port`` is the real one then. Raises OSError if the port is taken.
    """

    def __init__(
        self,
        handler: Handler,
        host: str,
        port: int,
        hosts: frozenset[str] = frozenset(),
        *,
        read_s: float = 10.0,
        first_s: float = 3.0,
    ) -> None:
        self.port = port
        self._read_s, self._first_s = read_s, first_s
        self._handler = handler
        self._host = host
        self._hosts = hosts | {"localhost"}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}  # no whole request yet; the oldest first
        self._answered: Callable[[int], None] = lambda _status: None

    def on_answer(self, count: Callable[[int], None]) -> None:
        """Call ``count`` with the status of each answer."""
        self._answered = count

    async def __aenter__(self) -> HttpServer:
        self._server = await asyncio.start_server(self._connected, self._host, self.port, limit=MAX_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server:
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not self._make_room():
            writer.close()
            return
        self._tasks.add(task)
        self._silent[task] = None
        try:
            await self._serve(reader, writer, task)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError) as error:
            _LOG.debug("a client left: %s", error)
        except asyncio.CancelledError:
            _LOG.debug("a connection is ended")
        finally:
            self._tasks.discard(task)
            self._silent.pop(task, None)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    def _make_room(self) -> bool:
        """End the oldest connection that has asked for nothing yet if there are too many; False: all of them have."""
        if len(self._tasks) < MAX_CONNECTIONS:
            return True
        oldest = next(iter(self._silent), None)
        if oldest is None:
            return False
        del self._silent[oldest]
        self._tasks.discard(oldest)  # its place is free now, not when it has noticed
        oldest.cancel()
        return True

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        for left in range(_MAX_REQUESTS, 0, -1):
            keep, head_only = left > 1, False
            try:
                request, keep_wanted = await self._read(reader, self._first_s if task in self._silent else self._read_s)
                if request is None:
                    return
                self._silent.pop(task, None)
                keep, head_only = keep and keep_wanted, request.method == "HEAD"
                response = await self._handler(request)
            except Refused as refused:
                keep = False
                response = Response(refused.status, f"{refused}\n".encode(), _TEXT)
            except ConnectionError:
                raise
            except Exception:
                _LOG.exception("a request could not be answered; this is a defect")
                keep, response = False, Response(500, b"this is a defect of the agent; see its log\n", _TEXT)
            self._answered(response.status)
            async with asyncio.timeout(_WRITE_S if response.stream is None else None):
                await _write(writer, response, keep, head_only)
            if not keep or response.stream is not None:
                return

    async def _read(self, reader: asyncio.StreamReader, first_s: float) -> tuple[Request | None, bool]:
        """The next request (None: the client closed), and whether it wants the connection kept."""
        head = await self._read_head(reader, first_s)
        if not head:
            return None, False
        method, target, minor, headers = _parse(head)
        if method not in ("GET", "HEAD"):
            raise Refused(405, "only GET and HEAD are answered here")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Refused(400, "a request here has no body")
        self._check_host(headers.get("host"), minor)
        try:
            parts = urlsplit(target)
            values = parse_qs(parts.query, keep_blank_values=True, max_num_fields=32)
        except ValueError as error:
            raise Refused(400, "the target makes no sense") from error
        request = Request(method, unquote(parts.path), {name: value[-1] for name, value in values.items()}, headers)
        return request, minor == "1" and headers.get("connection", "").lower() != "close"

    async def _read_head(self, reader: asyncio.StreamReader, first_s: float) -> bytes:
        """The next head, empty if the client closed. Raises Refused if none comes in time or it is too long."""
        wait_s = min(first_s, self._read_s)
        try:
            async with asyncio.timeout(wait_s):
                first = await reader.read(1)
            if not first:
                return b""
            if first == b"\r":  # with the rest it could be the end of a head
                raise Refused(400, "this is not an HTTP/1 request")
            wait_s = self._read_s
            async with asyncio.timeout(wait_s):
                return first + await reader.readuntil(b"\r\n\r\n")
        except TimeoutError as error:
            raise Refused(408, f"no request came in {wait_s:g} s") from error
        except asyncio.IncompleteReadError as error:
            raise Refused(400, "the request ends in its head") from error
        except asyncio.LimitOverrunError as error:
            raise Refused(431, f"the request's head is longer than {MAX_HEAD} bytes") from error

    def _check_host(self, host: str | None, minor: str) -> None:
        if host is None:
            if minor == "0":
                return
            raise Refused(400, "the Host header is missing")
        name = re.sub(r":\d*$", "", host.strip().lower()).removeprefix("[").removesuffix("]")
        if name in self._hosts:
            return
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(name)
            if address.is_loopback or not _loopback(self._host):
                return
        raise Refused(421, "this host name is not served here (setting api_hosts)")


def _parse(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Method, target, minor version and headers (names in lower case). Raises Refused if it is no HTTP."""
    lines = head.decode("latin-1").split("\r\n")
    first = _REQUEST.fullmatch(lines[0])
    if not first:
        raise Refused(400, "this is not an HTTP/1 request")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        found = _HEADER.fullmatch(line)
        if not found:
            raise Refused(400, "a header makes no sense")
        name = found[1].lower()
        if name in headers and name in ("host", "authorization", "content-length", "transfer-encoding"):
            raise Refused(400, f"the header {name} is there twice")
        headers[name] = found[2].strip()
    if not first[2].startswith("/"):
        raise Refused(400, "the target must be a path")
    return first[1], first[2], first[3], headers


async def _write(writer: asyncio.StreamWriter, response: Response, keep: bool, head_only: bool) -> None:
    streamed = response.stream is not None
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Content-Type: {response.type}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close" if streamed or not keep else "Connection: keep-alive",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    if not streamed:
        lines.append(f"Content-Length: {len(response.body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if not head_only:
        writer.write(response.body)
    await writer.drain()
    if response.stream is None or head_only:
        return
    async for piece in response.stream:
        writer.write(piece)
        async with asyncio.timeout(_WRITE_S):
            await writer.drain()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
