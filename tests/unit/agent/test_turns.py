"""The loop in virtual time: intervals, late rows, clocks that step, own traffic, losses, a probe that fails."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fathom.agent.fake import FakeProbe, observation
from fathom.agent.walltime import WallTime
from fathom.events.batches import Clock, Loss, Observed
from fathom.events.edges import FACT

NS = 10**9


def total(world: Any, name: str = "connections") -> int:
    return int(world.facts()[name].sum())


def contiguous(world: Any) -> list[Observed]:
    """The stretches of all batches, joined where they touch."""
    joined: list[Observed] = []
    for batch in world.batches:
        for stretch in batch.observed:
            assert stretch.end_ns > stretch.start_ns
            if joined and joined[-1].end_ns == stretch.start_ns:
                joined[-1] = Observed(joined[-1].start_ns, stretch.end_ns)
            else:
                joined.append(stretch)
    return joined


async def test_an_interval_becomes_a_batch_aligned_to_wall_time(world: Callable[..., Any]) -> None:
    w = world()
    start = w.clock.wall_ns
    for _ in range(25):
        w.tcp.show(observation(2, time=w.now()))
        await w.pass_time(1)
    assert [batch.id.sequence for batch in w.batches] == [1, 2]
    assert {(batch.id.node, batch.id.boot) for batch in w.batches} == {("n1", "b00t")}
    assert [set(batch.facts["bucket"].tolist()) for batch in w.batches] == [
        {start // NS // 10 * 10 + offset} for offset in (0, 10)
    ]
    assert contiguous(w) == [Observed(start, w.batches[-1].observed[-1].end_ns)]
    w.turn(last=True)
    await w.settle()
    assert total(w) == 50
    assert contiguous(w) == [Observed(start, w.clock.wall_ns)]


async def test_quiet_intervals_are_told_too(world: Callable[..., Any]) -> None:
    w = world()
    start = w.clock.wall_ns
    await w.pass_time(30)
    assert [batch.facts.size for batch in w.batches] == [0, 0, 0]
    assert contiguous(w) == [Observed(start, w.clock.wall_ns)]


async def test_rows_count_in_the_interval_of_their_own_time(world: Callable[..., Any]) -> None:
    w = world()
    bucket = w.clock.wall_ns // NS // 10 * 10
    await w.pass_time(10.05)
    late = observation(1, time=w.now() - NS, bytes_sent=5)
    w.tcp.show(np.concatenate([late, observation(1, time=w.now(), bytes_sent=7)]))
    await w.pass_time(10)
    assert {int(f["bucket"]): int(f["bytes_sent"]) for f in w.facts()} == {bucket: 5, bucket + 10: 7}


async def test_flows_that_are_read_at_the_end_belong_to_the_interval_that_ends(world: Callable[..., Any]) -> None:
    w = world()
    bucket = w.clock.wall_ns // NS // 10 * 10
    await w.pass_time(9.98)
    w.clock.advance(0.07)
    w.flow.show(observation(1, time=w.now(), protocol=17, packets_sent=9))
    w.tcp.show(observation(1, time=w.now()))
    w.turn()
    w.turn(last=True)
    await w.settle()
    facts = {int(f["packets_sent"]): int(f["bucket"]) for f in w.facts()}
    assert facts == {9: bucket, 0: bucket + 10}


async def test_flows_are_read_once_an_interval_or_sooner_when_the_map_fills(world: Callable[..., Any]) -> None:
    w = world()
    reads: list[int] = []
    drain = w.flow.drain

    def counted(most: int | None = None) -> Any:
        reads.append(w.now())
        return drain(most)

    w.flow.drain = counted
    await w.pass_time(20)
    assert len(reads) == 2
    w.flow.full = 0.8
    await w.pass_time(20)
    busy = len(reads) - 2
    assert 15 <= busy <= 45
    w.flow.full = 0.0
    await w.pass_time(30)
    before = len(reads)
    await w.pass_time(20)
    assert len(reads) - before == 2


async def test_open_connections_are_read_as_often_as_asked(world: Callable[..., Any]) -> None:
    w = world(interval_s=10, sockets_interval_s=30)
    for _ in range(6):
        w.tcp.hold_open(observation(1, time=w.now(), connections=0, bytes_sent=100))
        await w.pass_time(10)
    assert [int(batch.facts["bytes_sent"].sum()) for batch in w.batches] == [100, 0, 0, 300, 0, 0]
    w.turn(last=True)
    await w.settle()
    assert total(w, "bytes_sent") == 600


@pytest.mark.parametrize("step", [-3600.0, -15.0, -4.0, 4.0, 15.0, 3600.0])
async def test_a_step_of_the_wall_clock_neither_doubles_nor_loses(world: Callable[..., Any], step: float) -> None:
    w = world()
    shown = 0
    for second in range(40):
        w.tcp.show(observation(3, time=w.now(), bytes_sent=10))
        w.tcp.hold_open(observation(1, time=w.now(), connections=0, bytes_sent=1))
        shown += 31
        if second == 17:
            w.clock.step(step)
        await w.pass_time(1)
    w.turn(last=True)
    await w.settle()
    assert total(w) == 120
    assert total(w, "bytes_sent") == shown
    assert w.agent.turns.wall.steps == 1
    stretches = contiguous(w)
    for before, after in pairwise(stretches):
        assert after.start_ns > before.end_ns
    claimed = sum(s.end_ns - s.start_ns for s in stretches)
    assert claimed <= 40 * NS
    assert claimed == (40 * NS if step > 0 else max(40 + step, 18) * NS) or step < -22


async def test_discipline_of_the_clock_is_no_step(world: Callable[..., Any]) -> None:
    w = world()
    for _ in range(30):
        w.clock.step(0.001)
        await w.pass_time(1)
    assert w.agent.turns.wall.steps == 0
    assert len(contiguous(w)) == 1


def test_a_step_back_repeats_no_stretch() -> None:
    wall = WallTime(Clock(0, 0, 100 * NS))
    wall.turn(Clock(10 * NS, 0, 110 * NS))
    assert wall.take(110 * NS) == (Observed(100 * NS, 110 * NS),)
    wall.turn(Clock(12 * NS, 0, 102 * NS))
    assert wall.take(102 * NS) == (Observed(110 * NS, 112 * NS),)
    assert wall.take(111 * NS) == ()
    assert wall.take(115 * NS) == (Observed(112 * NS, 115 * NS),)


async def test_own_traffic_is_left_out_and_counted(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(np.concatenate([observation(3, pid=1, bytes_sent=5, bytes_received=6), observation(2, pid=77)]))
    await w.pass_time(10)
    assert total(w) == 2
    counts = w.agent.turns.counts
    assert (counts.own_rows, counts.own_bytes) == (3, 33)


async def test_own_traffic_is_shown_when_asked_for(world: Callable[..., Any]) -> None:
    w = world(own_traffic=True)
    w.tcp.show(observation(3, pid=1))
    await w.pass_time(10)
    assert total(w) == 3
    assert {str(edge.workload) for edge in w.batches[0].edges} == {"process/fathom"}


async def test_losses_are_told_once_as_differences(world: Callable[..., Any]) -> None:
    w = world()
    bucket = w.clock.wall_ns // NS // 10 * 10
    w.tcp.lose("ring_full", 5, 6, 7, 8)
    await w.pass_time(10)
    await w.pass_time(10)
    w.tcp.lose("ring_full", 2)
    w.flow.lose("map_full", 1, 10, 100, 1000)
    await w.pass_time(10)
    assert [batch.losses for batch in w.batches] == [
        (Loss(bucket, "kernel", "tcp", "ring_full", 5, 6, 7, 8),),
        (),
        (
            Loss(bucket + 20, "kernel", "tcp", "ring_full", 2),
            Loss(bucket + 20, "kernel", "flow", "map_full", 1, 10, 100, 1000),
        ),
    ]


async def test_made_is_seen_plus_lost_when_edges_are_too_many(world: Callable[..., Any]) -> None:
    w = world(max_edges=64)
    made = 0
    for tick in range(30):
        rows = observation(200, time=w.now(), remote_port=np.arange(200) + tick * 200 + 1, bytes_sent=3)
        rows["remote"] = np.arange(200).astype(">u8").repeat(2).view("V16")
        made += rows.size
        w.tcp.show(rows)
        await w.pass_time(1)
    w.turn(last=True)
    await w.settle()
    losses = [loss for batch in w.batches for loss in batch.losses]
    assert {(loss.hop, loss.probe, loss.reason) for loss in losses} == {("agent", "tcp", "edges_full")}
    lost = sum(loss.count for loss in losses)
    assert lost > 0
    assert total(w) + lost == made
    assert total(w, "bytes_sent") + sum(loss.bytes_sent for loss in losses) == 3 * made
    assert max(batch.facts.size for batch in w.batches) <= 64 + 64
    assert "other" in {edge.peer for batch in w.batches for edge in batch.edges}


async def test_a_probe_that_fails_does_not_stop_the_other(world: Callable[..., Any]) -> None:
    w = world()
    await w.pass_time(5)
    w.tcp.break_down("the ring is gone")
    w.flow.show(observation(4, protocol=17, time=w.now()))
    await w.pass_time(6)
    assert total(w) == 4
    assert [watched.attached for watched in w.agent.watched] == [False, True]
    assert "the ring is gone" in w.agent.problems()[0]


async def test_many_facts_are_split_and_every_edge_goes_with_its_fact(world: Callable[..., Any]) -> None:
    w = world(max_edges=30_000)
    rows = observation(25_000, time=w.now())
    rows["remote"] = np.arange(25_000).astype(">u8").repeat(2).view("V16")
    w.tcp.show(rows)
    await w.pass_time(10)
    assert [batch.facts.size for batch in w.batches] == [10_000, 10_000, 5_000]
    assert [bool(batch.observed) for batch in w.batches] == [False, False, True]
    for batch in w.batches:
        assert batch.facts.dtype == FACT
        assert {edge.id for edge in batch.edges} == set(batch.facts["edge"].tolist())


async def test_known_edges_are_left_out(world: Callable[..., Any]) -> None:
    w = world()
    for _ in range(3):
        w.tcp.show(observation(1, time=w.now()))
        await w.pass_time(10)
    assert [len(batch.edges) for batch in w.batches] == [1, 1, 1]
    w.sink.acknowledge(w.batches[0])
    w.tcp.show(np.concatenate([observation(1, time=w.now()), observation(1, remote="10.9.9.9", time=w.now())]))
    await w.pass_time(10)
    assert [edge.peer for edge in w.batches[-1].edges] == ["10.9.9.9"]
    assert w.batches[-1].facts.size == 2


async def test_the_loop_itself_hands_over_what_is_left(world: Callable[..., Any]) -> None:
    w = world()
    async with w.running() as agent:
        w.tcp.show(observation(7, time=w.now()))
        w.clock.advance(0.5)
        assert agent.alive
    assert total(w) == 7
    assert not w.agent.alive
    assert contiguous(w)[-1].end_ns == w.clock.wall_ns


async def test_the_last_turn_leaves_nothing_in_a_large_ring(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(observation(110_000, time=w.now()))
    w.turn(last=True)
    await w.settle()
    assert total(w) == 110_000


async def test_what_is_alike_waits_for_the_tick_and_never_for_another_interval(world: Callable[..., Any]) -> None:
    """Rings may be read more often than a tick: what they told is held back, and counted where it belongs."""
    w = world()
    held: list[int] = []
    observe = w.tcp.observe

    def holding(rows: np.ndarray, *, hold: bool = False) -> np.ndarray:
        if hold:
            held.extend(rows["time"].tolist())
            w.tcp.kept = np.concatenate([getattr(w.tcp, "kept", rows[:0]), rows])
            return rows[:0]
        kept, w.tcp.kept = w.tcp.kept, rows[:0]
        return observe(kept)

    w.tcp.observe = holding
    turns = w.agent.turns
    await w.pass_time(8)
    for _ in range(4):
        w.tcp.show(observation(1, time=w.now()))
        w.clock.advance(0.01)
        turns.turn(w.clock.now())
    assert len(held) == 4
    assert len(w.tcp.kept) > 0, "less than a tick has passed since the last whole turn"
    await w.pass_time(12)
    assert total(w) == 4
    w.tcp.show(observation(3, time=w.now()))
    w.turn(last=True)
    await w.settle()
    assert total(w) == 7, "nothing waits for a turn that does not come"


def test_the_double_speaks_as_a_probe() -> None:
    with FakeProbe("tcp") as probe:
        probe.show(observation(2))
        probe.show(observation(3))
        assert probe.drain().size == 5
        assert probe.drain().size == 0
    assert probe.closed
