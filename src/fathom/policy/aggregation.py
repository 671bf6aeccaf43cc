"""Addresses to address blocks, within a stated bound of what is allowed beyond them.

Each address that was seen pays for ``spread`` addresses of a block; a block never holds another address that is known
for something else. With a spread of 1 blocks hold what was seen and nothing more. Blocks of one call do not overlap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from fathom.policy.addresses import BITS, Address


class Known:
    """All addresses that are known for something, by family, sorted: blocks keep off those that they are not about."""

    def __init__(self, addresses: Iterable[Address] = ()) -> None:
        every = set(addresses)
        self.numbers = {family: sorted(one.number for one in every if one.family == family) for family in BITS}

    def others(self, family: int, first: int, count: int, wanted: set[int]) -> bool:
        """Whether ``count`` addresses from ``first`` on hold one that is not in ``wanted``."""
        numbers = self.numbers[family]
        at = bisect_left(numbers, first)
        while at < len(numbers) and numbers[at] < first + count:
            if numbers[at] not in wanted:
                return True
            at += 1
        return False


def aggregate(seen: Iterable[Address], known: Known, spread: int = 1) -> tuple[str, ...]:
    """CIDR blocks, sorted, that hold every address of ``seen``, and at most ``spread`` addresses for each.

    No block holds an address of ``known`` that is not in ``seen``. Raises ValueError if ``spread`` is below 1.
    """
    if spread < 1:
        raise ValueError(f"spread must be at least 1, not {spread}")
    wanted = set(seen)
    found: list[tuple[int, int, int]] = []
    for family, bits in BITS.items():
        mine = sorted(one.number for one in wanted if one.family == family)
        blocks = _blocks(mine, known, family, spread)
        found += [(family, first, bits - host) for first, host in blocks]
    return tuple(f"{Address(family, first)}/{length}" for family, first, length in sorted(found))


def size(blocks: Iterable[str]) -> int:
    """How many addresses the blocks hold together; they must not overlap."""
    return sum(1 << ((128 if ":" in item else 32) - int(item.rpartition("/")[2])) for item in blocks)


def _blocks(numbers: Sequence[int], known: Known, family: int, spread: int) -> list[tuple[int, int]]:
    """(first address, bits of the host part) of the fewest blocks that the bound allows, each as narrow as can be."""
    found: list[tuple[int, int]] = []
    wanted = set(numbers)
    waiting = [(0, len(numbers))] if numbers else []
    while waiting:
        begin, end = waiting.pop()
        host = (numbers[begin] ^ numbers[end - 1]).bit_length()
        first = numbers[begin] >> host << host
        if 1 << host <= spread * (end - begin) and not known.others(family, first, 1 << host, wanted):
            found.append((first, host))
            continue
        middle = bisect_left(numbers, first + (1 << (host - 1)), begin, end)
        waiting += [(begin, middle), (middle, end)]
    return found
