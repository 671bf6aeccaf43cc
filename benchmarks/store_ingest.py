"""How fast the SQLite store takes facts of known edges into a day file that holds 3,000,000, and how it answers then.

Everything goes through ``Store.write``: check, ledger, commit. Shapes differ in what a store finds hard: few edges,
many edges (each bucket is spread over ten batches), many small batches of different nodes, and batches that come late.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Row, Spread
from fathom.events.batches import Batch, BatchId, Clock, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.store.interface import EdgeQuery, Store, Window
from fathom.store.opening import open_store

_DAY_S = 1_700_006_400
_NS = 1_000_000_000
_HELD = 3_000_000
_BAR = 40_000


def _peer(number: int) -> tuple[str, str]:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return address, address


@dataclass(frozen=True)
class Shape:
    """``nodes`` nodes with ``edges`` edges each report every ``interval_s``; one batch a node and interval."""

    name: str
    nodes: int
    edges: int
    interval_s: int


SHAPES = (
    Shape("10,000 edges", 1, 10_000, 60),
    Shape("100,000 edges of 10 nodes", 10, 10_000, 60),
    Shape("50 nodes, batches of 600", 50, 600, 10),
)


class Traffic:
    """Batches of a shape in time order."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.edges = [
            [
                Edge(
                    Workload(node=f"node-{n}", kind="unit", name=f"unit-{e % 97}.service"),
                    "egress",
                    *_peer(e),
                    "TCP",
                    443,
                )
                for e in range(shape.edges)
            ]
            for n in range(shape.nodes)
        ]
        self.ids = [np.array([edge.id for edge in edges], np.int64) for edges in self.edges]
        self._random = np.random.default_rng(7)
        self._sequence = itertools.count(1)

    def introduce(self, store: Store) -> None:
        """Tell the store all edges, without facts."""
        for node, edges in enumerate(self.edges):
            name = BatchId(f"node-{node}", "boot", next(self._sequence))
            store.write(Batch(name, Clock(0, 0, _DAY_S * _NS), tuple(edges)))

    def batches(self, begin_s: int) -> Iterator[Batch]:
        """One batch a node and interval, from ``begin_s`` on, for ever."""
        for bucket in itertools.count(begin_s, self.shape.interval_s):
            for node in range(self.shape.nodes):
                yield self.batch(node, bucket)

    def batch(self, node: int, bucket: int) -> Batch:
        """One fact on each edge of a node."""
        facts = np.zeros(self.shape.edges, FACT)
        draw = self._random.integers
        facts["edge"], facts["bucket"] = self.ids[node], bucket
        facts["connections"] = draw(0, 5, len(facts))
        for side in ("sent", "received"):
            facts[f"bytes_{side}"] = draw(0, 1_000_000, len(facts))
            facts[f"packets_{side}"] = facts[f"bytes_{side}"] // 1_000
        facts["latency_count"] = facts["connections"]
        facts["latency_min"] = draw(20_000, 100_000, len(facts)) * (facts["connections"] > 0)
        facts["latency_max"] = facts["latency_min"] * 3
        facts["latency_sum"] = facts["latency_min"] * 2 * facts["connections"]
        facts["latency_b0"] = facts["connections"] // 2
        facts["latency_b5"] = facts["connections"] - facts["latency_b0"]
        name = BatchId(f"node-{node}", "boot", next(self._sequence))
        observed = Observed(bucket * _NS, (bucket + self.shape.interval_s) * _NS)
        return Batch(name, Clock(0, 0, bucket * _NS), (), facts, (), (observed,))


@contextmanager
def _store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = open_store(f"sqlite://{folder}/store", clock=lambda: float(_DAY_S + 86_400))
        try:
            yield store
        finally:
            store.close()


def _rates(store: Store, batches: Iterator[Batch], facts: int) -> list[float]:
    """Facts a second, for stretches of 100,000 facts."""
    rates: list[float] = []
    done = since = 0
    spent = 0.0
    while done < facts:
        batch = next(batches)
        start = time.perf_counter()
        store.write(batch)
        spent += time.perf_counter() - start
        done += len(batch.facts)
        if done - since >= 100_000:
            rates.append((done - since) / spent)
            since, spent = done, 0.0
    return rates


def _row(name: str, rates: list[float]) -> Row:
    spread = Spread.of(rates)
    return Row(name, spread.text(0, " facts/s"), f"≥ {_BAR:,}", spread.median >= _BAR, f"slowest {min(rates):,.0f}")


def _answers(store: Store, traffic: Traffic, until_s: int) -> list[Row]:
    """How long questions take; no bar, for the record."""
    edge = int(traffic.ids[0][5])
    minutes, day = Window(until_s - 300, until_s), Window(_DAY_S, _DAY_S + 86_400)
    hour = _DAY_S // 3_600
    questions = {
        "busiest 100 edges of 5 minutes": lambda: store.edges(EdgeQuery(minutes, order="traffic")),
        "edges of one workload, 5 minutes": lambda: store.edges(EdgeQuery(minutes, workload="unit/unit-5.service")),
        "series of one edge, all day, 60 s": lambda: store.series(edge, day, 60),
        "roll up one hour": lambda: store.roll(hour),
    }
    rows = []
    for name, ask in questions.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            ask()
            times.append((time.perf_counter() - start) * 1e3)
        rows.append(Row(f"SQLite: {name} ({traffic.shape.name})", Spread.of(times).text(1, " ms"), "", True))
    return rows


def run() -> list[Row]:
    """All shapes into a day file of 3,000,000 facts; late batches and questions on the second one."""
    rows: list[Row] = []
    for shape in SHAPES:
        traffic = Traffic(shape)
        with _store() as store:
            traffic.introduce(store)
            batches = traffic.batches(_DAY_S)
            _rates(store, batches, _HELD)
            rows.append(_row(f"SQLite ingest at 3,000,000 facts: {shape.name}", _rates(store, batches, 500_000)))
            now = next(batches).clock.wall_ns // _NS
            if shape.nodes == 10:
                late = (traffic.batch(n, now - 1_800 + 7 + m) for m in itertools.count() for n in range(shape.nodes))
                rows.append(_row("SQLite ingest at 3,000,000 facts: half an hour late", _rates(store, late, 500_000)))
            if shape.nodes > 1:
                rows += _answers(store, traffic, now)
    return rows
