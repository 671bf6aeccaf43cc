"""A wire between two network namespaces that loses and delays packets as it is told.

It runs as ``wire.py PLAN``: two TUN devices, one in each namespace, with this program between them. PLAN is a JSON
object: ``namespaces`` (two names), ``addresses`` (two, with prefix length), ``drop_every`` (lose each n-th packet that
carries TCP payload and was not lost before; 0: none), ``delay_ms`` (of the packets of a handshake, by name: ``syn``,
``synack``, ``ack``). It needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from typing import Any

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
CLONE_NEWNET = 0x40000000
LIMIT_S = 60
SYN, ACK = 2, 16


def device(namespace: str, address: str) -> int:
    """A TUN device in ``namespace``; this program stays in the namespace of the one that was entered last."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"wire0", IFF_TUN | IFF_NO_PI))
    for command in (("address", "add", address, "dev", "wire0"), ("link", "set", "wire0", "mtu", "1500", "up")):
        subprocess.run(("ip", *command), check=True, timeout=20)
    return fd


class Judge:
    """What happens to a packet: lost, delayed, or passed."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._drop_every = plan.get("drop_every", 0)
        self._delay = {name: ms / 1000 for name, ms in plan.get("delay_ms", {}).items()}
        self._payloads = 0
        self._lost: set[bytes] = set()
        self._opening: set[bytes] = set()
        self.dropped = 0

    def delay(self, packet: bytes) -> float | None:
        """Seconds to hold the packet back; None: lose it."""
        if packet[0] >> 4 != 4 or packet[9] != 6:
            return 0.0
        at = (packet[0] & 15) * 4
        flags, data = packet[at + 13], at + (packet[at + 12] >> 4) * 4
        ends = packet[12:20] + packet[at : at + 4]
        if len(packet) > data:
            return self._payload(ends + packet[at + 4 : at + 8])
        if flags & SYN:
            if not flags & ACK:
                self._opening.add(ends)
            return self._delay.get("synack" if flags & ACK else "syn", 0.0)
        if flags & ACK and ends in self._opening:
            self._opening.discard(ends)
            return self._delay.get("ack", 0.0)
        return 0.0

    def _payload(self, segment: bytes) -> float | None:
        self._payloads += 1
        if self._drop_every and self._payloads % self._drop_every == 0 and segment not in self._lost:
            self._lost.add(segment)
            self.dropped += 1
            return None
        return 0.0


def carry(fds: tuple[int, int], judge: Judge) -> None:
    """Until standard input ends."""
    held: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, _, fd, packet = heapq.heappop(held)
            os.write(fd, packet)
        timeout = max(0.0, held[0][0] - now) if held else None
        readable = select.select([*fds, 0], [], [], timeout)[0]
        if 0 in readable:
            return
        for fd in readable:
            packet = os.read(fd, 1 << 16)
            delay = judge.delay(packet)
            if delay is not None:
                number += 1
                other = fds[1] if fd == fds[0] else fds[0]
                heapq.heappush(held, (time.monotonic() + delay, number, other, packet))


def main() -> None:
    signal.alarm(LIMIT_S)
    plan = json.loads(sys.argv[1])
    first, second = (device(*end) for end in zip(plan["namespaces"], plan["addresses"], strict=True))
    judge = Judge(plan)
    print(json.dumps({"ready": {}}), flush=True)
    carry((first, second), judge)
    print(json.dumps({"dropped": judge.dropped}), flush=True)


if __name__ == "__main__":
    main()
