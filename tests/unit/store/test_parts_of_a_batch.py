from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import WireError
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT
from fathom.store import parts

NS, DAY = 1_000_000_000, 86_400
LIMITS = parts.Limits(floor_day=2, end_s=5 * DAY, now_s=4 * DAY)
NOBODY = np.zeros(0, np.int64)


def batch(facts=(), losses=(), observed=(), wall_s=3 * DAY):
    table = np.zeros(len(facts), FACT)
    for row, (edge, bucket, sent) in zip(table, facts, strict=True):
        row["edge"], row["bucket"], row["bytes_sent"], row["packets_sent"] = edge, bucket, sent, 1
    stretches = tuple(Observed(int(a * NS), int(b * NS)) for a, b in observed)
    return Batch(BatchId("n", "b", 1), Clock(0, 0, wall_s * NS), (), table, tuple(losses), stretches)


def split(made, homeless=NOBODY, limits=LIMITS):
    facts, refused = parts.timely(parts.check(made), limits)
    found, late = parts.split(made, facts, limits, homeless)
    return found, refused + late


def test_each_day_gets_what_is_of_it():
    made = batch(
        facts=[(1, 2 * DAY, 5), (2, 3 * DAY - 1, 6), (1, 3 * DAY, 7)],
        losses=[Loss(3 * DAY + 5, "kernel", "tcp", "x", 1)],
        observed=[(3 * DAY - 10, 3 * DAY + 10)],
    )
    found, refused = split(made)
    assert refused == []
    assert sorted(found) == [2, 3]
    assert found[2].facts[:, 0].tolist() == [1, 2]
    assert found[3].facts[:, 0].tolist() == [1]
    assert found[2].observed == [Observed((3 * DAY - 10) * NS, 3 * DAY * NS)]
    assert found[3].observed == [Observed(3 * DAY * NS, (3 * DAY + 10) * NS)]
    assert [loss.reason for loss in found[3].losses] == ["x"]
    assert found[3].hours() == [72]


def test_what_is_too_old_or_ahead_is_a_loss_dated_now():
    found, refused = split(batch(facts=[(1, 2 * DAY - 1, 5), (1, 0, 6), (2, 5 * DAY, 7), (3, 5 * DAY - 1, 8)]))
    assert [(m.bucket, m.hop, m.reason, m.count, m.packets, m.bytes_sent) for m in refused] == [
        (4 * DAY, "server", "too_old", 2, 2, 11),
        (4 * DAY, "server", "clock_ahead", 1, 1, 7),
    ]
    assert found[4].facts[:, 0].tolist() == [3]


def test_facts_without_room_are_a_loss_of_their_day():
    found, _ = split(batch(facts=[(1, 2 * DAY, 5), (2, 2 * DAY + 10, 6), (2, 3 * DAY, 7)]), np.array([2]))
    assert found[2].facts[:, 0].tolist() == [1]
    assert [(m.bucket, m.reason, m.count, m.bytes_sent) for m in found[2].losses] == [
        (2 * DAY + 10, "edges_full", 1, 6)
    ]
    assert len(found[3].facts) == 0
    assert found[3].losses[0].bytes_sent == 7


def test_losses_out_of_time_keep_their_time():
    old = Loss(5, "kernel", "tcp", "x", 3)
    found, refused = split(batch(losses=[old]))
    assert refused == [old]
    assert list(found) == [3]


def test_observed_time_is_cut_to_what_is_kept():
    found, refused = split(batch(observed=[(0, 9 * DAY)]))
    assert refused == []
    assert sorted(found) == [2, 3, 4]
    assert sum(o.end_ns - o.start_ns for part in found.values() for o in part.observed) == 3 * DAY * NS


@pytest.mark.parametrize(("wall_s", "day"), [(3 * DAY + 7, 3), (0, 2), (9 * DAY, 4)])
def test_a_batch_that_says_nothing_belongs_to_the_day_of_its_clock(wall_s, day):
    found, refused = split(batch(wall_s=wall_s))
    assert (list(found), refused, found[day].seen()) == ([day], [], None)


def test_too_many_days_are_refused():
    limits = parts.Limits(0, 1_000 * DAY, 0)
    with pytest.raises(WireError, match="more than 64 days"):
        split(batch(facts=[(1, day * DAY, 0) for day in range(65)]), limits=limits)
    with pytest.raises(WireError, match="spans more than 64 days"):
        split(batch(observed=[(0, 66 * DAY)]), limits=limits)
    assert len(split(batch(facts=[(1, day * DAY, 0) for day in range(64)]), limits=limits)[0]) == 64


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6 * DAY), st.integers(0, 99)), max_size=12))
def test_nothing_is_lost_without_being_counted(facts):
    found, refused = split(batch(facts=facts), np.array([4]))
    kept = sum(int(part.facts[:, 4].sum()) for part in found.values())
    lost = sum(loss.bytes_sent for part in found.values() for loss in part.losses) + sum(m.bytes_sent for m in refused)
    assert kept + lost == sum(sent for *_, sent in facts)
    count = sum(len(part.facts) + sum(m.count for m in part.losses) for part in found.values())
    assert count + sum(m.count for m in refused) == len(facts)


def test_facts_of_another_byte_order_or_a_view_are_read_right():
    facts = np.zeros(6, FACT)
    facts["edge"] = range(1, 7)
    assert parts.matrix(facts[::2])[:, 0].tolist() == [1, 3, 5]
    with pytest.raises(WireError):
        parts.matrix(facts.astype(FACT.newbyteorder(">")))
