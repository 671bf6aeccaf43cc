"""What a connection costs more with the probes attached: connect, accept, 64 bytes each way, close, both ends here."""

from __future__ import annotations

import os
from contextlib import ExitStack

from benchmarks.load import Load
from benchmarks.report import Row, Spread, pairs, ratio
from fathom.kernel.cgroups import open_root
from fathom.kernel.objects import Object, Spec
from fathom.probes.flow import PACKET_HOOKS, SOCKET_HOOKS
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import PROGRAMS

ROUNDS, CONNECTIONS = 31, 3000


class Attached:
    """The programs of both probes, loaded once; attached and detached round by round."""

    def __init__(self, stack: ExitStack) -> None:
        settings = ProbeSettings()
        self._tcp = stack.enter_context(
            Spec.of("tcp").sized(tcp_events=settings.ring_bytes, tcp_sockets=settings.tcp_sockets_here).load()
        )
        self._ring = self._tcp.ring("tcp_events", self._tcp.btf.struct("tcp_event").dtype)
        entries = settings.flow_entries_here
        self._flow: Object = stack.enter_context(Spec.of("flow").sized(flows_0=entries, flows_1=entries).load())
        self._root = open_root()
        stack.callback(os.close, self._root)

    def run(self, load: Load, command: str, *, tcp: bool, flow: bool) -> float:
        """CPU nanoseconds per unit of ``command`` with these attached."""
        with ExitStack() as stack:
            if tcp:
                for program in PROGRAMS:
                    stack.enter_context(self._tcp.attach(program))
            if flow:
                for program, hook in {**SOCKET_HOOKS, **PACKET_HOOKS}.items():
                    stack.enter_context(self._flow.attach_cgroup(program, self._root, hook))
            cost = load.run(command)[0]
        self._ring.drain()
        return cost


def run() -> list[Row]:
    rows = []
    command = f"connect {CONNECTIONS}"
    for name, flow, bar in (("tcp", False, 1.06), ("tcp and flow", True, 1.12)):
        with ExitStack() as stack:
            load, attached = stack.enter_context(Load()), Attached(stack)

            def without(load: Load = load, attached: Attached = attached) -> float:
                return attached.run(load, command, tcp=False, flow=False)

            def with_(load: Load = load, attached: Attached = attached, flow: bool = flow) -> float:
                return attached.run(load, command, tcp=True, flow=flow)

            bare, probed = pairs(without, with_, ROUNDS)
        spread, base = ratio(bare, probed), Spread.of(bare)
        added = Spread.of([b - a for a, b in zip(bare, probed, strict=True)])
        rows.append(
            Row(
                f"connect loop, with {name} / without (CPU time, both ends)",
                spread.text(),
                f"≤ {bar}",
                spread.median <= bar,
                f"{base.median / 1000:.1f} µs a connection without, {added.text(0, ' ns')} added",
            )
        )
    return rows
