"""Rows find their edges; the table is bounded and says what it merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fathom.agent.edges import EdgeTable, Ends, address_text, pack, reason_name, unpack
from fathom.agent.fake import observation
from fathom.events.edges import FAILURES, Edge, Workload
from fathom.events.observations import Direction, Reason, Verdict

WEB, DB = Workload(node="n", kind="unit", name="web"), Workload(node="n", kind="unit", name="db")
TABLE = [Workload(name="fathom"), Workload(name="other"), WEB, DB]
KEYS = np.array([11, 22, 33, 44], np.uint64)
T0 = 1_700_000_000


@pytest.fixture
def reduced(reduction: Any) -> Callable[[np.ndarray], dict[Edge, int]]:
    """Rows → connections by edge; workload 2 unless a row's pid says another."""

    def of(rows: np.ndarray) -> dict[Edge, int]:
        rows["pid"][rows["pid"] == 0] = 2
        reducing = reduction(TABLE)
        reducing.add(rows, T0 * 10**9, T0 * 10**9 + 10**9)
        (sums,) = reducing.reducer.close(None)
        edges, ids = reducing.reducer.edges.told(sums.numbers())
        assert [edge.id for edge in edges] == ids.tolist()
        return dict(zip(edges, sums.counters["connections"][sums.numbers()].tolist(), strict=True))

    return of


def test_pack_and_unpack() -> None:
    parts = (255, 2, 3, 77, 65_535)
    assert unpack(pack(*parts)) == parts


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, Edge(WEB, "egress", "10.0.0.2", "10.0.0.2", "TCP", 443)),
        (
            {"direction": 2, "local_port": 80, "remote_port": 50_000},
            Edge(WEB, "ingress", "10.0.0.2", "10.0.0.2", "TCP", 80),
        ),
        ({"direction": 0}, Edge(WEB, "unknown", "10.0.0.2", "10.0.0.2", "TCP", 0)),
        (
            {"remote": "fd00::1", "local": "fd00::2", "protocol": 17},
            Edge(WEB, "egress", "fd00::1", "fd00::1", "UDP", 443),
        ),
        ({"protocol": 1, "remote_port": 8}, Edge(WEB, "egress", "10.0.0.2", "10.0.0.2", "ICMP", 0)),
        ({"protocol": 58}, Edge(WEB, "egress", "10.0.0.2", "10.0.0.2", "ICMPv6", 0)),
        ({"protocol": 47}, Edge(WEB, "egress", "10.0.0.2", "10.0.0.2", "47", 0)),
        (
            {"verdict": Verdict.FAILED, "reason": Reason.REFUSED},
            Edge(WEB, "egress", "10.0.0.2", "10.0.0.2", "TCP", 443, "failed", "refused"),
        ),
    ],
)
def test_an_observation_becomes_its_edge(reduced: Any, columns: dict[str, object], expected: Edge) -> None:
    assert reduced(observation(3, **columns)) == {expected: 3}


def test_ephemeral_ports_do_not_make_edges(reduced: Any) -> None:
    rows = observation(1000, local_port=np.arange(1000) + 30_000)
    assert len(reduced(rows)) == 1
    rows = observation(1000, direction=Direction.INGRESS, local_port=80, remote_port=np.arange(1000) + 30_000)
    assert len(reduced(rows)) == 1


def test_workloads_are_told_apart(reduced: Any) -> None:
    edges = reduced(observation(6, pid=[2, 2, 2, 2, 3, 3], comm=[b"a", b"b", b"a", b"c", b"a", b"a"]))
    assert {edge.workload.name: count for edge, count in edges.items()} == {"web": 4, "db": 2}


def test_failures_have_the_words_of_the_contract() -> None:
    assert tuple(reason_name(number) for number in list(Reason)[1:]) == FAILURES
    assert reason_name(0) == ""
    assert reason_name(77) == "77"


def test_addresses() -> None:
    assert address_text(bytes(10) + b"\xff\xff\x0a\x00\x00\x01") == "10.0.0.1"
    assert address_text(bytes(15) + b"\x01") == "::1"
    assert address_text(bytes(16)) == "::"


def ends(count: int, start: int = 0, workload: int = 2) -> Ends:
    low = np.arange(start, start + count, dtype=np.uint64)
    meta = np.full(count, pack(6, 1, 1, 0, 443), np.uint64)
    return Ends(np.zeros(count, np.uint64), low, meta, KEYS[[workload] * count], np.full(count, workload, np.int32))


def test_what_finds_no_room_is_merged_into_other() -> None:
    table = EdgeTable(100)
    numbers = table.find(ends(150), TABLE)
    assert (numbers[:100] == np.arange(100)).all()
    assert set(numbers[100:].tolist()) == {100}
    assert table.is_other(numbers).tolist() == [False] * 100 + [True] * 50
    assert table.edge(100) == Edge(WEB, "egress", "other", "", "TCP", 443)
    assert (table.find(ends(150), TABLE) == numbers).all()
    assert table.find(ends(1, 500, workload=3), TABLE).tolist() == [101]


def test_the_room_for_others_is_bounded_too() -> None:
    table = EdgeTable(8)
    many = ends(300)
    ports = np.array([pack(6, 1, 1, 0, port) for port in range(300)], np.uint64)
    numbers = table.find(Ends(many.high, many.low, ports, many.who, many.numbers), TABLE)
    assert (numbers >= 0).sum() == 8 + 64
    assert (numbers == -1).sum() == 300 - 72
    assert len(table) == 72


def test_rows_without_any_room_are_counted_with_what_they_carried(reduction: Any) -> None:
    reducing = reduction(TABLE, max_edges=8)
    rows = observation(
        300, pid=2, remote_port=np.arange(300) + 1, bytes_sent=2, bytes_received=3, packets_sent=5, packets_received=7
    )
    rows["remote"] = np.arange(300).astype(">u8").repeat(2).view("V16")
    for _ in range(2):  # the second time from what is remembered
        dropped = reducing.add(rows, T0 * 10**9, T0 * 10**9 + 10**9)
        (sums,) = reducing.reducer.close(None)
        kept = int(sums.counters["connections"].sum())
        assert kept == 72
        assert (dropped.count, dropped.packets) == (300 - kept, 12 * (300 - kept))
        assert (dropped.bytes_sent, dropped.bytes_received) == (2 * (300 - kept), 3 * (300 - kept))
    assert reducing.grouping.merged.edges == 2 * 64


def test_keep_renumbers() -> None:
    table = EdgeTable(1000)
    table.find(ends(600), TABLE)
    before = table.told(np.array([10, 500]))[0]
    table.keep(np.array([10, 500]))
    assert len(table) == 2
    assert table.told(np.array([0, 1]))[0] == before
    assert table.find(ends(1, 500), TABLE).tolist() == [1]
    assert table.find(ends(1, 11), TABLE).tolist() == [2]
