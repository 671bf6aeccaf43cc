"""Made = seen + lost, for packets and bytes: while the maps are flipped under load, and when they are full."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fathom.probes.flow import FlowProbe
from fathom.probes.settings import ProbeSettings
from tests.truth.flows import UDP_HEAD, Flows, inside, udp

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

Cgroup = Callable[[str], tuple[Path, int]]
SMALL = ProbeSettings(flow_entries=64, flow_sockets=64)


def _send_from_children(sock: socket.socket, to: tuple[str, int], children: int, each: int, size: int) -> list[int]:
    """Children that send on the same socket, all on one CPU, so that they preempt one another."""
    pids = []
    cpu = min(os.sched_getaffinity(0))
    for _ in range(children):
        pid = os.fork()
        if not pid:
            os.sched_setaffinity(0, {cpu})
            data = bytes(size)
            for _ in range(each):
                sock.sendto(data, to)
            os._exit(0)
        pids.append(pid)
    return pids


def test_nothing_is_lost_while_maps_are_flipped(cgroup: Cgroup) -> None:
    """Four processes share a socket, a CPU and a peer: one entry of the map, which is drained all the time."""
    path, _ = cgroup("flow")
    children, each, size = 4, 20_000, 18
    with FlowProbe(ProbeSettings(), path) as probe:
        flows = Flows(probe)
        sender, sink = udp(path), udp(path)
        with sender, sink:
            pids = _send_from_children(sender, sink.getsockname(), children, each, size)
            drains = 0
            while pids:
                flows.drain()
                drains += 1
                pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]
            sent = flows.of(sender)
        lost = probe.losses()["map_full"]
    assert drains > 5
    assert sent["packets_sent"].sum() == children * each
    assert sent["bytes_sent"].sum() == children * each * (size + UDP_HEAD)
    # Loopback's own queue may have refused some before the sink's socket was handed them.
    assert flows.sums("bytes_received") == flows.sums("packets_received") * (size + UDP_HEAD)
    assert lost.count == 0


def test_what_a_full_map_refuses_is_counted(cgroup: Cgroup) -> None:
    """300 peers and room for 64: each packet is in a flow or in the loss, and so is each byte."""
    path, _ = cgroup("flow")
    peers, each, size = 300, 3, 40
    with FlowProbe(SMALL, path) as probe:
        flows = Flows(probe)
        with udp(path) as sender, udp(path, "0.0.0.0") as sink:
            port = sink.getsockname()[1]
            for _ in range(each):
                for peer in range(peers):
                    sender.sendto(bytes(size), (f"127.1.{peer // 250}.{peer % 250 + 1}", port))
                    sink.recv(1000)
            assert probe.fill() == 1.0
            flows.drain()
        lost = probe.losses()["map_full"]
    made = peers * each
    assert lost.packets > 0
    assert flows.sums("packets_sent") + flows.sums("packets_received") + lost.packets == 2 * made
    assert flows.sums("bytes_sent") + lost.bytes_sent == made * (size + UDP_HEAD)
    assert flows.sums("bytes_received") + lost.bytes_received == made * (size + UDP_HEAD)
    assert lost.count == lost.packets


def test_made_is_seen_and_lost_under_load(cgroup: Cgroup) -> None:
    """Three processes, 200 peers each, room for 64, and a drain after the other."""
    path, _ = cgroup("flow")
    children, peers, turns, size = 3, 200, 60, 5
    with FlowProbe(SMALL, path) as probe:
        flows = Flows(probe)
        with inside(path):
            sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(children)]
        pids = [_send_to_peers(sock, peers, turns, size) for sock in sockets]
        while pids:
            flows.drain()
            pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        flows.drain()
        lost = probe.losses()["map_full"]
        for sock in sockets:
            sock.close()
    made = children * peers * turns
    assert lost.packets > 0
    assert flows.sums("packets_sent") + lost.packets == made
    assert flows.sums("bytes_sent") + lost.bytes_sent == made * (size + UDP_HEAD)
    assert (lost.bytes_received, flows.sums("packets_received")) == (0, 0)


def _send_to_peers(sock: socket.socket, peers: int, turns: int, size: int) -> int:
    """A child that sends to addresses where nobody listens; its pid."""
    pid = os.fork()
    if not pid:
        data = bytes(size)
        for _ in range(turns):
            for peer in range(peers):
                sock.sendto(data, (f"127.3.0.{peer + 1}", 9))
        os._exit(0)
    return pid


def test_a_full_map_is_empty_after_a_drain(cgroup: Cgroup) -> None:
    path, _ = cgroup("flow")
    with FlowProbe(SMALL, path) as probe:
        flows = Flows(probe)
        with udp(path) as sender, udp(path, "0.0.0.0") as sink:
            for turn in range(4):
                for peer in range(100):
                    sender.sendto(b"", (f"127.2.0.{peer + 1}", sink.getsockname()[1]))
                    sink.recv(10)
                rows = flows.drain()
                assert len(rows) == 64, turn
                assert probe.fill() == 0.0


def test_a_full_map_of_sockets_loses_no_packet(cgroup: Cgroup) -> None:
    """Only owners are not kept; what such a socket sends names its sender."""
    path, _ = cgroup("flow")
    with FlowProbe(ProbeSettings(flow_entries=1024, flow_sockets=64), path) as probe:
        flows = Flows(probe)
        with inside(path):
            sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
        sink = udp(path)
        for sock in sockets:
            sock.sendto(b"abc", sink.getsockname())
        flows.drain()
        lost = probe.losses()
        for sock in (*sockets, sink):
            sock.close()
    assert lost["owners_full"].count >= 200 - 64
    assert lost["map_full"].count == 0
    sent = flows.told[flows.told["packets_sent"] > 0]
    assert len(sent) == 200
    assert set(sent["pid"].tolist()) == {os.getpid()}


def test_fragments_are_one_packet_at_both_ends(cgroup: Cgroup) -> None:
    """IP cuts a datagram below the hook of its sender, and puts it together above that of its receiver."""
    path, _ = cgroup("flow")
    size = 60_000
    with FlowProbe(ProbeSettings(), path) as probe:
        flows = Flows(probe)
        with udp(path) as sender, udp(path) as sink:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sender.sendto(bytes(size), sink.getsockname())
            assert len(sink.recv(1 << 16)) == size
            flows.drain()
    assert (flows.sums("packets_sent"), flows.sums("packets_received")) == (1, 1)
    assert flows.sums("bytes_sent") == flows.sums("bytes_received") == size + UDP_HEAD
