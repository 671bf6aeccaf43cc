"""Whose a flow is: who made the socket, who holds it, who sends on it; and that it outlives the socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fathom.events.observations import OwnerSource
from fathom.probes.flow import FlowProbe
from fathom.probes.settings import ProbeSettings
from tests.truth.flows import Flows, cookie, inside

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

Cgroup = Callable[[str], tuple[Path, int]]


def _comm() -> str:
    return Path("/proc/self/comm").read_text().strip()


def _pair() -> tuple[socket.socket, socket.socket]:
    server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)
    return server, client


@pytest.fixture
def flows() -> Iterator[Flows]:
    with FlowProbe.open(ProbeSettings()) as probe:
        yield Flows(probe)


def test_who_made_the_socket_owns_what_it_receives(flows: Flows) -> None:
    server, client = _pair()
    with server, client:
        client.sendto(b"x", server.getsockname())
        server.recv(10)
        (row,) = flows.of(server)
    assert (row["pid"], row["comm"].decode(), row["owner_source"]) == (os.getpid(), _comm(), OwnerSource.SOCKET)
    assert row["kernel"] == 0


def test_the_owner_outlives_the_socket(flows: Flows) -> None:
    """Closed before the drain, as the socket of a look-up is; and what the probe kept of it is gone after."""
    server, client = _pair()
    with server:
        client.sendto(b"x", server.getsockname())
        name = cookie(client)
        client.close()
        (row,) = flows.of(name)
    assert (row["pid"], row["owner_source"]) == (os.getpid(), OwnerSource.SOCKET)


def test_who_holds_it_owns_a_socket_that_was_there_before() -> None:
    server, client = _pair()
    with server, client, FlowProbe.open(ProbeSettings()) as probe:
        flows = Flows(probe)
        client.sendto(b"x", server.getsockname())
        server.recv(10)
        flows.drain()
        probe.snapshot()  # where the iterator could not name a socket that had no packet yet
        client.sendto(b"x", server.getsockname())
        server.recv(10)
        row = flows.of(server)[-1]
        sent = flows.of(client)[-1]
    assert (row["pid"], row["comm"].decode(), row["owner_source"]) == (os.getpid(), _comm(), OwnerSource.TASK_FILE)
    assert (sent["pid"], sent["comm"].decode()) == (os.getpid(), _comm())
    assert sent["owner_source"] in {OwnerSource.TASK_FILE, OwnerSource.PACKET}


def test_who_sends_owns_a_socket_that_was_handed_over(flows: Flows, cgroup: Cgroup) -> None:
    """As systemd does: one process makes the socket, another in another cgroup uses it."""
    path, group = cgroup("service")
    server, client = _pair()
    with server, client:
        client.set_inheritable(True)
        script = (
            "import socket, sys\n"
            f"open({str(path / 'cgroup.procs')!r}, 'w').write('0')\n"
            f"socket.socket(fileno={client.fileno()}).sendto(b'x', {server.getsockname()!r})\n"
        )
        child = subprocess.Popen([sys.executable, "-c", script], pass_fds=[client.fileno()])
        assert child.wait(20) == 0
        (row,) = flows.of(client)
    assert (row["pid"], row["owner_source"], row["cgroup"]) == (child.pid, OwnerSource.PACKET, group)


def test_the_cgroup_is_that_of_the_owner(flows: Flows, cgroup: Cgroup) -> None:
    path, group = cgroup("owner")
    with inside(path):
        server, client = _pair()
    with server, client:
        client.sendto(b"x", server.getsockname())
        server.recv(10)
        (row,) = flows.of(server)
    assert row["cgroup"] == group
    assert flows.probe.observe(flows.told[flows.told["socket"] == row["socket"]])["cgroup"].tolist() == [group]


def test_the_kernels_own_sockets_are_nobodys(flows: Flows, netns: Callable[..., str]) -> None:
    """An echo request is answered by a socket of the kernel: no process, and said so."""
    name = netns("ip address add 10.77.0.1/32 dev lo")
    script = (
        "import socket, struct\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)\n"
        "s.settimeout(5)\n"
        "s.sendto(struct.pack('>BBHHH', 8, 0, 0xF7FF, 0, 0), ('10.77.0.1', 0))\n"
        "while s.recv(100)[20] != 0: pass\n"
    )
    subprocess.run(["ip", "netns", "exec", name, sys.executable, "-c", script], check=True, timeout=20)
    inode = Path("/var/run/netns", name).stat().st_ino
    rows = flows.drain()
    (row,) = rows[(rows["netns"] == inode) & (rows["kernel"] == 1)]
    assert (row["pid"], row["comm"], row["owner_source"]) == (0, b"", OwnerSource.UNKNOWN)
    assert (row["packets_sent"], row["packets_received"]) == (1, 0)
