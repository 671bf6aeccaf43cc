"""Settings of the probes: how much kernel memory they may have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fathom.settings import setting

#: What one entry costs, and what each CPU adds to it, as the kernel accounts for it (``memlock`` of a map). A flow has
#: an entry in each of two per-CPU maps, and so has its owner in two plain ones.
TCP_SOCKET_BYTES, FLOW_SOCKET_BYTES, FLOW_BYTES, FLOW_BYTES_A_CPU = 256, 120, 480, 112
#: For flows between two drains; with all else 32 MiB at 16 CPUs.
_FLOW_BUDGET = 10 << 20


def possible_cpus(possible: Path = Path("/sys/devices/system/cpu/possible")) -> int:
    """CPUs that may ever be there (a hypervisor may promise many): a per-CPU map has a value for each."""
    try:
        last = possible.read_text().strip().rpartition(",")[2]
        return int(last.rpartition("-")[2]) + 1
    except (OSError, ValueError):
        return os.cpu_count() or 1


def tcp_sockets_for(cpus: int) -> int:
    """TCP connections that a machine with so many CPUs can have open at once."""
    return max(16384, min(49152, 8192 * cpus))


def flow_entries_for(cpus: int) -> int:
    """Flows between two drains: the more CPUs, the larger an entry, so the fewer entries."""
    room = _FLOW_BUDGET // (FLOW_BYTES + FLOW_BYTES_A_CPU * cpus)
    return max(1024, min(16384, room // 1024 * 1024))


def flow_sockets_for(cpus: int) -> int:
    """Sockets of other protocols than TCP that live at once."""
    return max(8192, min(16384, 4096 * cpus))


@dataclass(frozen=True)
class ProbeSettings:
    """Kernel memory of the probes; 0 means: by the number of CPUs."""

    ring_bytes: int = setting(4 << 20, "All ring buffers together.", unit="bytes", minimum=4096, power_of_two=True)
    tcp_sockets: int = setting(
        0, "TCP connections that can be open at once and still be tracked (256 bytes each).", unit="entries", minimum=0
    )
    flow_entries: int = setting(
        0, "Flows of other protocols between two drains; two maps, each with a value a CPU.", unit="entries", minimum=0
    )
    flow_sockets: int = setting(0, "Sockets of other protocols whose owner is remembered.", unit="entries", minimum=0)

    @property
    def tcp_sockets_here(self) -> int:
        """``tcp_sockets``, or what fits this machine."""
        return self.tcp_sockets or tcp_sockets_for(possible_cpus())

    @property
    def flow_entries_here(self) -> int:
        """``flow_entries``, or what fits this machine."""
        return self.flow_entries or flow_entries_for(possible_cpus())

    @property
    def flow_sockets_here(self) -> int:
        """``flow_sockets``, or what fits this machine."""
        return self.flow_sockets or flow_sockets_for(possible_cpus())
