"""What the kernel shows to no program, as where the programs are not run on top of certain tasks, is told later or
counted: never lost in silence."""

from __future__ import annotations

import ctypes
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fathom.kernel.objects import Link, Object
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import PROGRAMS, TcpProbe
from tests.kernel.conftest import Watch

pytestmark = pytest.mark.root

SYN_SENT = 2
ATTEMPT = """
import socket, sys, threading
with socket.socket() as attempt:
    if sys.argv[1] == "blocking":
        attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
        connecting = threading.Thread(target=attempt.connect_ex, args=(("127.0.0.1", 7011),))
        connecting.start()
        connecting.join(0.3)
        print("begun", flush=True)
        connecting.join()
    else:
        attempt.setblocking(False)
        attempt.connect_ex(("127.0.0.1", 7011))
        print("begun", flush=True)
    sys.stdin.readline()
"""


#: The server needs no cookie (net.ipv4.tcp_fastopen 0x207), takes the data of the SYN, and closes.
FAST = """
import socket
with socket.socket() as server, socket.socket() as client:
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    server.bind(("127.0.0.1", 7012))
    server.listen()
    client.setblocking(False)
    try:
        client.sendto(b"asked", 0x20000000, ("127.0.0.1", 7012))
    except BlockingIOError:
        pass
    accepted, _ = server.accept()
    assert accepted.recv(9) == b"asked"
    accepted.close()
"""


class Blind(Watch):
    """A watch whose programs can be kept from seeing."""

    def __init__(self, probe: TcpProbe, links: dict[str, Link]) -> None:
        super().__init__(probe)
        self.links = links

    def shut(self, *programs: str) -> None:
        for program in programs:
            self.links.pop(program).close()

    def open(self, *programs: str) -> None:
        for program in programs:
            self.links[program] = self.object.attach(program)

    def unseen_is(self, number: int) -> bool:
        """Whether it becomes that within 5 s; of 0: whether it is that after a second."""
        end = time.monotonic() + (5.0 if number else 1.0)
        while time.monotonic() < end and (not number or self.unseen() != number):
            time.sleep(0.01)
        return self.unseen() == number


@pytest.fixture
def blind(root: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blind]:  # noqa: ARG001
    links: dict[str, Link] = {}
    attach = Object.attach

    def remembered(this: Object, name: str) -> Link:
        links[name] = attach(this, name)
        return links[name]

    monkeypatch.setattr(Object, "attach", remembered)
    with TcpProbe.open(ProbeSettings()) as probe:
        watch = Blind(probe, links)
        yield watch
        watch.shut(*(set(watch.links) & set(PROGRAMS)))


Pair = tuple[socket.socket, socket.socket]


def _pair(server: socket.socket) -> Pair:
    """The two ends of a connection, client and server."""
    client = socket.create_connection(server.getsockname())
    return client, server.accept()[0]


@pytest.fixture
def ends() -> Iterator[Pair]:
    """A connection, and its server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pair = _pair(server)
        yield pair
        _close(pair)


def _close(ends: Pair) -> None:
    """Client first."""
    for end in ends:
        end.close()


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _disconnect(end: socket.socket) -> None:
    """connect to AF_UNSPEC, which Python has no address for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(end.fileno(), bytes(16), 16):
        raise OSError(ctypes.get_errno(), "connect to AF_UNSPEC")


@pytest.mark.parametrize("kind", ["blocking", "not blocking"])
def test_failure_is_told_when_the_file_is_closed(blind: Blind, netns: Callable[..., str], kind: str) -> None:
    """Its place was noted when it began: a blocking connect that fails takes it out of the socket, and the counts."""
    place = netns("iptables -A INPUT -p tcp -j DROP")
    command = ["ip", "netns", "exec", place, sys.executable, "-c", ATTEMPT, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as attempt:
        assert attempt.stdin
        assert attempt.stdout
        assert attempt.stdout.readline() == "begun\n"
        blind.shut("tcp_state", "tcp_state_again")
        attempt.communicate("\n")
    (event,) = blind.of_port(7011)
    assert (event["event"], event["reason"], event["latency"]) == ("failed", "", None)
    assert (event["pid"], event["remote_address"], event["local_address"]) == (attempt.pid, "127.0.0.1", "127.0.0.1")
    assert event["local_port"] > 0
    assert (event["packets_sent"] > 0) == (kind == "not blocking")
    rows = np.concatenate(blind.observations)
    assert rows["failures"][rows["remote_port"] == 7011].sum() == 1


def test_establishment_is_told_when_it_ends(blind: Blind, ends: Pair) -> None:
    port = ends[1].getsockname()[1]
    assert len(blind.of_port(port, number=2)) == 2
    table, keys, values = blind.entries()
    (mine,) = np.flatnonzero((values["event"]["remote_port"] == port) & (values["event"]["direction"] == 1))
    values["event"]["kind"][mine], values["event"]["latency"][mine], values["made"][mine] = 0, 0, SYN_SENT
    table.update(keys[mine].tobytes(), values[mine].tobytes())
    ends[0].send(b"asked")
    _close(ends)
    events = [e for e in blind.of_port(port, number=5) if e["direction"] == "egress"]
    assert [e["event"] for e in events] == ["established", "established", "closed"]
    assert (events[1]["latency"], events[2]["duration"], events[2]["bytes_sent"]) == (None, None, 5)


@pytest.mark.parametrize("looked", [1, None], ids=["long watched", "just begun"])
def test_accepted_connection_is_counted_when_it_ends(blind: Blind, ends: Pair, looked: int | None) -> None:
    """Not where it may be older than the probe, and not at the end that was not accepted."""
    port = ends[1].getsockname()[1]
    table, keys, values = blind.entries()
    mine = np.flatnonzero((values["event"]["local_port"] == port) | (values["event"]["remote_port"] == port))
    for key in keys[mine]:
        table.delete(key.tobytes())
    if looked is not None:
        blind.looked(looked)
    assert len(mine) == 2
    _close(ends)
    assert blind.unseen_is(int(looked is not None))


def test_end_is_counted_when_the_memory_is_used_again(blind: Blind) -> None:
    """Which a socket's second connection is sure to do: what stands there is not its own first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client, accepted = _pair(server)
        with client, accepted:
            table, keys, values = blind.entries()
            (mine,) = np.flatnonzero(values["event"]["remote_port"] == server.getsockname()[1])
            _disconnect(client)
            table.update(keys[mine].tobytes(), values[mine].tobytes())
            client.connect(server.getsockname())
            assert blind.unseen_is(1)
            server.accept()[0].close()
    ended = [
        e
        for e in blind.of_port(int(values["event"]["remote_port"][mine]), "closed", number=4)
        if e["direction"] == "egress"
    ]
    assert [e["reason"] for e in ended] == ["abandoned", ""]


def test_the_same_socket_again_is_no_loss(blind: Blind) -> None:
    """Reset while its file is open, then connected anew: the first end is told, and later ones wait for their file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(3):
                _reset(server.accept()[0])
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                _disconnect(client)
                client.connect(("127.0.0.1", port))
            _reset(server.accept()[0])
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    ended = [e for e in blind.of_port(port, "closed", number=8) if e["direction"] == "egress"]
    assert [e["reason"] for e in ended] == ["reset"] * 4
    assert len({(e["local_port"], e["pid"]) for e in ended}) == 4
    assert blind.unseen() == 0


def test_fast_open_that_is_over_before_the_last_packet_of_its_handshake(
    blind: Blind, netns: Callable[..., str]
) -> None:
    place = netns(
        "sysctl -qw net.ipv4.tcp_fastopen=519", "iptables -A INPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP"
    )
    subprocess.run(["ip", "netns", "exec", place, sys.executable, "-c", FAST], check=True, timeout=30)
    (event,) = [e for e in blind.of_port(7012, "established") if e["direction"] == "ingress"]
    assert (event["local_port"], event["local_address"]) == (7012, "127.0.0.1")
