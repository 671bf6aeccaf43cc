"""Equal rows are found as numpy finds them, and counts add up without wrapping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.policy.columns import MOST_COUNT, MOST_SUM, bounded, distinct, sums, total


@pytest.mark.parametrize(
    ("rows", "width", "values"), [(0, 2, 3), (1, 1, 3), (500, 3, 4), (500, 4, 2), (300, 2, 1 << 40)]
)
def test_distinct_rows_are_those_of_numpy(rows: int, width: int, values: int) -> None:
    given = np.random.default_rng(rows).integers(-values, values, (rows, width))
    unique, place = distinct(list(given.T))
    wanted, inverse = np.unique(given, axis=0, return_inverse=True)
    assert unique.tolist() == wanted.tolist()
    assert place.tolist() == inverse.reshape(-1).tolist()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 9), st.integers(0, MOST_SUM))), min_size=1),
)
def test_sums_are_exact_and_stay_at_the_most_that_can_be_said(rows: list[tuple[int, int]]) -> None:
    counts, of = (np.array(column, np.int64) for column in zip(*((count, group) for group, count in rows), strict=True))
    wanted = [min(MOST_SUM, sum(count for group, count in rows if group == number)) for number in range(4)]
    assert sums(counts, of, 4).tolist() == wanted
    assert total(counts) == min(MOST_SUM, sum(count for _, count in rows))


def test_counts_of_one_flow_stay_at_the_most_that_json_holds() -> None:
    columns = [np.array([1, MOST_COUNT, MOST_SUM, -5]), np.array([2, 1, MOST_SUM, 7])]
    assert bounded(*columns).tolist() == [3, MOST_COUNT, MOST_COUNT, 7]
