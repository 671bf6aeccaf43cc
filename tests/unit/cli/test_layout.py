from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fathom.cli.layout import Slot, cut, fit, flowed

SLOTS = (
    Slot("WORKLOAD", 0, least=6),
    Slot("PORT", 2, number=True),
    Slot("PEER", 1, least=6),
    Slot("OUT", 3, number=True),
)
ROWS = [["unit/postgresql.service", "5432", "2001:db8::1", "1.2 MiB"], ["x", "22", "y", "1 B"]]


def test_all_columns_in_full_where_there_is_room() -> None:
    assert fit(ROWS, SLOTS, 80) == [
        "WORKLOAD                 PORT  PEER             OUT",
        "unit/postgresql.service  5432  2001:db8::1  1.2 MiB",
        "x                          22  y                1 B",
    ]


def test_names_are_shortened_before_a_column_is_dropped() -> None:
    assert fit(ROWS, SLOTS, 34)[:2] == ["WORKLOAD   PORT  PEER          OUT", "unit/pos…  5432  2001:db…  1.2 MiB"]


def test_the_least_important_column_goes_first() -> None:
    assert fit(ROWS, SLOTS, 24)[0].split() == ["WORKLOAD", "PORT", "PEER"]
    assert fit(ROWS, SLOTS, 15)[0].split() == ["WORKLO…", "PEER"]
    assert fit(ROWS, SLOTS, 7)[0] == "WORKLO…"


@given(
    st.lists(
        st.lists(st.text(st.characters(blacklist_categories=("C", "Z", "M"))), min_size=4, max_size=4), max_size=5
    ),
    st.integers(1, 100),
)
def test_no_line_is_ever_wider_than_it_may_be(rows: list[list[str]], width: int) -> None:
    lines = fit(rows, SLOTS, width)
    assert len(lines) == len(rows) + 1
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize(("width", "text"), [(0, ""), (1, "…"), (4, "日…"), (5, "日本…"), (6, "日本語")])
def test_wide_characters_are_cut_by_cells(width: int, text: str) -> None:
    assert cut("日本語", width) == text


def test_facts_flow_into_lines() -> None:
    assert flowed(["one", "two", "three"], 40) == ["one · two · three"]
    assert flowed(["one", "two", "three"], 9) == ["one · two", "three"]
    assert flowed(["one", "very long"], 5) == ["one", "very…"]
    assert flowed([], 5) == []
