"""The workloads in use, numbered: a bounded table, so that rows carry a small number instead of a name.

A number is given up only when nobody refers to it and it was not used for a time. What does not fit is one workload
called ``other``; the agent counts its rows.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from fathom.events.edges import Workload

#: Number of Fathom itself, and of what did not fit.
OWN, OTHER = 0, 1


class Workloads:
    """``table[number]`` is a workload and ``keys[number]`` (``uint64``) a hash of it that is the same for ever."""

    def __init__(self, node: str, cluster: str, limit: int) -> None:
        self.node = node
        self.cluster = cluster
        self.limit = max(limit, OTHER + 1)
        self.table: list[Workload] = []
        self.keys: npt.NDArray[np.uint64] = np.zeros(self.limit, np.uint64)
        self.used_s: npt.NDArray[np.int32] = np.zeros(self.limit, np.int32)
        self._numbers: dict[Workload, int] = {}
        self._free: list[int] = []
        self.number(kind="process", name="fathom")
        self._numbers.clear()  # another program of that name is not Fathom itself
        self.number(kind="host", name="other")

    def __len__(self) -> int:
        return len(self.table) - len(self._free)

    def number(self, kind: str, name: str, container: str = "") -> int:
        """The number of this node's workload, a new one if there is room, else ``OTHER``."""
        workload = Workload(
            cluster=self.cluster, node=self.node, kind=kind, name=_text(name), container=_text(container)
        )
        found = self._numbers.get(workload)
        if found is not None:
            return found
        if self._free:
            number = self._free.pop()
            self.table[number] = workload
        elif len(self.table) < self.limit:
            number = len(self.table)
            self.table.append(workload)
        else:
            return OTHER
        self._numbers[workload] = number
        self.keys[number] = _key(workload)
        return number

    def give_up(self, referred: npt.NDArray[np.bool_], before_s: int) -> None:
        """Free the numbers that are not ``referred`` (bool, one per number) and were last used before ``before_s``."""
        freed = set(self._free)
        for number in range(OTHER + 1, len(self.table)):
            if not referred[number] and self.used_s[number] < before_s and number not in freed:
                del self._numbers[self.table[number]]
                self._free.append(number)


def _text(name: str) -> str:
    """``name``, which may be that of a file, and so any bytes: what is no UTF-8 in it becomes U+FFFD."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _key(workload: Workload) -> int:
    text = "\x1f".join((workload.kind, workload.name, workload.container))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
