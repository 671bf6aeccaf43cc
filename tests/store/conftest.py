"""Engines that hold to the store's contract: a new engine joins by one more entry in ``ENGINES``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.store.interface import Store
from fathom.store.memory import MemoryStore
from fathom.store.opening import open_store

NS = 1_000_000_000
#: 2023-11-15 00:00:00 UTC.
DAY = 1_700_006_400


@dataclass
class World:
    """What a test has in hand: a clock that it sets, and batches that it makes."""

    now: float = float(DAY + 43_200)
    sequences: dict[str, Iterator[int]] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now

    def edge(self, name: str = "web.service", *, peer: str = "10.0.0.1", node: str = "n1", **more: object) -> Edge:
        who = {k: more.pop(k) for k in ("cluster", "namespace", "kind", "pod", "container") if k in more}
        workload = Workload(**{"node": node, "kind": "unit", "name": name, **who})
        direction = more.pop("direction", "egress")
        address = more.pop("peer_address", peer)
        return Edge(workload, direction, peer, address, **{"protocol": "TCP", "port": 443, **more})

    def facts(self, *rows: tuple[Edge | int, int, dict[str, int]]) -> np.ndarray:
        facts = np.zeros(len(rows), FACT)
        for fact, (edge, bucket, counters) in zip(facts, rows, strict=True):
            fact["edge"], fact["bucket"] = getattr(edge, "id", edge), bucket
            for name, value in counters.items():
                fact[name] = value
        return facts

    def batch(
        self,
        *rows: tuple[Edge, int, dict[str, int]],
        node: str = "n1",
        boot: str = "boot",
        sequence: int | None = None,
        edges: tuple[Edge, ...] | None = None,
        losses: tuple[Loss, ...] = (),
        observed: tuple[tuple[float, float], ...] = (),
        wall_s: float | None = None,
    ) -> Batch:
        number = sequence or next(self.sequences.setdefault(f"{node}:{boot}", itertools.count(1)))
        told = tuple(dict.fromkeys(row[0] for row in rows)) if edges is None else edges
        wall = self.now if wall_s is None else wall_s
        stretches = tuple(Observed(int(a * NS), int(b * NS)) for a, b in observed)
        return Batch(
            BatchId(node, boot, number), Clock(0, 0, int(wall * NS)), told, self.facts(*rows), losses, stretches
        )


def numbered(world: World, number: int) -> Batch:
    """Batch ``number`` of one agent: always the same, over midnight now and then, with edges of its own."""
    bucket = DAY + (86_400 if number % 7 == 0 else 40_000) - 5 + number % 3
    edges = [world.edge(f"w{number % 50 + i}") for i in range(20)]
    return world.batch(
        *((edge, bucket + 10 * i, {"connections": 1}) for i in range(connections(number) // 20) for edge in edges),
        losses=(Loss(bucket, "kernel", "tcp", "ring_full", 1),),
        observed=((bucket, bucket + 10),),
        sequence=number,
    )


def connections(number: int) -> int:
    """How many connections batch ``number`` tells."""
    return 20 * (1 + number % 3)


Open = Callable[..., Store]


def _sqlite(folder: Path, world: World) -> Open:
    return lambda **more: open_store(f"sqlite://{folder}/store", clock=world.clock, **more)


def _memory(_folder: Path, world: World) -> Open:
    return lambda **more: MemoryStore(clock=world.clock, **more)


ENGINES = {"sqlite": _sqlite, "memory": _memory}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=sorted(ENGINES))
def open_engine(request: pytest.FixtureRequest, tmp_path: Path, world: World) -> Open:
    """Opens the store of one engine; SQLite's is the same one each time."""
    return ENGINES[request.param](tmp_path, world)


@pytest.fixture
def store(open_engine: Open) -> Iterator[Store]:
    store = open_engine()
    yield store
    store.close()


@pytest.fixture
def open_sqlite(tmp_path: Path, world: World) -> Open:
    return _sqlite(tmp_path, world)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where ``open_sqlite`` puts the files."""
    return tmp_path / "store"
