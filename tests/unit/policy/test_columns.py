"""Equal rows are found as numpy finds them."""

from __future__ import annotations

import numpy as np
import pytest

from fathom.policy.columns import distinct


@pytest.mark.parametrize(
    ("rows", "width", "values"), [(0, 2, 3), (1, 1, 3), (500, 3, 4), (500, 4, 2), (300, 2, 1 << 40)]
)
def test_distinct_rows_are_those_of_numpy(rows: int, width: int, values: int) -> None:
    given = np.random.default_rng(rows).integers(-values, values, (rows, width))
    unique, place = distinct(list(given.T))
    wanted, inverse = np.unique(given, axis=0, return_inverse=True)
    assert unique.tolist() == wanted.tolist()
    assert place.tolist() == inverse.reshape(-1).tolist()
