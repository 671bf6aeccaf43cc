"""What is remembered about rows gives what looking anew would give, and is forgotten in time."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.agent.fake import observation
from fathom.agent.grouping import MINE
from fathom.events.batches import Clock
from fathom.events.edges import Workload

TABLE = [Workload(kind="process", name=name) for name in ("fathom", "other", "web", "db")]
NOW = Clock(0, 0, 0)


def test_a_row_like_one_before_is_not_asked_about_again(reduction: Any) -> None:
    reducing = reduction(TABLE)
    rows = observation(100, pid=2, local_port=np.arange(100) + 30_000, bytes_sent=np.arange(100))
    first = reducing.grouping.numbers(rows, NOW)
    assert reducing.identities.asked == 1
    assert (reducing.grouping.numbers(rows, NOW) == first).all()
    assert reducing.identities.asked == 1


def test_each_part_of_the_key_counts(reduction: Any) -> None:
    reducing = reduction(TABLE)
    changes: list[dict[str, Any]] = [
        {},
        {"pid": 3},
        {"cgroup": 9},
        {"comm": b"abcdefghi"},
        {"comm": b"abcdefghj"},
        {"comm": b"abc"},
        {"direction": 2},
        {"verdict": 2},
        {"reason": 1},
        {"protocol": 17},
        {"protocol": 1, "remote_port": 0},
        {"remote_port": 80},
        {"remote": "10.0.0.3"},
        {"remote": "fd00::2"},
    ]
    rows = np.concatenate([observation(1, **{"pid": 2, **change}) for change in changes])
    reducing.grouping.numbers(rows, NOW)
    assert reducing.identities.asked == len(changes)


def test_what_is_no_part_of_the_key_does_not(reduction: Any) -> None:
    reducing = reduction(TABLE)
    rows = observation(5, pid=2)
    rows["local_port"][1], rows["netns"][2], rows["owner_source"][3], rows["time"][4] = 1, 2, 3, 4
    rows["local"][0] = np.void(bytes(16))
    assert len(set(reducing.grouping.numbers(rows, NOW).tolist())) == 1
    assert reducing.identities.asked == 1


def test_forgotten_when_identity_checked_its_answers(reduction: Any) -> None:
    reducing = reduction(TABLE)
    rows = observation(1, pid=2)
    reducing.grouping.numbers(rows, NOW)
    reducing.identities.checks += 1
    reducing.grouping.numbers(rows, NOW)
    assert reducing.identities.asked == 2


def test_forgotten_when_edges_get_new_numbers(reduction: Any) -> None:
    reducing = reduction(TABLE)
    rows = observation(3, pid=2, remote_port=[1, 2, 3])
    last = reducing.grouping.numbers(rows, NOW)[2:]
    reducing.reducer.edges.keep(last)
    assert reducing.grouping.numbers(rows[2:], NOW).tolist() == [0]


def test_an_answer_that_is_not_final_is_not_remembered(reduction: Any) -> None:
    reducing = reduction(TABLE)
    reducing.identities.sure = False
    for _ in range(3):
        reducing.grouping.numbers(observation(1, pid=2), NOW)
    assert reducing.identities.asked == 3


def test_memory_is_bounded(reduction: Any) -> None:
    reducing = reduction(TABLE, max_edges=200_000)
    for start in range(0, 100_000, 10_000):
        rows = observation(10_000, pid=2)
        rows["remote"] = (np.arange(10_000) + start).astype(">u8").repeat(2).view("V16")
        assert sorted(reducing.grouping.numbers(rows, NOW).tolist()) == list(range(start, start + 10_000))
        assert len(reducing.grouping._slots) <= 32_768 + 10_000


def test_own_and_other_are_marked_every_time(reduction: Any) -> None:
    reducing = reduction(TABLE)
    rows = observation(4, pid=[0, 1, 1, 2])
    for count in (1, 2, 3):
        numbers = reducing.grouping.numbers(rows, NOW)
        assert (numbers == MINE).tolist() == [True, False, False, False]
        assert reducing.grouping.merged.workloads == 2 * count
