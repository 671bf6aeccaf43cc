"""The agent's own bounds: memory, and what is given up for it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fathom.agent.fake import observation
from fathom.agent.limits import MemoryBudget, cpu_ns, resident_bytes
from fathom.agent.recent import RecentEvents

PAGE = os.sysconf("SC_PAGE_SIZE")


def test_resident_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("1000 250 100 1 0 200 0\n")
    assert resident_bytes(statm) == 250 * PAGE
    held = np.ones(32 << 20, np.uint8)
    assert resident_bytes() > held.nbytes


def test_cpu_time_passes() -> None:
    before = cpu_ns()
    while cpu_ns() - before < 1_000_000:
        sum(range(1000))


def test_over_budget_recent_events_are_given_up_step_by_step(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("0 1000 0 0 0 0 0\n")
    ring = RecentEvents("tcp", 400_000)
    ring.add(observation(2_000, time=np.arange(2_000)), 1_999)
    budget = MemoryBudget(2000 * PAGE, statm)
    assert budget.check([ring])
    assert (budget.over, ring.limit_bytes, len(ring)) == (0, 400_000, 2_000)
    statm.write_text("0 3000 0 0 0 0 0\n")
    limits = []
    for _ in range(4):
        assert not budget.check([ring])
        limits.append(ring.limit_bytes)
    assert limits == [200_000, 100_000, 65_536, 65_536]
    assert budget.over == 4
    assert len(ring) == 65_536 // ring.newest(0, 1).itemsize
    assert ring.newest(0, 1)["time"][0] == 1_999
    assert ring.overwritten + len(ring) == 2_000
