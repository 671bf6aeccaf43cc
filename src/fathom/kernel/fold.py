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
from fathom.events.rows import Rows
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
    """Folds records of one dtype, call by call, until ``take``. ``most``: how many groups there may be.

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
        self._name = latency
        self._masks = masks.tobytes(), int(fields[selector][1])
        self._summed = tuple(summed)
        self._sums = tuple((int(fields[name][1]), int(fields[name][0].itemsize)) for name in summed)
        self._latency = int(fields[latency][1]), _BOUNDS
        self._keys = secrets.token_bytes(_KEYS)
        self._count = 0
        # Not set to 0: memory that was never written is not resident.
        self._rows = np.empty(most * record.itemsize, np.uint8)
        self._totals = np.empty((most, _FIXED + len(self._sums)), np.int64)
        self._table = np.empty(1 << (2 * most - 1).bit_length(), np.uint32)

    def __len__(self) -> int:
        return self._count

    def add(self, records: Rows) -> int:
        """Take in ``records`` (one after another in memory); how many were, which is all of them unless there is no
        room for another group."""
        self._count, taken = _fold.fold(
            records.view(np.uint8),
            self.record.itemsize,
            self._masks,
            self._sums,
            self._latency,
            (self._count, self._table, self._rows, self._totals),
            self._keys,
        )
        return taken

    def take(self) -> Folded:
        """The groups so far, in the order of their first records; the next begin anew."""
        count, self._count = self._count, 0
        columns = self._totals[:count].T.copy()
        return Folded(
            self._rows[: count * self.record.itemsize].copy().view(self.record),
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


def span(records: Rows, name: str) -> tuple[int, int]:
    """Least and greatest of column ``name`` (unsigned, 64 bits) of ``records``, of which there is one at least."""
    fields: Mapping[str, Any] = records.dtype.fields or {}
    return _fold.span(records.view(np.uint8), records.dtype.itemsize, int(fields[name][1]))
