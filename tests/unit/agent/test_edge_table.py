"""Rows find their edges; the table is bounded and says what it merged."""

from __future__ import annotations

import numpy as np
import pytest

from fathom.agent.edges import EdgeTable, Ends, address_text, pack, reason_name, unpack
from fathom.agent.fake import observation
from fathom.agent.reduce import Named, Reducer
from fathom.events.edges import FAILURES, Edge, Workload
from fathom.events.observations import Direction, Reason, Verdict

WEB, DB = Workload(node="n", kind="unit", name="web"), Workload(node="n", kind="unit", name="db")
TABLE = [WEB, DB]
KEYS = np.array([11, 22], np.uint64)
T0 = 1_700_000_000


def reduced(rows: np.ndarray, numbers: list[int] | None = None, max_edges: int = 1000) -> dict[Edge, int]:
    reducer = Reducer(10, max_edges)
    named = Named(TABLE, np.array(numbers or [0] * rows.size, np.int32), KEYS)
    reducer.add(rows, named, T0 * 10**9, T0 * 10**9 + 10**9)
    (sums,) = reducer.close(None)
    edges, ids = reducer.edges.told(sums.numbers())
    assert [edge.id for edge in edges] == ids.tolist()
    return dict(zip(edges, sums.counters["connections"][sums.numbers()].tolist(), strict=True))


def test_pack_and_unpack() -> None:
    words = [np.array([value], np.uint64) for value in (2, 3, 60_000, 255, 65_535)]
    assert unpack(int(pack(*words)[0])) == (2, 3, 60_000, 255, 65_535)


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
def test_an_observation_becomes_its_edge(columns: dict[str, object], expected: Edge) -> None:
    assert reduced(observation(3, **columns)) == {expected: 3}


def test_ephemeral_ports_do_not_make_edges() -> None:
    rows = observation(1000, local_port=np.arange(1000) + 30_000)
    assert len(reduced(rows)) == 1
    rows = observation(1000, direction=Direction.INGRESS, local_port=80, remote_port=np.arange(1000) + 30_000)
    assert len(reduced(rows)) == 1


def test_workloads_are_told_apart_and_processes_of_one_are_not() -> None:
    rows = observation(6, pid=np.arange(6))
    edges = reduced(rows, [0, 0, 0, 1, 1, 1])
    assert {edge.workload.name: count for edge, count in edges.items()} == {"web": 3, "db": 3}


def test_failures_have_the_words_of_the_contract() -> None:
    assert tuple(reason_name(number) for number in list(Reason)[1:]) == FAILURES
    assert reason_name(0) == ""
    assert reason_name(77) == "77"


def test_addresses() -> None:
    assert address_text(bytes(10) + b"\xff\xff\x0a\x00\x00\x01") == "10.0.0.1"
    assert address_text(bytes(15) + b"\x01") == "::1"
    assert address_text(bytes(16)) == "::"


def ends(count: int, start: int = 0, workload: int = 0) -> Ends:
    low = np.arange(start, start + count, dtype=np.uint64)
    meta = np.full(count, pack(*(np.array([v], np.uint64) for v in (1, 1, 0, 6, 443)))[0])
    return Ends(np.zeros(count, np.uint64), low, meta, KEYS[[workload] * count], np.full(count, workload, np.int32))


def test_what_finds_no_room_is_merged_into_other() -> None:
    table = EdgeTable(100)
    numbers = table.find(ends(150), TABLE)
    assert (numbers[:100] == np.arange(100)).all()
    assert set(numbers[100:].tolist()) == {100}
    assert table.merged == 50
    assert table.edge(100) == Edge(WEB, "egress", "other", "", "TCP", 443)
    assert (table.find(ends(150), TABLE) == numbers).all()
    assert table.merged == 100
    assert table.find(ends(1, 500, workload=1), TABLE).tolist() == [101]


def test_the_room_for_others_is_bounded_too() -> None:
    table = EdgeTable(8)
    many = ends(300)
    ports = pack(*(np.full(300, v, np.uint64) for v in (1, 1, 0, 6)), np.arange(300, dtype=np.uint64))
    numbers = table.find(Ends(many.high, many.low, ports, many.who, many.numbers), TABLE)
    assert (numbers >= 0).sum() == 8 + 64
    assert (numbers == -1).sum() == 300 - 72
    assert len(table) == 72


def test_rows_without_any_room_are_counted_with_what_they_carried() -> None:
    reducer = Reducer(10, 8)
    rows = observation(
        300, remote_port=np.arange(300) + 1, bytes_sent=2, bytes_received=3, packets_sent=5, packets_received=7
    )
    rows["remote"] = np.arange(300).astype(">u8").repeat(2).view("V16")
    named = Named(TABLE, np.zeros(300, np.int32), KEYS)
    dropped = reducer.add(rows, named, T0 * 10**9, T0 * 10**9 + 10**9)
    (sums,) = reducer.close(None)
    kept = int(sums.counters["connections"].sum())
    assert kept == 72
    assert (dropped.count, dropped.packets) == (300 - kept, 12 * (300 - kept))
    assert (dropped.bytes_sent, dropped.bytes_received) == (2 * (300 - kept), 3 * (300 - kept))


def test_keep_renumbers() -> None:
    table = EdgeTable(1000)
    table.find(ends(600), TABLE)
    before = table.told(np.array([10, 500]))[0]
    table.keep(np.array([10, 500]))
    assert len(table) == 2
    assert table.told(np.array([0, 1]))[0] == before
    assert table.find(ends(1, 500), TABLE).tolist() == [1]
    assert table.find(ends(1, 11), TABLE).tolist() == [2]
