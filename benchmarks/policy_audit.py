"""The audit beside the ingest: what a write costs with an audited set, and how many facts one core judges.

The write is measured in pairs, the same batches into a store without and with a set. The set has 1,000 policies over
30,000 pods, of which each batch of 10,000 facts denies two thirds: nothing is as dear to judge as a denial.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.policy_cluster import documents, inventory
from benchmarks.report import Row, Spread, pairs, ratio
from fathom.events.batches import Batch, BatchId, Clock, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.policy.inventory import Inventory
from fathom.server.inventories import FixedInventories
from fathom.server.judging import Judge
from fathom.store.interface import Store
from fathom.store.opening import open_store

_NOW_S = 1_769_860_800
_NS = 1_000_000_000
_FACTS, _BATCHES = 10_000, 12


class _Traffic:
    """Batches of one node over the same edges, told with the first."""

    def __init__(self, who: Inventory) -> None:
        rng, pods = random.Random(5), who.records.pods
        self.edges = []
        for _ in range(_FACTS):
            mine, theirs = rng.choice(pods), rng.choice(pods).addresses[0]
            workload = Workload("", mine.node, mine.namespace, *mine.workload, mine.name)
            self.edges.append(Edge(workload, "egress", theirs, theirs, "TCP", rng.choice((80, 443, 9000))))
        self.ids = np.array([edge.id for edge in self.edges], np.int64)

    def batch(self, sequence: int) -> Batch:
        facts = np.zeros(_FACTS, FACT)
        bucket = _NOW_S - 86_400 // 2 + 60 * sequence
        facts["edge"], facts["bucket"], facts["connections"] = self.ids, bucket, 1
        edges = tuple(self.edges) if sequence == 1 else ()
        observed = (Observed(bucket * _NS, (bucket + 60) * _NS),)
        return Batch(BatchId("n1", "b", sequence), Clock(0, 0, (bucket + 60) * _NS), edges, facts, (), observed)


class _Writing:
    """A store and the next batch for it."""

    def __init__(self, folder: str, traffic: _Traffic, text: str) -> None:
        self.store: Store = open_store(f"sqlite://{folder}", clock=lambda: float(_NOW_S))
        if text:
            self.store.audit.put("web", text, enforced=False)
        self._traffic, self._sequence = traffic, 0

    def one(self) -> float:
        """Seconds to write the next batch."""
        self._sequence += 1
        batch = self._traffic.batch(self._sequence)
        begin = time.perf_counter()
        assert self.store.write(batch)
        return time.perf_counter() - begin


def run() -> list[Row]:
    """Writes in pairs, then what waits is judged."""
    who = inventory(3_000, 10)
    text = "\n---\n".join(json.dumps(item) for item in documents(1_000, 3_000))
    traffic = _Traffic(who)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        plain, audited = _Writing(f"{folder}/plain", traffic, ""), _Writing(f"{folder}/audited", traffic, text)
        without, with_ = pairs(plain.one, audited.one, _BATCHES)
        judge = Judge(audited.store, FixedInventories(who.records))
        rates: list[float] = []
        while audited.store.audit.backlog():
            begin = time.process_time()
            turn = judge.turn()
            assert turn is not None
            rates.append(turn.totals.facts / (time.process_time() - begin))
        for _ in range(3):  # warm: the set is compiled, and its denials are known
            audited.one()
            begin = time.process_time()
            turn = judge.turn()
            assert turn is not None
            rates.append(turn.totals.facts / (time.process_time() - begin))
        plain.store.close()
        audited.store.close()
    cost, warm = ratio(without, with_), Spread.of(rates[-3:])
    note = f"a batch of {_FACTS:,} facts: {Spread.of(without).text(3, ' s')} without"
    first = f"cold, with compilation and evidence: {rates[0]:,.0f} facts/s CPU"
    return [
        Row(
            "policy audit: writing a batch with an audited set",
            cost.text(2, " ×"),
            "≤ 1.25 ×",
            cost.median <= 1.25,
            note,
        ),
        Row(
            "policy audit: facts judged a second of one core, 1,000 policies × 30,000 pods, two thirds denied",
            warm.text(0),
            "≥ 2,000",
            warm.median >= 2_000,
            first,
        ),
    ]
