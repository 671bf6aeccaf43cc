"""Folding: raw records that tell the same thing become one row with sums, before anything is done to each row.

Measured on records of 144 bytes: arrays cost 500 ns a record for what comes after, folding 25. What counts as the same
is the probe's to say. The rows of a result keep every column of their first record; those that do not tell records
apart mean nothing there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.events.latency import BOUNDS_NS
from fathom.events.rows import Rows, take
from fathom.kernel import _fold

I64 = npt.NDArray[np.int64]
#: Columns of a group before its sums, and bytes of the secret factors: as _fold.c has them.
_FIXED, _KEYS = 5, 65 * 8
_BOUNDS = np.array(BOUNDS_NS, np.int64)


@dataclass(frozen=True, slots=True)
class Folded:
    """Groups, an entry each: ``rows`` (first records), ``count`` (records), ``sums`` by column, and latencies.

    The latencies of a group are in one bucket of ``fathom.events.latency``: sum, least and greatest in ns, 0 where
    its records have none. All but ``rows`` are ``int64``.
    """

    rows: Rows
    count: I64
    sums: Mapping[str, I64]
    latency_sum: I64
    latency_min: I64
    latency_max: I64


class Fold:
    """Folds records of one dtype. ``most``: how many at once.

    ``apart[n]`` names the columns that tell records apart whose ``selector`` (a column of one byte) is n; the last
    stands for all above. ``summed``: unsigned columns of 32 or 64 bits. ``latency``: a column of 64 bits.
    """

    def __init__(
        self,
        record: np.dtype[np.void],
        *,
        selector: str,
        apart: Sequence[Sequence[str]],
        summed: Sequence[str],
        latency: str,
        most: int,
    ) -> None:
        fields: Mapping[str, Any] = record.fields or {}
        masks = np.zeros((len(apart), record.itemsize), np.uint8)
        for mask, names in zip(masks, apart, strict=True):
            for name in (*names, selector):
                dtype, offset = fields[name][:2]
                mask[offset : offset + dtype.itemsize] = 0xFF
        self.record = record
        self.most = most
        self._name = latency
        self._masks = masks.tobytes(), int(fields[selector][1])
        self._summed = tuple(summed)
        self._sums = tuple((int(fields[name][1]), int(fields[name][0].itemsize)) for name in summed)
        self._latency = int(fields[latency][1]), _BOUNDS
        self._keys = secrets.token_bytes(_KEYS)
        self._make_room(0)

    def _make_room(self, count: int) -> None:
        """For ``count`` records: what was never needed takes no memory."""
        self._room = count
        self._first = np.empty(count, np.int32)
        self._totals = np.empty((count, _FIXED + len(self._sums)), np.int64)
        self._table = np.empty(1 << (2 * count | 1).bit_length(), np.uint32)

    def __call__(self, records: Rows) -> Folded:
        """``records`` (at most ``most``, one after another in memory) as groups, in the order of their first."""
        if self._room < len(records) <= self.most:
            self._make_room(min(2 * len(records), self.most))
        places = 1 << (2 * len(records) | 1).bit_length()
        groups = _fold.fold(
            records.view(np.uint8),
            self.record.itemsize,
            self._masks,
            self._sums,
            self._latency,
            (self._table[:places], self._first, self._totals),
            self._keys,
        )
        columns = self._totals[:groups].T.copy()
        return Folded(
            take(records, self._first[:groups]),
            columns[0],
            dict(zip(self._summed, columns[_FIXED:], strict=True)),
            *columns[1:4],
        )

    def singly(self, records: Rows) -> Folded:
        """Each of ``records`` as a group of its own."""
        latency = records[self._name].astype(np.int64)
        return Folded(
            records,
            np.ones(len(records), np.int64),
            {name: records[name].astype(np.int64) for name in self._summed},
            latency,
            latency,
            latency,
        )
