"""An hour of the example as a store holds it, seen from node-1, ten minutes of it missing; and a server of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from fathom.events.batches import Batch, BatchId, Clock, Observed
from fathom.events.edges import FACT, Direction, Edge, Workload
from fathom.policy import manifests
from fathom.server.app import create_app
from fathom.server.hub import MemoryHub
from fathom.server.keys import Keys, StoredKey
from fathom.server.listening import RestServer
from fathom.server.settings import ServerSettings
from fathom.store.interface import Store, Window
from fathom.store.opening import open_store

BEGIN, END = 1_769_212_800, 1_769_216_400  # 2026-01-24T00:00:00Z, an hour later
WINDOW = Window(BEGIN, END)
NS = 1_000_000_000


def edge(who: str, peer: str, port: int, direction: Direction = "egress") -> Edge:
    """An edge of a workload of the example."""
    space, kind, name = who.split("/")
    return Edge(Workload("", "node-1", space, kind, name), direction, peer, "", "TCP", port)


EDGES = (
    edge("shop/Deployment/web", "shop/Deployment/api", 9090),
    edge("shop/Deployment/api", "shop/StatefulSet/db", 5432),
    edge("shop/Deployment/api", "monitoring/Deployment/prometheus", 9100, "ingress"),
)


def shop_store(example: Path, place: Path) -> Store:
    """A store at ``place`` about the ``example``; to be closed."""
    store = open_store(f"sqlite://{place}", clock=lambda: END)
    facts = np.zeros(6, FACT)
    facts["edge"] = [item.id for item in EDGES] * 2
    facts["bucket"] = [BEGIN + 60] * 3 + [BEGIN + 3_000] * 3
    facts["connections"] = 5
    observed = (Observed(BEGIN * NS, (BEGIN + 1_800) * NS), Observed((BEGIN + 2_400) * NS, END * NS))
    store.write(Batch(BatchId("node-1", "b", 1), Clock(0, 0, END * NS), EDGES, facts, (), observed))
    text = (example / "manifests/shop.yaml").read_text()
    store.keep_inventory(manifests.read_texts([("shop.yaml", text)]).records)
    return store


@contextlib.contextmanager
def serving(store: Store, data: Path | None = None, **more: Any) -> Iterator[str]:
    """The URL of a server over ``store`` that takes the key ``key``, and whose clock stands at the store's end.

    ``data`` is its data directory, ``more`` are settings."""
    settings = ServerSettings(**({"data_dir": str(data)} if data else {}), **more)
    keys = Keys([StoredKey("admin", "admin", sha256(b"key").hexdigest())])
    app = create_app(store, MemoryHub(), settings, keys, now_ns=lambda: END * NS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RestServer(app, settings)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
    app.state.desk.close()
