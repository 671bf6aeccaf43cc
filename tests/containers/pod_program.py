"""The program of a pod: serves, visits others when it is told to, and tells all that it did. Standard library alone.

``pod_program.py FOLDER`` reads FOLDER/plan.json: ``servers`` are [protocol, port, answers], ``visits`` [protocol,
address, port, times, way, source] (source "": any address of its own). It makes FOLDER/ready when its servers listen,
waits for FOLDER/go, visits, writes FOLDER/told.json and goes on serving until SIGTERM, when it writes
FOLDER/served.json: all peers of each server as [protocol, port, address].
"""

from __future__ import annotations

import errno
import json
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 1.0
#: A DNS query for the address of ``web.shop.svc.cluster.local`` without its id, and the bit that makes it an answer.
_QUERY = bytes.fromhex(
    "0100000100000000000003776562047368 6f7003737663 07636c7573746572056c6f63616c0000010001".replace(" ", "")
)
_ANSWER_BIT = 0x80

served: set[tuple[str, int, str]] = set()


def plain(address: str) -> str:
    """As a person reads it: v4-mapped is IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address


def both_families(kind: socket.SocketKind, port: int) -> socket.socket:
    """A bound socket for IPv4 and IPv6."""
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock


def serve_tcp(listener: socket.socket, port: int) -> None:
    """Answer each connection with what it said."""
    while True:
        connection, peer = listener.accept()
        with connection:
            served.add(("TCP", port, plain(peer[0])))
            connection.settimeout(PATIENCE_S)
            connection.sendall(connection.recv(4096))


def serve_udp(sock: socket.socket, port: int, answers: bool) -> None:
    """Take datagrams; answer them or not."""
    while True:
        data, peer = sock.recvfrom(4096)
        served.add(("UDP", port, plain(peer[0])))
        if answers:
            sock.sendto(data[:2] + bytes([data[2] | _ANSWER_BIT]) + data[3:], peer)


def start(protocol: str, port: int, answers: bool) -> None:
    """A server in a thread of its own."""
    if protocol == "TCP":
        listener = both_families(socket.SOCK_STREAM, port)
        listener.listen(64)
        threading.Thread(target=serve_tcp, args=(listener, port), daemon=True).start()
    else:
        sock = both_families(socket.SOCK_DGRAM, port)
        threading.Thread(target=serve_udp, args=(sock, port, answers), daemon=True).start()


def visit(protocol: str, address: str, port: int, way: str, source: str) -> str:
    """One visit; what came of it: ``ok``, ``sent``, ``timeout``, or the name of the error."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(PATIENCE_S)
        if source:
            sock.bind((source, 0))
        try:
            sock.connect((address, port))
            said = b"\x12\x34" + _QUERY
            sock.send(said)
            if way == "tell":
                return "sent"
            heard = sock.recv(4096)
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return "ok" if heard[3:] == said[3:] else "wrong"


def wait_for(path: Path) -> None:
    """Until the file is there."""
    while not path.exists():
        time.sleep(0.02)


def main() -> None:
    folder = Path(sys.argv[1])
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for server in plan["servers"]:
        start(*server)
    (folder / "ready").touch()
    wait_for(folder / "go")
    told = [
        [protocol, address, port, source, [visit(protocol, address, port, way, source) for _ in range(times)]]
        for protocol, address, port, times, way, source in plan["visits"]
    ]
    (folder / "telling").write_text(json.dumps(told))
    (folder / "telling").rename(folder / "told.json")
    while not stop.wait(0.1):
        pass
    (folder / "served.json").write_text(json.dumps(sorted(served)))


if __name__ == "__main__":
    main()
