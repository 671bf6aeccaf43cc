"""The ids of all edges that a store knows, in memory: 12 bytes an edge, so that writing a fact asks no table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


class KnownEdges:
    """Sorted ids with the last day on which each had a fact. Not thread-safe: its owner is the writer."""

    def __init__(self, ids: Ids, last_day: npt.NDArray[np.int32]) -> None:
        order = np.argsort(ids)
        self._ids, self._last_day = ids[order], last_day[order]

    def __len__(self) -> int:
        return len(self._ids)

    def unknown(self, ids: Ids) -> Ids:
        """Those of ``ids`` that are not known, sorted, each once."""
        ids = np.unique(ids)
        return ids[~self._has(ids)]

    def stale(self, ids: Ids, day: int) -> Ids:
        """Those of ``ids`` that are known and whose last day is before ``day``, each once."""
        ids = np.unique(ids)
        ids = ids[self._has(ids)]
        return ids[self._last_day[np.searchsorted(self._ids, ids)] < day]

    def add(self, ids: Ids, day: int) -> None:
        """Know ``ids`` (not known so far), last seen on ``day``."""
        ids = np.unique(ids)
        at = np.searchsorted(self._ids, ids)
        self._ids = np.insert(self._ids, at, ids)
        self._last_day = np.insert(self._last_day, at, np.int32(day))

    def touch(self, ids: Ids, day: int) -> None:
        """``ids`` (all known) were seen on ``day``."""
        at = np.searchsorted(self._ids, ids)
        self._last_day[at] = np.maximum(self._last_day[at], np.int32(day))

    def forget_before(self, day: int) -> None:
        """Forget edges last seen before ``day``."""
        keep = self._last_day >= day
        self._ids, self._last_day = self._ids[keep], self._last_day[keep]

    def _has(self, ids: Ids) -> npt.NDArray[np.bool_]:
        if not len(self._ids):
            return np.zeros(len(ids), dtype=bool)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        found: npt.NDArray[np.bool_] = self._ids[at] == ids
        return found
