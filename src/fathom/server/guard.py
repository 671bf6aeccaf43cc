"""The door of the server: who is let in, and how much one request may take. Everything is closed unless listed here.

It is plain ASGI around the whole application, so that no route can forget it: Host header, key, length of the query,
size of the body, requests at once, time. What it refuses looks like every other error (``problems``).
"""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fathom.link.channels import is_loopback, split_address
from fathom.server import problems
from fathom.server.failures import Failures
from fathom.server.keys import Keys
from fathom.server.meters import Meters
from fathom.server.problems import ProblemError
from fathom.server.settings import ServerSettings

#: Paths that need no key. They tell nothing about what was recorded.
OPEN = frozenset(("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"))
#: Paths that take as long as their reader wants, and that bound their own number.
STREAMS = frozenset(("/api/v1/stream", "/api/v1/policy/audit/stream"))
#: The path that makes a recording, one at a time.
RECORDING = "/api/v1/recording"
#: Questions about policy: they take long, and their bodies hold policies.
_POLICY = "/api/v1/policy/"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, keys: Keys, meters: Meters) -> None:
        self._app, self._settings, self._keys, self._meters = app, settings, keys, meters
        self._hosts = Hosts(settings)
        self._failures = Failures(settings.max_failures, time.monotonic)
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise ProblemError(500, f"the server does not speak {scope['type']}")
        begin, status = time.monotonic(), 0

        async def reply(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        self._meters.requests_now += 1
        try:
            await self._admit(scope, receive, reply)
        except Exception as error:
            if status:  # too late to say it: the connection is closed by the server underneath
                raise
            await problems.of_error(error, f"{scope['method']} {scope['path']}")(scope, receive, reply)
        finally:
            self._meters.requests_now -= 1
            self._meters.answered(_method(scope), _route(scope), status, time.monotonic() - begin)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_query(scope["query_string"])
            if scope["path"] not in OPEN:
                self._check_key(scope, headers)
            bounded = self._bounded(headers, receive, self._most_bytes(scope["path"]))
            stream = scope["path"] in STREAMS
            if not stream and scope["path"] not in OPEN:
                self._check_room()
        except ProblemError as error:
            self._meters.refused[str(error.status)] += 1
            raise
        if stream:
            await self._app(scope, bounded, send)
            return
        self._working += 1
        try:
            async with asyncio.timeout(self._time_s(scope["path"])):
                await self._app(scope, bounded, send)
        finally:
            self._working -= 1

    def _time_s(self, path: str) -> float:
        """How long an answer may take."""
        if path == RECORDING:
            return self._settings.recording_timeout_s
        about_policy = path.startswith(_POLICY)
        return self._settings.policy_timeout_s if about_policy else self._settings.request_timeout_s

    def _most_bytes(self, path: str) -> int:
        """How large a body may be."""
        return self._settings.max_policy_bytes if path.startswith(_POLICY) else self._settings.max_body_bytes

    def _check_host(self, headers: Headers) -> None:
        """A page on the web can make its own name point to 127.0.0.1; its Host header still says its name."""
        if self._hosts.answer_to(headers.get("host", "")):
            return
        raise ProblemError(
            421,
            "this server does not answer to that name",
            do="ask 127.0.0.1 or localhost, or add the name to the setting `hosts`",
        )

    def _check_query(self, query: bytes) -> None:
        if len(query) > self._settings.max_query_bytes:
            most = self._settings.max_query_bytes
            raise ProblemError(414, f"the query is longer than {most} bytes", do="ask in fewer words")
        try:
            names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=64)]
        except ValueError as error:
            raise ProblemError(422, "the query has more than 64 parameters", do="give each once") from error
        for name in names:
            if names.count(name) > 1:
                raise ProblemError(422, f"parameter {name[:64]!r} is given twice", do="give each parameter once")

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        client = (scope.get("client") or ("", 0))[0]
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._keys.allows(key.strip(), "admin"):
            return
        challenge = {"WWW-Authenticate": 'Bearer realm="fathom"'}
        if not scheme:
            raise ProblemError(
                401,
                "a key is needed",
                do="send the header Authorization: Bearer KEY; KEY is in DATA_DIR/admin.token",
                headers=challenge,
            )
        wait_s = self._failures.add(client)
        if wait_s:
            raise ProblemError(
                429,
                "too many wrong keys from this address",
                do="wait, then send the key that is in DATA_DIR/admin.token",
                headers={"Retry-After": str(wait_s)},
            )
        raise ProblemError(
            401,
            "the key was refused",
            do="send the key that is in DATA_DIR/admin.token of this server",
            headers={"WWW-Authenticate": challenge["WWW-Authenticate"] + ', error="invalid_token"'},
        )

    def _check_room(self) -> None:
        if self._working >= self._settings.max_requests:
            raise ProblemError(
                503, "too many requests are under way", do="ask again in a second", headers={"Retry-After": "1"}
            )

    def _bounded(self, headers: Headers, receive: Receive, most: int) -> Receive:
        """``receive`` that refuses a body above ``most`` bytes, told or not."""
        taken = 0
        refusal = ProblemError(413, f"the body is larger than {most} bytes", do="send less")
        told = headers.get("content-length", "0")
        if not (told.isascii() and told.isdigit()) or len(told) > 18 or int(told) > most:
            raise refusal

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise refusal
            return message

        return bounded


class Hosts:
    """Which Host headers are taken. On loopback: loopback's own, and the names in ``ServerSettings.hosts``. Elsewhere:
    every name, or, when names are set, those and addresses, which no page can make its own."""

    def __init__(self, settings: ServerSettings) -> None:
        host, _ = split_address(settings.listen)
        self._names = frozenset(name.strip().lower() for name in settings.hosts.split(",") if name.strip())
        self._local = is_loopback(host)

    def answer_to(self, header: str) -> bool:
        """Whether a request with this Host header is answered."""
        host = _host(header)
        if is_loopback(host) or host in self._names:
            return True
        return not self._local and (not self._names or _is_address(host))


def _host(header: str) -> str:
    """The host of a Host header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _route(scope: Scope) -> str:
    """The pattern of the route that answered; paths that people make up are all one."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "")) or ("refused" if scope["path"] not in OPEN else scope["path"])


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
