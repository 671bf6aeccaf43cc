"""What the kernel shows to no program, as where the programs are not run on top of certain tasks, is told later or
counted: never lost in silence."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fathom.kernel.objects import Link, Object
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import PROGRAMS, TcpProbe
from tests.kernel.conftest import Watch

pytestmark = pytest.mark.root

SYN_SENT = 2
ATTEMPT = """
import socket, sys
with socket.socket() as attempt:
    attempt.setblocking(False)
    attempt.connect_ex(("127.0.0.1", 7011))
    print("begun", flush=True)
    sys.stdin.readline()
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

    @property
    def object(self) -> Object:
        return self.probe._object

    def entries(self) -> tuple[Any, Any, Any]:
        """The table of connections: itself, keys, values."""
        table = self.object.map("tcp_sockets", np.dtype("<u8"), self.object.btf.struct("tcp_socket").dtype)
        return (table, *table.read())

    def unseen(self) -> int:
        return self.probe.losses()["unseen"].count


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


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two of a connection, client and server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


def _close(ends: tuple[socket.socket, socket.socket]) -> int:
    """Client first. The server's port."""
    port: int = ends[1].getsockname()[1]
    for end in ends:
        end.close()
    return port


def test_failure_is_told_when_the_file_is_closed(blind: Blind, netns: Callable[..., str]) -> None:
    place = netns("iptables -A INPUT -p tcp -j DROP")
    command = ["ip", "netns", "exec", place, sys.executable, "-c", ATTEMPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as attempt:
        assert attempt.stdin
        assert attempt.stdout
        assert attempt.stdout.readline() == "begun\n"
        blind.shut("tcp_state", "tcp_state_again")
        attempt.communicate("\n")
    (event,) = blind.of_port(7011)
    assert (event["event"], event["reason"], event["latency"]) == ("failed", "", None)
    assert (event["pid"], event["packets_sent"], blind.unseen()) == (attempt.pid, 1, 0)
    assert np.concatenate(blind.observations)["failures"].sum() == 1


def test_establishment_is_told_when_it_ends(blind: Blind, ends: tuple[socket.socket, socket.socket]) -> None:
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


@pytest.mark.parametrize(("looked", "lost"), [(1, 1), (None, 0)], ids=["long watched", "just begun"])
def test_accepted_connection_is_counted_when_it_ends(
    blind: Blind, ends: tuple[socket.socket, socket.socket], looked: int | None, lost: int
) -> None:
    """Not where it may be older than the probe."""
    port = ends[1].getsockname()[1]
    table, keys, values = blind.entries()
    (mine,) = np.flatnonzero((values["event"]["local_port"] == port) & (values["event"]["direction"] == 2))
    table.delete(keys[mine].tobytes())
    if looked is not None:
        word = np.dtype("<u4")
        blind.object.map("tcp_looked", word, np.dtype("<u8")).update(bytes(4), np.uint64(looked).tobytes())
    _close(ends)
    assert [e["direction"] for e in blind.of_port(port, "closed")] == ["egress"]
    assert blind.unseen() == lost


def test_end_is_counted_when_the_memory_is_used_again(blind: Blind, ends: tuple[socket.socket, socket.socket]) -> None:
    blind.shut(*PROGRAMS)
    _close(ends)
    blind.open(*PROGRAMS)
    assert blind.unseen() == 0
    for _ in range(2_000):
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as again:
            accepted, _ = server.accept()
            again.close()
            accepted.close()
        if blind.unseen() == 2:
            break
    assert blind.unseen() == 2
