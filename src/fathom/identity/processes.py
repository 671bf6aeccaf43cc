"""What ``/proc`` says about a process, read as soon as the process is first seen, since it may be gone soon.

Format: proc_pid_stat(5), proc_pid_cgroup(5), proc_pid_exe(5). The executable of another user's process, or of one
with more capabilities, can be read only with CAP_SYS_PTRACE (kernel: ``proc_pid_readlink`` asks
``ptrace_may_access``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Process:
    """One look at a process. ``start_ns`` since boot; ``executable`` is the file's name, of a kernel thread its own
    name without the number; ``""`` with ``denied`` if it may not be read. ``cgroups`` are the paths in
    ``/proc/PID/cgroup``, that of cgroup2 first."""

    pid: int
    parent: int
    start_ns: int
    executable: str
    denied: bool
    cgroups: tuple[str, ...]


def look(pid: int, proc: Path = Path("/proc")) -> Process | None:
    """The process ``pid`` now, or None if there is none any more."""
    base = f"{proc}/{pid}"
    fields = _stat(base)
    if fields is None:
        return None
    comm, rest = fields
    executable, denied = (_thread_family(comm), False) if int(rest[6]) & _PF_KTHREAD else _executable(base, comm)
    return Process(pid, int(rest[1]), int(rest[19]) * _TICK_NS, executable, denied, _cgroups(base))


def start_ns(pid: int, proc: Path = Path("/proc")) -> int:
    """When ``pid`` started, nanoseconds since boot (in steps of 10 ms); 0 if it is gone."""
    fields = _stat(f"{proc}/{pid}")
    return int(fields[1][19]) * _TICK_NS if fields else 0


def parent(pid: int, proc: Path = Path("/proc")) -> int:
    """The parent of ``pid``, 0 if the process is gone or has none."""
    fields = _stat(f"{proc}/{pid}")
    return int(fields[1][1]) if fields else 0


def _read(path: str) -> bytes:
    """The file's bytes, none if the process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _stat(base: str) -> tuple[str, list[bytes]] | None:
    """comm, and the fields from the third (state) on. comm may hold spaces and parentheses: cut at the last one."""
    text = _read(f"{base}/stat")
    begin, end = text.find(b"("), text.rfind(b")")
    fields = text[end + 2 :].split()
    if begin < 0 or end < begin or len(fields) < 20:
        return None
    return text[begin + 1 : end].decode("utf-8", "replace"), fields


def _executable(base: str, comm: str) -> tuple[str, bool]:
    """Name of the executable, and whether it may not be read. A file in memory has no lasting name: then comm."""
    try:
        target = os.readlink(f"{base}/exe")  # noqa: PTH115 - pathlib costs as much as the system call
    except PermissionError:
        return "", True
    except OSError:
        return "", False
    return comm if target.startswith("/memfd:") else target.removesuffix(_DELETED).rsplit("/", 1)[-1], False


def _thread_family(comm: str) -> str:
    """``kworker/3:1-events`` → ``kworker``: a kernel thread's name without what differs from thread to thread."""
    return comm.split("/", 1)[0].split(":", 1)[0]


def _cgroups(base: str) -> tuple[str, ...]:
    unified: list[str] = []
    others: list[str] = []
    for line in _read(f"{base}/cgroup").decode("utf-8", "replace").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        (unified if number == "0" and not controllers else others).append(path.removesuffix(_DELETED))
    return tuple(unified or ["/"]) + tuple(dict.fromkeys(others))
