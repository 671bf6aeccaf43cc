"""A recording over REST: whole, one at a time, and nothing of it stays."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from fathom.events.batches import Loss
from fathom.server.recorder import FOLDER, clean
from fathom.store.interface import EdgeQuery, Window
from fathom.store.opening import open_recording


def left(world: Any) -> list[Path]:
    """What is in the server's folder."""
    folder = world.settings.data / FOLDER
    return list(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def busy(world: Any) -> Any:
    """The server, with one edge a minute ago, and a loss."""
    loss = Loss(world.now - 20, "kernel", "tcp", "ring_full", 7)
    world.write((world.edge(), 60, {"connections": 3}), losses=(loss,))
    return world


async def test_it_is_the_store_s_own_recording(busy: Any, tmp_path: Path) -> None:
    answer = await busy.http.get("/api/v1/recording", params={"since": "1h"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.sqlite3"
    assert answer.headers["content-disposition"] == (
        'attachment; filename="2026-01-31T110000Z-2026-01-31T120000Z.fathom"'
    )
    assert int(answer.headers["content-length"]) == len(answer.content)
    (tmp_path / "r").write_bytes(answer.content)
    recording = open_recording(tmp_path / "r")
    window = Window(busy.now - 3_600, busy.now)
    assert recording.extent() == window
    assert recording.told()["source"] == busy.store.store_id
    assert recording.edges(EdgeQuery(window)).items == busy.store.edges(EdgeQuery(window)).items
    assert recording.losses(window) == busy.store.losses(window)
    assert recording.coverage(window) == busy.store.coverage(window)
    recording.close()
    assert left(busy) == []


async def test_windows_that_make_no_sense_are_refused(busy: Any) -> None:
    for asked, what in (
        ({"since": "8d"}, "the window is longer than 7 days"),
        ({"since": "1h", "until": "2h"}, "the window is empty"),
        ({"since": "soon"}, "no time"),
        ({"limit": "1"}, "there is no parameter 'limit'"),
    ):
        assert what in (await busy.get("/recording", status=422, **asked))["what"]
    assert (await busy.get("/recording", status=422, since="8d"))["status"] == 422
    busy.http.headers["Authorization"] = "Bearer wrong"
    await busy.get("/recording", status=401)


@pytest.fixture
def held(busy: Any) -> Any:
    """The server, whose store makes a recording only when ``let`` is set; ``begun`` says that it was asked to."""
    busy.begun, busy.let, busy.stopped = threading.Event(), threading.Event(), threading.Event()
    record = busy.store.record

    def slowly(query: EdgeQuery, path: Path, making: Any) -> str:
        busy.begun.set()
        while not busy.let.wait(0.01):
            if making.stopped():
                busy.stopped.set()
                busy.let.wait(5)
        return str(record(query, path, making))

    busy.store.instead["record"] = slowly
    yield busy
    busy.let.set()


async def test_one_is_made_at_a_time(held: Any) -> None:
    first = asyncio.create_task(held.http.get("/api/v1/recording"))
    await asyncio.to_thread(held.begun.wait, 5)
    refused = await held.http.get("/api/v1/recording")
    assert refused.status_code == 503
    assert refused.json()["what"] == "another recording is under way"
    assert refused.headers["retry-after"] == "10"
    assert (await held.http.get("/api/v1/edges")).status_code == 200  # others are not held up
    held.let.set()
    assert (await first).status_code == 200
    assert (await held.http.get("/api/v1/recording")).status_code == 200
    assert left(held) == []


async def test_what_nobody_waits_for_is_given_up_and_its_place_is_free_only_then(held: Any) -> None:
    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/recording", "raw_path": b"/api/v1/recording",
        "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8600),
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {held.key}".encode())],
    }  # fmt: skip
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.to_thread(held.begun.wait, 5)
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    await held.app(scope, receive, send)
    await asyncio.to_thread(held.stopped.wait, 5)
    assert held.stopped.is_set()
    assert (await held.http.get("/api/v1/recording")).status_code == 503  # its thread is still at it
    held.let.set()
    for _ in range(500):
        if (await held.http.get("/api/v1/recording")).status_code == 200:
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the place was not given back")
    assert left(held) == []


@pytest.mark.parametrize("settings", [{"recording_timeout_s": 0.3}], indirect=True)
async def test_one_that_takes_too_long_is_given_up(held: Any) -> None:
    answer = await held.http.get("/api/v1/recording")
    assert answer.status_code == 504
    await asyncio.to_thread(held.stopped.wait, 5)
    assert held.stopped.is_set()


async def test_a_server_that_ends_gives_it_up(held: Any) -> None:
    asked = asyncio.create_task(held.http.get("/api/v1/recording"))
    await asyncio.to_thread(held.begun.wait, 5)
    held.app.state.desk.closing.set()
    await asyncio.to_thread(held.stopped.wait, 5)
    assert held.stopped.is_set()
    del held.store.instead["record"]
    held.let.set()
    assert (await asked).status_code in (200, 503)


@pytest.mark.parametrize("settings", [{"recording_reserve_bytes": 1 << 62}], indirect=True)
async def test_a_disk_without_room_is_left_alone(busy: Any) -> None:
    answer = await busy.get("/recording", status=503)
    assert "more than the 0 bytes that the data directory's disk has for it" in answer["what"]
    assert left(busy) == []
    await busy.get("/recording", status=503)  # and its place is free again


@pytest.mark.parametrize("settings", [{"max_recording_bytes": 1 << 20}], indirect=True)
async def test_one_that_grows_too_large_is_refused(world: Any) -> None:
    world.write(*((world.edge(f"unit-{n}"), 60, {"connections": 1}) for n in range(8_000)))
    answer = await world.get("/recording", status=422)
    assert answer["what"] == "the recording would be larger than 1048576 bytes"
    assert left(world) == []


async def test_a_data_directory_that_went_is_said(busy: Any) -> None:
    busy.settings.data.rmdir()
    assert "cannot write to" in (await busy.get("/recording", status=500))["what"]


async def test_a_reader_that_leaves_while_it_is_sent_gives_the_place_back(busy: Any) -> None:
    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/recording", "raw_path": b"/api/v1/recording",
        "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8600),
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {busy.key}".encode())],
    }  # fmt: skip
    sending, messages = asyncio.Event(), [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sending.set()
            await asyncio.sleep(3_600)  # nobody takes it

    await asyncio.wait_for(busy.app(scope, receive, send), 10)
    assert (await busy.http.get("/api/v1/recording")).status_code == 200


def test_what_a_killed_server_left_is_deleted(tmp_path: Path) -> None:
    clean(tmp_path)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "half.part").write_bytes(b"half")
    (tmp_path / FOLDER / "folder").mkdir()
    clean(tmp_path)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["folder"]


async def test_the_client_tells_a_busy_server(held: Any) -> None:
    from fathom.client import Client
    from fathom.errors import ServerUnavailable

    first = asyncio.create_task(held.http.get("/api/v1/recording"))
    await asyncio.to_thread(held.begun.wait, 5)
    async with Client("http://127.0.0.1:8600", held.key, transport=httpx.ASGITransport(held.app)) as client:
        with pytest.raises(ServerUnavailable, match="another recording is under way"):
            await client.recording(lambda _: None, lambda _: None)
    held.let.set()
    await first
