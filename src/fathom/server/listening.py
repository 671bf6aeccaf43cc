"""The socket that REST listens on, and HTTP/1.1 on it: a port that is taken is told in words, and a connection that
sends nothing, half a request or garbage costs one of a bounded number of places for a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fathom.errors import UsageError
from fathom.link.channels import is_loopback, join_address, split_address
from fathom.server.problems import MEDIA_TYPE, problem
from fathom.server.settings import ServerSettings

_HEAD_BYTES = 32 * 1024
_KEEP_ALIVE_S = 30
#: Seconds in which a client that was refused may go on sending before its connection is closed.
_LINGER_S = 2.0


def bind(settings: ServerSettings) -> socket.socket:
    """A socket that listens on ``settings.listen``.

    Raises UsageError if the address is none of this machine, is taken, or may not be used by this user.
    """
    host, port = split_address(settings.listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"port {port} is taken: another program listens on {join_address(host, port)}"
            if taken
            else f"cannot listen on {join_address(host, port)}: {error.strerror or error}",
            affects="the server is not started",
            do="end that program, or choose another port with --listen" if taken else "choose another --listen",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """How to reach ``listener`` from here."""
    host, port = listener.getsockname()[:2]
    return f"http://{join_address(host, port)}"


def is_exposed(settings: ServerSettings) -> bool:
    """Whether others than this machine can reach REST."""
    return not is_loopback(split_address(settings.listen)[0])


class RestServer(uvicorn.Server):
    """uvicorn, which leaves signals to the process that it is a part of."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        class Connection(BoundedConnection):
            """A connection with these settings; uvicorn makes each by calling the class."""

            bounds = settings

        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.shutdown_s,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them."""
        yield


class BoundedConnection(H11Protocol):
    """One connection: among at most ``max_connections``, and a request's head within ``header_timeout_s``."""

    bounds: ServerSettings
    _head_timer: asyncio.TimerHandle | None = None
    _lingers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        if len(self.connections) > self.bounds.max_connections:
            self._end(503, "too many connections are open", "ask again in a second")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if not self._lingers:
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._forget_timer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer is out; a client that is not done with the body of its question is not waited for.

        What it still sends is dropped for a moment: closed at once, the connection would be reset, and the answer
        would be lost with it.
        """
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._lingers = True
            self._forget_timer()
            self._unset_keepalive_if_required()
            self.transport.write_eof()
            self.loop.call_later(_LINGER_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._end(400, msg.rstrip("."), "speak HTTP/1.1")

    def _watch(self) -> None:
        """A connection without a request under way must begin one soon."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.bounds.header_timeout_s, self._too_late)

    def _too_late(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self._end(408, "no whole request came in time", "send the request at once")

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self, status: int, what: str, do: str) -> None:
        """Say why in a whole answer, and close."""
        self._forget_timer()
        if self.transport.is_closing():
            return
        body = problem(status, what, do=do)
        content = msgspec.json.encode(body)
        head = f"HTTP/1.1 {status} {body.title}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(content)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + content)
        self.transport.close()
