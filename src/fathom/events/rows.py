"""Moving whole rows of structured arrays as bytes.

numpy copies a structured array field by field: 60 to 140 ns a row of 23 fields, against 4 ns for the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]


def opaque(rows: Rows) -> Rows:
    """The same memory as rows of plain bytes. ``rows`` may be any slice, read or written through the result."""
    return rows.view(np.dtype((np.void, rows.dtype.itemsize)))


def take(rows: Rows, which: npt.NDArray[Any]) -> Rows:
    """A copy of the rows at ``which`` (a mask, or row numbers)."""
    taken: Rows = opaque(rows)[which].view(rows.dtype)
    return taken


def joined(parts: Sequence[Rows], dtype: np.dtype[np.void]) -> Rows:
    """A copy of all ``parts`` one after another; of none, an empty array of ``dtype``."""
    if not parts:
        return np.zeros(0, dtype)
    return np.concatenate([opaque(part) for part in parts]).view(parts[0].dtype)
