"""Rings of raw events, questions about them, and live subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.agent.fake import observation
from fathom.agent.questions import EventFilter, EventsQuestion, SeriesQuestion, StatusQuestion
from fathom.agent.recent import RecentEvents
from fathom.errors import UsageError
from fathom.events.observations import OBSERVATION

NS = 10**9
SIZE = OBSERVATION.itemsize


@given(st.integers(1, 20), st.lists(st.integers(0, 45), max_size=8), st.integers(0, 25), st.integers(0, 25))
def test_a_ring_holds_the_newest(room: int, sizes: list[int], skip: int, count: int) -> None:
    ring = RecentEvents("tcp", room * SIZE)
    truth: list[int] = []
    for size in sizes:
        times = list(range(len(truth) + 1, len(truth) + size + 1))
        ring.add(observation(size, time=times), max(times, default=0))
        truth += times
    kept = truth[-room:] if truth else []
    assert len(ring) == len(kept)
    assert (ring.added, ring.overwritten) == (len(truth), len(truth) - len(kept))
    assert ring.overwritten_until_ns == (len(truth) - len(kept))
    assert ring.newest(skip, count)["time"].tolist() == kept[::-1][skip : skip + count]


@given(st.integers(1, 30), st.integers(0, 50), st.integers(1, 30), st.integers(0, 10))
def test_a_ring_that_shrinks_keeps_the_newest(room: int, shown: int, less: int, more: int) -> None:
    ring = RecentEvents("tcp", room * SIZE)
    ring.add(observation(shown, time=np.arange(shown)), shown - 1)
    ring.shrink(less * SIZE)
    ring.add(observation(more, time=np.arange(shown, shown + more)), shown + more - 1)
    kept = list(range(max(shown - min(room, less), 0), shown + more))[-less:]
    assert ring.newest(0, 100)["time"].tolist() == kept[::-1]
    assert ring.overwritten + len(ring) == shown + more


def test_many_small_additions_and_one_large_hold_no_more_than_twice_the_limit() -> None:
    limit = 100 * SIZE
    ring = RecentEvents("tcp", limit)
    at = 0
    for size in [1] * 500 + [1_000] + [3] * 50 + [150, 150]:
        ring.add(observation(size, time=np.arange(at, at + size)), at + size - 1)
        at += size
        assert sum(piece.records.nbytes for piece in ring._pieces) <= 2 * limit + size * SIZE
        assert len(ring._pieces) <= 64
        assert ring.newest(0, 1_000)["time"].tolist() == list(range(at - 1, max(at - 101, -1), -1))
        assert ring.overwritten_until_ns == max(at - 101, 0)


def test_the_newest_that_was_given_up_is_told_whatever_the_order() -> None:
    ring = RecentEvents("tcp", 3 * SIZE)
    ring.add(observation(4, time=[10, 90, 30, 40]), 90)
    assert ring.overwritten_until_ns == 10
    ring.add(observation(1, time=[50]), 50)
    assert ring.overwritten_until_ns == 90
    ring.add(observation(3, time=[60, 61, 62]), 62)
    assert ring.overwritten_until_ns == 90


def three(world: Any) -> Any:
    """tcp at seconds 1, 2, 3 (pids 11, 12, 13), flow at 2.5 (pid 12)."""
    w = world()
    w.began = w.clock.wall_ns
    for second, pid in ((1, 11), (2, 12), (3, 13)):
        row = observation(1, pid=pid, comm=f"app{pid}", time=w.now() + second * NS, remote_port=pid)
        w.tcp.show(row)
    w.flow.show(observation(1, pid=12, comm="app12", protocol=17, time=w.now() + 5 * NS // 2, remote="fd00::7"))
    w.clock.advance(10)
    w.turn()
    return w


async def pids(w: Any, limit: int = 100, since: float = 0, until: float = 0, **wanted: Any) -> list[int]:
    question = EventsQuestion(
        EventFilter(**wanted),
        w.began + int(since * NS) if since else 0,
        w.began + int(until * NS) if until else 0,
        limit,
    )
    return [event["pid"] for event in (await w.agent.answer(question)).events]


async def test_events_come_newest_first_from_all_rings(world: Callable[..., Any]) -> None:
    w = three(world)
    assert await pids(w) == [13, 12, 12, 11]
    answer = await w.agent.answer(EventsQuestion(limit=1))
    assert (answer.truncated, answer.overwritten, answer.oldest_ns) == (True, 0, 0)
    assert answer.events[0] == {
        "time": w.began + 3 * NS,
        "pid": 13,
        "of": "tcp",
        "kind": "tcp",
        "node": "n1",
        "workload": "app13",
        "workload_kind": "process",
    }
    assert not (await w.agent.answer(EventsQuestion(limit=4))).truncated


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"kind": "tcp"}, [13, 12, 11]),
        ({"kind": "flow"}, [12]),
        ({"kind": "dns"}, []),
        ({"pid": 12}, [12, 12]),
        ({"pid": 12, "kind": "tcp"}, [12]),
        ({"comm": "app11"}, [11]),
        ({"comm": "app1"}, []),
        ({"port": 13}, [13]),
        ({"port": 40_000}, [13, 12, 12, 11]),
        ({"address": "10.0.0.2"}, [13, 12, 11]),
        ({"address": "10.0.0.1"}, [13, 12, 12, 11]),
        ({"address": "10.0.0.0/8"}, [13, 12, 12, 11]),
        ({"address": "fd00::/16"}, [12]),
        ({"address": "fd00::7"}, [12]),
        ({"address": "192.168.0.0/16"}, []),
        ({"workload": "app13"}, [13]),
        ({"workload": "process/app13"}, [13]),
        ({"workload": "unit/app13"}, []),
        ({"since": 2}, [13, 12, 12]),
        ({"until": 2.5}, [12, 11]),
        ({"since": 1.5, "until": 2.2}, [12]),
        ({"limit": 2}, [13, 12]),
    ],
)
async def test_filters(world: Callable[..., Any], asked: dict[str, Any], found: list[int]) -> None:
    assert await pids(three(world), **asked) == found


@pytest.mark.parametrize(
    "question",
    [
        EventsQuestion(limit=0),
        EventsQuestion(limit=10**9),
        EventsQuestion(EventFilter(port=70_000)),
        EventsQuestion(EventFilter(pid=-1)),
        EventsQuestion(EventFilter(address="10.0.0")),
        EventsQuestion(since_ns=5, until_ns=4),
        SeriesQuestion(top=0),
    ],
)
async def test_questions_without_sense(world: Callable[..., Any], question: Any) -> None:
    with pytest.raises(UsageError):
        await three(world).agent.answer(question)


async def test_an_answer_says_from_when_on_it_is_whole(world: Callable[..., Any]) -> None:
    w = world(recent_bytes=4096)
    began = w.clock.wall_ns
    rows = observation(100, time=w.now() + np.arange(100) * NS // 100)
    w.tcp.show(rows)
    w.clock.advance(5)
    w.turn()
    answer = await w.agent.answer(EventsQuestion(limit=1000))
    kept = 4096 // SIZE
    assert (len(answer.events), answer.overwritten) == (kept, 100 - kept)
    assert answer.oldest_ns == began + (99 - kept) * NS // 100


async def test_own_events_are_left_out(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(np.concatenate([observation(1, pid=1), observation(1, pid=50)]))
    w.turn()
    answer = await w.agent.answer(EventsQuestion())
    assert [event["pid"] for event in answer.events] == [50]


async def collected(w: Any, wanted: EventFilter, into: list[Any]) -> asyncio.Task[None]:
    async def follow() -> None:
        async for event in w.agent.subscribe(wanted):
            into.append(event)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    return task


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_subscriber_gets_what_matches_from_then_on(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(observation(1, pid=11))
    w.turn()
    got: list[Any] = []
    task = await collected(w, EventFilter(pid=11), got)
    w.tcp.show(np.concatenate([observation(2, pid=11), observation(2, pid=12)]))
    w.turn()
    await asyncio.sleep(0)
    assert [event["pid"] for event in got] == [11, 11]
    assert len(w.agent.live) == 1
    await end(task)
    assert len(w.agent.live) == 0


async def test_a_slow_subscriber_is_told_what_it_missed_where_it_is_missing(world: Callable[..., Any]) -> None:
    w = world(subscriber_queue=10)
    got: list[Any] = []
    task = await collected(w, EventFilter(), got)
    for base in (100, 200):  # two turns without a chance to read
        w.tcp.show(observation(25, pid=np.arange(25) + base))
        w.turn()
    await asyncio.sleep(0)
    w.tcp.show(observation(3, pid=np.arange(3) + 300))
    w.turn()
    await asyncio.sleep(0)
    assert [event.get("pid", -event.get("count", 0)) for event in got] == [*range(100, 110), -40, 300, 301, 302]
    assert got[10] == {"kind": "lost", "count": 40}
    assert w.agent.live.lost == 40
    await end(task)
    assert w.agent.live.lost == 40


async def test_subscribers_are_bounded_and_checked(world: Callable[..., Any]) -> None:
    w = world(max_subscribers=2)
    tasks = [await collected(w, EventFilter(), []) for _ in range(2)]
    with pytest.raises(UsageError, match="2 live subscribers"):
        await anext(w.agent.subscribe(EventFilter()))
    for task in tasks:
        await end(task)
    with pytest.raises(UsageError, match="not an address"):
        await anext(w.agent.subscribe(EventFilter(address="nowhere")))
    assert len(w.agent.live) == 0


async def test_the_nodes_own_series(world: Callable[..., Any]) -> None:
    w = world(series_s=30, top_edges=2)
    for round_ in range(5):
        for peer, size in (("10.0.0.1", 1), ("10.0.0.2", 100), ("10.0.0.3", 50)):
            w.tcp.show(observation(1, remote=peer, time=w.now(), bytes_sent=size + round_))
        await w.pass_time(10)
    answer = await w.agent.answer(SeriesQuestion(top=10))
    assert [(t.edges, t.connections, t.bytes_sent) for t in answer.totals] == [(3, 3, 151 + 3 * r) for r in (2, 3, 4)]
    assert [(edge.peer, [point[3] for point in edge.points]) for edge in answer.edges] == [
        ("10.0.0.2", [102, 103, 104]),
        ("10.0.0.3", [52, 53, 54]),
    ]
    assert len((await w.agent.answer(SeriesQuestion(top=1))).edges) == 1


async def test_a_late_interval_joins_the_series_where_it_belongs(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(observation(1, time=w.now()))
    early = w.now()
    await w.pass_time(10)
    w.tcp.show(observation(2, time=early))
    await w.pass_time(10)
    answer = await w.agent.answer(SeriesQuestion())
    assert [t.connections for t in answer.totals] == [3]
    assert sum(point[1] for point in answer.edges[0].points) == 3


async def test_status_tells_the_truth(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(observation(3, time=w.now()))
    w.tcp.lose("ring_full", 4)
    await w.pass_time(10)
    status = await w.agent.answer(StatusQuestion())
    assert (status.state, status.problems, status.node, status.boot) == ("ok", [], "n1", "b00t")
    assert [(p.name, p.attached, p.records, p.losses) for p in status.probes] == [
        ("tcp", True, 3, {"ring_full": 4}),
        ("flow", True, 0, {}),
    ]
    assert (status.batches, status.facts, status.edges) == (1, 1, 1)
    w.flow.break_down("gone")
    await w.pass_time(10)
    status = await w.agent.answer(StatusQuestion())
    assert status.state == "degraded"
    assert status.problems == ["probe flow is not attached: gone"]
    w.tcp.break_down("gone too")
    w.turn()
    assert (await w.agent.answer(StatusQuestion())).state == "failed"
