"""A matrix of bits: which term (a rule's condition) holds for which column (an equivalence class).

Rows are packed, since ten thousand policies over tens of thousands of classes must stay small; look-ups unpack
only what they touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[Any]


class BitMatrix:
    """``terms`` × ``columns`` bits, rows packed with the lowest bit first."""

    __slots__ = ("columns", "packed")

    def __init__(self, packed: NDArray[np.uint8], columns: int) -> None:
        self.columns = columns
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed)

    def row(self, term: int) -> Bools:
        """One term over all columns."""
        return np.unpackbits(self.packed[term], count=self.columns, bitorder="little").view(np.bool_)

    def rows(self, terms: Ints) -> Bools:
        """Terms over all columns: an array of len(terms) × columns."""
        return np.unpackbits(self.packed[terms], axis=1, count=self.columns, bitorder="little").view(np.bool_)

    def look_up(self, terms: Ints, columns: Ints) -> Bools:
        """An array of len(terms) × len(columns)."""
        if len(columns) * 3 >= self.columns:
            return self.rows(terms)[:, columns]
        found: Bools = self.packed[terms[:, None], columns >> 3] & _mask(columns) != 0
        return found

    def pairs(self, terms: Ints, columns: Ints) -> Bools:
        """Bit (terms[i], columns[i]) for each i."""
        found: Bools = self.packed[terms, columns >> 3] & _mask(columns) != 0
        return found


def _mask(columns: Ints) -> NDArray[np.uint8]:
    mask: NDArray[np.uint8] = np.left_shift(1, columns & 7).astype(np.uint8)
    return mask


class Terms:
    """Distinct pairs of boolean rows (must, may), numbered; kept packed, since most are never looked at again."""

    __slots__ = ("_numbers", "_rows", "columns")

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._rows: tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]] = ([], [])
        self._numbers: dict[tuple[bytes, bytes], int] = {}

    def number(self, must: Bools, may: Bools) -> int:
        """The number of this pair, made if need be."""
        pair = np.packbits(must, bitorder="little"), np.packbits(may, bitorder="little")
        key = (pair[0].tobytes(), pair[1].tobytes())
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._rows[0])
            for rows, packed in zip(self._rows, pair, strict=True):
                rows.append(packed)
        return found

    def packed(self) -> tuple[BitMatrix, BitMatrix]:
        """(must, may)."""
        width = (self.columns + 7) // 8
        must, may = (np.array(rows, np.uint8).reshape(-1, width) for rows in self._rows)
        return BitMatrix(must, self.columns), BitMatrix(may, self.columns)

    def extended(self, columns: list[NDArray[np.int64]]) -> tuple[BitMatrix, BitMatrix]:
        """(must, may) with a further column for each set of columns: must where all of them are, may where one is."""
        total = self.columns + len(columns)
        found: list[BitMatrix] = []
        for matrix, join in zip(self.packed(), (np.all, np.any), strict=True):
            packed = np.zeros((len(matrix), (total + 7) // 8), np.uint8)
            for number in range(len(matrix)):
                row = matrix.row(number)
                added = np.array([join(row[item]) for item in columns], bool)
                packed[number] = np.packbits(np.concatenate([row, added]), bitorder="little")
            found.append(BitMatrix(packed, total))
        return found[0], found[1]

    @property
    def possible(self) -> Bools:
        """For each term, whether it may match any column."""
        return np.array([bool(row.any()) for row in self._rows[1]], bool)
