"""10,000 connections a second, both ends on this machine: what the kernel's programs and the agent cost together.

The kernel's share is what the load's own CPU time grows by, pair by pair, with and without the agent.
"""

from __future__ import annotations

from benchmarks.load import Load
from benchmarks.product import Product
from benchmarks.report import Row, Spread

RATE, SECONDS, ROUNDS, BAR = 10_000, 4, 7, 6.0


def run() -> list[Row]:
    kernel, user = [], []
    command = f"paced {RATE} {SECONDS}"
    with Load() as load:
        load.run(command)
        for _ in range(ROUNDS):
            bare, wall = load.run(command)
            with Product(server=False) as product:
                load.run(command)
                before = product.cost()
                probed, _ = load.run(command)
                spent = product.cost().cpu_s - before.cpu_s
            achieved = 1e9 / wall
            kernel.append((probed - bare) * achieved / 1e9 * 100)
            user.append(spent / (SECONDS * RATE / achieved) * 100)
    both = Spread.of([a + b for a, b in zip(kernel, user, strict=True)])
    note = f"kernel {Spread.of(kernel).text(1, ' %')}, agent {Spread.of(user).text(1, ' %')}; {achieved:,.0f} a second"
    return [
        Row(
            "connections, both ends: kernel and agent",
            both.text(1, " % of a core"),
            f"≤ {BAR:g} %",
            both.median <= BAR,
            note,
        )
    ]
