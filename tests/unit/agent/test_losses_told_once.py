"""A probe's losses as batches tell them: never negative, and in sum what the probe says in the end."""

from __future__ import annotations

from fathom.agent.fake import FakeProbe
from fathom.agent.watched import Watched


def test_what_a_probe_takes_back_is_taken_off_what_comes_next() -> None:
    probe = FakeProbe()
    watched = Watched(probe, 1 << 16)
    told = []
    for sent in (100, -60, 10, 80):
        probe.lose("ring_full", 1, sent=sent)
        told.append([(loss.count, loss.bytes_sent) for loss in watched.losses(0)])
        assert watched.totals()["ring_full"][2] >= sum(sent for losses in told for _, sent in losses)
    assert told == [[(1, 100)], [(1, 0)], [(1, 0)], [(1, 30)]]


def test_losses_are_told_after_a_probe_failed_too() -> None:
    probe = FakeProbe()
    watched = Watched(probe, 1 << 16)
    probe.lose("map_full", 2)
    assert watched.totals()["map_full"][0] == 2
    probe.break_down("gone")
    assert [loss.count for loss in watched.losses(0)] == [2]
    assert watched.losses(0) == []
