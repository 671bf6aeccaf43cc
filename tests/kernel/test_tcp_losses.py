"""Loss is exact: with a ring and a table that are far too small, made = seen + lost, for events and for bytes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.probes.probe import LossCount
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import CLOSED, ESTABLISHED, FAILED, TcpProbe

pytestmark = pytest.mark.root

PROGRAM = Path(__file__).with_name("tcp_burst.py")
EGRESS, INGRESS = 1, 2


@pytest.fixture
def narrow(root: None) -> Iterator[TcpProbe]:  # noqa: ARG001
    """64 sockets, 64 KiB."""
    with TcpProbe.open(ProbeSettings(ring_bytes=1 << 16, tcp_sockets=64)) as probe:
        yield probe


def _burst(*arguments: object, cgroup: Path | None = None) -> Any:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    if cgroup:
        command += ["--cgroup", str(cgroup)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def _of(records: Any, port: int) -> Any:
    egress = (records["direction"] == EGRESS) & (records["remote_port"] == port)
    ingress = (records["direction"] == INGRESS) & (records["local_port"] == port)
    return records[egress | ingress]


def test_ring_that_is_full(root: None, cgroup: Callable[[str], tuple[Path, int]]) -> None:  # noqa: ARG001
    """The table holds all, the ring does not: who lost what is counted by cgroup, kind and direction."""
    path, number = cgroup("burst")
    with TcpProbe.open(ProbeSettings(ring_bytes=1 << 16, tcp_sockets=8192)) as probe:
        told = _burst("sequential", 1500, 300, cgroup=path)
        seen = _of(probe.drain(), told["port"])
        keys, lost = probe.refusals()
        assert probe.losses()["map_full"].count == 0
    mine = keys["cgroup"] == number
    assert mine.any()
    events = Counter(zip(seen["kind"].tolist(), seen["direction"].tolist(), strict=True))
    carried = [int(seen["bytes_sent"].sum()), int(seen["bytes_received"].sum())]
    for key, loss in zip(keys[mine], np.array(lost, dtype=object)[mine], strict=True):
        events[int(key["kind"]), int(key["direction"])] += loss.count
        carried[0] += loss.bytes_sent
        carried[1] += loss.bytes_received
    made = told["connections"]
    assert events == {(kind, way): made for kind in (ESTABLISHED, CLOSED) for way in (EGRESS, INGRESS)}
    assert carried == [told["sent"], told["received"]]
    assert len(seen) < 4 * made


def _total(records: Any) -> list[int]:
    """[events, bytes sent, bytes received]."""
    return [len(records), int(records["bytes_sent"].sum()), int(records["bytes_received"].sum())]


def _lost(losses: dict[str, LossCount]) -> list[int]:
    return [
        sum(loss.count for loss in losses.values()),
        sum(loss.bytes_sent for loss in losses.values()),
        sum(loss.bytes_received for loss in losses.values()),
    ]


class Round:
    """A narrow probe beside a wide one that loses nothing: it tells what all programs of this machine made meanwhile.

    Only what happens in the instants between the two being read can differ.
    """

    def __init__(self, narrow: ProbeSettings, act: Callable[[TcpProbe], list[int]]) -> None:
        with TcpProbe.open(ProbeSettings(ring_bytes=1 << 23, tcp_sockets=1 << 15)) as wide:
            with TcpProbe.open(narrow) as probe:
                wide.drain()
                told = act(probe)
                made, seen, self.losses = wide.drain(), probe.drain(), probe.losses()
            assert not any(loss.count for loss in wide.losses().values())
        self.made = _total(made)
        self.found = [sum(parts) for parts in zip(_total(seen), _lost(self.losses), told, strict=True)]


def _one_exact_round_of_ten(narrow: ProbeSettings, act: Callable[[TcpProbe], list[int]]) -> Round:
    for _ in range(10):
        done = Round(narrow, act)
        if done.found == done.made:
            break
    assert done.found == done.made
    return done


def test_table_and_ring_that_are_full(root: None) -> None:  # noqa: ARG001
    def act(_: TcpProbe) -> list[int]:
        told = [_burst("sequential", 200, 300), _burst("together", 400, 300)]
        assert [burst["sent"] for burst in told] == [200 * 400, 400 * 400]
        return [0, 0, 0]

    done = _one_exact_round_of_ten(ProbeSettings(ring_bytes=1 << 16, tcp_sockets=64), act)
    assert done.losses["map_full"].count > 0
    assert done.losses["map_full"].bytes_sent > 0
    assert done.losses["ring_full"].count > 0
    assert done.made[0] >= 4 * 600
    assert done.made[1] >= 600 * 400


def test_what_was_told_of_a_connection_is_not_lost_again(root: None) -> None:  # noqa: ARG001
    """A snapshot tells of it while it is open; then the ring refuses its close."""

    def act(probe: TcpProbe) -> list[int]:
        with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
            port = server.getsockname()[1]
            client = socket.create_connection(("127.0.0.1", port))
            accepted, _ = server.accept()
            client.sendall(b"x" * 1000)
            assert len(accepted.recv(1000, socket.MSG_WAITALL)) == 1000
            rows = probe.snapshot()
            others = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
            client.close()
            accepted.close()
            for connection in others:
                connection.close()
        assert probe.losses()["ring_full"].count > 0
        return [0, int(rows["bytes_sent"].sum()), int(rows["bytes_received"].sum())]

    done = _one_exact_round_of_ten(ProbeSettings(ring_bytes=4096, tcp_sockets=4096), act)
    assert done.made[1] >= 1000


def test_refused_attempts_too(narrow: TcpProbe) -> None:
    told = _burst("refused", 500, 0)
    seen = narrow.drain()
    failed = seen[(seen["kind"] == FAILED) & (seen["remote_port"] == told["port"])]
    losses = narrow.losses()
    assert len(failed) < told["connections"]
    assert len(failed) + losses["ring_full"].count + losses["map_full"].count >= told["connections"]
