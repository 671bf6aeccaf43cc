"""Observations become workloads: by cgroup, by executable, by the kernel's name; bounded, and beyond death."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.events.batches import Clock
from fathom.events.edges import Workload
from fathom.events.observations import OBSERVATION
from fathom.identity.cgroups import CgroupTree
from fathom.identity.identities import Bounds, Identities
from fathom.identity.own import OwnProcesses
from fathom.identity.workloads import OTHER, OWN, Workloads


def at(second: float) -> Clock:
    return Clock(int(second * 1e9), int(second * 1e9), int((second + 1.7e9) * 1e9))


def seen(*who: tuple[int, int, str], second: float = 100.0) -> np.ndarray:
    rows = np.zeros(len(who), OBSERVATION)
    for row, (cgroup, pid, comm) in zip(rows, who, strict=True):
        row["cgroup"], row["pid"], row["comm"], row["time"] = cgroup, pid, comm.encode(), int(second * 1e9)
    return rows


class Names:
    """Identities over false files; ``names`` resolves and shows."""

    def __init__(self, proc: Any, cgroups: Path, **bounds: int) -> None:
        self.root = cgroups.stat().st_ino
        self.identities = Identities(
            "n1",
            own=OwnProcesses(10, proc.root),
            cgroups=CgroupTree(cgroups, kept_s=600.0),
            proc=proc.root,
            bounds=Bounds(**bounds),
        )

    def names(self, rows: np.ndarray, second: float = 100.0) -> list[str]:
        table, numbers = self.identities.resolve(rows, at(second))
        return [str(table[number]) for number in numbers]


@pytest.fixture
def names(proc: Any, cgroups: Path) -> Names:
    proc.start(10, "fathom", exe="/usr/bin/python3.11")
    return Names(proc, cgroups)


def test_executables_in_the_root_cgroup(names: Names, proc: Any) -> None:
    proc.start(20, "curl", exe="/usr/bin/curl")
    proc.start(21, "script.py", exe="/usr/bin/python3.11")
    rows = seen((names.root, 20, "curl"), (names.root, 21, "script.py"), (names.root, 20, "curl"))
    assert names.names(rows) == ["process/curl", "process/python3.11", "process/curl"]


def test_whole_workload(names: Names, cgroups: Path) -> None:
    cid = "ab" * 32
    (cgroups / f"docker/{cid}").mkdir(parents=True)
    table, numbers = names.identities.resolve(seen(((cgroups / f"docker/{cid}").stat().st_ino, 30, "x")), at(100))
    assert table[numbers[0]] == Workload(node="n1", kind="container", name=cid[:12], container=cid)


def test_the_cgroup_wins_and_its_processes_are_not_looked_up(names: Names, cgroups: Path) -> None:
    (cgroups / "system.slice/nginx.service").mkdir(parents=True)
    unit = (cgroups / "system.slice/nginx.service").stat().st_ino
    assert names.names(seen((unit, 40, "nginx"))) == ["unit/nginx.service"]
    before = names.identities.lookups
    assert names.names(seen(*((unit, pid, "nginx") for pid in range(41, 90)))) == ["unit/nginx.service"] * 49
    assert names.identities.lookups == before


def test_a_dead_process_keeps_the_name_that_it_had(names: Names, proc: Any) -> None:
    proc.start(20, "app", exe="/opt/application")
    assert names.names(seen((names.root, 20, "app"))) == ["process/application"]
    proc.end(20)
    for second in (101.0, 200.0, 500.0):
        assert names.names(seen((names.root, 20, "app")), second) == ["process/application"]


def test_a_process_that_was_gone_at_once_has_the_kernels_name(names: Names) -> None:
    assert names.names(seen((names.root, 20, "short"))) == ["process/short"]
    assert names.identities.fallbacks["gone"] == 1


def test_a_pid_that_began_after_the_event_is_another_process(names: Names, proc: Any) -> None:
    proc.start(20, "late", exe="/usr/bin/late", start_s=99.0)
    assert names.names(seen((names.root, 20, "early"), second=98.0)) == ["process/early"]
    assert names.identities.fallbacks["reused"] == 1


def test_a_reused_pid_gets_its_new_name_after_a_sweep(names: Names, proc: Any) -> None:
    proc.start(20, "python3", exe="/usr/bin/python3.11", start_s=1.0)
    assert names.names(seen((names.root, 20, "python3"))) == ["process/python3.11"]
    proc.start(20, "python3", exe="/usr/bin/python3.12", start_s=120.0)
    assert names.names(seen((names.root, 20, "python3"), second=140.0), 140.0) == ["process/python3.12"]


def test_exec_changes_the_name(names: Names, proc: Any) -> None:
    proc.start(20, "sh", exe="/usr/bin/dash")
    assert names.names(seen((names.root, 20, "sh"))) == ["process/dash"]
    proc.start(20, "curl", exe="/usr/bin/curl")
    assert names.names(seen((names.root, 20, "curl"))) == ["process/curl"]


def test_softirq_is_the_host(names: Names) -> None:
    assert names.names(seen((names.root, 0, ""), (names.root, 0, "swapper/0"))) == ["host/n1", "host/n1"]


def test_own_processes_are_number_zero_and_others_of_that_name_are_not(names: Names, proc: Any) -> None:
    proc.start(11, "python3", exe="/usr/bin/python3.11", parent=10)
    proc.start(12, "grpc", exe="/usr/bin/python3.11", parent=11)
    proc.start(50, "fathom", exe="/usr/local/bin/fathom")
    rows = seen((names.root, 11, "python3"), (names.root, 12, "grpc"), (names.root, 50, "fathom"))
    _, numbers = names.identities.resolve(rows, at(100))
    assert numbers.tolist()[:2] == [OWN, OWN]
    assert numbers[2] != OWN
    assert names.names(rows)[2] == "process/fathom"


def test_own_processes_inside_a_unit_are_still_told_apart(proc: Any, cgroups: Path) -> None:
    path = "system.slice/fathom.service"
    (cgroups / path).mkdir(parents=True)
    proc.start(10, "fathom", exe="/usr/bin/python3.11", cgroup=f"0::/{path}")
    proc.start(60, "hook", exe="/usr/bin/hook", cgroup=f"0::/{path}")
    names = Names(proc, cgroups)
    unit = (cgroups / path).stat().st_ino
    _, numbers = names.identities.resolve(seen((unit, 10, "fathom")), at(100))
    assert numbers[0] == OWN
    assert names.names(seen((unit, 60, "hook"))) == ["unit/fathom.service"]
    _, numbers = names.identities.resolve(seen((unit, 10, "fathom")), at(101))
    assert numbers[0] == OWN


def test_hybrid_hosts_are_asked_for_their_old_hierarchies(names: Names, proc: Any) -> None:
    cid = "cd" * 32
    proc.start(70, "web", exe="/web", cgroup=f"9:name=systemd:/docker/{cid}\n4:memory:/docker/{cid}\n0::/")
    assert names.names(seen((names.root, 70, "web"))) == [f"container/{cid[:12]}"]


def test_lookups_are_bounded_and_made_up_for_later(proc: Any, cgroups: Path) -> None:
    few = Names(proc, cgroups, lookups_per_s=5)
    for pid in range(100, 120):
        proc.start(pid, f"c{pid}", exe="/usr/bin/tool")
    rows = seen(*((few.root, pid, f"c{pid}") for pid in range(100, 120)))
    first = few.names(rows, 100.0)
    assert first.count("process/tool") == 5
    assert few.identities.fallbacks["budget"] == 15
    for second in (101.0, 102.0, 103.0):
        last = few.names(rows, second)
    assert last == ["process/tool"] * 20


def test_what_finds_no_room_is_other_until_there_is_room(proc: Any, cgroups: Path) -> None:
    small = Names(proc, cgroups, workloads=4, kept_s=60)
    for pid in range(100, 106):
        proc.start(pid, "p", exe=f"/bin/tool{pid}")
    rows = seen(*((small.root, pid, "p") for pid in range(100, 106)))
    first = small.names(rows, 100.0)
    assert first.count("host/other") == 4
    index = first.index("host/other")
    last = rows[index : index + 1]
    assert small.names(last, 131.0) == ["host/other"]
    assert small.names(last, 300.0) == [f"process/tool{100 + index}"]


def test_a_number_keeps_its_key_and_a_workload_that_returns_gets_it_again() -> None:
    table = Workloads("n", "", 8)
    number = table.number("process", "a")
    key = int(table.keys[number])
    table.used_s[number] = 10
    table.give_up(np.zeros(8, np.bool_), 20)
    assert table.number("process", "b") == number
    assert int(table.keys[number]) != key
    assert int(table.keys[table.number("process", "a")]) == key


def test_numbers_in_use_are_not_given_up() -> None:
    table = Workloads("n", "", 8)
    kept, referred, old = (table.number("process", name) for name in "abc")
    table.used_s[kept] = 30
    marks = np.zeros(8, np.bool_)
    marks[referred] = True
    table.give_up(marks, 20)
    assert table.number("process", "a") == kept
    assert table.number("process", "b") == referred
    assert table.number("process", "new") == old
    assert table.number("host", "other") == OTHER


def test_many_processes_are_forgotten_by_halves(proc: Any, cgroups: Path) -> None:
    names = Names(proc, cgroups, processes=32, lookups_per_s=10_000)
    for pid in range(100, 200):
        proc.start(pid, "p", exe="/bin/tool")
        assert names.names(seen((names.root, pid, "p")), 100.0 + (pid - 100) / 10) == ["process/tool"]
    assert len(names.identities._by_process) <= 32


def test_no_rows() -> None:
    table, numbers = Identities("n").resolve(np.zeros(0, OBSERVATION))
    assert numbers.size == 0
    assert str(table[OWN]) == "process/fathom"
