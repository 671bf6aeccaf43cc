"""What a scrape of a full agent costs: 10,000 series, rendered in the agent's process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import Row, Spread
from fathom.agent.agent import Agent
from fathom.agent.clock import FakeClock
from fathom.agent.fake import FakeProbe, observation
from fathom.agent.settings import AgentSettings
from fathom.agent.sink import MemorySink
from fathom.identity.cgroups import CgroupTree
from fathom.identity.identities import Bounds, Identities

SERIES, BAR_MS, ROUNDS = 10_000, 25.0, 31


def full_agent(empty: Path) -> Agent:
    """An agent whose series are as many as it allows: each workload connects, fails and sends."""
    clock, probe = FakeClock(), FakeProbe()
    identities = Identities("n", proc=empty, cgroups=CgroupTree(None), bounds=Bounds(lookups_per_s=1_000_000))
    agent = Agent(AgentSettings(max_series=SERIES), [probe], identities, MemorySink(), clock)
    for start in range(0, 800, 100):
        rows = observation(100, pid=np.arange(100) + start + 2, latency=250_000, bytes_sent=1_000, bytes_received=99)
        rows["comm"] = [f"service-{start + i}".encode() for i in range(100)]
        failed = rows.copy()
        failed["failures"], failed["connections"], failed["verdict"], failed["reason"] = 1, 0, 2, 1
        probe.show(rows)
        probe.show(failed)
        clock.advance(1)
        agent.turns.turn(clock.now())
    return agent


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as empty:
        agent = full_agent(Path(empty))
        text = agent.metrics()
        series = sum(1 for line in text.splitlines() if not line.startswith("#"))
        taken = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            agent.metrics()
            taken.append(1_000 * (time.perf_counter() - start))
    spread = Spread.of(taken)
    met = spread.median <= BAR_MS and series >= SERIES
    return [Row(f"/metrics, {series:,} series", spread.text(1, " ms"), f"≤ {BAR_MS:g} ms", met)]
