"""What was found out about processes, kept by (cgroup, pid, comm) until it is old or shown to be wrong.

An answer outlives its process, so that the close of a connection gets the name that its opening got. A pid that now
belongs to a process that started later loses its answers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fathom.identity.slots import I32, U64, Slots
from fathom.identity.workloads import OTHER

#: One answer. ``start`` is the process' start in ns since boot, 0 once it is gone.
_ANSWER = np.dtype([("hash", "<u8"), ("start", "<i8"), ("pid", "<u4"), ("number", "<i4"), ("used_s", "<i4")])


class Remembered:
    """At most ``limit`` answers; when there are more, the half that was not used for longest is forgotten."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._slots = Slots()
        self._answers = np.zeros(256, _ANSWER)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, hashes: U64, now_s: int) -> I32:
        """The workload number for each hash (``int32``), -1 where nothing is known."""
        at = self._slots.find(hashes)
        known = at >= 0
        if known.all():
            self._answers["used_s"][at] = now_s
            return self._answers["number"][at]
        numbers = np.full(hashes.size, -1, np.int32)
        self._answers["used_s"][at[known]] = now_s
        numbers[known] = self._answers["number"][at[known]]
        return numbers

    def put(self, key: int, pid: int, start_ns: int, number: int, now_s: int) -> None:
        """Remember an answer for the hash ``key``, which has none yet."""
        if self._count >= self.limit:
            oldest = np.argsort(self._answers["used_s"][: self._count], kind="stable")
            self._keep(np.sort(oldest[self._count - self.limit // 2 :]))
        if self._count == self._answers.size:
            self._answers = np.concatenate((self._answers, np.zeros(self._count, _ANSWER)))
        self._answers[self._count] = (key, start_ns, pid, number, now_s)
        self._slots.add(np.array([key], np.uint64), np.array([self._count], np.int32))
        self._count += 1

    def sweep(self, start_of: Callable[[int], int], used_since_s: int, keep_since_s: int) -> None:
        """Check answers used since ``used_since_s`` against ``start_of(pid)`` (ns, 0 = gone); forget those whose pid
        was taken by another process, those not used since ``keep_since_s``, and ``OTHER``, for which there may be
        room now."""
        answers = self._answers[: self._count]
        keep = (answers["used_s"] >= keep_since_s) & (answers["number"] != OTHER)
        alive = np.flatnonzero(keep & (answers["start"] > 0) & (answers["used_s"] >= used_since_s))
        starts = {pid: start_of(pid) for pid in set(answers["pid"][alive].tolist())}
        for index in alive.tolist():
            now = starts[int(answers["pid"][index])]
            if now == 0:
                answers["start"][index] = 0
            elif now != answers["start"][index]:
                keep[index] = False
        if not keep.all():
            self._keep(np.flatnonzero(keep))

    def numbers(self) -> I32:
        """The workload numbers that answers refer to."""
        return self._answers["number"][: self._count]

    def _keep(self, rows: npt.NDArray[np.intp]) -> None:
        kept = self._answers[rows]
        self._count = kept.size
        self._answers[: kept.size] = kept
        self._slots.replace(kept["hash"].copy(), np.arange(kept.size, dtype=np.int32), room=2)
