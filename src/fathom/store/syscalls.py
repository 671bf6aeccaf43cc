"""Sets of system calls as rows of the table ``syscalls``, and back: a row is one call of one executable.

Rows also tell node and pod apart; a set is of a workload's container and executable, over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fathom.errors import UsageError
from fathom.policy.seccomp import SyscallSet

#: Rows that one question reads at most.
MOST_ROWS = 5_000_000


class SyscallRow(NamedTuple):
    """One row, in the order of its columns; ``times`` is its count, the other times are epoch seconds."""

    cluster: str
    node: str
    namespace: str
    kind: str
    name: str
    pod: str
    container: str
    image: str
    executable: str
    architecture: str
    syscall: str
    times: int
    first_seen: int
    last_seen: int

    @property
    def key(self) -> tuple[str | int, ...]:
        """What the row is of."""
        return self[:11]


def to_rows(sets: Iterable[SyscallSet]) -> list[SyscallRow]:
    """The rows of ``sets``; how often is not known, so the count is 0. Raises UsageError if a time is none."""
    rows = []
    for item in sets:
        if not 0 <= item.first_seen <= item.last_seen < 1 << 40:
            raise UsageError(f"system calls of {item.workload[:80]!r} end before they begin, or at no time")
        namespace, kind, name = _parts(item.workload)
        who = ("", "", namespace, kind, name, "", item.container, item.image, item.executable, item.architecture)
        rows += [SyscallRow(*who, call, 0, item.first_seen, item.last_seen) for call in item.calls]
    return rows


def _parts(workload: str) -> tuple[str, str, str]:
    """(namespace, kind, name), which ``_text`` puts together again."""
    parts = workload.split("/", 2)
    if not all(parts):
        return "", "", workload
    return tuple([""] * (3 - len(parts)) + parts)  # type: ignore[return-value]  # three, by construction


def _text(namespace: str, kind: str, name: str) -> str:
    return "/".join(part for part in (namespace, kind, name) if part) if kind else name


def to_sets(rows: Iterable[SyscallRow]) -> list[SyscallSet]:
    """Sets of ``rows``, sorted, with their calls in order, merged over nodes and pods."""
    calls: dict[tuple[str, ...], set[str]] = {}
    times: dict[tuple[str, ...], tuple[int, int]] = {}
    for row in rows:
        who = _text(row.namespace, row.kind, row.name)
        key = (who, row.container, row.image, row.executable, row.architecture)
        calls.setdefault(key, set()).add(row.syscall)
        first, last = times.get(key, (row.first_seen, row.last_seen))
        times[key] = min(first, row.first_seen), max(last, row.last_seen)
    return [
        SyscallSet(
            workload=key[0],
            container=key[1],
            image=key[2],
            executable=key[3],
            architecture=key[4],
            calls=tuple(sorted(calls[key])),
            first_seen=times[key][0],
            last_seen=times[key][1],
        )
        for key in sorted(calls)
    ]


def merged(one: SyscallRow, other: SyscallRow) -> SyscallRow:
    """Two rows of one key as one."""
    return one._replace(
        times=one.times + other.times,
        first_seen=min(one.first_seen, other.first_seen),
        last_seen=max(one.last_seen, other.last_seen),
    )
