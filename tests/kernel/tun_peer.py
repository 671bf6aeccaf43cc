"""A TCP peer on a TUN device that takes its time: it delays one packet of the handshake, at either end.

Run in a network namespace as ``python tun_peer.py SECONDS``. The device is 10.88.0.1; the peer is 10.88.0.2. Prints
``connect`` when it delayed the answer to a SYN to port 9 of itself, and ``accept`` when it delayed its third packet to
a listener at port 9 of the device. Both connections are then ended by RST.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time

HERE, PEER, PORT = "10.88.0.1", "10.88.0.2", 9
SYN, RST, ACK = 2, 4, 16


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _segment(source_port: int, port: int, sequence: int, acknowledge: int, flags: int) -> bytes:
    ends = socket.inet_aton(PEER) + socket.inet_aton(HERE)

    def tcp(checksum: int) -> bytes:
        return struct.pack("!HHIIBBHHH", source_port, port, sequence, acknowledge, 5 << 4, flags, 65535, checksum, 0)

    body = tcp(_checksum(ends + struct.pack("!BBH", 0, 6, 20) + tcp(0)))
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, ends[:4], ends[4:])
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body


def _device() -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"slow", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
    for command in (f"ip addr add {HERE}/24 dev slow", "ip link set slow up"):
        subprocess.run(command.split(), check=True)
    return tun


def _read(tun: int, source_port: int) -> tuple[int, int, int]:
    """(peer's port, sequence, flags) of the next TCP segment from ``source_port`` (0: any) of the device."""
    while True:
        packet = os.read(tun, 2048)
        if packet[0] != 0x45 or packet[9] != 6:
            continue
        port, _, sequence, _, _, flags = struct.unpack("!HHIIBB", packet[20:34])
        if source_port in (0, port):
            return port, sequence, flags


def _connect(tun: int, seconds: float) -> None:
    """The kernel connects; the answer to its SYN is late."""
    client = socket.socket()
    thread = threading.Thread(target=client.connect, args=((PEER, PORT),))
    thread.start()
    port, sequence, _ = _read(tun, 0)
    time.sleep(seconds)
    os.write(tun, _segment(PORT, port, 1000, sequence + 1, SYN | ACK))
    thread.join()
    os.write(tun, _segment(PORT, port, 1001, sequence + 1, RST | ACK))
    time.sleep(0.05)
    client.close()
    print("connect", flush=True)


def _accept(tun: int, seconds: float) -> None:
    """The kernel listens; the third packet is late."""
    with socket.create_server((HERE, PORT)) as server:
        os.write(tun, _segment(4444, PORT, 5000, 0, SYN))
        _, sequence, _ = _read(tun, PORT)
        time.sleep(seconds)
        os.write(tun, _segment(4444, PORT, 5001, sequence + 1, ACK))
        accepted, _ = server.accept()
        os.write(tun, _segment(4444, PORT, 5001, sequence + 1, RST | ACK))
        time.sleep(0.05)
        accepted.close()
    print("accept", flush=True)


def main(seconds: float) -> None:
    tun = _device()
    _connect(tun, seconds)
    _accept(tun, seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]))
