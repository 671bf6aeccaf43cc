"""A server of two processes in two cgroups: one makes the listener, a worker accepts late and ends the connections.

Run as ``python tcp_server.py LISTENER_CGROUP WORKER_CGROUP``. Prints the port and the worker's pid; the worker then
reads lines ``accept SECONDS COUNT ENDING`` from stdin and answers ``done``; ENDING is what it does with them: ``close``
at once, ``reset`` them, ``wait`` until the other end is done and close then, ``shutdown`` first, ``exit`` unclosed.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from pathlib import Path


def _enter(cgroup: str) -> None:
    (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))


def _end(connection: socket.socket, ending: str) -> None:
    if ending == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif ending == "wait":
        try:
            while connection.recv(1 << 16):
                pass
        except OSError:
            pass  # a reset is one of the ends that are waited for
    elif ending == "shutdown":
        connection.shutdown(socket.SHUT_WR)
    connection.close()


def _work(listener: socket.socket) -> None:
    print(listener.getsockname()[1], os.getpid(), flush=True)
    for line in sys.stdin:
        _, seconds, count, ending = line.split()
        time.sleep(float(seconds))
        connections = [listener.accept()[0] for _ in range(int(count))]
        if ending == "exit":
            print("done", flush=True)
            os._exit(0)
        for connection in connections:
            _end(connection, ending)
        print("done", flush=True)


def main(listener_cgroup: str, worker_cgroup: str) -> None:
    _enter(listener_cgroup)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    worker = os.fork()
    if worker == 0:
        _enter(worker_cgroup)
        _work(listener)
        os._exit(0)
    listener.close()
    os.waitpid(worker, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
