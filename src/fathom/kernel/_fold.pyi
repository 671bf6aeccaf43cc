"""Records that differ in nothing that counts become one, with sums."""

from typing import Any

def fold(
    records: Any,
    size: int,
    masks: tuple[Any, int],
    sums: tuple[tuple[int, int], ...],
    latency: tuple[int, Any],
    out: tuple[Any, Any, Any],
    keys: bytes,
    /,
) -> int:
    """How many groups ``records`` of ``size`` bytes make.

    ``masks``: a mask of ``size`` bytes for each value (from 0; the last stands for all above) of the byte at the
    offset beside it: bits that tell records apart. ``sums``: (offset, 4 or 8 bytes) of unsigned columns that add up.
    ``latency``: offset of a 64-bit column, and ascending bounds (int64): records of different buckets are apart, 0 is
    no latency. ``out``: table (uint32, a power of two, at least twice the records), first (int32: each group's first
    record), totals (int64, a row a group: records; sum, least, greatest latency and its bucket from 1; the sums).
    ``keys``: 520 secret bytes, so that nobody outside can make records collide.

    Raises ValueError if these do not fit one another.
    """
