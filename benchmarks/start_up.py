"""From the start of the agent's process to the first event that it can show."""

from __future__ import annotations

import contextlib
import socket
import time

from benchmarks.product import Product
from benchmarks.report import Row, Spread

ROUNDS, BAR = 5, 2.0


def run() -> list[Row]:
    seconds = []
    for _ in range(ROUNDS):
        with Product(server=False) as product:
            seen = False
            while not seen:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", 1), 1)
                seen = b'"failed"' in product.local("/api/v1/events?port=1")
            seconds.append(time.monotonic() - product.started)
    spread = Spread.of(seconds)
    return [Row("agent: start to first event", spread.text(2, " s"), f"≤ {BAR:g} s", spread.median <= BAR)]
