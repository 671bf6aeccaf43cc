"""How long to wait before the next attempt: exponential with full jitter, so that a thousand agents do not come back
to a restarted server in the same second.

Source: M. Brooker, "Exponential Backoff And Jitter" (2015): sleep = random(0, min(cap, base * 2 ** attempt)).
"""

from __future__ import annotations

import random


class Backoff:
    """Waits that grow until ``reset``."""

    def __init__(self, longest_s: float, *, base_s: float = 0.5, source: random.Random | None = None) -> None:
        self._longest, self._base = longest_s, base_s
        self._source = source or random.Random()
        self.attempts = 0

    def next(self) -> float:
        """Seconds to wait now."""
        ceiling = min(self._longest, self._base * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return self._source.uniform(0, ceiling)

    def around(self, seconds: float) -> float:
        """``seconds``, spread by half up or down."""
        return seconds * self._source.uniform(0.5, 1.5)

    def reset(self) -> None:
        """It worked: the next wait is short again."""
        self.attempts = 0
