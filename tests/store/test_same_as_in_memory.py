"""Property: whatever is written, sent again, rolled up, dropped and asked, in whatever order, an engine on disk answers
as the plain store in memory does."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from fathom.errors import EdgeMissing
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT, SUMMED, Edge, Workload
from fathom.store.interface import EdgeQuery, Window
from fathom.store.making import Making
from fathom.store.memory import MemoryStore
from fathom.store.opening import open_recording, open_store
from fathom.store.sqlite.recording import RecordingStore

NS = 1_000_000_000
DAY = 1_700_006_400
SPAN = 3 * 86_400
MEMORY = Path("/dev/shm")

names = st.sampled_from(["a", "ab", "b/a", "A", ""])
edges = st.builds(
    Edge,
    st.builds(
        Workload,
        node=st.sampled_from(["n1", "n2"]),
        namespace=st.sampled_from(["", "", "ns"]),
        kind=st.sampled_from(["unit", "Deployment"]),
        name=names,
        pod=st.sampled_from(["", "p"]),
    ),
    st.sampled_from(["egress", "ingress", "unknown"]),
    st.sampled_from(["10.0.0.1", "10.0.1.1", "fd00::1", "x.example", "a"]),
    st.sampled_from(["10.0.0.1", "10.0.1.1", "fd00::1", ""]),
    st.sampled_from(["TCP", "UDP"]),
    st.sampled_from([0, 53, 443]),
    st.sampled_from(["forwarded", "failed"]),
)
# Times crowd around hours and midnights, where files and roll-ups meet.
times = st.one_of(
    st.integers(0, SPAN - 1),
    st.builds(lambda h, d: min(max(h * 3_600 + d, 0), SPAN - 1), st.integers(0, 72), st.integers(-11, 11)),
    st.sampled_from([86_400, 86_399, 2 * 86_400]),
).map(lambda offset: DAY + offset)
counts = st.integers(0, 5)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    pool = draw(st.lists(edges, max_size=4))
    picked = draw(st.lists(st.tuples(st.sampled_from(pool), times), max_size=6)) if pool else []
    facts = np.zeros(len(picked), FACT)
    for fact, (edge, bucket) in zip(facts, picked, strict=True):
        fact["edge"], fact["bucket"] = edge.id, bucket
        for name in ("connections", "failures", "bytes_sent", "bytes_received", "packets_sent"):
            fact[name] = draw(counts)
        if fact["connections"]:
            low = draw(st.integers(1, 9))
            fact["latency_count"], fact["latency_sum"] = fact["connections"], 10 * int(fact["connections"])
            fact["latency_min"], fact["latency_max"] = low, low + draw(counts)
            fact["latency_b3"] = fact["connections"]
    losses = st.builds(
        Loss, times, st.sampled_from(["kernel", "agent"]), st.sampled_from(["tcp", ""]), st.just("x"), counts, counts
    )
    stretch = st.builds(
        lambda at, us, ms: Observed(at * NS + us, at * NS + us + ms * 1_000_000),
        times,
        st.integers(0, NS),
        st.one_of(st.integers(0, 100_000), st.integers(0, 90_000_000)),
    )
    return Batch(
        BatchId(draw(st.sampled_from(["n1", "n2"])), draw(st.sampled_from(["b1", "b2"])), 1),
        Clock(0, 0, draw(times) * NS),
        tuple(draw(st.lists(st.sampled_from(pool), max_size=2))) + tuple(dict.fromkeys(edge for edge, _ in picked))
        if pool
        else (),
        facts,
        tuple(draw(st.lists(losses, max_size=2))),
        tuple(draw(st.lists(stretch, max_size=2))),
    )


steps = st.one_of(
    st.tuples(st.just("write"), batches()),
    st.tuples(st.just("write"), batches()),
    st.tuples(st.just("write"), batches()),
    st.tuples(st.just("again"), st.integers(0, 20)),
    st.tuples(st.just("roll"), st.integers(0, 72)),
    st.tuples(st.just("roll due"), times),
    st.tuples(st.just("drop"), st.tuples(times, st.one_of(st.none(), times))),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("clock"), times),
)
texts = st.sampled_from(["", "", "", "a", "a*", "unit/*", "ns/Deployment/a", "b/a", "unit/b/a", "*"])
questions = st.builds(
    EdgeQuery,
    st.tuples(times, times).map(lambda pair: Window(*sorted(pair))) | st.just(Window(DAY, DAY + SPAN)),
    workload=texts,
    peer=st.sampled_from(["", "", "10.0.0.0/16", "10.0.0.1", "::/0", "x.example", "1*"]),
    protocol=st.sampled_from(["", "tcp"]),
    port=st.sampled_from([None, None, 53]),
    direction=st.sampled_from(["", "", "egress"]),
    verdict=st.sampled_from(["", "", "failed"]),
    node=st.sampled_from(["", "", "n1"]),
    limit=st.sampled_from([1, 2, 100]),
    order=st.sampled_from(["id", "traffic"]),
)


class Pair:
    """The engine under test and the meaning of it."""

    def __init__(self, url: str) -> None:
        self.now = DAY + SPAN
        self.url = url
        self.disk = open_store(url, clock=lambda: self.now)
        self.memory = MemoryStore(clock=lambda: self.now)
        self.sent: list[Batch] = []
        self.sequence = 0

    def write(self, batch: Batch) -> None:
        """Both must take it or both must have had it. What was pruned is asked for again, with all edges."""
        try:
            new = self.disk.write(batch)
        except EdgeMissing:
            assert not {e.id for e in batch.edges} >= set(batch.facts["edge"].tolist())
            event("pruned edges were asked for")
            return
        assert new == self.memory.write(batch)
        self.sent.append(batch)

    def step(self, what: str, value: object) -> None:
        if what == "write":
            self.sequence += 1
            self.write(replace(value, id=msgspec.structs.replace(value.id, sequence=self.sequence)))
        elif what == "again" and self.sent:
            self.write(self.sent[value % len(self.sent)])
        elif what == "roll":
            for store in (self.disk, self.memory):
                store.roll(DAY // 3_600 + value)
        elif what == "roll due":
            for hour in self.disk.due(value):
                self.disk.roll(hour)
            assert self.disk.due(value) == []
        elif what == "drop":
            for store in (self.disk, self.memory):
                store.drop_before(value[0], hours_before_s=value[1])
        elif what == "clock":
            self.now = value + 86_400
        elif what == "reopen":
            self.disk.close()
            self.disk = open_store(self.url, clock=lambda: self.now)

    def compare(self, query: EdgeQuery, moments: list[int]) -> None:
        window = query.window
        ids = sorted({edge.id for batch in self.sent for edge in batch.edges})
        for cuts in (None, np.array([(edge, at) for edge in ids[::2] for at in sorted(set(moments))]).reshape(-1, 2)):
            disk, memory = (store.spans(query, cuts).tolist() for store in (self.disk, self.memory))
            assert disk == memory
            event(f"spans {'cut' if cuts is not None else 'whole'}: {'some' if disk else 'none'}")
        assert self.disk.extent() == self.memory.extent()
        assert self.disk.interval_s(window) == self.memory.interval_s(window)
        known = [store.identities(np.array(ids, np.int64)) for store in (self.disk, self.memory)]
        assert set(known[0].ids) <= set(known[1].ids)
        for question in ("edges", "workloads"):
            rows = [all_pages(getattr(store, question), query) for store in (self.disk, self.memory)]
            assert rows[0] == rows[1]
        assert self.disk.losses(window) == self.memory.losses(window)
        assert self.disk.coverage(window) == self.memory.coverage(window)
        assert self.disk.nodes() == self.memory.nodes()
        for edge in {edge for batch in self.sent for edge in batch.edges}:
            for step_s in (10, 3_600, 7_200, 86_400):
                if (window.until_s - window.since_s) // step_s < 100_000:
                    assert self.disk.series(edge.id, window, step_s) == self.memory.series(edge.id, window, step_s)

    def compare_recordings(self, query: EdgeQuery, folder: Path) -> None:
        """A recording answers about its own window and edges as the store did, from either engine, in either detail."""
        whole = msgspec.structs.replace(query, limit=10_000)
        expected = answers(self.memory, whole)
        recorded = ((self.disk, "hour"), (self.disk, "interval"), (self.memory, "interval"))
        for number, (store, detail) in enumerate(recorded):
            path = folder / f"{number}.fathom"
            digest = store.record(whole, path, Making(detail=detail, force=True))
            recording = open_recording(path)
            assert answers(recording, whole) == expected, detail
            assert recording.told()["digest"] == digest
            if detail == "interval" and whole == EdgeQuery(query.window, limit=10_000, order=query.order):
                assert recording.interval_s(query.window) == store.interval_s(query.window)
            recording.close()


def answers(store, query):
    window, plain = query.window, EdgeQuery(query.window, limit=10_000, order=query.order)
    recorded = plain if isinstance(store, RecordingStore) else query
    known = [(row.node, row.boot, row.first_seen) for row in store.nodes() if row.first_seen < window.until_s]
    return (
        store.edges(recorded).items,
        store.workloads(recorded).items,
        store.spans(recorded).tolist(),
        store.losses(window),
        store.coverage(window),
        [row for row in known if not query.node or row[0] == query.node],
    )


def all_pages(ask, query):
    page = ask(query)
    rows = list(page.items)
    while page.next_cursor:
        page = ask(msgspec.structs.replace(query, cursor=page.next_cursor))
        rows += page.items
    return rows


def run(history, asked, moments):
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        pair = Pair(f"sqlite://{Path(folder)}/store")
        try:
            for what, value in history:
                pair.step(what, value)
            for query in asked:
                pair.compare(query, moments)
            pair.compare_recordings(msgspec.structs.replace(asked[0], node=""), Path(folder))
        finally:
            pair.disk.close()


histories = st.lists(steps, min_size=1, max_size=12)
asked = st.lists(questions, min_size=1, max_size=3)
moments = st.lists(times, max_size=6)


@settings(
    max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(histories, asked, moments)
def test_any_history_gives_the_same_answers(history, questions, moments):
    run(history, questions, moments)


@pytest.mark.slow
@settings(
    max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink]
)
@given(st.lists(steps, min_size=5, max_size=30), asked, moments)
def test_any_long_history_gives_the_same_answers(history, questions, moments):
    run(history, questions, moments)


def test_counters_that_add_up_are_those_that_the_histories_vary():
    assert {"connections", "bytes_sent", "latency_b3"} <= set(SUMMED)
