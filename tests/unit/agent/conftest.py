"""An agent in virtual time over false probes and false processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fathom.agent.agent import Agent
from fathom.agent.clock import FakeClock
from fathom.agent.fake import FakeProbe
from fathom.agent.grouping import Grouping
from fathom.agent.reduce import Dropped, Reducer
from fathom.agent.settings import AgentSettings
from fathom.agent.sink import MemorySink
from fathom.events.batches import Batch, Clock
from fathom.events.edges import Workload
from fathom.identity.cgroups import CgroupTree
from fathom.identity.identities import Bounds, Identities
from fathom.identity.own import OwnProcesses


def render(records: Any, kind: str, clock: Any) -> list[dict[str, Any]]:
    """A readable form that needs no kernel object."""
    return [
        {"time": int(r["time"]) + clock.wall_ns - clock.monotonic_ns, "pid": int(r["pid"]), "of": kind} for r in records
    ]


class Numbered:
    """Identities for which a row's pid is the number of its workload. As much of ``Identities`` as grouping needs."""

    def __init__(self, table: list[Workload]) -> None:
        self.table = table
        self.workloads = SimpleNamespace(keys=np.arange(len(table), dtype=np.uint64) * 11 + 11)
        self.checks = 0
        self.sure = True
        self.asked = 0

    def keep_fresh(self, now: Clock) -> None:
        """There is nothing to check."""

    def resolve(self, rows: np.ndarray, now: Clock) -> tuple[list[Workload], np.ndarray]:
        """The table, and the pids."""
        assert now
        self.asked += rows.size
        return self.table, rows["pid"].astype(np.int32)


class Reduction:
    """Grouping and reducing as a turn does, of rows whose pid is the number of a workload in ``table``."""

    def __init__(self, table: list[Workload], max_edges: int = 1000, interval_s: int = 10) -> None:
        self.reducer = Reducer(interval_s, max_edges)
        self.identities = Numbered(table)
        self.grouping = Grouping(self.identities, self.reducer.edges)  # type: ignore[arg-type]

    def add(self, rows: np.ndarray, offset_ns: int, latest_ns: int) -> Dropped:
        """Count rows."""
        numbers = self.grouping.numbers(rows, Clock(0, 0, 0))
        return self.reducer.add(rows, numbers, offset_ns, latest_ns)


class World:
    """One agent with a ``tcp`` and a ``flow`` probe; ``pass_time`` lets it turn."""

    def __init__(self, empty: Path, **settings: Any) -> None:
        self.clock = FakeClock()
        self.tcp, self.flow = FakeProbe("tcp"), FakeProbe("flow")
        self.sink = MemorySink()
        self.settings = AgentSettings(**{"node": "n1", "api_port": 0, **settings})
        identities = Identities(
            "n1",
            own=OwnProcesses(1, empty),
            cgroups=CgroupTree(None),
            proc=empty,
            bounds=Bounds(workloads=self.settings.max_workloads, lookups_per_s=1_000_000),
        )
        self.agent = Agent(
            self.settings, [self.tcp, self.flow], identities, self.sink, self.clock, render=render, boot="b00t"
        )

    def now(self) -> int:
        """Monotonic ns, as the kernel would stamp an event now."""
        return self.clock.monotonic_ns

    async def pass_time(self, seconds: float) -> None:
        """Turn as the agent's loop does, tick by tick, for so long; what was drafted reaches the sink."""
        end = self.clock.monotonic_ns + round(seconds * 1e9)
        while self.clock.monotonic_ns < end:
            self.clock.advance(min(self.settings.tick_ms / 1000, (end - self.clock.monotonic_ns) / 1e9))
            self.turn()
        await self.settle()

    def turn(self, *, last: bool = False) -> None:
        """One turn now."""
        draft = self.agent.turns.turn(self.clock.now(), last=last)
        if draft:
            self.agent.sender.offer(draft)

    async def settle(self) -> None:
        """Let the sender hand over."""
        giving = asyncio.create_task(self.agent.sender.run())
        await self.agent.sender.drained()
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)

    @property
    def batches(self) -> list[Batch]:
        """What the sink got."""
        return self.sink.batches

    def facts(self) -> np.ndarray:
        """All facts that the sink got."""
        return np.concatenate([batch.facts for batch in self.batches])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        """The agent's own loop, until the block ends."""
        task = asyncio.create_task(self.agent.run())
        await asyncio.sleep(0)
        try:
            yield self.agent
        finally:
            self.agent.stop()
            await task


@pytest.fixture
def reduction() -> type[Reduction]:
    """The class, to be made with a table of workloads."""
    return Reduction


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    """Makes a world; keywords are settings."""
    return lambda **settings: World(tmp_path, **settings)
