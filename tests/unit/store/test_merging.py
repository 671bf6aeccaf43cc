"""Of recordings of one store each second is taken once, and none that any of them holds is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.store.merging import Input, Span, refuse_observed_twice, slices

HOUR = 3_600
spans = st.builds(
    lambda since, length, taken: Span(since, since + length, taken),
    st.integers(0, 5 * HOUR),
    st.integers(1, 4 * HOUR),
    st.integers(0, 3),
)
inputs = st.lists(
    st.builds(
        lambda held: Input("x", "s", tuple(held), frozenset(range(10)), frozenset()),
        st.lists(spans, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@given(inputs)
def test_each_second_is_taken_once_and_all_are(given_inputs):
    taken = [
        (second, number)
        for number, wanted in enumerate(slices(given_inputs))
        for parts in wanted.values()
        for begin, end in parts
        for second in range(begin, end)
    ]
    seconds = {second for second, _ in taken}
    assert len(seconds) == len(taken)
    assert seconds == {
        second for item in given_inputs for span in item.spans for second in range(span.since_s, span.until_s)
    }
    for second, number in taken:
        assert any(span.since_s <= second < span.until_s for span in given_inputs[number].spans)


def one(name, since, until, *, taken=0, hours=range(10), summed=()):
    return Input(name, "s", (Span(since, until, taken),), frozenset(hours), frozenset(summed))


def test_a_whole_hour_is_of_the_last_that_holds_it_whole():
    old, new, part = one("old", 0, 2 * HOUR), one("new", 0, HOUR, taken=5), one("part", 10, 2 * HOUR - 1, taken=9)
    assert slices([old, new, part]) == [{1: [(HOUR, 2 * HOUR)]}, {0: [(0, HOUR)]}, {}]


def test_sums_of_an_hour_cannot_be_parted():
    with pytest.raises(UsageError, match="a holds only a sum of an hour of which b holds another part"):
        slices([one("a", 0, 600, summed={0}), one("b", 300, 900)])
    assert slices([one("a", 0, 600, summed={0}), one("b", HOUR, 900 + HOUR)])[0] == {0: [(0, 600)]}


def test_an_hour_of_which_nothing_is_held_any_more_is_no_hour():
    assert slices([one("old", 0, HOUR), one("emptied", 0, HOUR, taken=9, hours=())]) == [{0: [(0, HOUR)]}, {}]


def test_intervals_that_meet_are_no_overlap():
    second = 1_000_000_000
    refuse_observed_twice(("a", {"n": [(0, 10 * second)]}), ("b", {"n": [(10 * second - 9, 20 * second)]}))
    refuse_observed_twice(("a", {"n": [(0, 10 * second)]}), ("b", {"m": [(0, 10 * second)]}))
    with pytest.raises(UsageError, match="node n was observed at the same time in both"):
        refuse_observed_twice(("a", {"n": [(0, 10 * second)]}), ("b", {"n": [(5 * second, 20 * second)]}))
