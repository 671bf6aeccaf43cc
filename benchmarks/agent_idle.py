"""What the agent costs when next to nothing happens."""

from __future__ import annotations

import time

from benchmarks.product import Product
from benchmarks.report import Row, Spread

WINDOWS, SECONDS, BAR = 6, 10, 0.5


def run() -> list[Row]:
    shares = []
    with Product() as product:
        time.sleep(12)
        for _ in range(WINDOWS):
            before = product.cost()
            time.sleep(SECONDS)
            shares.append(100 * (product.cost().cpu_s - before.cpu_s) / SECONDS)
        rss = product.cost().rss_mib
    spread = Spread.of(shares)
    met = spread.median <= BAR and rss <= 64
    return [Row("agent, idle", f"{spread.text(2, ' % of a core')}, {rss:.0f} MiB", f"≤ {BAR} %, ≤ 64 MiB", met)]
