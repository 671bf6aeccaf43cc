"""Events a second, end to end: made in the kernel, drained, reduced, sent, stored; what the agent costs meanwhile."""

from __future__ import annotations

import os
import time

from benchmarks.load.generator import Generator
from benchmarks.product import Product
from benchmarks.report import Row

RATES = ((100_000, 20, 3.0, 0.0), (1_000_000, 20, 15.0, 0.1))


def run() -> list[Row]:
    rows = []
    for rate, seconds, bar, loss_bar in RATES:
        with Product(interval_s=10) as product:
            ring = product.ring_fd()
            with Generator(ring) as generator:
                before = product.cost()
                start = time.monotonic()
                made = generator.pace(rate, seconds)
                wall = time.monotonic() - start
                after = product.cost()
                lost = generator.refused
            os.close(ring)
            time.sleep(12)
            window = product.get("/api/v1/edges?since=5m&port=443&limit=1000")
            stored = sum(edge["bytes_sent"] for edge in window["items"]) // 1000
        cpu = 100 * (after.cpu_s - before.cpu_s) / wall
        share = 100 * lost / made
        exact = stored + lost == made
        rows.append(
            Row(
                f"{made / wall:,.0f} events/s for {wall:.0f} s, ring to store",
                f"{cpu:.1f} % of a core, {lost} lost, {after.rss_mib:.0f} MiB",
                f"≤ {bar:g} %, {'0 lost' if not loss_bar else f'< {loss_bar} % lost'}, ≤ 64 MiB",
                cpu <= bar and share <= loss_bar and after.rss_mib <= 64 and exact,
                f"made {made}, stored {stored}" + ("" if exact else ": not equal"),
            )
        )
    return rows
