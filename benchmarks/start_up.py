"""From the start of the agent's process to the first event that it can show."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.request

from benchmarks.product import LOCAL, Product
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
                with urllib.request.urlopen(f"http://127.0.0.1:{LOCAL}/api/v1/events?port=1", timeout=5) as answer:
                    seen = b'"failed"' in answer.read()
            seconds.append(time.monotonic() - product.started)
    spread = Spread.of(seconds)
    return [Row("agent: start to first event", spread.text(2, " s"), f"≤ {BAR:g} s", spread.median <= BAR)]
