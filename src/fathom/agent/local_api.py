"""The agent's own listener: ``/metrics``, health, and the same questions that the link asks. On loopback by default.

Metrics and health are for whoever may use the port; the rest wants the key that lies in the data directory, because
every user of the machine reaches loopback. It opens beyond loopback by a setting only, and it never changes anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType

import msgspec

from fathom.agent.agent import Agent
from fathom.agent.http import Handler, HttpServer, Refused, Request, Response
from fathom.agent.keys import LocalKey
from fathom.agent.questions import EventFilter, EventsQuestion, SeriesQuestion, StatusQuestion
from fathom.agent.status import state
from fathom.errors import FathomError, UsageError

_JSON = msgspec.json.Encoder()
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
#: What opens without the key.
_OPEN = ("/metrics", "/healthz", "/readyz")
_FILTERS = ("kind", "pid", "comm", "address", "port", "workload")
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNIT_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9}
#: A comment in an otherwise silent stream shows each side that the other is there.
_KEEPALIVE_S = 15.0


class LocalApi:
    """Serves ``agent`` on the address in its settings to who shows ``key``. A context manager; ``port`` is the real
    one then.

    Raises UsageError if the port is taken or the address is not one of this machine.
    """

    def __init__(self, agent: Agent, key: LocalKey) -> None:
        self._agent, self._key = agent, key
        self._routes: dict[str, Handler] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/api/v1/status": self._status,
            "/api/v1/events": self._events,
            "/api/v1/series": self._series,
            "/api/v1/stream": self._stream,
        }
        settings = agent.settings
        hosts = frozenset(name.strip().lower() for name in settings.api_hosts.split(",") if name.strip())
        self._server = HttpServer(self._handle, settings.api_host, settings.api_port, hosts)
        self._server.on_answer(self._count)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    async def __aenter__(self) -> LocalApi:
        try:
            await self._server.__aenter__()
        except OSError as error:
            settings, taken = self._agent.settings, error.errno == errno.EADDRINUSE
            where = f"{settings.api_host}:{settings.api_port}"
            raise UsageError(
                f"port {settings.api_port} is taken: another program listens on {where}"
                if taken
                else f"cannot listen on {where}: {error.strerror or error}",
                affects="the agent is not started: it would have no metrics, health and local API",
                do="end that program, or choose another port with --listen" if taken else "choose another --listen",
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)

    def _count(self, status: int) -> None:
        self._agent.requests[status] = self._agent.requests.get(status, 0) + 1

    async def _handle(self, request: Request) -> Response:
        path = request.path.rstrip("/") or "/"
        if path not in _OPEN and not self._key.opens(request.headers.get("authorization", "")):
            return self._unauthorized()
        route = self._routes.get(path)
        if route is None:
            return _problem(404, f"there is no {request.path}", f"one of {', '.join(self._routes)}")
        try:
            return await route(request)
        except UsageError as error:
            return _problem(400, error.what, error.do)
        except FathomError as error:
            return _problem(503, error.what, error.do)

    def _unauthorized(self) -> Response:
        detail = f"send Authorization: Bearer KEY; the key is in {self._key.path}, which the agent's user may read"
        return _problem(401, "this needs the agent's key", detail, (("WWW-Authenticate", 'Bearer realm="fathom"'),))

    async def _metrics(self, _: Request) -> Response:
        return Response(body=self._agent.metrics().encode(), type=_PROMETHEUS)

    async def _healthz(self, _: Request) -> Response:
        alive = self._agent.alive
        return _json({"status": "ok" if alive else "stalled"}, 200 if alive else 503)

    async def _readyz(self, _: Request) -> Response:
        now = state(self._agent)
        return _json({"status": now, "problems": self._agent.problems()}, 503 if now == "failed" else 200)

    async def _status(self, _: Request) -> Response:
        return _json(await self._agent.answer(StatusQuestion()))

    async def _series(self, request: Request) -> Response:
        _only(request, ("top",))
        return _json(await self._agent.answer(SeriesQuestion(top=_number(request, "top", 20))))

    async def _events(self, request: Request) -> Response:
        _only(request, (*_FILTERS, "since", "until", "limit"))
        question = EventsQuestion(
            filter=_filter(request),
            since_ns=_moment(request.query.get("since", "")),
            until_ns=_moment(request.query.get("until", "")),
            limit=_number(request, "limit", 100),
        )
        return _json(await self._agent.answer(question))

    async def _stream(self, request: Request) -> Response:
        _only(request, _FILTERS)
        subscriber = self._agent.events.subscribe(_filter(request))
        self._agent.events.unsubscribe(subscriber)  # a refusal must come before the stream begins
        return Response(type="text/event-stream", stream=self._pieces(_filter(request)))

    async def _pieces(self, wanted: EventFilter) -> AsyncIterator[bytes]:
        """Server-sent events (WHATWG HTML, section 9.2)."""
        events = self._agent.subscribe(wanted)
        coming: asyncio.Future[dict[str, object]] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait((coming,), timeout=_KEEPALIVE_S)
                if not done:
                    yield b": still here\n\n"
                    continue
                yield b"data: " + _JSON.encode(coming.result()) + b"\n\n"
                coming = None
        finally:
            if coming:
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await coming
            await events.aclose()


def _json(value: object, status: int = 200) -> Response:
    return Response(status, _JSON.encode(value) + b"\n")


def _problem(status: int, title: str, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """RFC 9457."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Response(status, _JSON.encode(body) + b"\n", "application/problem+json", headers)


def _only(request: Request, names: tuple[str, ...]) -> None:
    if unknown := sorted(set(request.query) - set(names)):
        raise UsageError(f"unknown parameter {unknown[0]!r}", do=f"use {', '.join(names)}")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise UsageError(f"{name} is {text!r}, which is not a number")
    return int(text)


def _filter(request: Request) -> EventFilter:
    text = {name: request.query.get(name, "") for name in ("kind", "comm", "address", "workload")}
    return EventFilter(**text, pid=_number(request, "pid", 0), port=_number(request, "port", 0))


def _moment(text: str) -> int:
    """Epoch ns of an RFC 3339 time, or of a duration before now (``5m``); 0 for nothing."""
    if not text:
        return 0
    if found := _DURATION.fullmatch(text):
        return max(time.time_ns() - int(found[1][:12]) * _UNIT_NS[found[2]], 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"{text!r} is not a time", do="write 2026-01-31T12:00:00Z, or 5m for five minutes ago")
    return max(int(moment.timestamp() * 1_000_000) * 1_000, 0)


__all__ = ["LocalApi", "Refused"]
