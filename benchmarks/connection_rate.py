"""10,000 connections a second, both ends on this machine: what the kernel's programs and the agent cost together.

The kernel's share is what a connection's own CPU time grows by, pair by pair, with the programs attached and not; the
agent's is what its process uses while it watches that load.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.load import Load
from benchmarks.product import Product
from benchmarks.report import Row, Spread, pairs
from benchmarks.tcp_connect import Attached

RATE, ROUNDS, WINDOWS, BAR = 10_000, 21, 7, 6.0


def run() -> list[Row]:
    command = f"paced {RATE} 1"
    kernel, user = _kernel(command), _agent(command)
    both = Spread(kernel.median + user.median, kernel.low + user.low, kernel.high + user.high)
    return [
        Row(
            "10,000 connections a second, both ends: kernel and agent",
            both.text(1, " % of a core"),
            f"≤ {BAR:g} %",
            both.median <= BAR,
            f"kernel {kernel.text(1, ' %')}, agent {user.text(1, ' %')}",
        )
    ]


def _kernel(command: str) -> Spread:
    """Per cent of a core at RATE that the programs of both probes add to the load itself."""
    with ExitStack() as stack:
        load, attached = stack.enter_context(Load()), Attached(stack)
        bare, probed = pairs(
            lambda: attached.run(load, command, tcp=False, flow=False),
            lambda: attached.run(load, command, tcp=True, flow=True),
            ROUNDS,
        )
    return Spread.of([(b - a) * RATE / 1e9 * 100 for a, b in zip(bare, probed, strict=True)])


def _agent(command: str) -> Spread:
    """Per cent of a core that the agent uses meanwhile."""
    shares = []
    with Product(server=False) as product, Load() as load:
        load.run(command)
        for _ in range(WINDOWS):
            before = product.cost()
            _, wall = load.run(command)
            spent = product.cost().cpu_s - before.cpu_s
            shares.append(100 * spent / (wall * RATE / 1e9))
    return Spread.of(shares)
