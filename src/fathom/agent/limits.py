"""What the agent itself uses: resident memory and CPU time, and what is given up when memory goes over its budget."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from fathom.agent.frugal import give_back
from fathom.agent.recent import RecentEvents

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SMALLEST = 64 * 1024


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process (format: proc_pid_statm(5))."""
    return int(statm.read_text().split()[1]) * _PAGE


def cpu_ns() -> int:
    """CPU time of this process, user and system, all threads."""
    return time.process_time_ns()


class MemoryBudget:
    """Looks at resident memory; over ``budget_bytes``, the rings of recent events are halved, down to 64 KiB each."""

    def __init__(self, budget_bytes: int, statm: Path = Path("/proc/self/statm")) -> None:
        self.budget_bytes = budget_bytes
        self.over = 0
        self.resident = 0
        self._statm = statm

    def check(self, rings: Sequence[RecentEvents]) -> bool:
        """Whether memory is within the budget; if not, counts it and gives up recent events."""
        give_back()
        self.resident = resident_bytes(self._statm)
        if self.resident <= self.budget_bytes:
            return True
        self.over += 1
        for ring in rings:
            if ring.limit_bytes > _SMALLEST:
                ring.shrink(max(ring.limit_bytes // 2, _SMALLEST))
        return False
