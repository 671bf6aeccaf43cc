from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fathom.store.known import KnownEdges

ids = st.lists(st.integers(1, 30), max_size=8)


def array(values):
    return np.array(values, np.int64)


def made(days):
    return KnownEdges(array(list(days)), np.array(list(days.values()), np.int32))


def test_nothing_is_known_of_nothing():
    known = made({})
    assert len(known) == 0
    assert known.unknown(array([3, 1, 3])).tolist() == [1, 3]
    assert known.stale(array([3]), 9).tolist() == []


@given(st.lists(st.tuples(st.sampled_from(["add", "touch", "forget"]), ids, st.integers(0, 9)), max_size=12), ids)
def test_it_is_a_mapping_from_edge_to_last_day(steps, asked):
    known, model = made({7: 4, 3: 2}), {7: 4, 3: 2}
    for what, some, day in steps:
        if what == "add":
            new = [e for e in dict.fromkeys(some) if e not in model]
            known.add(array(new), day)
            model.update(dict.fromkeys(new, day))
        elif what == "touch":
            old = [e for e in some if e in model]
            known.touch(array(old), day)
            model.update({e: max(model[e], day) for e in old})
        else:
            known.forget_before(day)
            model = {e: last for e, last in model.items() if last >= day}
    assert len(known) == len(model)
    assert known.unknown(array(asked)).tolist() == sorted({e for e in asked if e not in model})
    assert known.stale(array(asked), 5).tolist() == sorted({e for e in asked if model.get(e, 9) < 5})
