"""A program that makes many connections at once and counts them: both ends here, over loopback.

Run as ``python tcp_burst.py sequential|together|refused COUNT BYTES [--cgroup DIRECTORY] [--address A]``.
``sequential`` opens, asks, answers a third, closes, one after the other; ``together`` opens all, then asks, then closes
all. Prints one JSON object: the server's port, connections made, and what all sends and all recvs returned, in bytes,
over both ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
from pathlib import Path

Pair = tuple[socket.socket, socket.socket]


class Counts:
    """What send and recv returned."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def pass_on(self, source: socket.socket, sink: socket.socket, size: int) -> None:
        self.sent += source.send(bytes(size))
        while size > 0:
            got = len(sink.recv(size))
            self.received += got
            size -= got

    def ask(self, pair: Pair, size: int) -> None:
        client, server = pair
        self.pass_on(client, server, size)
        self.pass_on(server, client, size // 3)


def _open(server: socket.socket, address: str, port: int) -> Pair:
    client = socket.create_connection((address, port))
    return client, server.accept()[0]


def _close(pair: Pair) -> None:
    for end in pair:
        end.close()


def _run(mode: str, count: int, size: int, address: str, counts: Counts) -> int:
    if mode == "refused":
        return _refused(count, address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=1024) as server:
        port = server.getsockname()[1]
        if mode == "sequential":
            for _ in range(count):
                pair = _open(server, address, port)
                counts.ask(pair, size)
                _close(pair)
        else:
            pairs = [_open(server, address, port) for _ in range(count)]
            for pair in pairs:
                counts.ask(pair, size)
            for pair in pairs:
                _close(pair)
    return port


def _refused(count: int, address: str) -> int:
    with socket.socket() as holder:
        holder.bind((address, 0))
        port: int = holder.getsockname()[1]
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError), socket.socket() as client:
                client.connect((address, port))
    return port


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("count", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("--cgroup")
    parser.add_argument("--address", default="127.0.0.1")
    given = parser.parse_args()
    if given.cgroup:
        (Path(given.cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    counts = Counts()
    port = _run(given.mode, given.count, given.size, given.address, counts)
    print(json.dumps({"port": port, "connections": given.count, "sent": counts.sent, "received": counts.received}))


if __name__ == "__main__":
    main()
