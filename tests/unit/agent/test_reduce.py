"""Reduction against a plain Python count of the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.agent.fake import observation, set_latency
from fathom.agent.sums import COUNTERS
from fathom.events.edges import FACT, SUMMED, Workload
from fathom.events.latency import BOUNDS_NS, BUCKETS, bucket_of

T0 = 1_700_000_000
TABLE = [Workload(node="n", kind="unit", name=str(i)) for i in range(5)]
NS = 10**9

ROW = st.tuples(
    st.integers(2, 4),  # workload
    st.integers(0, 4),  # peer
    st.integers(0, 2),  # direction
    st.sampled_from([80, 443]),
    st.integers(0, 35 * NS),  # time after T0
    st.integers(-1, 6 * NS),  # latency
    st.integers(0, 2**40),  # bytes
)


def rows_of(drawn: list[tuple[int, ...]]) -> np.ndarray:
    rows = observation(len(drawn))
    for row, (who, peer, direction, port, time, _, size) in zip(rows, drawn, strict=True):
        row["remote"] = np.void(bytes(10) + b"\xff\xff" + bytes([10, 0, 0, peer]))
        row["direction"], row["remote_port"], row["local_port"] = direction, port, port
        row["pid"], row["time"], row["bytes_sent"] = who, time, size
    set_latency(rows, [latency for *_, latency, _ in drawn])
    return rows


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ROW, min_size=1, max_size=40), min_size=1, max_size=4))
def test_facts_are_what_a_plain_count_says(reduction: Any, ticks: list[list[tuple[int, ...]]]) -> None:
    reducing = reduction(TABLE)
    reducer = reducing.reducer
    truth: dict[tuple[object, ...], list[int]] = {}
    for drawn in ticks:
        reducing.add(rows_of(drawn), T0 * NS, (T0 + 40) * NS)
        for who, peer, direction, port, time, latency, size in drawn:
            key = (str(who), f"10.0.0.{peer}", direction, port if direction else 0, (T0 + time // NS) // 10 * 10)
            counts = truth.setdefault(key, [0, 0, 0, 0, 0, 0])
            counts[0] += 1
            counts[1] += size
            if latency >= 0:
                counts[2] += 1
                counts[3] += latency
                counts[4] = min(counts[4], latency) if counts[2] > 1 else latency
                counts[5] = max(counts[5], latency)
    found: dict[tuple[object, ...], list[int]] = {}
    for sums in reducer.close(None):
        edges, ids = reducer.edges.told(sums.numbers())
        for edge, fact in zip(edges, sums.facts(sums.numbers(), ids), strict=True):
            direction = ("unknown", "egress", "ingress").index(edge.direction)
            names = ("connections", "bytes_sent", "latency_count", "latency_sum", "latency_min", "latency_max")
            key = (edge.workload.name, edge.peer_address, direction, edge.port, int(fact["bucket"]))
            assert key not in found
            found[key] = [int(fact[name]) for name in names]
            assert sum(int(fact[f"latency_b{i}"]) for i in range(BUCKETS)) == fact["latency_count"]
    assert found == truth


def test_histogram_columns(reduction: Any) -> None:
    latencies = [0, 1, *BOUNDS_NS, *(bound + 1 for bound in BOUNDS_NS)]
    reducing = reduction(TABLE, 100)
    reducer = reducing.reducer
    rows = observation(len(latencies), pid=2, latency=latencies)
    reducing.add(rows, T0 * NS, T0 * NS + 1)
    (sums,) = reducer.close(None)
    (fact,) = sums.facts(sums.numbers(), np.array([1]))
    expected = np.bincount(bucket_of(np.array(latencies)), minlength=BUCKETS)
    assert [int(fact[f"latency_b{i}"]) for i in range(BUCKETS)] == expected.tolist()


def test_every_column_of_a_fact_is_filled_from_its_own_counter(reduction: Any) -> None:
    values = {name: 3 + index for index, name in enumerate(COUNTERS)}
    reducing = reduction(TABLE, 100)
    reducer = reducing.reducer
    rows = observation(2, pid=2, latency=500, **values)
    reducing.add(rows, T0 * NS, T0 * NS + 1)
    (sums,) = reducer.close(None)
    (fact,) = sums.facts(sums.numbers(), np.array([77]))
    assert {name: int(fact[name]) for name in COUNTERS} == {name: 2 * value for name, value in values.items()}
    assert (fact["edge"], fact["bucket"]) == (77, T0 // 10 * 10)
    filled = {name for name in SUMMED if fact[name]}
    assert filled == {*COUNTERS, "latency_count", "latency_sum", f"latency_b{bucket_of(np.array([500]))[0]}"}
    assert FACT.names is not None


def test_rows_of_the_future_count_now_and_ancient_ones_in_the_oldest_open_interval(reduction: Any) -> None:
    reducing = reduction(TABLE, 100)
    reducer = reducing.reducer
    rows = observation(2, pid=2, time=[0, 500 * NS])
    now = T0 + 200
    reducing.add(rows, T0 * NS, now * NS)
    assert sorted(reducer.open) == [(now - 60) // 10 * 10, now // 10 * 10]


def test_growth_keeps_what_was_counted(reduction: Any) -> None:
    reducing = reduction(TABLE, 5000)
    reducer = reducing.reducer
    total = 0
    for start in range(0, 4000, 37):
        rows = observation(37, pid=2, latency=1000, bytes_sent=start + 1)
        rows["remote"] = (np.arange(37) + start).astype(">u8").repeat(2).view("V16")
        reducing.add(rows, T0 * NS, T0 * NS + 1)
        total += 37 * (start + 1)
    (sums,) = reducer.close(None)
    numbers = sums.numbers()
    assert int(sums.counters["bytes_sent"][numbers].sum()) == total
    assert (sums.histogram(numbers).sum(axis=1) == 1).all()
    facts = sums.facts(numbers, reducer.edges.told(numbers)[1])
    assert (facts["latency_min"] == 1000).all()
    assert len(np.unique(facts["edge"])) == numbers.size


def test_tidy_keeps_open_intervals_whole(reduction: Any) -> None:
    reducing = reduction(TABLE, 100)
    reducer = reducing.reducer
    for second, base in ((0, 0), (10, 1000)):
        rows = observation(60, pid=2, time=second * NS, bytes_sent=np.arange(60) + base)
        rows["remote"] = (np.arange(60) // 2 + base).astype(">u8").repeat(2).view("V16")
        reducing.add(rows, T0 * NS, (T0 + 15) * NS)
    first = reducer.close(T0 + 10)
    assert [sums.bucket for sums in first] == [T0]
    reducer.tidy()
    assert len(reducer.edges) == 30
    rows = observation(1, pid=2, time=11 * NS, bytes_sent=10**6)
    rows["remote"] = np.array([1000]).astype(">u8").repeat(2).view("V16")
    reducing.add(rows, T0 * NS, (T0 + 15) * NS)
    (sums,) = reducer.close(None)
    assert int(sums.counters["bytes_sent"].sum()) == sum(range(1000, 1060)) + 10**6
    assert len(reducer.edges) == 30
