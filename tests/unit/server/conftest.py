"""A whole server in this process: the real SQLite store, a hub in memory, a clock that stands still."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, cast

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from fathom.agent.questions import EventsAnswer, EventsQuestion, ProbeStatus, Question, StatusAnswer
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.link.hub import NodeState
from fathom.server.app import create_app
from fathom.server.auditor import Auditor
from fathom.server.hub import MemoryHub
from fathom.server.inventories import FixedInventories
from fathom.server.judging import Judge
from fathom.server.keys import Keys, StoredKey
from fathom.server.meters import Meters
from fathom.server.settings import ServerSettings
from fathom.store.interface import Store
from fathom.store.opening import open_store
from fathom.wire.messages import SpoolState

sys.path.insert(0, str(Path(__file__).parent))

#: 2026-01-31T12:00:00Z, a multiple of ten seconds.
NOW = 1_769_860_800
KEY = "fathom_admin_" + "k" * 43


def edge(name: str = "nginx", peer: str = "10.0.0.7", **given: Any) -> Edge:
    """An edge of unit ``name`` on node n1."""
    fields: dict[str, Any] = {"direction": "egress", "protocol": "TCP", "port": 5432, **given}
    return Edge(Workload(node="n1", kind="unit", name=name), peer=peer, peer_address=peer, **fields)


def state(node: str = "n1", **given: Any) -> NodeState:
    """A connected node."""
    fields: dict[str, Any] = {
        "boot": "b1",
        "version": "0.1.0",
        "features": ("tcp",),
        "connected": True,
        "peer": "ipv4:127.0.0.1:1",
        "connected_ns": NOW * 1_000_000_000,
        "heard_ns": NOW * 1_000_000_000,
        "skew_ns": 0,
        "spool": SpoolState(),
    }
    return NodeState(node=node, **{**fields, **given})


def answering(events: Sequence[dict[str, Any]] = (), **status: Any) -> Callable[[Question], Any]:
    """An agent that holds ``events`` (newest first) and has the status given."""

    def answer(question: Question) -> Any:
        if isinstance(question, EventsQuestion):
            found = list(events)[: question.limit]
            return EventsAnswer(found, len(events) > len(found), 5, 3)
        fields: dict[str, Any] = {
            "state": "ok", "problems": [], "node": "n1", "boot": "b1", "version": "0.1.0", "started_ns": 0,
            "interval_s": 10, "probes": [ProbeStatus("tcp", True)], "sink_ok": True, "sink_detail": "", "batches": 0,
            "queued": 0, "facts": 0, "edges": 0, "workloads": 0, "own_excluded": 0, "rss_bytes": 0, "cpu_ns": 0,
            "clock_steps": 0,
        }  # fmt: skip
        return StatusAnswer(**{**fields, **status})

    return answer


class ScriptedStore:
    """The real store, but for what is in ``instead``: by a method's name, what is called in its place."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.instead: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.instead.get(name) or getattr(self._store, name)


@dataclass
class World:
    """The server, its surroundings, and a client that has the key."""

    store: Any
    hub: MemoryHub
    settings: ServerSettings
    meters: Meters
    app: FastAPI
    http: httpx.AsyncClient
    sequence: int = 0
    now: int = NOW
    key: str = KEY
    edge: ClassVar[Any] = staticmethod(edge)
    state: ClassVar[Any] = staticmethod(state)
    answering: ClassVar[Any] = staticmethod(answering)
    now_ns: list[int] = field(default_factory=lambda: [NOW * 1_000_000_000])
    inventories: FixedInventories = field(default_factory=FixedInventories)

    @property
    def auditor(self) -> Auditor:
        """The server's auditor, which judges when a test calls ``judge``."""
        auditor: Auditor = self.app.state.desk.auditor
        return auditor

    async def judge(self) -> None:
        """Judge all that waits."""
        while await self.auditor.turn() is not None:
            pass

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        """The JSON that ``path`` answers, which must come with ``status``."""
        return await self.ask("GET", path, status, params=params)

    async def ask(self, method: str, path: str, status: int = 200, **given: Any) -> Any:
        """The same with any method; ``given`` are those of httpx."""
        response = await self.http.request(method, f"/api/v1{path}", **given)
        assert response.status_code == status, response.text
        if status == 204:
            assert response.content == b""
            return None
        kind = "application/json" if status == 200 else "application/problem+json"
        assert response.headers["content-type"] == kind
        return response.json()

    def write(self, *facts: tuple[Edge, int, dict[str, int]], losses: tuple[Loss, ...] = (), node: str = "n1") -> None:
        """Store one batch of facts (edge, seconds before now, counters) that observed the last five minutes."""
        self.sequence += 1
        rows = np.zeros(len(facts), FACT)
        for row, (edge, ago, counters) in zip(rows, facts, strict=True):
            row["edge"], row["bucket"] = edge.id, NOW - ago
            for name, value in counters.items():
                row[name] = value
        clock = Clock(0, 0, NOW * 1_000_000_000)
        observed = (Observed((NOW - 600) * 1_000_000_000, NOW * 1_000_000_000),)
        batch = Batch(BatchId(node, "b1", self.sequence), clock, tuple(f[0] for f in facts), rows, losses, observed)
        assert self.store.write(batch)


@pytest.fixture
def keys() -> Keys:
    """One admin key, ``KEY``."""
    return Keys([StoredKey("admin", "admin", sha256(KEY.encode()).hexdigest())])


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ServerSettings:
    """Defaults, but for a data directory; a test changes some by ``@pytest.mark.parametrize("settings", [{...}],
    indirect=True)``."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return ServerSettings(**{"data_dir": str(data), **getattr(request, "param", {})})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite store whose clock shows ``NOW``."""
    opened = open_store(f"sqlite://{tmp_path}/store", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
async def world(store: Store, settings: ServerSettings, keys: Keys) -> AsyncIterator[World]:
    """See ``World``."""
    hub, meters, now_ns = MemoryHub(), Meters(), [NOW * 1_000_000_000]
    scripted, inventories = cast(Store, ScriptedStore(store)), FixedInventories()
    auditor = Auditor(Judge(scripted, inventories), meters.audit, lambda: now_ns[0] / 1e9)
    app = create_app(scripted, hub, settings, keys, meters=meters, auditor=auditor, now_ns=lambda: now_ns[0])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=True),
        base_url="http://127.0.0.1:8600",
        headers={"Authorization": f"Bearer {KEY}"},
    ) as http:
        yield World(scripted, hub, settings, meters, app, http, now_ns=now_ns, inventories=inventories)
    await auditor.close()
    app.state.desk.close()
