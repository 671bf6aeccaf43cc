"""Who sent first: over flips, for sockets from before, after a full map, in groups."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fathom.events.observations import Direction
from fathom.probes.flow import FlowProbe
from fathom.probes.settings import ProbeSettings
from tests.truth.flows import Flows, udp

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

Cgroup = Callable[[str], tuple[Path, int]]


@pytest.fixture
def path(cgroup: Cgroup) -> Path:
    return cgroup("flow")[0]


@pytest.fixture
def flows(path: Path) -> Iterator[Flows]:
    with FlowProbe(ProbeSettings(), path) as probe:
        yield Flows(probe)


def _directions(flows: Flows, sock: socket.socket) -> list[int]:
    return flows.of(sock)["direction"].tolist()


def test_an_answer_in_a_later_interval_turns_nothing_round(flows: Flows, path: Path) -> None:
    """After a flip the first packet in the map is the server's."""
    with udp(path) as server, udp(path) as client:
        client.sendto(b"ask", server.getsockname())
        flows.drain()
        server.sendto(b"answer", client.getsockname())
        flows.drain()
        server.sendto(b"more", client.getsockname())
        assert _directions(flows, client) == [Direction.EGRESS] * 3
        assert _directions(flows, server) == [Direction.INGRESS] * 3


def test_of_a_socket_from_before_nobody_knows(path: Path) -> None:
    with udp(path) as server, udp(path) as client, FlowProbe(ProbeSettings(), path) as probe:
        flows = Flows(probe)
        client.sendto(b"ask", server.getsockname())
        assert _directions(flows, client) == [Direction.UNKNOWN]
        assert _directions(flows, server) == [Direction.UNKNOWN]
        with udp(path) as younger:
            younger.sendto(b"ask", server.getsockname())
            assert _directions(flows, younger) == [Direction.EGRESS]


def test_after_a_full_map_only_younger_sockets_are_certain(path: Path) -> None:
    with FlowProbe(ProbeSettings(flow_entries=64, flow_sockets=256), path) as probe:
        flows = Flows(probe)
        with udp(path) as sender, udp(path) as server:
            for port in range(1, 200):
                sender.sendto(b"", ("127.0.0.1", port))
            assert probe.losses()["map_full"].count > 0
            flows.drain()
            server.sendto(b"was it asked?", sender.getsockname())
            with udp(path) as younger:
                younger.sendto(b"ask", server.getsockname())
                assert _directions(flows, younger) == [Direction.EGRESS]
            assert _directions(flows, server)[0] == Direction.UNKNOWN


def test_who_answers_a_group_was_asked(flows: Flows, path: Path) -> None:
    """The question goes to a group, the answer comes from somebody's own address, to a flow that is new."""
    group = "239.77.77.77"
    member = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
    with udp(path, "") as server, udp(path, "127.0.0.1") as client:
        server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        client.sendto(b"who?", (group, server.getsockname()[1]))
        assert server.recvfrom(100)[0] == b"who?"
        flows.drain()
        server.sendto(b"me", client.getsockname())
        rows = flows.of(client)
        assert rows["packets_sent"].sum() == 1  # and not twice, for the copy that is looped back
        assert set(rows["direction"].tolist()) == {Direction.EGRESS}
        assert set(_directions(flows, server)) == {Direction.INGRESS}
