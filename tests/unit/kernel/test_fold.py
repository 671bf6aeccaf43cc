"""Folding against a plain dictionary of the same records."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.events.latency import bucket_of
from fathom.kernel import _fold
from fathom.kernel.fold import Fold, Folded, span

RECORD = np.dtype(
    [
        ("time", "<u8"),
        ("latency", "<u8"),
        ("bytes", "<u8"),
        ("who", "V16"),
        ("server", "<u2"),
        ("client", "<u2"),
        ("packets", "<u4"),
        ("kind", "u1"),
        ("direction", "u1"),
        ("pad", "V6"),
    ]
)
MOST = 64
#: By direction: 0 tells who alone, 1 the server's port too, 2 and above the client's.
APART = (("who", "kind"), ("who", "kind", "server"), ("who", "kind", "client"))
ROW = st.tuples(
    st.integers(0, 2),  # who
    st.integers(0, 1),  # kind
    st.sampled_from([0, 1, 2, 3, 255]),  # direction
    st.integers(0, 2),  # server
    st.integers(0, 2),  # client
    st.sampled_from([0, 1, 49_999, 50_000, 50_001, 10**6, 10**10]),  # latency
    st.integers(0, 2**40),  # bytes
    st.integers(0, 2**32 - 1),  # packets
)


def fold(most: int = MOST) -> Fold:
    return Fold(RECORD, selector="direction", apart=APART, summed=("bytes", "packets"), latency="latency", most=most)


def records_of(drawn: list[tuple[int, ...]]) -> np.ndarray:
    records = np.zeros(len(drawn), RECORD)
    for number, (row, values) in enumerate(zip(records, drawn, strict=True)):
        who, row["kind"], row["direction"], row["server"], row["client"], *rest = values
        row["who"] = np.void(bytes(15) + bytes([who]))
        row["latency"], row["bytes"], row["packets"] = rest
        row["time"] = number
    return records


def folded(records: np.ndarray, *cuts: int) -> Folded:
    """``records`` in pieces, cut at ``cuts``."""
    folding = fold()
    for piece in np.split(records, sorted(cuts)):
        assert folding.add(piece) == len(piece)
    return folding.take()


@settings(deadline=None)
@given(st.lists(ROW, max_size=MOST), st.lists(st.integers(0, MOST), max_size=3))
def test_groups_are_what_a_dictionary_says(drawn: list[tuple[int, ...]], cuts: list[int]) -> None:
    truth: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, (who, kind, direction, server, client, latency, *_) in enumerate(drawn):
        port = {0: 0, 1: server}.get(direction, client)
        bucket = int(bucket_of(np.array([latency]))[0]) if latency else -1
        truth[who, kind, direction, port, bucket].append(number)
    found = folded(records_of(drawn), *cuts)
    assert found.rows["time"].tolist() == [numbers[0] for numbers in truth.values()]
    assert found.count.tolist() == [len(numbers) for numbers in truth.values()]
    for column, name in ((6, "bytes"), (7, "packets")):
        assert found.sums[name].tolist() == [sum(drawn[n][column] for n in numbers) for numbers in truth.values()]
    latencies = [[drawn[n][5] for n in numbers] for numbers in truth.values()]
    assert found.latency_sum.tolist() == [sum(group) for group in latencies]
    assert found.latency_min.tolist() == [min(group) for group in latencies]
    assert found.latency_max.tolist() == [max(group) for group in latencies]


def test_singly_leaves_every_record_alone() -> None:
    records = records_of([(1, 0, 1, 0, 0, 5, 7, 9)] * 3)
    folded = fold().singly(records)
    assert (folded.rows == records).all()
    assert folded.count.tolist() == [1, 1, 1]
    assert folded.sums["packets"].tolist() == [9, 9, 9]
    assert folded.latency_max.tolist() == [5, 5, 5]


def test_a_result_outlives_the_next_and_the_next_begins_anew() -> None:
    folding = fold()
    folding.add(records_of([(1, 0, 1, 0, 0, 5, 7, 9)]))
    first = folding.take()
    assert len(folding) == 0
    folding.add(records_of([(2, 1, 2, 1, 1, 9, 1, 1)] * 4))
    assert (first.count.tolist(), first.sums["bytes"].tolist()) == ([1], [7])
    assert folding.take().count.tolist() == [4]
    assert folding.take().count.tolist() == []


def test_what_finds_no_room_is_left_and_what_is_like_before_finds_it() -> None:
    same = (2, 0, 1, 2, 0, 1, 1, 1)
    drawn = [(n % 3, 0, 1, n, 0, 1, 1, 1) for n in range(MOST)]
    folding = fold()
    records = records_of([*drawn, same, same, (0, 1, 1, 0, 0, 1, 1, 1), same])
    assert folding.add(records) == MOST + 2
    assert len(folding) == MOST
    assert folding.take().count.tolist() == [3 if n == 2 else 1 for n in range(MOST)]
    assert folding.add(records[MOST + 2 :]) == 2
    assert folding.take().count.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["time", "bytes"])
def test_span_is_the_least_and_the_greatest(name: str) -> None:
    records = records_of([(0, 0, 0, 0, 0, 0, value, 0) for value in (2**63, 5, 2**64 - 1, 7)])
    assert span(records, name) == (int(records[name].min()), int(records[name].max()))
    assert span(records[1:2], name) == (int(records[name][1]),) * 2


@pytest.mark.parametrize("given", [(b"", 16, 0), (bytes(17), 16, 0), (bytes(16), 16, 9), (bytes(16), 16, -1),
                                   (bytes(16), 4, 0), (bytes(16), -8, 0)])  # fmt: skip
def test_a_span_of_what_is_not_there_is_refused(given: tuple[bytes, int, int]) -> None:
    with pytest.raises(ValueError, match="no such column"):
        _fold.span(*given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 12},
        {"size": 0},
        {"size": -8},
        {"masks": (bytes(7), 0)},
        {"masks": (bytes(16), 16)},
        {"masks": (bytes(16), -1)},
        {"sums": ((12, 8),)},
        {"sums": ((0, 3),)},
        {"sums": ((-4, 4),)},
        {"sums": ((0, 8),) * 17},
        {"latency": (9, b"")},
        {"latency": (-1, b"")},
        {"table": bytearray(4 * 7)},
        {"table": bytearray(4 * 4)},
        {"rows": bytearray(16 * 5)},
        {"groups": 5},
        {"groups": -1},
        {"groups": 1, "table": bytearray(b"\2\0\0\0" * 8)},
        {"groups": 4, "table": bytearray(b"\1\0\0\0" * 8), "records": b"\1" * 64},
        {"totals": bytearray(8)},
        {"keys": bytes(8)},
    ],
)
def test_buffers_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    given = {
        "records": bytes(64),
        "size": 16, "masks": (b"\xff" * 16, 0), "sums": ((0, 8),), "latency": (8, b""), "table": bytearray(4 * 8),
        "groups": 0, "rows": bytearray(16 * 4), "totals": bytearray(8 * 6 * 4), "keys": bytes(520), **wrong,
    }  # fmt: skip
    with pytest.raises(ValueError, match="do not fit"):
        _fold.fold(
            given["records"], given["size"], given["masks"], given["sums"], given["latency"],
            (given["groups"], given["table"], given["rows"], given["totals"]), given["keys"],
        )  # fmt: skip
