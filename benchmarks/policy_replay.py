"""Replay of 600,000 recorded edges under 1,000 policies: from edges, in columns as the store reads them, to grouped
denials, in seconds of one core."""

from __future__ import annotations

import random
import resource
import time

import numpy as np

from benchmarks.policy_cluster import documents, inventory, policies
from benchmarks.report import Row, Spread
from fathom.events.edges import Edge, EdgeColumns, Workload
from fathom.policy.compile import compile_policies
from fathom.policy.flows import EdgeTable, Flows
from fathom.policy.inventory import Inventory
from fathom.policy.replay import replay
from fathom.policy.resolve import resolve

COUNT = 600_000


def edges(who: Inventory, count: int) -> EdgeColumns:
    """Edges as the store gives them: a pod, and the address of its peer."""
    rng, pods = random.Random(3), who.records.pods
    found: list[tuple[int, Edge]] = []
    for number in range(count):
        mine, theirs = rng.choice(pods), rng.choice(pods).addresses[0]
        workload = Workload("", mine.node, mine.namespace, *mine.workload, mine.name)
        edge = Edge(workload, "egress", theirs, theirs, "TCP", rng.choice((80, 443, 9000, 5432)))
        found.append((number + 1, edge))
    return EdgeColumns.of(found)


def flows(seen: EdgeColumns) -> Flows:
    """The same as flows, each with a count and a time."""
    table = EdgeTable()
    rows = table.rows(seen)
    rows["count"] = 1 + np.arange(len(rows)) % 9
    rows["first"], rows["last"] = 1_700_000_000, 1_700_600_000
    return Flows(rows, table.strings)


def run() -> list[Row]:
    """Three replays; compilation is part of each."""
    who = inventory(3000, 10)
    seen, made = edges(who, COUNT), policies(documents(1000, 3000))
    times: list[float] = []
    groups = 0
    for _ in range(3):
        begin = time.process_time()
        table = flows(seen)
        compiled, resolved = compile_policies(made, who), resolve(table, who)
        groups = len(replay(compiled, table, resolved).groups)
        times.append(time.process_time() - begin)
    spread = Spread.of(times)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    note = f"{groups} groups; peak of the process {memory:.2f} GiB (bar 1.5), with the edges as columns"
    met = spread.median <= 10 and memory <= 1.5
    return [Row("policy: replay 600,000 edges × 1,000 policies", spread.text(1, " s CPU"), "≤ 10 s", met, note)]
