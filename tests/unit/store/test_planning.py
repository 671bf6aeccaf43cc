from __future__ import annotations

from fathom.store.interface import Window
from fathom.store.planning import days_of, hours_of, plan

HOUR, DAY = 3_600, 86_400


def test_a_window_touches_its_hours_and_days():
    assert list(hours_of(Window(HOUR - 1, HOUR + 1))) == [0, 1]
    assert list(hours_of(Window(HOUR, 2 * HOUR))) == [1]
    assert list(hours_of(Window(HOUR, HOUR))) == []
    assert list(days_of(Window(DAY - 1, DAY))) == [0]
    assert list(days_of(Window(DAY - 1, DAY + 1))) == [0, 1]


def test_whole_clean_hours_come_from_roll_ups_and_the_others_from_facts():
    written = {23: 1, 24: 5, 25: 5, 26: 5, 30: 1}
    rolled = {23: 1, 24: 5, 25: 4}
    made = plan(Window(24 * HOUR, 27 * HOUR), written, rolled, ())
    assert made.hourly == {0: (24,)}
    assert made.facts == {1: (25, 26)}


def test_an_hour_that_the_window_cuts_comes_from_facts():
    written = rolled = {0: 1, 1: 1, 24: 1}
    made = plan(Window(1, 24 * HOUR + 1), written, rolled, ())
    assert made.hourly == {0: (1,)}
    assert made.facts == {0: (0,), 1: (24,)}


def test_where_facts_are_gone_an_hour_counts_if_it_starts_inside():
    for rolled, gone in (({0: 1, 1: 1, 2: 1}, ()), ({}, (0, 1, 2))):
        made = plan(Window(1, HOUR + 1), {}, rolled, gone)
        assert (made.facts, made.hourly) == ({}, {1 if gone else 0: (1,)})


def test_what_is_left_of_facts_that_are_gone_is_added_to_those_that_came_later():
    made = plan(Window(0, 2 * HOUR), {0: 3, 1: 3}, {0: 3, 1: 2}, {0, 1})
    assert (made.facts, made.hourly) == ({0: (1,)}, {0: (0,), 1: (0, 1)})


def test_exact_times_use_roll_ups_only_where_facts_are_gone():
    made = plan(Window(0, 2 * HOUR), {0: 1}, {0: 1}, (1,), exact_times=True)
    assert (made.facts, made.hourly) == ({0: (0,)}, {1: (1,)})
