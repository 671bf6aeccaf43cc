"""From wide keys to small numbers, a whole array at a time: what turns rows into table positions without Python loops.

A key of several 64-bit words is mixed into one hash of 63 bits with a secret of this process, and the hash is found in
an open-addressing table. Two keys with one hash are taken for the same: at 20,000 keys that has odds of 1 in 10^10, as
those of the 63-bit edge id that everything later relies on. Nobody outside can aim at it without the secret.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]

_FOLD = np.uint64(32)
_ONE = np.uint64(1)


class Mixer:
    """Mixes columns of 64-bit words into one hash. ``secret`` (odd multipliers) is made anew unless given."""

    def __init__(self, words: int, secret: int | None = None) -> None:
        seed = secrets.token_bytes(16) if secret is None else secret.to_bytes(16, "little")
        drawn = blake2b(seed, digest_size=8 * (words + 1)).digest()
        self._factors = np.frombuffer(drawn, np.uint64) | np.uint64(1)

    def __call__(self, *columns: U64) -> U64:
        """Hash of each row of ``columns`` (``uint64``, equal lengths), always odd, so never 0."""
        mixed: U64 = columns[0] * self._factors[0]
        mixed ^= mixed >> _FOLD
        for factor, column in zip(self._factors[1:], columns[1:], strict=False):
            mixed += column
            mixed *= factor
            mixed ^= mixed >> _FOLD
        mixed *= self._factors[-1]
        mixed ^= mixed >> _FOLD
        mixed |= _ONE  # 0 means an empty place in Slots
        return mixed


def distinct(values: npt.NDArray[np.integer[Any]]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Of a column: the row where each distinct value is first, and for each row which of those has its value.

    ``numpy.unique`` would import ``numpy.ma``, a MiB that the agent has no other use for.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.ones(values.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    inverse = np.empty(values.size, np.intp)
    inverse[order] = np.cumsum(begins) - 1
    return order[begins], inverse


class Slots:
    """A map from hash (``uint64``, never 0) to a number (``int32`` >= 0), found and filled by arrays.

    It grows by itself and stays at most half full. Nothing is deleted one by one: ``replace`` sets all anew.
    """

    def __init__(self, expected: int = 256) -> None:
        self._clear(expected)

    def __len__(self) -> int:
        return self._count

    def _clear(self, expected: int) -> None:
        bits = max(int(2 * expected).bit_length(), 4)
        self._shift = np.uint64(64 - bits)
        self._mask = np.intp((1 << bits) - 1)
        self._hashes = np.zeros(1 << bits, np.uint64)
        self._values = np.full(1 << bits, -1, np.int32)
        self._count = 0

    def find(self, hashes: U64) -> I32:
        """The number of each hash, -1 where there is none."""
        at = (hashes >> self._shift).astype(np.intp)
        there = self._hashes[at]
        values = self._values[at]
        miss = there != hashes
        if not miss.any():
            return values
        values[miss] = -1
        pending = np.flatnonzero(miss & (there != 0))
        at = at[pending]
        while pending.size:
            at = (at + 1) & self._mask
            there = self._hashes[at]
            hit = there == hashes[pending]
            values[pending[hit]] = self._values[at[hit]]
            on = ~hit & (there != 0)
            pending, at = pending[on], at[on]
        return values

    def add(self, hashes: U64, values: I32) -> None:
        """Put in ``hashes``, each once and none of them there yet, with their ``values``."""
        if 2 * (self._count + hashes.size) > self._hashes.size:
            used = self._hashes != 0
            self.replace(
                np.concatenate((self._hashes[used], hashes)), np.concatenate((self._values[used], values)), room=2
            )
            return
        self._insert(hashes, values)

    def replace(self, hashes: U64, values: I32, room: int = 1) -> None:
        """Forget all and hold ``hashes`` with ``values``, with space for ``room`` times as many."""
        self._clear(max(hashes.size * room, 8))
        self._insert(hashes, values)

    def _insert(self, hashes: U64, values: I32) -> None:
        at = (hashes >> self._shift).astype(np.intp)
        self._count += hashes.size
        while hashes.size:
            free = self._hashes[at] == 0
            self._hashes[at[free]] = hashes[free]  # of several that want one place, one wins
            won = free & (self._hashes[at] == hashes)
            self._values[at[won]] = values[won]
            at, hashes, values = (at[~won] + 1) & self._mask, hashes[~won], values[~won]
