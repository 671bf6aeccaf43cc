"""How often an address showed a wrong key lately, so that guessing is slow and its log is short.

A key has 256 bits, so nobody guesses it anyway; a right key is never held up by the wrong ones of a neighbour.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

_MAX_ADDRESSES = 4_096
_SECONDS = 60.0


class Failures:
    """A bucket of ``limit`` failures for each address that empties within a minute; IPv6 by its /64 network."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._level: OrderedDict[str, tuple[float, float]] = OrderedDict()  # by address: failures, when

    def add(self, address: str) -> int:
        """Count one failure of ``address``; seconds to wait if there were too many, else 0."""
        key, now = _network(address), self._clock()
        level, when = self._level.pop(key, (0.0, now))
        level = max(level - (now - when) * self._limit / _SECONDS, 0.0) + 1.0
        over = level - self._limit
        self._level[key] = (min(level, self._limit + 1.0), now)
        if len(self._level) > _MAX_ADDRESSES:
            self._level.popitem(last=False)
        return math.ceil(min(over, 1.0) * _SECONDS / self._limit) if over > 0 else 0


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped.compressed if parsed.ipv4_mapped else str(int(parsed) >> 64)
    return address
