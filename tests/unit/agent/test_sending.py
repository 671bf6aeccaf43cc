"""Batches to a sink that is slow, refuses or fails."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fathom.agent.clock import FakeClock
from fathom.agent.sending import MAX_WAITING, Draft, Sender
from fathom.agent.sink import MemorySink
from fathom.errors import StoreBusy, WireError
from fathom.events.batches import Batch, Clock, Loss, Observed
from fathom.events.edges import FACT, Edge, Workload

EDGE = Edge(Workload(name="w"), "egress", "p", "p", "TCP", 1)


def draft(bucket: int = 10, facts: int = 2, losses: tuple[Loss, ...] = ()) -> Draft:
    rows = np.zeros(facts, FACT)
    rows["edge"], rows["bucket"], rows["bytes_sent"], rows["packets_sent"] = EDGE.id, bucket, 5, 2
    stretch = Observed(bucket * 10**9, (bucket + 10) * 10**9)
    return Draft(Clock(1, 1, 1), bucket, rows, (EDGE,) * facts, losses, (stretch,))


class Moody(MemorySink):
    """Raises what is in ``moods`` before it takes a batch."""

    def __init__(self, *moods: Exception) -> None:
        super().__init__()
        self.moods = list(moods)
        self.offered: list[int] = []

    async def put(self, batch: Batch) -> None:
        self.offered.append(batch.id.sequence)
        if self.moods:
            raise self.moods.pop(0)
        await super().put(batch)


async def handed(sender: Sender) -> None:
    task = asyncio.create_task(sender.run())
    await sender.drained()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_sink_that_cannot_now_gets_the_same_batch_again() -> None:
    sink = Moody(StoreBusy("full"), StoreBusy("full"))
    sender = Sender("n", "b", sink, FakeClock())
    sender.offer(draft(10))
    sender.offer(draft(20))
    await handed(sender)
    assert sink.offered == [1, 1, 1, 2]
    assert [batch.facts["bucket"][0] for batch in sink.batches] == [10, 20]
    assert sender.problem == ""


async def test_a_batch_that_is_refused_for_good_is_counted_and_leaves_no_hole() -> None:
    sink = Moody(WireError("no"))
    sender = Sender("n", "b", sink, FakeClock())
    sender.offer(draft(10, losses=(Loss(10, "kernel", "tcp", "ring_full", 3),)))
    await handed(sender)
    sender.offer(draft(20))
    await handed(sender)
    (batch,) = sink.batches
    assert batch.id.sequence == 1
    assert batch.losses == (
        Loss(10, "kernel", "tcp", "ring_full", 3),
        Loss(10, "agent", "", "sink_refused", 2, 4, 10, 0),
    )
    assert batch.observed == draft(20).observed
    assert sender.given_up == {"sink_refused": 2}


async def test_what_does_not_fit_the_queue_is_counted() -> None:
    sink = MemorySink()
    sender = Sender("n", "b", sink, FakeClock())
    for index in range(MAX_WAITING + 5):
        sender.offer(draft(10 * index))
    await handed(sender)
    assert len(sink.batches) == MAX_WAITING
    sender.offer(draft(9_000))
    await handed(sender)
    lost = sink.batches[-1].losses
    assert sum(loss.count for loss in lost) == 10
    assert {loss.reason for loss in lost} == {"sink_blocked"}
    assert [batch.id.sequence for batch in sink.batches] == list(range(1, MAX_WAITING + 2))


async def test_losses_that_wait_are_joined_before_they_are_many() -> None:
    sender = Sender("n", "b", MemorySink(), FakeClock())
    for index in range(MAX_WAITING + 3_000):
        sender.offer(draft(10 * index, losses=(Loss(10 * index, "kernel", "tcp", "ring_full", 1),)))
    await handed(sender)
    sender.offer(draft(99_990))
    await handed(sender)
    assert isinstance(sender._sink, MemorySink)
    told = [loss for batch in sender._sink.batches for loss in batch.losses]
    assert sum(loss.count for loss in told if loss.reason == "ring_full") == MAX_WAITING + 3_000
    assert sum(loss.count for loss in told if loss.reason == "sink_blocked") == 6_000
    assert len(sender._sink.batches[-1].losses) <= 1_000


async def test_a_defect_of_the_sink_is_not_hidden() -> None:
    sender = Sender("n", "b", Moody(ZeroDivisionError()), FakeClock())
    sender.offer(draft())
    with pytest.raises(ZeroDivisionError):
        await sender.run()


async def test_an_edge_is_told_once_in_a_batch() -> None:
    sink = MemorySink()
    sender = Sender("n", "b", sink, FakeClock())
    sender.offer(draft(facts=5))
    await handed(sender)
    assert sink.batches[0].edges == (EDGE,)
