"""Records that differ in nothing that counts become one, with sums."""

from typing import Any

def fold(
    records: Any,
    size: int,
    masks: tuple[Any, int],
    sums: tuple[tuple[int, int], ...],
    latency: tuple[int, Any],
    groups: tuple[int, Any, Any, Any],
    keys: bytes,
    /,
) -> tuple[int, int]:
    """Adds ``records`` of ``size`` bytes to groups: how many groups there are now, and how many records were taken.

    Records are left only where there is no room for another group. ``masks``: a mask of ``size`` bytes for each value
    (from 0; the last stands for all above) of the byte at the offset beside it: bits that tell records apart.
    ``sums``: (offset, 4 or 8 bytes) of unsigned columns that add up. ``latency``: offset of a 64-bit column, and
    ascending bounds (int64): records of different buckets are apart, 0 is no latency. ``groups``: how many there are
    (0 begins anew), table (uint32, a power of two, at least twice the rows), rows (each group's first record), totals
    (int64, a row a group: records; sum, least, greatest latency and its bucket from 1; the sums). ``keys``: 520
    secret bytes, so that nobody outside can make records collide.

    Raises ValueError if these do not fit one another.
    """

def span(records: Any, size: int, offset: int, /) -> tuple[int, int]:
    """Least and greatest of the unsigned column of 64 bits at ``offset`` of ``records``, ``size`` bytes each.

    numpy takes several times as long, and twice: its loops are not made for columns far apart.

    Raises ValueError if there is no such column, or no record.
    """
