"""Settings of the probes: how much kernel memory they may have."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fathom.settings import setting


def _by_cpu(each: int, least: int, most: int) -> int:
    cpus = os.cpu_count() or 1
    return max(least, min(most, each * cpus))


@dataclass(frozen=True)
class ProbeSettings:
    """Kernel memory of the probes; 0 means: by the number of CPUs."""

    ring_bytes: int = setting(
        4 << 20, "All ring buffers together.", unit="bytes", minimum=4096, power_of_two=True
    )
    tcp_sockets: int = setting(
        0, "TCP connections that can be open at once and still be tracked (72 bytes each).", unit="entries", minimum=0
    )
    flow_entries: int = setting(
        0, "Flows of other protocols between two drains; two maps, each with a value a CPU.", unit="entries", minimum=0
    )
    flow_sockets: int = setting(0, "Sockets of other protocols whose owner is remembered.", unit="entries", minimum=0)

    @property
    def tcp_sockets_here(self) -> int:
        """``tcp_sockets``, or what fits this machine."""
        return self.tcp_sockets or _by_cpu(8192, 16384, 65536)

    @property
    def flow_entries_here(self) -> int:
        """``flow_entries``, or what fits this machine: the more CPUs, the larger an entry, so the fewer entries."""
        return self.flow_entries or (16384 if (os.cpu_count() or 1) <= 4 else 8192)

    @property
    def flow_sockets_here(self) -> int:
        """``flow_sockets``, or what fits this machine."""
        return self.flow_sockets or _by_cpu(4096, 8192, 32768)
