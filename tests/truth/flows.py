"""The flow probe alone, and sockets that only it sees: attached to a cgroup of the test's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fathom.kernel.cgroups import cgroup2_mount
from fathom.probes.flow import FlowProbe

SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
UDP_HEAD, UDP6_HEAD = 28, 48

Rows = np.ndarray[Any, np.dtype[Any]]


def cookie(sock: socket.socket) -> int:
    """What the kernel calls this socket."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


@contextmanager
def inside(cgroup: Path) -> Iterator[None]:
    """This process is in ``cgroup``; the sockets that it makes meanwhile stay there."""
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    home = cgroup2_mount() / line[3:].lstrip("/")
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))


def udp(cgroup: Path, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound UDP socket that belongs to ``cgroup``."""
    with inside(cgroup):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((host, port))
    return sock


class Flows:
    """A probe and all that it has told since."""

    def __init__(self, probe: FlowProbe) -> None:
        self.probe = probe
        self.told = np.zeros(0, probe.record)

    def drain(self) -> Rows:
        """What came since the last call."""
        rows = self.probe.drain()
        self.told = np.concatenate((self.told, rows))
        return rows

    def of(self, sock: socket.socket | int) -> Rows:
        """All rows of a socket, drained up to now."""
        self.drain()
        return self.told[self.told["socket"] == (sock if isinstance(sock, int) else cookie(sock))]

    def sums(self, name: str) -> int:
        """Sum of a counter over all that was told."""
        return int(self.told[name].sum())
