"""Columns of equal length that are rows together, and which of the rows are equal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
#: The most that is counted on one flow (what JSON's numbers hold exactly), and where sums of counts stay.
MOST_COUNT, MOST_SUM = 1 << 53, (1 << 63) - 1


def distinct(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """The distinct rows in order, of shape (rows, columns), and for each given row its place among them.

    As ``np.unique`` of rows, which compares whole rows and takes many times as long.
    """
    order = np.lexsort(columns[::-1])
    ordered = np.stack([column[order] for column in columns], axis=1)
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(new) - 1
    return ordered[new], place


def sums(counts: Ints, of: Ints, groups: int) -> Ints:
    """The sum of the counts of each of ``groups``; ``of`` says whose each is. What is beyond MOST_SUM is MOST_SUM."""
    found = np.zeros(groups, np.int64)
    if not len(counts) or int(counts.max()) <= MOST_SUM // len(counts):
        np.add.at(found, of, counts)
        return found
    high, low = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    np.add.at(high, of, counts >> 32)
    np.add.at(low, of, counts & 0xFFFFFFFF)
    high += low >> 32
    found[:] = MOST_SUM
    held = high < 1 << 31
    found[held] = high[held] << 32 | low[held] & 0xFFFFFFFF
    return found


def bounded(*counts: Ints) -> Ints:
    """Counts of each flow together, MOST_COUNT where they are beyond."""
    found = np.zeros(len(counts[0]), np.int64)
    for one in counts:
        found += np.clip(one, 0, MOST_COUNT)
    return np.minimum(found, MOST_COUNT)


def total(counts: Ints) -> int:
    """The sum of counts, MOST_SUM where it is beyond."""
    return int(sums(counts, np.zeros(len(counts), np.int64), 1)[0])
