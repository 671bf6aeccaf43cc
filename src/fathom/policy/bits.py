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
    """``terms`` × ``columns`` bits, made from boolean rows."""

    __slots__ = ("columns", "packed")

    def __init__(self, rows: list[Bools], columns: int) -> None:
        self.columns = columns
        self.packed = np.zeros((len(rows), (columns + 7) // 8), np.uint8)
        for number, row in enumerate(rows):
            self.packed[number] = np.packbits(row, bitorder="little")

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
    """Distinct pairs of boolean rows (must, may), numbered, before they are packed."""

    __slots__ = ("_numbers", "columns", "may", "must")

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.must: list[Bools] = []
        self.may: list[Bools] = []
        self._numbers: dict[tuple[bytes, bytes], int] = {}

    def number(self, must: Bools, may: Bools) -> int:
        """The number of this pair, made if need be."""
        key = (np.packbits(must).tobytes(), np.packbits(may).tobytes())
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.must)
            self.must.append(must)
            self.may.append(may)
        return found

    def packed(self) -> tuple[BitMatrix, BitMatrix]:
        """(must, may)."""
        return BitMatrix(self.must, self.columns), BitMatrix(self.may, self.columns)
