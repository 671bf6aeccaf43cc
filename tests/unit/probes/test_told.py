"""Totals become deltas, and each connection counts once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from fathom.probes.probe import LossCount
from fathom.probes.told import COUNTERS, Told

ROW = np.dtype([("socket", "<u8"), *[(name, "<u8") for name in COUNTERS]])


def _rows(**totals: int) -> npt.NDArray[Any]:
    """``_rows(s3=100)``: socket 3 has sent and received that much."""
    rows = np.zeros(len(totals), ROW)
    rows["socket"] = [int(name[1:]) for name in totals]
    for name in ("bytes_sent", "bytes_received"):
        rows[name] = list(totals.values())
    return rows


def _sent(told: Told, rows: npt.NDArray[Any]) -> list[int]:
    deltas, _ = told.deltas(rows)
    return np.asarray(deltas["bytes_sent"]).tolist()


def test_unknown_connections_tell_all_they_have() -> None:
    told = Told()
    assert _sent(told, _rows(s5=100, s2=7)) == [100, 7]
    assert len(told) == 0


def test_known_ones_tell_what_is_new_in_any_order() -> None:
    told = Told()
    told.tell(_rows(s5=100, s2=7))
    assert _sent(told, _rows(s9=1, s2=10, s5=100)) == [1, 3, 0]
    _, counted = told.deltas(_rows(s9=1, s2=10, s5=100))
    assert counted.tolist() == [False, True, True]


def test_a_total_that_is_behind_adds_nothing_and_takes_nothing_back() -> None:
    told = Told()
    told.tell(_rows(s5=100))
    assert _sent(told, _rows(s5=90)) == [0]
    told.tell(_rows(s5=90))
    assert _sent(told, _rows(s5=120)) == [20]


def test_forgotten_ones_are_new_again() -> None:
    told = Told()
    told.tell(_rows(s5=100, s6=1))
    told.forget(np.array([5], np.uint64))
    assert len(told) == 1
    assert _sent(told, _rows(s5=100, s6=1)) == [100, 0]


def test_a_lost_close_is_buried_at_the_second_look() -> None:
    told = Told()
    told.tell(_rows(s5=100, s6=1))
    alive = np.array([6], np.uint64)
    assert told.missing(alive)
    assert told.bury(alive) == LossCount(0, 0, 0, 0)
    assert told.bury(alive) == LossCount(0, 0, 100, 100)
    assert not told.missing(alive)
    assert len(told) == 1


def test_one_that_comes_back_is_not_buried() -> None:
    told = Told()
    told.tell(_rows(s5=100))
    told.bury(np.zeros(0, np.uint64))
    told.bury(np.array([5], np.uint64))
    assert told.bury(np.zeros(0, np.uint64)) == LossCount(0, 0, 0, 0)
    assert len(told) == 1


@given(st.lists(st.dictionaries(st.integers(1, 12), st.integers(0, 1000), min_size=1), max_size=12))
def test_deltas_add_up_to_the_last_total(looks: list[dict[int, int]]) -> None:
    """Whatever is told when: the sum of deltas of a connection is the largest total that was told."""
    told, sums, most = Told(), dict[int, int](), dict[int, int]()
    for look in looks:
        rows = _rows(**{f"s{socket}": total for socket, total in look.items()})
        for socket, delta in zip(look, _sent(told, rows), strict=True):
            sums[socket] = sums.get(socket, 0) + delta
            most[socket] = max(most.get(socket, 0), look[socket])
        told.tell(rows)
    assert sums == most


def test_what_is_not_alive_was_told_of_and_may_be_buried_later() -> None:
    told = Told()
    told.tell(_rows(s5=100, s6=1, s7=30))
    alive = np.array([6], np.uint64)
    assert told.absent(alive) == LossCount(0, 0, 130, 130)
    assert told.bury(alive) == LossCount(0, 0, 0, 0)
    assert told.absent(alive) == LossCount(0, 0, 130, 130)
    assert told.bury(alive) == LossCount(0, 0, 130, 130)
    assert told.absent(alive) == LossCount(0, 0, 0, 0)
