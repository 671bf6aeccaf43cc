"""Connections that are older than the probe, and bursts of short ones."""

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

from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import TcpProbe

pytestmark = pytest.mark.root

BURST = Path(__file__).with_name("tcp_burst.py")
UNKNOWN, EGRESS, INGRESS = 0, 1, 2


@pytest.fixture
def older(root: None) -> Iterator[tuple[socket.socket, socket.socket, socket.socket, int]]:  # noqa: ARG001
    """A server and a connection to it that carried 5,000 bytes each way before the probe was there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        _pass(client, accepted, 5000)
        _pass(accepted, client, 5000)
        with client, accepted:
            yield server, client, accepted, port


def _pass(source: socket.socket, sink: socket.socket, size: int) -> None:
    source.sendall(bytes(size))
    while size:
        size -= len(sink.recv(size))


def _of(rows: Any, port: int) -> dict[int, Any]:
    """Rows by direction: the accepted end has the port here, the other one there."""
    mine = rows[(rows["local_port"] == port) | (rows["remote_port"] == port)]
    return {int(row["direction"]): row for row in mine}


def test_only_what_passes_while_it_is_watched_counts(older: Any) -> None:
    _, client, accepted, port = older
    with TcpProbe.open(ProbeSettings()) as probe:
        _pass(client, accepted, 70)
        _pass(accepted, client, 11)
        rows = _of(probe.snapshot(), port)
        assert set(rows) == {UNKNOWN, INGRESS}
        assert (rows[UNKNOWN]["bytes_sent"], rows[UNKNOWN]["bytes_received"]) == (70, 11)
        assert (rows[INGRESS]["bytes_sent"], rows[INGRESS]["bytes_received"]) == (11, 70)
        assert [int(row["connections"]) for row in rows.values()] == [0, 0]
        _pass(client, accepted, 1)
        client.close()
        accepted.close()
        rows = _of(probe.observe(probe.drain()), port)
        assert (rows[UNKNOWN]["bytes_sent"], rows[UNKNOWN]["bytes_received"]) == (1, 0)
        assert (rows[INGRESS]["bytes_sent"], rows[INGRESS]["bytes_received"]) == (0, 1)
        assert [int(row["connections"]) for row in rows.values()] == [0, 0]


def test_direction_is_unknown_once_nobody_listens(older: Any) -> None:
    """Only a live listener proves which end was accepted; port numbers never do."""
    server, client, accepted, port = older
    server.close()
    with TcpProbe.open(ProbeSettings()) as probe:
        _pass(client, accepted, 9)
        rows = probe.snapshot()
        mine = rows[(rows["local_port"] == port) | (rows["remote_port"] == port)]
        assert mine["direction"].tolist() == [UNKNOWN, UNKNOWN]


def test_other_network_namespaces_are_seen(netns: Callable[..., str]) -> None:
    program = (
        "import socket,sys;s=socket.create_server(('127.0.0.1',7100));"
        "c=socket.create_connection(('127.0.0.1',7100));a,_=s.accept();"
        "print('open',flush=True);sys.stdin.readline();c.send(b'x'*33);a.recv(33);print('sent',flush=True);"
        "sys.stdin.readline()"
    )
    command = ["ip", "netns", "exec", netns(), sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as there:
        assert there.stdin
        assert there.stdout
        assert there.stdout.readline() == "open\n"
        with TcpProbe.open(ProbeSettings()) as probe:
            there.stdin.write("\n")
            there.stdin.flush()
            assert there.stdout.readline() == "sent\n"
            rows = _of(probe.snapshot(), 7100)
        there.communicate("\n")
    assert int(rows[INGRESS]["bytes_received"]) == 33
    assert int(rows[INGRESS]["netns"]) != Path("/proc/self/ns/net").stat().st_ino
    assert int(rows[INGRESS]["pid"]) == there.pid


def test_a_socket_that_was_connected_before_and_closes_unseen_is_no_loss(root: None) -> None:  # noqa: ARG001
    """In an accept queue the iterator cannot see it: that is not a connection that the table refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
        with TcpProbe.open(ProbeSettings()) as probe:
            client.close()
            server.accept()[0].close()
            assert probe.losses()["map_full"].count == 0


@pytest.mark.parametrize(("processes", "each"), [(1, 20_000), (50, 200)])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_short_connections_in_a_burst(watch: Any, processes: int, each: int, address: str) -> None:
    """Every one is found, once at each end, with its process and its bytes."""
    if address == "::1" and processes == 1:
        each = 2_000
    command = [sys.executable, BURST, "sequential", str(each), "30", "--address", address]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    while any(process.poll() is None for process in running):
        watch.look()
    told = {process.pid: json.loads(process.communicate()[0]) for process in running}
    watch.look()
    rows = np.concatenate(watch.observations)
    assert not any(loss.count for loss in watch.probe.losses().values())
    for pid, burst in told.items():
        for direction, port in ((EGRESS, "remote_port"), (INGRESS, "local_port")):
            mine = rows[(rows["direction"] == direction) & (rows[port] == burst["port"]) & (rows["pid"] == pid)]
            assert mine["connections"].sum() == burst["connections"]
            asked, answered = 30 * each, 10 * each
            sent, received = (asked, answered) if direction == EGRESS else (answered, asked)
            assert (mine["bytes_sent"].sum(), mine["bytes_received"].sum()) == (sent, received)
            assert Counter(mine["failures"].tolist()) == {0: len(mine)}
