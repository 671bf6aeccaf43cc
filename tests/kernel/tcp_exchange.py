"""A program that counts what it does: TCP connections over loopback, both ends here, ended in a given way.

Run as ``python tcp_exchange.py ENDING BYTES CONNECTIONS [ADDRESS]``. Prints one JSON object: ``port``, and for each
connection ``local_port`` of the client and what ``send`` and ``recv`` returned at both ends, in bytes.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

RESET = struct.pack("ii", 1, 0)


class End:
    """A socket that counts."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0
        self.received = 0

    def send(self, size: int) -> None:
        """All of it."""
        while size:
            done = self.sock.send(bytes(min(size, 1 << 16)))
            self.sent += done
            size -= done

    def stuff(self) -> None:
        """As much as the kernel takes."""
        self.sock.setblocking(False)
        try:
            while True:
                self.sent += self.sock.send(bytes(1 << 16))
        except BlockingIOError:
            self.sock.setblocking(True)

    def take(self, size: int) -> None:
        """This much, or until the end."""
        while size:
            got = len(self.sock.recv(min(size, 1 << 16)))
            if not got:
                return
            self.received += got
            size -= got

    def take_all(self) -> None:
        """Until the end, or until an error ends it."""
        try:
            self.take(1 << 60)
        except OSError:
            return

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    thread = threading.Thread(target=first)
    thread.start()
    second()
    thread.join()


def _ask(client: End, server: End, size: int) -> None:
    """Full size there, a third of it back."""
    _both(lambda: client.send(size), lambda: server.take(size))
    _both(lambda: server.send(size // 3), lambda: client.take(size // 3))


def client_closes(client: End, server: End, size: int) -> None:
    _ask(client, server, size)
    client.sock.close()
    server.take_all()
    server.sock.close()


def server_closes(client: End, server: End, size: int) -> None:
    _ask(client, server, size)
    server.sock.close()
    client.take_all()
    client.sock.close()


def half_closes(client: End, server: End, size: int) -> None:
    """The client reads the answer only after both FINs have passed."""
    _both(lambda: client.send(size), lambda: server.take(size))
    client.sock.shutdown(socket.SHUT_WR)
    server.take_all()
    server.send(min(size, 20_000))
    server.sock.close()
    time.sleep(0.05)
    client.take_all()
    client.sock.close()


def client_resets(client: End, server: End, size: int) -> None:
    _ask(client, server, size)
    client.reset()
    server.take_all()
    server.sock.close()


def reset_before_read(client: End, server: End, size: int) -> None:
    """The server reads what was queued after the reset came."""
    client.send(min(size, 20_000))
    time.sleep(0.02)
    client.reset()
    time.sleep(0.02)
    server.take_all()
    server.sock.close()


def closed_unread(client: End, server: End, size: int) -> None:
    """The server reads a part and closes: a reset, with data waiting at both ends."""
    client.stuff()
    server.take(min(size, 10_000))
    server.sock.close()
    time.sleep(0.02)
    client.sock.close()


def client_unread(client: End, server: End, size: int) -> None:
    """The client leaves with the answer unread."""
    _both(lambda: client.send(size), lambda: server.take(size))
    server.send(5000)
    time.sleep(0.02)
    client.sock.close()
    server.take_all()
    server.sock.close()


def both_close_at_once(client: End, server: End, size: int) -> None:
    _ask(client, server, size)
    _both(client.sock.close, server.sock.close)


ENDINGS = {
    f.__name__: f
    for f in (
        client_closes,
        server_closes,
        half_closes,
        client_resets,
        reset_before_read,
        closed_unread,
        client_unread,
        both_close_at_once,
    )
}


def main(ending: str, size: int, connections: int, address: str = "127.0.0.1") -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=128) as listener:
        port = listener.getsockname()[1]
        told = []
        for number in range(connections):
            client = End(socket.create_connection((address, port)))
            server = End(listener.accept()[0])
            local_port = client.sock.getsockname()[1]
            ENDINGS[ending](client, server, size + number)
            told.append(
                {
                    "local_port": local_port,
                    "client": [client.sent, client.received],
                    "server": [server.sent, server.received],
                }
            )
    print(json.dumps({"port": port, "connections": told}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
