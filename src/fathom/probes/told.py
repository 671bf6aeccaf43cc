"""What open connections have been told of so far, so that their rows are deltas and each connection counts once.

The kernel tells totals; here they become differences. The table holds connections that lived through a snapshot, no
others, so it is as small as the number of long connections.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fathom.probes.probe import LossCount, Records

COUNTERS = ("bytes_sent", "bytes_received", "packets_sent", "packets_received", "retransmits")
_ROW = np.dtype([("socket", "<u8"), ("counted", "?"), ("absent", "?"), *[(name, "<i8") for name in COUNTERS]])
Deltas = dict[str, npt.NDArray[np.int64]]


class Told:
    """Totals by ``socket`` (unique, sorted) as of when each was last told."""

    def __init__(self) -> None:
        self._rows = np.zeros(0, _ROW)

    def __len__(self) -> int:
        return len(self._rows)

    def deltas(self, records: Records) -> tuple[Deltas, npt.NDArray[np.bool_]]:
        """What ``records`` (no socket twice) add to what was told, and which connections were counted before.

        A total that is behind (read while it moved) adds nothing now.
        """
        deltas: Deltas = {name: records[name].astype(np.int64) for name in COUNTERS}
        counted = np.zeros(len(records), np.bool_)
        old = np.flatnonzero(self.known(records, 0))
        if not len(old):
            return deltas, counted
        at, _ = self._find(records["socket"][old])
        for name in COUNTERS:
            deltas[name][old] = np.maximum(deltas[name][old] - self._rows[name][at], 0)
        counted[old] = self._rows["counted"][at]
        return deltas, counted

    def known(self, records: Records, oldest: int) -> npt.NDArray[np.bool_]:
        """Which of ``records`` are of sockets in the table. ``oldest``: none of them has a lesser number."""
        found = np.zeros(len(records), np.bool_)
        # A socket's number grows with time: nearly all that close are younger than the youngest in the table.
        if len(self) and len(records) and oldest <= (youngest := self._rows["socket"][-1]):
            old = np.flatnonzero(records["socket"] <= youngest)
            found[old] = self._find(records["socket"][old])[1]
        return found

    def tell(self, records: Records) -> None:
        """The totals of ``records`` (no socket twice) are told now, and their connections counted."""
        if not len(records):
            return
        rows = np.zeros(len(records), _ROW)
        rows["socket"], rows["counted"] = records["socket"], True
        at, known = self._find(records["socket"])
        for name in COUNTERS:
            rows[name] = records[name]
            if len(self):
                rows[name] = np.maximum(rows[name], np.where(known, self._rows[name][at], 0))
        self.forget(records["socket"])
        rows = np.concatenate((self._rows, rows))
        self._rows = rows[np.argsort(rows["socket"])]

    def forget(self, sockets: npt.NDArray[np.uint64]) -> None:
        """These connections are over."""
        sockets = sockets[sockets <= self._rows["socket"][-1]] if len(self) else sockets[:0]
        if len(sockets):
            self._rows = self._rows[~np.isin(self._rows["socket"], sockets)]

    def missing(self, seen: npt.NDArray[np.uint64]) -> bool:
        """Is there a connection in the table that is not among ``seen``?"""
        return bool(len(self)) and not bool(np.isin(self._rows["socket"], seen).all())

    def bury(self, alive: npt.NDArray[np.uint64]) -> LossCount:
        """Forget those that were not ``alive`` now and at the last call: their close was lost. What they were told of.

        One call is not enough: the close may be on its way.
        """
        absent = ~np.isin(self._rows["socket"], alive)
        lost = self._rows[absent & self._rows["absent"]]
        self._rows["absent"] = absent
        self.forget(lost["socket"])
        return LossCount(0, 0, int(lost["bytes_sent"].sum()), int(lost["bytes_received"].sum()))

    def absent(self, alive: npt.NDArray[np.uint64]) -> LossCount:
        """What those that are not ``alive``, and not buried, were told of."""
        lost = self._rows[~np.isin(self._rows["socket"], alive)]
        return LossCount(0, 0, int(lost["bytes_sent"].sum()), int(lost["bytes_received"].sum()))

    def _find(self, sockets: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        if not len(self):
            return np.zeros(len(sockets), np.intp), np.zeros(len(sockets), np.bool_)
        at = np.minimum(np.searchsorted(self._rows["socket"], sockets), len(self) - 1)
        return at, self._rows["socket"][at] == sockets
