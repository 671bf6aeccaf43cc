"""The agent's listener: routes, bad input, garbage, limits, names in Host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.agent import http
from fathom.agent.fake import observation
from fathom.agent.http import HttpServer, Request, Response
from fathom.agent.keys import LocalKey, make_key, open_key
from fathom.agent.local_api import LocalApi
from fathom.agent.questions import EventsAnswer, SeriesAnswer, StatusAnswer
from fathom.agent.sink import MemorySink, SinkState
from fathom.errors import UsageError

KEY = LocalKey(make_key(), Path("/data/agent.token"))
BEARER = f"Authorization: Bearer {KEY.secret}\r\n"


async def exchange(port: int, sent: bytes, *, end: bool = False) -> bytes:
    """Everything that the server says to ``sent`` before it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        if end:
            writer.write_eof()
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def request(path: str, host: str = "127.0.0.1:8602", method: str = "GET", extra: str = BEARER) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n".encode()


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


async def get(port: int, path: str, **how: Any) -> tuple[int, Any]:
    status, headers, body = parsed(await exchange(port, request(path, **how)))
    assert int(headers["Content-Length"]) == len(body)
    return status, json.loads(body) if "json" in headers["Content-Type"] else body


@pytest.fixture
async def api(world: Callable[..., Any]) -> AsyncIterator[tuple[Any, int]]:
    """A world and the port of its API."""
    w = world()
    async with LocalApi(w.agent, KEY) as served:
        yield w, served.port


async def test_routes(api: tuple[Any, int]) -> None:
    w, port = api
    w.tcp.show(observation(2, pid=7, comm="app", time=w.now()))
    await w.pass_time(10)
    status, body = await get(port, "/api/v1/status")
    assert (status, body["state"], body["batches"]) == (200, "ok", 1)
    assert set(body) == {"type", *StatusAnswer.__struct_fields__}
    status, body = await get(port, "/api/v1/events?limit=1&comm=app&since=2001-01-01T00:00:00Z")
    assert (status, len(body["events"]), body["truncated"]) == (200, 1, True)
    assert set(body) == {"type", *EventsAnswer.__struct_fields__}
    status, body = await get(port, "/api/v1/series?top=5")
    assert (status, len(body["edges"])) == (200, 1)
    assert set(body) == {"type", *SeriesAnswer.__struct_fields__}
    status, body = await get(port, "/metrics")
    assert status == 200
    assert b"fathom_tcp_connections_total" in body
    status, body = await get(port, "/api/v1/status/")
    assert status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/api/v2/status", 404),
        ("/../etc/passwd", 404),
        ("/%2e%2e/etc/passwd", 404),
        ("/api/v1/events?limit=x", 400),
        ("/api/v1/events?limit=0", 400),
        ("/api/v1/events?limit=99999999999", 400),
        ("/api/v1/events?limit=-1", 400),
        ("/api/v1/events?since=yesterday", 400),
        ("/api/v1/events?since=2026-01-01T00:00:00", 400),
        ("/api/v1/events?since=1m&until=1h", 400),
        ("/api/v1/events?address=nowhere", 400),
        ("/api/v1/events?port=70000", 400),
        ("/api/v1/events?colour=red", 400),
        ("/api/v1/series?top=0", 400),
        ("/api/v1/stream?address=nowhere", 400),
    ],
)
async def test_bad_questions_have_a_reason(api: tuple[Any, int], path: str, status: int) -> None:
    _, port = api
    found, body = await get(port, path)
    assert found == status
    assert body["status"] == status
    assert body["title"]


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/metrics/../api/v1/status", *(f"/api/v1/{n}" for n in ("status", "events", "series"))]
)
@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer x", "Bearer \xff", f"Basic {KEY.secret}", KEY.secret, f"Bearer {KEY.secret}x"]
)
async def test_nothing_but_metrics_and_health_opens_without_the_key(
    api: tuple[Any, int], path: str, shown: str
) -> None:
    _, port = api
    header = f"Authorization: {shown}\r\n" if shown else ""
    status, headers, body = parsed(await exchange(port, request(path, extra=header)))
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="fathom"')
    assert headers["Content-Type"] == "application/problem+json"
    assert str(KEY.path) in json.loads(body)["detail"]
    assert KEY.secret not in body.decode()


async def test_the_stream_wants_the_key(api: tuple[Any, int]) -> None:
    _, port = api
    assert parsed(await exchange(port, request("/api/v1/stream", extra="")))[0] == 401


async def test_metrics_and_health_want_no_key(api: tuple[Any, int]) -> None:
    w, port = api
    async with w.running():
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await get(port, path, extra=""))[0] == 200


def test_the_key_is_made_once_and_private(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data"
    key = open_key(folder)
    assert key.path == folder / "agent.token"
    assert key.path.read_text() == f"{key.secret}\n"
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == ["agent.token"]
    assert key.secret not in repr(key)
    key.path.chmod(0o644)
    assert open_key(folder) == key
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert "could be read by others" in caplog.text
    key.path.write_text("short\n")
    assert open_key(folder).secret not in ("short", key.secret)


def test_where_no_key_can_be_kept_the_api_stays_shut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "agent.token").symlink_to(tmp_path / "file")
    for folder in (tmp_path / "file", tmp_path):
        assert open_key(folder).opens(f"Bearer {open_key(folder).secret}") is False
    assert "opens to nobody" in caplog.text
    assert (tmp_path / "file").read_text() == ""


async def test_health_is_the_loop(api: tuple[Any, int]) -> None:
    w, port = api
    assert (await get(port, "/healthz"))[0] == 503
    async with w.running():
        assert await get(port, "/healthz") == (200, {"status": "ok"})


async def test_readiness_tells_degraded_apart(api: tuple[Any, int]) -> None:
    w, port = api
    assert await get(port, "/readyz") == (200, {"status": "ok", "problems": []})
    w.flow.break_down("gone")
    await w.pass_time(10)
    assert await get(port, "/readyz") == (200, {"status": "degraded", "problems": ["probe flow is not attached: gone"]})
    w.tcp.break_down("gone too")
    w.turn()
    status, body = await get(port, "/readyz")
    assert (status, body["status"]) == (503, "failed")


@pytest.mark.parametrize(("detail", "shown"), [("", ""), ("refused", ": refused")])
async def test_delivery_that_fails_is_named(api: tuple[Any, int], detail: str, shown: str) -> None:
    class Down(MemorySink):
        def state(self) -> SinkState:
            return SinkState(ok=False, detail=detail)

    w, port = api
    w.agent.sink = Down()
    assert (await get(port, "/readyz"))[1]["problems"] == [f"batches do not reach a store{shown}"]


async def test_the_live_stream(api: tuple[Any, int]) -> None:
    w, port = api
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request("/api/v1/stream?pid=5"))
    assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
    while not len(w.agent.live):
        await asyncio.sleep(0)
    w.tcp.show(observation(1, pid=5))
    w.tcp.show(observation(1, pid=6))
    w.turn()
    event = (await reader.readuntil(b"\n\n")).removeprefix(b"data: ")
    assert json.loads(event)["pid"] == 5
    writer.close()
    w.tcp.show(observation(1, pid=5))
    w.turn()


async def test_a_defect_is_a_500_and_logged(api: tuple[Any, int], caplog: pytest.LogCaptureFixture) -> None:
    w, port = api
    w.agent.turns.series = None
    assert (await get(port, "/api/v1/series"))[0] == 500
    assert "defect" in caplog.text


async def test_head_has_no_body(api: tuple[Any, int]) -> None:
    _, port = api
    status, headers, body = parsed(await exchange(port, request("/api/v1/status", method="HEAD")))
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


async def test_one_connection_serves_several_requests(api: tuple[Any, int]) -> None:
    _, port = api
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(f"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"keep-alive" in head
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8602", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8602", 200),
        ("evil.example", 421),
        ("evil.example:8602", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
async def test_names_that_point_here_are_not_believed(api: tuple[Any, int], host: str, status: int) -> None:
    _, port = api
    assert parsed(await exchange(port, request("/api/v1/status", host=host)))[0] == status


async def test_names_can_be_allowed(world: Callable[..., Any]) -> None:
    w = world(api_hosts="node7, Node7.example")
    async with LocalApi(w.agent, KEY) as served:
        for host, status in (("node7", 200), ("NODE7.example:80", 200), ("node8", 421)):
            assert parsed(await exchange(served.port, request("/healthz", host=host)))[0] in (status, 503)
            found = parsed(await exchange(served.port, request("/api/v1/status", host=host)))[0]
            assert found == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"DELETE /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /?" + b"&".join(b"a=1" for _ in range(99)) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 401),
        (b"GET / HTTP/1.0\r\n" + BEARER.encode() + b"\r\n", 404),
        (b"GET / HTTP/1.0\r\n" + BEARER.encode() * 2 + b"\r\n", 400),
    ],
)
async def test_what_is_no_request_is_refused(api: tuple[Any, int], sent: bytes, status: int) -> None:
    _, port = api
    assert parsed(await exchange(port, sent))[0] == status
    assert (await get(port, "/api/v1/status"))[0] == 200


async def test_half_a_request_is_refused_when_it_ends(api: tuple[Any, int]) -> None:
    _, port = api
    assert parsed(await exchange(port, b"GET / HT", end=True))[0] == 400


async def answer(_: Request) -> Response:
    return Response(body=b"fine")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from(
                [b"GET ", b"/", b" HTTP/1.1", b"\r\n", b"Host: ", b"localhost", b":", b"\0", b"%", b"?", b"\xff", b" "]
            ),
            max_size=30,
        ).map(b"".join),
    )
)
async def test_garbage_never_breaks_it(garbage: bytes) -> None:
    async with HttpServer(answer, "127.0.0.1", 0) as server:
        said = await exchange(server.port, garbage + b"\r\n\r\n", end=True)
        assert said == b"" or parsed(said)[0] in (200, 400, 405, 421, 431)
        assert parsed(await exchange(server.port, request("/")))[0] == 200


async def test_a_silent_client_is_let_go() -> None:
    async with HttpServer(answer, "127.0.0.1", 0, read_s=0.05) as server:
        assert parsed(await exchange(server.port, b"GET / HTT"))[0] == 408
        assert parsed(await exchange(server.port, b""))[0] == 408


async def test_the_first_byte_must_come_soon_and_the_rest_may_take_longer() -> None:
    async with HttpServer(answer, "127.0.0.1", 0, first_s=0.05) as server:
        assert b"0.05 s" in parsed(await exchange(server.port, b""))[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request("/")[:1])
        await asyncio.sleep(0.1)
        writer.write(request("/")[1:])
        assert parsed(await reader.read())[0] == 200
        writer.close()


async def test_silent_connections_make_room() -> None:
    async with HttpServer(answer, "127.0.0.1", 0) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(http.MAX_CONNECTIONS)]
        held[1][1].write(b"GET / HTTP/1.1\r\nHost: ")
        await asyncio.sleep(0.05)
        for oldest in held[:3]:
            assert parsed(await exchange(server.port, request("/")))[0] == 200
            held.append(await asyncio.open_connection("127.0.0.1", server.port))  # takes the place that got free
            async with asyncio.timeout(5):
                assert await oldest[0].read() == b""
            await asyncio.sleep(0.01)
        assert not held[3][0].at_eof()
        for _, writer in held:
            writer.close()


async def test_connections_that_asked_are_not_ended_for_others() -> None:
    begun = asyncio.Semaphore(0)
    go = asyncio.Event()

    async def slow(_: Request) -> Response:
        begun.release()
        await go.wait()
        return Response()

    async with HttpServer(slow, "127.0.0.1", 0) as server:
        asked = [asyncio.create_task(exchange(server.port, request("/"))) for _ in range(http.MAX_CONNECTIONS)]
        for _ in asked:
            await begun.acquire()
        assert await exchange(server.port, request("/")) == b""
        go.set()
        assert {parsed(said)[0] for said in await asyncio.gather(*asked)} == {200}
        assert parsed(await exchange(server.port, request("/")))[0] == 200


async def test_a_port_that_is_taken(world: Callable[..., Any]) -> None:
    w = world()
    async with LocalApi(w.agent, KEY) as first:
        other = world(api_port=first.port)
        with pytest.raises(UsageError, match=rf"port {first.port} is taken"):
            async with LocalApi(other.agent, KEY):
                pass


async def test_answers_are_counted(api: tuple[Any, int]) -> None:
    w, port = api
    for path in ("/api/v1/status", "/nowhere", "/nowhere"):
        await get(port, path)
    assert w.agent.requests == {200: 1, 404: 2}
