"""Numbers for keys: what a dict says, an array at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fathom.identity.slots import Mixer, Slots

HASHES = st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=200)


def u64(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@given(st.lists(HASHES, max_size=6), HASHES)
def test_finds_what_a_dict_finds(rounds: list[list[int]], strangers: list[int]) -> None:
    slots, truth = Slots(4), {}
    for hashes in rounds:
        fresh = [h for h in hashes if h not in truth]
        numbers = list(range(len(truth), len(truth) + len(fresh)))
        slots.add(np.array(fresh, np.uint64), np.array(numbers, np.int32))
        truth.update(zip(fresh, numbers, strict=True))
        asked = [*truth, *strangers]
        assert slots.find(np.array(asked, np.uint64)).tolist() == [truth.get(h, -1) for h in asked]
    assert len(slots) == len(truth)


def test_keys_that_want_one_place_are_all_found() -> None:
    """Small numbers share their upper bits, by which the place is chosen: the longest possible chain."""
    slots = Slots(64)
    hashes = np.arange(1, 101, dtype=np.uint64)
    slots.add(hashes, np.arange(100, dtype=np.int32))
    assert slots.find(hashes).tolist() == list(range(100))
    assert slots.find(u64(101, 2**63)).tolist() == [-1, -1]


def test_replace_forgets_the_rest() -> None:
    slots = Slots()
    slots.add(u64(1, 2, 3), np.array([1, 2, 3], np.int32))
    slots.replace(u64(2), np.array([7], np.int32))
    assert slots.find(u64(1, 2, 3)).tolist() == [-1, 7, -1]


def test_mixer_tells_columns_apart_and_is_never_zero() -> None:
    mixer = Mixer(3)
    columns = np.meshgrid(*(np.arange(20, dtype=np.uint64),) * 3)
    hashes = mixer(*(column.ravel() for column in columns))
    assert len(np.unique(hashes)) == 20**3
    assert (hashes != 0).all()
    zero = np.zeros(1, np.uint64)
    assert mixer(zero, zero, zero) != 0


def test_mixers_differ_by_their_secret() -> None:
    column = np.arange(1, 50, dtype=np.uint64)
    assert (Mixer(1)(column) != Mixer(1)(column)).all()
    assert (Mixer(1, secret=5)(column) == Mixer(1, secret=5)(column)).all()


def test_mixer_does_not_change_what_it_reads() -> None:
    column = np.arange(1, 50, dtype=np.uint64)
    before = column.copy()
    Mixer(2)(column, column)
    assert (column == before).all()
