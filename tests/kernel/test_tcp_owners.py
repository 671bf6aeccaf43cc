"""Whose an accepted connection is: the process that closes it, never the one that made the listener."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.events.observations import OBSERVATION

pytestmark = pytest.mark.root

PROGRAM = Path(__file__).with_name("tcp_server.py")
Cgroup = Callable[[str], tuple[Path, int]]
INGRESS, TASK_FILE = 2, 3


class Server:
    """A listener made in cgroup A, and a worker in cgroup B."""

    def __init__(self, cgroup: Cgroup) -> None:
        self.a, self.a_id = cgroup("a")
        self.b, self.b_id = cgroup("b")
        command = [sys.executable, str(PROGRAM), str(self.a), str(self.b)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port, self.worker = map(int, self._process.stdout.readline().split())

    def accept(self, count: int, ending: str, seconds: float = 0.5) -> None:
        """Have the worker accept later; returns at once."""
        assert self._process.stdin
        self._process.stdin.write(f"accept {seconds} {count} {ending}\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture
def server(cgroup: Cgroup) -> Iterator[Server]:
    with contextlib.closing(Server(cgroup)) as made:
        yield made


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


def _reset(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def _fin(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def _after(connections: list[socket.socket]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                pass
        connection.close()


@pytest.mark.parametrize(
    ("worker", "client", "client_first"),
    [
        ("close", _after, False),
        ("wait", _fin, True),
        ("reset", _after, False),
        ("wait", _reset, True),
        ("shutdown", _after, False),
        ("exit", _after, False),
    ],
    ids=["server's FIN", "client's FIN", "server's RST", "client's RST", "server's shutdown", "server's exit"],
)
@pytest.mark.usefixtures("many_files")
def test_worker_owns_a_thousand_of_a_thousand(
    watch: Any, server: Server, worker: str, client: Callable[[list[socket.socket]], None], client_first: bool
) -> None:
    """Accepted half a second late; where the client is first, its FIN or RST comes before accept does."""
    count = 1000
    connections = _connect(server.port, count)
    server.accept(count, worker)
    if client_first:
        client(connections)
    server.wait()
    if not client_first:
        client(connections)
    closed = [e for e in watch.of_port(server.port, "closed", number=2 * count) if e["direction"] == "ingress"]
    assert not any(lost.count for lost in watch.probe.losses().values())
    assert Counter((e["cgroup"], e["pid"], e["owner_source"]) for e in closed) == {
        (server.b_id, server.worker, "close"): count
    }
    rows = np.concatenate(watch.observations)
    rows = rows[(rows["local_port"] == server.port) & (rows["direction"] == INGRESS)]
    assert rows["connections"].sum() == count
    assert set(rows["cgroup"].tolist()) == {server.b_id}


def test_established_says_that_the_listener_stands_in(watch: Any, server: Server) -> None:
    """At that moment nobody has accepted: it is given to the process that listens, and says so."""
    with socket.create_connection(("127.0.0.1", server.port)):
        opened = [e for e in watch.of_port(server.port, "established", number=2) if e["direction"] == "ingress"]
        assert [(e["cgroup"], e["owner_source"]) for e in opened] == [(server.a_id, "listener")]
        server.accept(1, "close", 0)
        server.wait()


def test_open_connection_belongs_to_who_holds_it(watch: Any, server: Server) -> None:
    """A long connection is told before it closes, by the files that processes hold; and counted once."""
    held = socket.create_connection(("127.0.0.1", server.port))
    held.sendall(b"x" * 1000)
    server.accept(1, "wait", 0)
    rows = _until(watch, server.port, lambda rows: rows["bytes_received"].sum() == 1000)
    assert rows["bytes_received"].sum() == 1000
    assert rows["connections"].sum() == 1
    assert set(rows["cgroup"].tolist()) == {server.b_id}
    assert set(rows["owner_source"].tolist()) == {TASK_FILE}
    assert rows["latency_count"].sum() == 1
    held.sendall(b"y" * 10)
    held.close()
    server.wait()
    watch.of_port(server.port, "closed", number=2)
    after = np.concatenate(watch.observations)
    after = after[(after["local_port"] == server.port) & (after["direction"] == INGRESS)]
    assert after["connections"].sum() == 0
    assert after["bytes_received"].sum() == 10


def _until(watch: Any, port: int, wanted: Callable[[Any], bool]) -> Any:
    """Ingress rows of snapshots at ``port``, once ``wanted`` holds of all so far."""
    rows = np.zeros(0, OBSERVATION)
    for _ in range(500):
        watch.look()
        more = watch.probe.snapshot()
        rows = np.concatenate((rows, more[(more["local_port"] == port) & (more["direction"] == INGRESS)]))
        if wanted(rows):
            break
        time.sleep(0.01)
    return rows


def test_connect_belongs_to_who_connected_even_if_another_closes(watch: Any, server: Server) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port))
    child = os.fork()
    if child == 0:
        time.sleep(0.1)
        os._exit(0)  # holds the last copy
    connection.close()
    os.waitpid(child, 0)
    server.accept(1, "close", 0)
    server.wait()
    closed = [e for e in watch.of_port(server.port, "closed", number=2) if e["direction"] == "egress"]
    assert [(e["pid"], e["owner_source"]) for e in closed] == [(os.getpid(), "connect")]
