"""Gives up every capability that the agent does not need. Must run before numpy and grpc are imported.

Capabilities belong to threads, and ``capset`` changes only the one that calls it: a thread that a library has started
already would keep its own. So this module imports nothing that starts threads, and refuses to run beside one.

Interface: capabilities(7), prctl(2), capset(2); numbers from ``include/uapi/linux/capability.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Collection
from pathlib import Path

from fathom.errors import PrivilegeError

#: What the agent cannot do without, and why; all of it is kept.
NEEDED = {
    "CAP_BPF": "load programs and maps",
    "CAP_PERFMON": "attach them to tracepoints and read kernel memory",
    "CAP_NET_ADMIN": "attach to the traffic of cgroups",
}
#: What the agent keeps where it is there, and what is not known without it (proc_pid_readlink asks ptrace_may_access).
USEFUL = {"CAP_SYS_PTRACE": "the names of other users' executables are not known"}
#: For what CAP_SYS_ADMIN stands in (include/linux/capability.h: bpf_capable, perfmon_capable).
_OF_ADMIN = ("CAP_BPF", "CAP_PERFMON")
_NUMBERS = {
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 8, 23, 24
_PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 28, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
#: SECBIT_NOROOT and its lock: being root gives no capability back to what is executed.
_NOROOT_LOCKED = 0b11


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)


def permitted() -> frozenset[int]:
    """Numbers of the capabilities that this thread may use (``CapPrm`` in proc_pid_status(5))."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            word = int(line.split()[1], 16)
            return frozenset(bit for bit in range(64) if word >> bit & 1)
    raise PrivilegeError("this kernel does not say which capabilities a process has")


def missing(names: Collection[str] = tuple(NEEDED)) -> tuple[str, ...]:
    """Which of ``names`` this process lacks; CAP_SYS_ADMIN counts for CAP_BPF and CAP_PERFMON."""
    have = permitted()
    return tuple(name for name in names if _number(name, have) not in have)


def numbers(names: Collection[str] = tuple(NEEDED)) -> frozenset[int]:
    """Numbers of the capabilities by which this process may do what ``names`` allow: CAP_SYS_ADMIN where it stands
    in."""
    have = permitted()
    return frozenset(_number(name, have) for name in names) & have


def _number(name: str, have: Collection[int]) -> int:
    admin = _NUMBERS["CAP_SYS_ADMIN"]
    return admin if name in _OF_ADMIN and _NUMBERS[name] not in have and admin in have else _NUMBERS[name]


def without() -> list[str]:
    """A sentence for each useful capability that this process lacks."""
    return [f"without {name} {USEFUL[name]}" for name in missing(tuple(USEFUL))]


def drop(keep: Collection[str] = (*NEEDED, *USEFUL)) -> tuple[str, ...]:
    """Keep only ``keep``, for this process and all that it starts; returns what is kept. Useful ones may be missing.

    Ambient and inheritable sets are cleared, the bounding set is cut down where that is allowed, and no program that
    is executed can gain anything (no_new_privs). Raises PrivilegeError if one of ``keep`` is missing that is
    needed, or if other threads run already.
    """
    if absent := missing([name for name in keep if name not in USEFUL]):
        lacking = ", ".join(f"{name} ({NEEDED[name]})" if name in NEEDED else name for name in absent)
        raise PrivilegeError(
            f"this process lacks {lacking}",
            affects="nothing can be observed",
            do="start it as root (sudo), or grant these capabilities",
        )
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names only
    if threads > 1:
        raise PrivilegeError(
            f"{threads - 1} other threads run already and would keep their capabilities",
            affects="nothing was given up",
            do="give up capabilities before libraries that start threads are imported",
        )
    kept, left = tuple(name for name in keep if name not in missing(keep)), numbers(keep)
    # Linux before 5.11 counts maps against RLIMIT_MEMLOCK, which only CAP_SYS_RESOURCE raises: now or never. Without
    # it, or on a newer kernel, nothing is lost; a map that is refused says so itself.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    _control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _control(_PR_SET_NO_NEW_PRIVS, 1)
    if _NUMBERS["CAP_SETPCAP"] in permitted():
        _control(_PR_SET_SECUREBITS, _NOROOT_LOCKED)
        _bound(left)
    _set(left)
    return kept


def _bound(keep: frozenset[int]) -> None:
    for number in range(64):
        there = _LIBC.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)
        if there < 0:
            return  # above the last capability of this kernel
        if there and number not in keep:
            _control(_PR_CAPBSET_DROP, number)


def _set(keep: frozenset[int]) -> None:
    data = (_Data * 2)()
    for number in keep:
        data[number // 32].effective |= 1 << number % 32
        data[number // 32].permitted |= 1 << number % 32
    if _LIBC.capset(ctypes.byref(_Header(_VERSION_3, 0)), data):
        raise PrivilegeError(f"the kernel did not take the smaller set: {os.strerror(ctypes.get_errno())}")


def _control(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _LIBC.prctl(option, ctypes.c_ulong(value), zero, zero, zero):
        raise PrivilegeError(f"the kernel refused prctl {option}: {os.strerror(ctypes.get_errno())}")
