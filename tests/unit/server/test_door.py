"""Who is let in, what one request may take, and that every refusal looks the same."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from fathom.errors import StoreBusy, StoreError
from fathom.server.failures import Failures

OPEN = ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"]
CLOSED = ["/api/v1/status", "/api/v1/edges", "/api/v1/stream", "/", "/api/v1/nothing", "/admin", "/healthz/"]


def is_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """``response`` is a problem with ``status`` that says what happened and what to do."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["what"]
    assert body["do"]
    assert body["what"] in body["detail"]
    return body


@pytest.mark.parametrize("path", OPEN)
async def test_a_few_paths_are_open(world: Any, path: str) -> None:
    del world.http.headers["Authorization"]
    assert (await world.http.get(path)).status_code == 200


@pytest.mark.parametrize("path", CLOSED)
async def test_all_others_need_a_key(world: Any, path: str) -> None:
    del world.http.headers["Authorization"]
    response = await world.http.get(path)
    is_problem(response, 401)
    assert response.headers["www-authenticate"] == 'Bearer realm="fathom"'


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {half}",
        "Bearer " + "k" * 5_000,
        "Bearer \xff\xfe",
    ],
)
async def test_a_wrong_key_is_refused(world: Any, header: str) -> None:
    value = header.format(key=world.key, half=world.key[:-1])
    response = await world.http.get("/api/v1/edges", headers={"Authorization": value.encode("latin-1")})
    is_problem(response, 401)
    assert response.headers["www-authenticate"].startswith('Bearer realm="fathom"')
    assert world.key not in response.text


@pytest.mark.parametrize("header", ["Bearer {key}", "bearer {key}", "BEARER  {key}"])
async def test_the_scheme_is_taken_in_any_case(world: Any, header: str) -> None:
    response = await world.http.get("/api/v1/edges", headers={"Authorization": header.format(key=world.key)})
    assert response.status_code == 200


@pytest.mark.parametrize("settings", [{"max_failures": 3}], indirect=True)
async def test_many_wrong_keys_are_slowed_down_but_the_right_one_gets_through(world: Any) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [(await world.http.get("/api/v1/edges", headers=wrong)).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    response = await world.http.get("/api/v1/edges", headers=wrong)
    is_problem(response, 429)
    assert int(response.headers["retry-after"]) > 0
    assert (await world.http.get("/api/v1/edges")).status_code == 200


def test_failures_are_forgiven_with_time_and_counted_for_each_network() -> None:
    now = [0.0]
    failures = Failures(2, lambda: now[0])
    assert [failures.add("10.0.0.1") for _ in range(3)] == [0, 0, 30]
    assert failures.add("10.0.0.2") == 0
    assert failures.add("::ffff:10.0.0.1") > 0
    now[0] += 61
    assert failures.add("10.0.0.1") == 0
    assert [failures.add(f"2001:db8::{i}") for i in range(3)] == [0, 0, 30]
    assert failures.add("2001:db8:0:1::1") == 0


def test_the_memory_of_failures_is_bounded() -> None:
    failures = Failures(1, lambda: 0.0)
    for i in range(10_000):
        failures.add(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    assert len(failures._level) == 4_096


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "localhost.evil.example", "10.0.0.1", "", "[::2]"]
)
async def test_a_name_of_the_web_that_points_here_is_refused(world: Any, host: str) -> None:
    for path in ("/healthz", "/metrics", "/api/v1/edges"):
        is_problem(await world.http.get(path, headers={"Host": host}), 421)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8600", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "[::1]:8600", "localhost.:8600"]
)
async def test_names_of_loopback_are_taken(world: Any, host: str) -> None:
    assert (await world.http.get("/api/v1/edges", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("settings", [{"hosts": "fathom.lan, other.lan"}], indirect=True)
async def test_names_can_be_added(world: Any) -> None:
    assert (await world.http.get("/healthz", headers={"Host": "Fathom.lan:8600"})).status_code == 200
    assert (await world.http.get("/healthz", headers={"Host": "evil.lan"})).status_code == 421


@pytest.mark.parametrize("settings", [{"listen": "0.0.0.0:8600"}], indirect=True)
async def test_elsewhere_than_on_loopback_every_name_is_taken(world: Any) -> None:
    assert (await world.http.get("/healthz", headers={"Host": "anything.example"})).status_code == 200


@pytest.mark.parametrize("settings", [{"listen": "0.0.0.0:8600", "hosts": "fathom.lan"}], indirect=True)
async def test_elsewhere_names_can_be_limited_and_addresses_stay(world: Any) -> None:
    answers = {h: (await world.http.get("/healthz", headers={"Host": h})).status_code
               for h in ("fathom.lan", "10.1.2.3:8600", "localhost", "evil.example")}  # fmt: skip
    assert answers == {"fathom.lan": 200, "10.1.2.3:8600": 200, "localhost": 200, "evil.example": 421}


async def test_nobody_elsewhere_may_read_answers_in_a_browser(world: Any) -> None:
    response = await world.http.get("/api/v1/edges", headers={"Origin": "https://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/edges/", "/api/v2/edges", "/", "/api/v1/edges/1/x"])
async def test_there_is_nothing_at_other_paths(world: Any, path: str) -> None:
    is_problem(await world.http.get(path), 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
async def test_other_methods_are_refused(world: Any, method: str) -> None:
    response = await world.http.request(method, "/api/v1/edges")
    is_problem(response, 405)
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("since=x", "'x' is no time"),
        ("since=5m&until=10m", "empty"),
        ("since=2026-01-31T12:00:00", "is no time"),
        ("since=2027-01-31T12:00:00Z", "empty"),
        ("since=8d", "longer than 7 days"),
        ("since=999999999d", "longer than 7 days"),
        ("since=0001-01-01T00:00:00Z", "longer than 7 days"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("port=65536", "port"),
        ("port=-1", "port"),
        ("direction=up", "direction"),
        ("verdict=maybe", "verdict"),
        ("order=name", "order"),
        ("cursor=garbage", "cursor"),
        ("cursor=%ff%fe", "cursor"),
        ("workload=" + "x" * 513, "workload"),
        ("prot=tcp", "there is no parameter 'prot'"),
        ("port=1&port=2", "given twice"),
        ("&".join(f"a{i}=1" for i in range(70)), "64 parameters"),
    ],
)
async def test_questions_that_make_no_sense_are_refused(world: Any, query: str, word: str) -> None:
    body = is_problem(await world.http.get(f"/api/v1/edges?{query}"), 422)
    assert word in body["detail"]
    assert len(body["detail"]) < 1_000


@pytest.mark.parametrize("settings", [{"max_query_bytes": 256}], indirect=True)
async def test_a_long_query_is_refused(world: Any) -> None:
    assert (await world.http.get("/api/v1/edges?workload=" + "x" * 247)).status_code == 200
    is_problem(await world.http.get("/api/v1/edges?workload=" + "x" * 248), 414)


@pytest.mark.parametrize("settings", [{"max_body_bytes": 1024}], indirect=True)
async def test_a_large_body_is_refused(world: Any) -> None:
    response = await world.http.request("GET", "/api/v1/edges", content=b"x" * 1025)
    is_problem(response, 413)
    for told in ("-1", "1e3", "9" * 30, "x"):
        is_problem(await world.http.get("/api/v1/edges", headers={"Content-Length": told}), 413)


@pytest.mark.parametrize("settings", [{"request_timeout_s": 0.05}], indirect=True)
async def test_an_answer_that_takes_too_long_is_given_up(world: Any) -> None:
    release = threading.Event()
    world.store.instead["edges"] = lambda _query: release.wait(10)
    try:
        is_problem(await world.http.get("/api/v1/edges"), 504)
    finally:
        release.set()


@pytest.mark.parametrize("settings", [{"max_requests": 2, "query_threads": 2}], indirect=True)
async def test_too_many_requests_at_once_are_told_to_come_back_and_health_is_not(world: Any) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)

    def slow(_query: object) -> object:
        begun.release()
        release.wait(10)
        raise StoreBusy("enough")

    world.store.instead["edges"] = slow
    waiting = [asyncio.create_task(world.http.get("/api/v1/edges")) for _ in range(2)]
    try:
        for _ in waiting:
            await asyncio.to_thread(begun.acquire)
        response = await world.http.get("/api/v1/edges")
        is_problem(response, 503)
        assert response.headers["retry-after"] == "1"
        assert (await world.http.get("/healthz")).status_code == 200
    finally:
        release.set()
    for task in waiting:
        is_problem(await task, 503)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreBusy("the disk is full", do="free some space"), 503),
        (StoreError("the store cannot be used", do="look at the log"), 500),
    ],
)
async def test_what_the_store_says_is_told(world: Any, error: Exception, status: int) -> None:
    def broken(_query: object) -> object:
        raise error

    world.store.instead["edges"] = broken
    assert is_problem(await world.http.get("/api/v1/edges"), status)["what"] == str(error).partition("\n")[0]


async def test_a_defect_is_hidden_from_the_asker_and_named_in_the_log(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_query: object) -> object:
        raise ZeroDivisionError("a detail of ours")

    world.store.instead["edges"] = broken
    body = is_problem(await world.http.get("/api/v1/edges"), 500)
    assert "detail of ours" not in str(body)
    (entry,) = [record for record in caplog.records if body["instance"] in record.getMessage()]
    assert entry.exc_info is not None


async def test_refusals_are_counted_by_reason(world: Any) -> None:
    await world.http.get("/api/v1/edges", headers={"Authorization": "Bearer wrong"})
    await world.http.get("/healthz", headers={"Host": "evil.example"})
    await world.http.get("/made/up/" + "x" * 100)
    text = (await world.http.get("/metrics")).text
    assert 'fathom_server_requests_refused_total{reason="401"} 1' in text
    assert 'fathom_server_requests_refused_total{reason="421"} 1' in text
    assert 'fathom_server_requests_total{method="GET",route="refused",status="404"} 1' in text
    assert "xxx" not in text
