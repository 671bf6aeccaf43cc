"""Address blocks as intervals: every block of a policy set cuts the address space into cells, each in or out.

A column is a cell, seen from one of three parts (outside, pod, node), since a block may reach some and not others.
Sets of addresses whose cells differ get columns of their own: all of them in is *must*, one of them in is *may*.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fathom.policy.addresses import BITS, Address, Block
from fathom.policy.bits import Bools
from fathom.policy.model import Reach

OUTSIDE, OF_POD, OF_NODE = range(3)
Pair = tuple[Bools, Bools]


class Cells:
    """Cells of one set of blocks. The last cell stands for an address that is not known."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        edges: dict[int, set[int]] = {4: {0}, 6: {0}}
        for block in blocks:
            for first, last in ((block.first, block.last), *block.excepts):
                edges[block.family] |= {first, last + 1}
        self._edges = {f: sorted(e for e in edges[f] if e < 1 << BITS[f]) for f in (4, 6)}
        self._offset = {4: 0, 6: len(self._edges[4])}
        self.count = len(self._edges[4]) + len(self._edges[6]) + 1
        self.unknown = self.count - 1
        self.columns = 3 * self.count

    def edges(self, family: int) -> list[int]:
        """The numbers at which the cells of a family begin."""
        return self._edges[family]

    def cell(self, one: Address) -> int:
        """The cell of an address."""
        return self._offset[one.family] + bisect_right(self._edges[one.family], one.number) - 1

    def cells(self, sets: Sequence[tuple[Address, ...]]) -> list[frozenset[int]]:
        """The cells of each set of addresses; of an empty one, the cell of what is not known."""
        return [frozenset(self.cell(one) for one in item) or frozenset((self.unknown,)) for item in sets]

    def blocks(self, blocks: Sequence[Block], reach: Reach, *, pods: bool) -> Pair:
        """The columns that the blocks reach; ``pods``: whether reach ``option`` includes pods."""
        hit = np.zeros(self.count, bool)
        for block in blocks:
            inside = self._range(block.family, block.first, block.last)
            for first, last in block.excepts:
                inside &= ~self._range(block.family, first, last)
            hit |= inside
        hit[self.unknown] = hit[: self.unknown].all()
        possible = hit.copy()
        possible[self.unknown] = bool(blocks) and bool(hit[: self.unknown].any())
        parts = (True, reach == "all" or (reach == "option" and pods), reach != "external")
        must, may = np.zeros(self.columns, bool), np.zeros(self.columns, bool)
        for part, reached in enumerate(parts):
            if reached:
                span = slice(part * self.count, (part + 1) * self.count)
                must[span], may[span] = hit, possible
        return must, may

    def _range(self, family: int, first: int, last: int) -> Bools:
        found = np.zeros(self.count, bool)
        edges, offset = self._edges[family], self._offset[family]
        begin = bisect_right(edges, first) - 1
        end = bisect_right(edges, last)
        found[offset + begin : offset + end] = True
        return found


def column(part: NDArray[np.int64], cell: NDArray[np.int64], cells: Cells) -> NDArray[np.int64]:
    """The column of a cell seen from a part."""
    return part * cells.count + cell
