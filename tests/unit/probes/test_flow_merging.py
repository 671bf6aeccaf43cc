"""What a drain makes of one value a CPU: ticks that wrap, owners by socket."""

from __future__ import annotations

import numpy as np
import pytest

from fathom.events.btf import Btf
from fathom.events.observations import OwnerSource
from fathom.kernel.objects import FOLDER
from fathom.probes.flow import _own, _ticks

WRAP = 1 << 32


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf.of(FOLDER / "flow.bpf.o")


@pytest.mark.parametrize(
    ("first", "last", "passed"),
    [
        (100, (100, 0), 0),
        (100, (103, 0), 3),
        (100, (101, 107), 7),  # the other CPU saw the last packet
        (WRAP - 2, (WRAP - 1, 3), 5),  # the count began anew
        (100, (100, 99), 0),  # a CPU that is a tick behind
    ],
)
def test_ticks_pass_over_all_cpus(btf: Btf, first: int, last: tuple[int, int], passed: int) -> None:
    """The first CPU made the entry; the second added to it, unless its last tick is 0."""
    counts = np.zeros((1, 2), btf.struct("flow_counts").dtype)
    counts["first_tick"][0, 0] = first
    counts["last_tick"][0] = last
    counts["packets_received"][0] = [1, int(last[1] > 0)]
    assert _ticks(counts).tolist() == [passed]


def test_owners_are_put_in_by_socket(btf: Btf) -> None:
    rows = np.zeros(4, btf.struct("flow_event").dtype)
    rows["socket"] = [7, 5, 7, 9]
    owners = np.zeros(2, btf.struct("flow_owner").dtype)
    owners["pid"], owners["created"] = [70, 50], [700, 0]
    owners["comm"], owners["owner_source"] = [b"seven", b"five"], [OwnerSource.SOCKET, OwnerSource.TASK_FILE]
    created = _own(rows, np.array([7, 5], np.uint64), owners)
    assert rows["pid"].tolist() == [70, 50, 70, 0]
    assert rows["comm"].tolist() == [b"seven", b"five", b"seven", b""]
    assert rows["owner_source"].tolist() == [6, 3, 6, 0]
    assert created.tolist() == [700, 0, 700, 0]


def test_without_owners_nobody_owns(btf: Btf) -> None:
    rows = np.zeros(1, btf.struct("flow_event").dtype)
    rows["socket"] = 3
    nobody = np.zeros(0, btf.struct("flow_owner").dtype)
    assert _own(rows, np.zeros(0, np.uint64), nobody).tolist() == [0]
    assert rows["pid"].tolist() == [0]
