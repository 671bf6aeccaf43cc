from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.events.edges import FACT
from fathom.events.latency import BUCKETS
from fathom.store import queries, schema
from fathom.store.columns import COUNTERS, MERGED_LIST, SUMMED_LIST, add, names, to_sums

counters = st.lists(st.integers(0, 9), min_size=len(COUNTERS), max_size=len(COUNTERS))


def database():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.make(connection, ("meta", "day"), 0)
    for text in (queries.MAKE_PICKED, queries.MAKE_SUMS, queries.MAKE_RANKS):
        connection.execute(text)
    return connection


def test_counters_are_those_of_a_fact():
    assert (*COUNTERS,) == FACT.names[2:]
    assert len(to_sums(range(len(COUNTERS))).latency.histogram) == BUCKETS


def plausible(row):
    """Least and greatest latency are 0 where there was none, as in every fact."""
    row = list(row)
    count, low, high = (COUNTERS.index(f"latency_{n}") for n in ("count", "min", "max"))
    if not row[count]:
        row[low] = row[high] = 0
    return row


@given(st.lists(counters.map(plausible), min_size=1, max_size=4))
def test_sum_conflict_and_python_add_up_alike(rows):
    expected = rows[0]
    for row in rows[1:]:
        expected = add(expected, row)
    connection = sqlite3.connect(":memory:")
    marks = ", ".join("?" * len(COUNTERS))
    connection.execute(f"CREATE TABLE many({names()})")
    connection.execute(f"CREATE TABLE one(id INTEGER PRIMARY KEY, {names()})")
    connection.executemany(f"INSERT INTO many VALUES({marks})", rows)
    merge = f"INSERT INTO one VALUES(1, {marks}) ON CONFLICT(id) DO UPDATE SET {MERGED_LIST}"
    connection.executemany(merge, rows)
    assert list(connection.execute(f"SELECT {SUMMED_LIST} FROM many").fetchone()) == list(expected)
    assert list(connection.execute(f"SELECT {names()} FROM one").fetchone()) == list(expected)
    connection.close()


WINDOW = {"gone": 0, "since": 0, "until": 9, "edge": 1, "step": 60, "hour": 1, "since_ns": 0, "until_ns": 9}
ON_FACTS = {
    "sums": queries.SUM.facts([1, 2], picked=False),
    "sums of picked": queries.SUM.facts([1, 2], picked=True),
    "sums of few": queries.SUM.picked_facts([1, 2]),
    "ranks": queries.RANK.facts([1, 2], picked=False),
    "ranks of picked": queries.RANK.facts([1, 2], picked=True),
    "ranks of few": queries.RANK.picked_facts([1, 2]),
    "hourly sums": queries.SUM.hourly([1, 2], picked=True),
    "hourly ranks": queries.RANK.hourly([1, 2], picked=False),
    "series": queries.series_facts([1, 2]),
    "hourly series": queries.series_hourly([1, 2]),
    "losses": queries.losses([1, 2]),
    "hourly losses": queries.hourly_losses([1, 2]),
    "hourly observed": queries.hourly_observed([1, 2]),
    "orphans": queries.orphaned([1, 2]),
    "hourly orphans": queries.hourly_orphaned([1, 2]),
    "roll-up": queries.HOUR_FACTS,
    "roll-up of losses": queries.HOUR_LOSSES,
}


@pytest.mark.parametrize("name", ON_FACTS)
def test_no_question_reads_all_facts(name):
    connection = database()
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + ON_FACTS[name], WINDOW)]
    connection.close()
    on_facts = [
        line
        for line in plan
        if line.split()[1] in ("facts", "f", "hourly", "losses", "hourly_losses", "hourly_observed")
    ]
    assert on_facts
    assert all(line.startswith("SEARCH") and "PRIMARY KEY (hour=?" in line for line in on_facts), plan


def test_few_edges_are_found_step_by_step():
    connection = database()
    for name in ("sums of few", "ranks of few", "series"):
        plan = " | ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + ON_FACTS[name], WINDOW))
        assert "PRIMARY KEY (hour=? AND bucket=? AND edge=?)" in plan
    connection.close()


def test_hours_are_integers_whatever_is_given():
    assert queries.hours_in([1, 2]) == "(1, 2)"
    with pytest.raises(ValueError, match="invalid literal"):
        queries.hours_in(["1) OR 1=1"])
