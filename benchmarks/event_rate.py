"""Events a second, end to end: made in the kernel, drained, reduced, sent, stored; what the agent costs meanwhile."""

from __future__ import annotations

import os
import time

from benchmarks.load.generator import Generator
from benchmarks.product import Product
from benchmarks.report import Row

#: Events a second, for so many seconds; bars: per cent of a core, per cent of events lost, resident MiB (0: none).
RATES = ((100_000, 60, 3.0, 0.0, 64), (1_000_000, 60, 15.0, 0.1, 0))


def run() -> list[Row]:
    rows = []
    for rate, seconds, bar, loss_bar, memory_bar in RATES:
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
            window = product.get("/api/v1/edges?since=5m&port=443&peer=10.0.0.0/16&limit=1000")
            stored = sum(edge["bytes_sent"] for edge in window["items"]) // 1000
        cpu = 100 * (after.cpu_s - before.cpu_s) / wall
        share = 100 * lost / made
        exact = stored + lost == made
        rows.append(
            Row(
                f"{made / wall:,.0f} events/s for {wall:.0f} s, ring to store",
                f"{cpu:.1f} % of a core, {lost} lost, {after.rss_mib:.0f} MiB",
                f"≤ {bar:g} %, {f'< {loss_bar} % lost' if loss_bar else f'0 lost, ≤ {memory_bar} MiB'}",
                cpu <= bar and share <= loss_bar and (not memory_bar or after.rss_mib <= memory_bar) and exact,
                f"made {made}, stored {stored}" + ("" if exact else ": not equal"),
            )
        )
    return rows
