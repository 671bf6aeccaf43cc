"""Ingest and maintenance: one writer, an answer after the commit, bounds, and failures that end nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fathom.errors import EdgeMissing, StoreBusy, StoreError, WireError
from fathom.events.batches import Batch, BatchId, Clock, Loss
from fathom.events.edges import FACT, Edge, Workload
from fathom.server.ingest import Ingest
from fathom.server.maintenance import Maintenance
from fathom.server.meters import Meters
from fathom.server.settings import ServerSettings

DAY = 86_400
NOW = 20_000 * DAY + 5 * 3_600


def batch(sequence: int) -> Batch:
    edge = Edge(Workload(node="n1", kind="unit", name="x"), "egress", "10.0.0.1", "10.0.0.1", "TCP", 80)
    facts = np.zeros(2, FACT)
    facts["edge"], facts["bucket"] = edge.id, (NOW - 20, NOW - 10)
    losses = (Loss(NOW, "kernel", "tcp", "ring_full", 5), Loss(NOW, "kernel", "tcp", "ring_full", 2))
    return Batch(BatchId("n1", "b1", sequence), Clock(0, 0, NOW * 1_000_000_000), (edge,), facts, losses)


class Writer:
    """A store that writes when it is let, and remembers what it was told to do."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.failing: Exception | None = None
        self.hours = [1, 2, 3]
        self.writers: set[int] = set()
        self.rolling: tuple[threading.Event, threading.Event] | None = None

    def write(self, of: Batch) -> bool:
        self.begun.release()
        assert self.go.acquire(timeout=10)
        self._note(of.id.sequence)
        return self.calls.count(of.id.sequence) == 1

    def due(self, now_s: int) -> list[int]:
        self._note(("due", now_s))
        return self.hours

    def roll(self, hour: int) -> None:
        if self.rolling:
            self.rolling[0].set()
            assert self.rolling[1].wait(10)
        self._note(("roll", hour))

    def drop_before(self, epoch_s: int, *, hours_before_s: int) -> None:
        self._note(("drop", epoch_s, hours_before_s))

    def _note(self, what: Any) -> None:
        self.writers.add(threading.get_ident())
        if self.failing:
            raise self.failing
        self.calls.append(what)


@pytest.fixture
def store() -> Writer:
    return Writer()


@pytest.fixture
def meters() -> Meters:
    return Meters()


@pytest.fixture
async def ingest(store: Any, meters: Meters) -> AsyncIterator[Ingest]:
    opened = Ingest(store, meters, 3)
    yield opened
    store.go.release(100)
    await opened.close()


async def test_a_batch_is_answered_after_the_store_has_it(ingest: Ingest, store: Writer, meters: Meters) -> None:
    task = asyncio.create_task(ingest.on_batch(batch(1)))
    await asyncio.to_thread(store.begun.acquire)
    assert not task.done()
    assert meters.batches == 0
    store.go.release()
    await task
    assert store.calls == [1]
    assert (meters.batches, meters.facts, meters.edges, meters.duplicates) == (1, 2, 1, 0)
    assert meters.losses == {("kernel", "tcp", "ring_full"): 7}


async def test_a_batch_that_comes_twice_is_answered_and_not_counted(
    ingest: Ingest, store: Writer, meters: Meters
) -> None:
    store.go.release(2)
    await ingest.on_batch(batch(1))
    await ingest.on_batch(batch(1))
    assert (meters.batches, meters.facts, meters.duplicates) == (1, 2, 1)
    assert meters.losses == {("kernel", "tcp", "ring_full"): 7}


async def test_batches_are_written_one_at_a_time_in_order_by_one_thread(ingest: Ingest, store: Writer) -> None:
    tasks = [asyncio.create_task(ingest.on_batch(batch(n))) for n in range(3)]
    await asyncio.to_thread(store.begun.acquire)
    assert not store.begun.acquire(blocking=False)
    store.go.release(3)
    await asyncio.gather(*tasks)
    assert store.calls == [0, 1, 2]
    assert len(store.writers) == 1


async def test_what_is_above_the_bound_is_told_to_come_back_and_is_not_written(
    ingest: Ingest, store: Writer, meters: Meters
) -> None:
    tasks = [asyncio.create_task(ingest.on_batch(batch(n))) for n in range(3)]
    await asyncio.to_thread(store.begun.acquire)
    assert meters.batches_waiting == 3
    with pytest.raises(StoreBusy):
        await ingest.on_batch(batch(9))
    store.go.release(3)
    await asyncio.gather(*tasks)
    assert store.calls == [0, 1, 2]
    assert (meters.batches_waiting, meters.batches_busy) == (0, 1)


@pytest.mark.parametrize(
    ("error", "busy", "invalid"),
    [(StoreBusy("full"), 1, 0), (StoreError("gone"), 1, 0), (EdgeMissing("who"), 1, 0), (WireError("nonsense"), 0, 1)],
)
async def test_what_the_store_says_passes_through(
    ingest: Ingest, store: Writer, meters: Meters, error: Exception, busy: int, invalid: int
) -> None:
    store.failing = error
    store.go.release()
    with pytest.raises(type(error)):
        await ingest.on_batch(batch(1))
    assert (meters.batches, meters.batches_busy, meters.batches_invalid) == (0, busy, invalid)
    assert meters.batches_waiting == 0


async def test_a_batch_whose_agent_left_is_written_all_the_same(ingest: Ingest, store: Writer, meters: Meters) -> None:
    task = asyncio.create_task(ingest.on_batch(batch(1)))
    await asyncio.to_thread(store.begun.acquire)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.go.release()
    await ingest.close()
    assert store.calls == [1]
    assert meters.batches_waiting == 0


async def test_the_end_writes_what_waits_and_takes_no_more(ingest: Ingest, store: Writer) -> None:
    tasks = [asyncio.create_task(ingest.on_batch(batch(n))) for n in range(2)]
    await asyncio.to_thread(store.begun.acquire)
    closing = asyncio.create_task(ingest.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy):
        await ingest.on_batch(batch(3))
    store.go.release(2)
    await asyncio.gather(closing, *tasks)
    assert store.calls == [0, 1]


def test_losses_that_agents_make_up_do_not_fill_the_memory() -> None:
    meters = Meters()
    for n in range(1_000):
        meters.lost("kernel", "tcp", f"reason{n}", 2)
    meters.lost("kernel", "tcp", "reason0", 1)
    assert len(meters.losses) <= 201
    assert sum(meters.losses.values()) == 2_001
    assert meters.losses["kernel", "tcp", "reason0"] == 3


@pytest.fixture
def maintenance(ingest: Ingest, store: Any, meters: Meters) -> tuple[Maintenance, list[float]]:
    settings = replace(ServerSettings(), retention_days=7, hours_retention_days=90)
    now = [float(NOW)]
    return Maintenance(store, ingest, settings, meters, lambda: now[0]), now


async def test_a_turn_drops_what_is_old_and_rolls_what_is_due(
    maintenance: tuple[Maintenance, list[float]], store: Writer, meters: Meters
) -> None:
    await maintenance[0].turn()
    today = 20_000 * DAY
    assert store.calls == [
        ("drop", today - 7 * DAY, today - 90 * DAY), ("due", NOW), ("roll", 1), ("roll", 2), ("roll", 3),
    ]  # fmt: skip
    assert meters.rolled == 3


async def test_days_are_dropped_once_a_day(maintenance: tuple[Maintenance, list[float]], store: Writer) -> None:
    care, now = maintenance
    store.hours = []
    for _ in range(3):
        await care.turn()
    now[0] += DAY
    await care.turn()
    dropped = [call[1] for call in store.calls if call[0] == "drop"]
    assert dropped == [(20_000 - 7) * DAY, (20_001 - 7) * DAY]


@pytest.mark.parametrize("error", [StoreBusy("full"), StoreError("gone"), ZeroDivisionError()])
async def test_a_turn_that_fails_is_counted_and_done_again(
    maintenance: tuple[Maintenance, list[float]], store: Writer, meters: Meters, error: Exception
) -> None:
    store.failing = error
    await maintenance[0].turn()
    assert meters.maintenance_failed == 1
    store.failing = None
    await maintenance[0].turn()
    assert [call[0] for call in store.calls] == ["drop", "due", "roll", "roll", "roll"]


async def test_batches_come_while_an_hour_is_added_up(
    maintenance: tuple[Maintenance, list[float]], ingest: Ingest, store: Writer
) -> None:
    begun, go = store.rolling = threading.Event(), threading.Event()
    turn = asyncio.create_task(maintenance[0].turn())
    await asyncio.to_thread(begun.wait, 10)
    store.go.release()
    async with asyncio.timeout(5):
        await ingest.on_batch(batch(7))
    go.set()
    await turn
    assert [call for call in store.calls if call == 7 or call[0] == "roll"] == [
        7,
        ("roll", 1),
        ("roll", 2),
        ("roll", 3),
    ]
