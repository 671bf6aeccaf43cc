"""Recent raw events of one probe: arrays of records as they came from the kernel, in bounded memory, without a copy.

The oldest give way; how many did is counted, and the answer to a question says from when on the rest is whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fathom.events.rows import joined
from fathom.kernel.fold import span

#: Above so many arrays they become one: each costs more than a record.
_PIECES = 64
Records = npt.NDArray[np.void]


@dataclass(slots=True)
class _Piece:
    """Records that came together; the first ``gone`` of them were given up. ``latest``: greatest time of all."""

    records: Records
    latest: int
    gone: int = 0

    @property
    def kept(self) -> Records:
        return self.records[self.gone :]


class RecentEvents:
    """The last records of one dtype: at most ``limit_bytes`` of them can be asked for, and no more than twice that and
    what came last is held. ``clock`` names the field with monotonic ns."""

    def __init__(self, kind: str, limit_bytes: int, clock: str = "time") -> None:
        self.kind = kind
        self.clock = clock
        self.limit_bytes = limit_bytes
        self.added = 0
        self.overwritten = 0
        self._pieces: deque[_Piece] = deque()
        self._count = 0
        self._gone_ns = 0

    def __len__(self) -> int:
        return self._count

    @property
    def overwritten_until_ns(self) -> int:
        """Monotonic time of the newest record that was given up, 0 if none was."""
        first = self._pieces[0] if self._pieces else None
        if first and first.gone:
            return max(self._gone_ns, span(first.records[: first.gone], self.clock)[1])
        return self._gone_ns

    def add(self, records: Records, latest_ns: int) -> None:
        """Take in ``records``, oldest first, which nobody will change; ``latest_ns`` is the greatest of their times."""
        if not records.size:
            return
        self.added += records.size
        self._count += records.size
        self._pieces.append(_Piece(records, latest_ns))
        self._give_way()

    def newest(self, skip: int, count: int) -> Records:
        """A copy of up to ``count`` records, newest first, after leaving out the ``skip`` newest."""
        parts: list[Records] = []
        for piece in reversed(self._pieces):
            kept = piece.kept
            there = kept[max(kept.size - skip - count, 0) : max(kept.size - skip, 0)]
            skip = max(skip - kept.size, 0)
            count -= there.size
            parts.append(there[::-1])
        return joined(parts, np.dtype([(self.clock, "<u8")]))

    def shrink(self, limit_bytes: int) -> None:
        """Keep at most ``limit_bytes`` from now on; the oldest give way."""
        self.limit_bytes = limit_bytes
        self._give_way()
        self._join()

    def _give_way(self) -> None:
        """Give up what is above the limit, and let no more memory than that wait for it."""
        if not self._pieces:
            return
        size = self._pieces[-1].records.itemsize
        excess = self._count - max(self.limit_bytes // size, 1)
        while excess > 0:
            first = self._pieces[0]
            given = min(excess, first.records.size - first.gone)
            first.gone += given
            excess -= given
            self._count -= given
            self.overwritten += given
            if first.gone == first.records.size:
                self._gone_ns = max(self._gone_ns, first.latest)
                self._pieces.popleft()
        if len(self._pieces) > _PIECES or self._pieces[0].gone * size > self.limit_bytes:
            self._join()

    def _join(self) -> None:
        """One array of what is kept, in place of the pieces."""
        self._gone_ns = self.overwritten_until_ns
        if self._pieces:
            whole = joined([piece.kept for piece in self._pieces], self._pieces[0].records.dtype)
            latest = max(piece.latest for piece in self._pieces)
            self._pieces = deque([_Piece(whole, latest)])
