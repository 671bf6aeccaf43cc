"""Made-up connections in the tcp probe's ring, at a rate: the load of the benchmarks about events."""

from __future__ import annotations

import struct
import time
from contextlib import ExitStack
from typing import Self

import numpy as np

from benchmarks.load import bpf_object
from fathom.kernel import _libbpf
from fathom.kernel.objects import Object, Spec

_WORD, _COUNT = np.dtype("<u4"), np.dtype("<u8")


class Generator:
    """Writes records into the ring buffer behind ``ring_fd``; ``refused`` counts those that found no room."""

    def __init__(self, ring_fd: int, peers: int = 200) -> None:
        self._stack = ExitStack()
        self._object: Object = self._stack.enter_context(
            Spec(bpf_object("generate")).load(share={"tcp_events": ring_fd})
        )
        self._refused = self._object.map("refused", _WORD, _COUNT)
        self._program = self._object.program_fd("generate")
        self._peers = peers

    def burst(self, events: int) -> None:
        """``events`` records at once."""
        _libbpf.test_run(self._program, struct.pack("<QQ", events, self._peers), 0)

    def pace(self, rate: int, seconds: float) -> int:
        """``rate`` records a second, in bursts each millisecond; how many were made."""
        start, made, total = time.monotonic(), 0, int(rate * seconds)
        while made < total:
            due = min(total, int((time.monotonic() - start) * rate))
            # A late wake-up is not made good by a burst that no real load would make.
            step = min(due - made, rate // 100)
            if step > 0:
                self.burst(step)
                made += step
                if step < rate // 100:
                    time.sleep(0.001)
            else:
                time.sleep(0.001)
        return made

    @property
    def refused(self) -> int:
        """Records that found no room so far."""
        row = self._refused.lookup(b"\0\0\0\0")
        return 0 if row is None else int(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
