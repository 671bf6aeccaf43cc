"""Retransmissions, handshake latency, late accepts, and bursts: what needs more than two programs on a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fathom.events.observations import Direction, OwnerSource
from tests.truth.groups import cgroups
from tests.truth.ledger import TCP_COUNTERS
from tests.truth.network import Namespaces
from tests.truth.scenarios import CLIENT, PROGRAMS, SERVER
from tests.truth.talkers import Talkers
from tests.truth.watch import Watch

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

ESTABLISHED, CLOSED = 1, 2
LEFT, RIGHT = "10.9.9.1", "10.9.9.2"


@pytest.fixture
def talkers(tmp_path: Path) -> Iterator[Talkers]:
    with Talkers(tmp_path) as talkers:
        yield talkers


@pytest.fixture
def watch() -> Iterator[Watch]:
    with Watch() as watch:
        yield watch


@pytest.fixture
def ends() -> Iterator[Namespaces]:
    with Namespaces("left", "right") as ends:
        yield ends


def test_bytes_are_right_where_segments_are_lost(talkers: Talkers, watch: Watch, ends: Namespaces) -> None:
    wire = talkers.wire((ends["left"], ends["right"]), addresses=[f"{LEFT}/24", f"{RIGHT}/24"], drop_every=40)
    wire.ready()
    server = talkers.start(
        SERVER, ends["right"], do="tcp_serve", host=RIGHT, port=5101, count=3, receive=400_003, send=300_007
    )
    server.ready()
    client = talkers.start(
        CLIENT, ends["left"], do="tcp_connect", host=RIGHT, port=5101, count=3, send=400_003, receive=-1
    )
    truth = client.did() + server.did()
    watch.settle()
    assert truth.differences(watch.ledger(*PROGRAMS), TCP_COUNTERS) == []
    observations = watch.observations()
    for program in PROGRAMS:
        assert observations["retransmits"][observations["comm"] == program.encode()].sum() > 0


def test_a_delay_put_into_the_handshake_is_the_latency_at_both_ends(
    talkers: Talkers, watch: Watch, ends: Namespaces
) -> None:
    """SYN, its answer and the last ACK are held for 20, 30 and 50 ms: the client waits for the first two, the server
    for the last two."""
    delay = {"syn": 20, "synack": 30, "ack": 50}
    wire = talkers.wire((ends["left"], ends["right"]), addresses=[f"{LEFT}/24", f"{RIGHT}/24"], delay_ms=delay)
    wire.ready()
    plan = {"host": RIGHT, "port": 5102, "count": 20}
    server = talkers.start(SERVER, ends["right"], do="tcp_serve", **plan)
    server.ready()
    client = talkers.start(CLIENT, ends["left"], do="tcp_connect", receive=-1, **plan)
    client.did()
    server.did()
    watch.settle()
    events = np.concatenate(watch.tcp_events)
    events = events[(events["remote_port"] == 5102) | (events["local_port"] == 5102)]
    established = events[events["kind"] == ESTABLISHED]
    for direction, expected_ms in ((Direction.EGRESS, 50), (Direction.INGRESS, 80)):
        latencies = established["latency"][established["direction"] == direction] / 1e6
        assert len(latencies) == 20
        assert abs(np.median(latencies) - expected_ms) <= expected_ms / 10, latencies


def test_who_accepts_owns_the_connection_however_late(talkers: Talkers, watch: Watch, ends: Namespaces) -> None:
    """The listener is made in cgroup A; a worker in cgroup B accepts half a second later, a thousand times."""
    count = 1000
    with cgroups("listener", "worker") as groups:
        plan = {"host": "127.0.0.1", "port": 5103, "count": count, "receive": 1, "send": 2}
        server = talkers.start(
            SERVER,
            ends["left"],
            do="tcp_handed_over",
            listener=str(groups["listener"]),
            worker=str(groups["worker"]),
            late_s=0.5,
            **plan,
        )
        server.ready()
        client = talkers.start(
            CLIENT, ends["left"], do="tcp_all_at_once", **{name: plan[name] for name in ("host", "port", "count")}
        )
        client.ready()
        server.go()
        served = server.did()
        client.go()
        truth = client.did() + served
        worker = groups["worker"].stat().st_ino
        watch.settle()
    assert truth.differences(watch.ledger(*PROGRAMS), TCP_COUNTERS) == []
    events = np.concatenate(watch.tcp_events)
    closed = events[
        (events["kind"] == CLOSED) & (events["local_port"] == 5103) & (events["direction"] == Direction.INGRESS)
    ]
    assert len(closed) == count
    assert set(closed["cgroup"].tolist()) == {worker}
    assert set(closed["pid"].tolist()) == server.pids
    assert set(closed["owner_source"].tolist()) <= {OwnerSource.CLOSE, OwnerSource.ACCEPT, OwnerSource.TASK_FILE}


def test_a_burst_of_short_connections_is_complete(talkers: Talkers, watch: Watch, ends: Namespaces) -> None:
    count, processes = 20_000, 4
    server = talkers.start(
        SERVER, ends["left"], do="tcp_serve", host="127.0.0.1", port=5104, count=count, receive=1, send=1
    )
    server.ready()
    client = talkers.start(
        CLIENT,
        ends["left"],
        do="tcp_connect",
        host="127.0.0.1",
        port=5104,
        count=count // processes,
        processes=processes,
        send=1,
        receive=-1,
    )
    truth = client.did() + server.did()
    watch.settle()
    assert truth.differences(watch.ledger(*PROGRAMS), TCP_COUNTERS) == []
    assert watch.losses() == {}
