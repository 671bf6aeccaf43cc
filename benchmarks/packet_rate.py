"""What packets cost more with the flow probe attached: UDP datagrams of 64 bytes, and TCP in bulk; over loopback, where
every packet passes the egress and the ingress hook. Beside it, hooks that do nothing: what it costs to be there at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.load import Load, bpf_object
from benchmarks.report import Row, Spread, pairs
from fathom.kernel import _libbpf
from fathom.kernel.cgroups import open_root
from fathom.kernel.objects import Object, Spec
from fathom.probes.flow import PACKET_HOOKS, SOCKET_HOOKS
from fathom.probes.settings import ProbeSettings

ROUNDS = 31
WORK = (("UDP, 64 bytes", "udp 40000", 0.88), ("TCP in bulk", "bulk 512", 0.98))
_EMPTY = {"empty_egress": _libbpf.CGROUP_INET_EGRESS, "empty_ingress": _libbpf.CGROUP_INET_INGRESS}


def run() -> list[Row]:
    rows = []
    with ExitStack() as stack:
        settings = ProbeSettings()
        entries = settings.flow_entries_here
        flow = stack.enter_context(Spec.of("flow").sized(flows_0=entries, flows_1=entries).load())
        empty = stack.enter_context(Spec(bpf_object("empty")).load())
        root = open_root()
        stack.callback(os.close, root)
        load = stack.enter_context(Load())

        def cost(command: str, loaded: Object | None, hooks: dict[str, int]) -> Callable[[], float]:
            def once() -> float:
                with ExitStack() as links:
                    for program, hook in hooks.items():
                        assert loaded
                        links.enter_context(loaded.attach_cgroup(program, root, hook))
                    return load.run(command)[0]

            return once

        for name, command, bar in WORK:
            bare, probed = pairs(cost(command, None, {}), cost(command, flow, {**SOCKET_HOOKS, **PACKET_HOOKS}), ROUNDS)
            kept = Spread.of([a / b for a, b in zip(bare, probed, strict=True)])
            added = Spread.of([b - a for a, b in zip(bare, probed, strict=True)])
            unit = "a datagram" if command.startswith("udp") else "a MiB"
            note = f"{Spread.of(bare).median:.0f} ns {unit} without, {added.text(0, ' ns')} added"
            rows.append(Row(f"{name}: rate with flow / without", kept.text(), f"≥ {bar}", kept.median >= bar, note))
            bare, hooked = pairs(cost(command, None, {}), cost(command, empty, _EMPTY), ROUNDS)
            floor = Spread.of([a / b for a, b in zip(bare, hooked, strict=True)])
            rows.append(Row(f"{name}: rate with empty hooks / without", floor.text(), "—", True, "for comparison"))
    return rows
