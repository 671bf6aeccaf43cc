"""How the client asks: one request, one typed answer, or Fathom's own error; and lines and messages as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from ipaddress import ip_address
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from fathom.client.failures import error_of, unreachable
from fathom.client.sse import messages
from fathom.errors import UsageError, WireError

A = TypeVar("A")
API = "/api/v1"
#: Seconds to wait for an answer, and for a sign of life in a stream; both longer than what the server allows itself.
PATIENCE_S, SILENCE_S = 35.0, 60.0


class Asking:
    """Asks ``server`` (a URL), showing ``key``. Use it in ``async with``."""

    def __init__(self, server: str, key: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """``transport`` takes the network's place in tests. Raises UsageError if ``server`` is no URL of a server."""
        host = _host(server)
        self.server = server.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.server,
            headers={"Authorization": f"Bearer {key}"},
            timeout=PATIENCE_S,
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

    async def _get(self, path: str, kind: type[A], asked: Mapping[str, Any]) -> A:
        return decoded(await self._ask("GET", path, asked), kind)

    async def _post(self, path: str, kind: type[A], body: msgspec.Struct, patience_s: float = PATIENCE_S) -> A:
        return decoded(await self._ask("POST", path, {}, msgspec.json.encode(body), patience_s), kind)

    async def _ask(
        self,
        method: str,
        path: str,
        asked: Mapping[str, Any],
        body: bytes | None = None,
        patience_s: float = PATIENCE_S,
    ) -> bytes:
        """The body of the answer. Raises what the class ``Client`` says."""
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            response = await self._http.request(
                method, API + path, params=_params(asked), content=body, headers=headers, timeout=patience_s
            )
        except httpx.HTTPError as error:
            raise unreachable(self.server, error) from error
        if response.status_code not in (200, 204):
            raise error_of(response)
        return response.content

    async def _lines(self, path: str, body: msgspec.Struct, patience_s: float) -> AsyncIterator[bytes]:
        """Each line of an answer that comes in lines."""
        headers, timeout = {"Content-Type": "application/json"}, httpx.Timeout(PATIENCE_S, read=patience_s)
        content = msgspec.json.encode(body)
        try:
            async with self._http.stream(
                "POST", API + path, content=content, headers=headers, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(response)
                async for line in response.aiter_lines():
                    if line:
                        yield line.encode()
        except httpx.HTTPError as error:
            raise unreachable(self.server, error) from error

    async def _data(
        self, path: str, asked: Mapping[str, Any], begin: Callable[[int], None], patience_s: float
    ) -> AsyncIterator[bytes]:
        """The parts of an answer that is a file; ``begin`` is told its bytes first (0: not known).

        Raises WireError if it is cut off.
        """
        timeout, came = httpx.Timeout(PATIENCE_S, read=patience_s), 0
        try:
            async with self._http.stream(
                "GET", API + path, params=_params(asked), headers={"Accept-Encoding": "identity"}, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(response)
                length = response.headers.get("Content-Length", "")
                begin(int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0)
                async for part in response.aiter_raw():
                    came += len(part)
                    yield part
        except httpx.HTTPError as error:
            if not came:
                raise unreachable(self.server, error) from error
            raise WireError(
                f"the answer of {self.server} was cut off after {came} bytes: {error or type(error).__name__}",
                affects="what came was not kept",
                do="ask again; the server's log may say why",
            ) from error

    async def _messages(self, path: str, asked: Mapping[str, Any]) -> AsyncIterator[tuple[str, str, bytes]]:
        """Each message of a stream: kind, id, data; ends when the server ends it."""
        timeout = httpx.Timeout(PATIENCE_S, read=SILENCE_S)
        try:
            async with self._http.stream("GET", API + path, params=_params(asked), timeout=timeout) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise error_of(response)
                async for item in messages(response.aiter_bytes()):
                    yield item
        except httpx.HTTPError as error:
            raise unreachable(self.server, error) from error


def decoded(data: bytes, kind: type[A]) -> A:
    """``data`` as ``kind``. Raises WireError if it is not of that kind."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise WireError(
            f"the server's answer makes no sense: {error}", do="use a client and a server of the same version"
        ) from error


def segment(text: str) -> str:
    """``text`` as one segment of a path."""
    return quote(text, safe="")


def _params(asked: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in asked.items() if value is not None}


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
