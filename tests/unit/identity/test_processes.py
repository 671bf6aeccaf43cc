"""What ``/proc`` says about a process, odd names included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fathom.identity import processes
from fathom.identity.own import OwnProcesses


@pytest.mark.parametrize(
    ("comm", "exe", "flags", "name"),
    [
        ("curl", "/usr/bin/curl", 0, "curl"),
        ("curl", "/usr/bin/curl (deleted)", 0, "curl"),
        ("a) R (b", "/opt/x", 0, "x"),
        ("script.py", "/usr/bin/python3.11", 0, "python3.11"),
        ("runc", "/memfd:runc_cloned:/proc/self/exe (deleted)", 0, "runc"),
        ("kworker/3:1-eve", None, 0x00200000, "kworker"),
        ("ksoftirqd/0", None, 0x00200040, "ksoftirqd"),
        ("rcu_preempt", None, 0x00200000, "rcu_preempt"),
        ("zombie", None, 0, ""),
    ],
)
def test_executable(proc: Any, comm: str, exe: str | None, flags: int, name: str) -> None:
    proc.start(7, comm, exe=exe, flags=flags, start_s=12.34)
    found = processes.look(7, proc.root)
    assert found is not None
    assert (found.executable, found.denied, found.start_ns) == (name, False, 12_340_000_000)


def test_a_process_that_is_gone(proc: Any) -> None:
    assert processes.look(7, proc.root) is None
    assert processes.start_ns(7, proc.root) == 0
    assert processes.parent(7, proc.root) == 0


def test_half_a_stat_file_is_no_process(proc: Any) -> None:
    proc.start(7)
    (proc.root / "7" / "stat").write_text("7 (prog) S 1")
    assert processes.look(7, proc.root) is None


def test_cgroups_put_the_unified_one_first(proc: Any) -> None:
    proc.start(7, cgroup="4:memory:/docker/x\n1:name=systemd:/docker/x\n0::/unified (deleted)")
    found = processes.look(7, proc.root)
    assert found is not None
    assert found.cgroups == ("/unified", "/docker/x")


def test_this_very_process() -> None:
    found = processes.look(os.getpid())
    assert found is not None
    assert found.executable == Path("/proc/self/exe").resolve().name
    assert found.parent == os.getppid()


def test_own_tree(proc: Any) -> None:
    for pid, parent in ((10, 1), (11, 10), (12, 11), (20, 1), (21, 20)):
        proc.start(pid, parent=parent)
    own = OwnProcesses(10, proc.root)
    assert [pid in own for pid in (10, 11, 12, 20, 21, 99, 0)] == [True, True, True, False, False, False, False]


def test_own_tree_is_asked_anew(proc: Any) -> None:
    proc.start(10)
    proc.start(20)
    proc.start(21, parent=20)
    own = OwnProcesses(10, proc.root)
    assert 21 not in own
    proc.start(20, parent=10)
    proc.start(22, parent=20)
    own.fresh()
    assert 22 in own
    assert 21 in own


def test_a_loop_of_parents_ends(proc: Any) -> None:
    proc.start(5, parent=6)
    proc.start(6, parent=5)
    assert 5 not in OwnProcesses(10, proc.root)
