"""Who a process is: what a child does between fork and exec, and what the supervisor gives up before it forks.

Interface: capabilities(7), capset(2), prctl(2); numbers from ``include/uapi/linux/capability.h``. Capabilities belong
to threads: this runs while there is one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Collection

from fathom.agent.privilege import numbers as needed_by_agent
from fathom.agent.privilege import permitted
from fathom.cli.caller import Caller

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 8, 24, 38, 47
#: What a supervisor needs to make its children what they are, to end them, and to hand the agent what that needs.
SUPERVISOR = {
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_AMBIENT_RAISE, _VERSION_3 = 2, 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def confine() -> None:
    """Keep only what a supervisor needs, for this process and all that it starts."""
    keep = permitted() & frozenset(SUPERVISOR.values()) | needed_by_agent()
    for number in range(64):
        if number not in keep:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set(keep, inheritable=False)


def become(user: Caller | None, *, unprivileged: bool, parent: int) -> None:
    """Be ``user`` (None: stay who one is), without any capability and for good if ``unprivileged``, else with all
    that this process has; die when ``parent`` dies."""
    keep = frozenset() if unprivileged else permitted()
    if unprivileged:
        for number in range(64):  # numbers above the last are refused with EINVAL, which is as good
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if user is not None and os.geteuid() == 0 and user.uid != 0:
        _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _carry_over_exec(keep)
    # After the ids: changing them clears it. If the parent died meanwhile, the signal will never come.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _carry_over_exec(numbers: Collection[int]) -> None:
    """Have exactly the capabilities ``numbers``, and keep them when a program is executed."""
    _set(numbers, inheritable=True)
    for number in numbers:
        if _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_CAP_AMBIENT)")


def _set(numbers: Collection[int], *, inheritable: bool) -> None:
    words = [sum(1 << number % 32 for number in numbers if number // 32 == word) for word in (0, 1)]
    header = struct.pack("=Ii", _VERSION_3, 0)
    sets = b"".join(struct.pack("=3I", word, word, word if inheritable else 0) for word in words)
    if _libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")
