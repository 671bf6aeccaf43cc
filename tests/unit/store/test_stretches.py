from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fathom.store.interface import Gap, Window
from fathom.store.stretches import TOLERANCE_NS, coverage, merge

NS = 1_000_000_000
tenths = st.integers(0, 300).map(lambda n: n * NS // 10)
some = st.lists(st.tuples(tenths, tenths).map(lambda pair: (min(pair), max(pair))), max_size=8)


@given(some)
def test_merged_stretches_are_apart_and_hold_the_same_time(stretches):
    merged = merge(stretches)
    assert all(b[0] - a[1] >= TOLERANCE_NS for a, b in pairwise(merged))
    for start, end in stretches:
        assert start == end or any(a <= start and end <= b for a, b in merged)


@given(some, st.randoms())
def test_the_order_of_reports_does_not_matter(stretches, chance):
    shuffled = list(stretches)
    chance.shuffle(shuffled)
    one_by_one = []
    for stretch in shuffled:
        one_by_one = merge([*one_by_one, stretch])
    assert one_by_one == merge(stretches)


@given(some, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_coverage_is_what_a_count_of_tenths_of_seconds_says(stretches, since, until, known):
    """Each tenth of a second is looked at by itself; holes shorter than a second count as seen."""
    window = Window(min(since, until), max(since, until))
    got = coverage(window, {"n": known}, {"n": stretches})
    begin = max(window.since_s, known)
    wanted = list(range(begin * 10, window.until_s * 10))
    seen = [any(a <= t * NS // 10 < b for a, b in stretches) for t in wanted]
    holes, run = 0, 0
    for hit in [*seen, True]:
        if hit:
            holes += run if run >= 10 else 0
            run = 0
        else:
            run += 1
    assert got.node_seconds == len(wanted) / 10
    assert got.observed_seconds == (len(wanted) - holes) / 10
    assert got.share == ((len(wanted) - holes) / len(wanted) if wanted else 0.0)
    assert bool(got.gaps) == bool(holes)


def test_a_gap_is_named_by_the_whole_seconds_that_hold_it():
    seen = [(0, 10 * NS + 300_000_000), (12 * NS + 700_000_000, 30 * NS)]
    assert coverage(Window(0, 30), {"n": 0}, {"n": seen}).gaps == (Gap("n", 10, 13),)


def test_grace_is_only_for_the_end():
    seen = [(5 * NS, 20 * NS)]
    got = coverage(Window(0, 30), {"n": 0}, {"n": seen}, grace_s=10)
    assert got.gaps == (Gap("n", 0, 5),)
    assert (got.node_seconds, got.observed_seconds) == (20.0, 15.0)
