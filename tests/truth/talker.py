"""A program that talks as it is told, counts what its system calls returned, and tells it as JSON.

It runs as ``talker.py PLAN``: PLAN is a JSON object, ``do`` names the function below, the rest are its arguments. It
writes one JSON object a line: ``{"ready": …}`` when others may begin, ``{"did": […], "pids": […]}`` at its end. Each
entry of ``did`` has direction, protocol, peer, port, verdict, reason and what was counted. It needs the standard
library alone.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

UDP_SEGMENT = 103  # include/uapi/linux/udp.h
LIMIT_S = 40

Did = dict[str, Any]
Key = tuple[str, str, str, int, str, str]
COUNTERS = ("connections", "failures", "bytes_sent", "bytes_received", "packets_sent", "packets_received")


class Ledger:
    """Counters by (direction, protocol, peer, port, verdict, reason)."""

    def __init__(self) -> None:
        self.pages: dict[Key, Counter[str]] = {}

    def add(self, key: Key, **counts: int) -> None:
        self.pages.setdefault(key, Counter()).update(counts)

    def entries(self) -> list[Did]:
        names = ("direction", "protocol", "peer", "port", "verdict", "reason")
        return [
            dict(zip(names, key, strict=True)) | {name: page[name] for name in COUNTERS}
            for key, page in sorted(self.pages.items())
        ]

    def merge(self, entries: Iterable[Did]) -> None:
        for entry in entries:
            key = tuple(entry[name] for name in ("direction", "protocol", "peer", "port", "verdict", "reason"))
            self.add(key, **{name: entry[name] for name in COUNTERS})  # type: ignore[arg-type]


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def wait_for_go(plan: dict[str, Any]) -> None:
    """Hold on until the test says so, where it wants to."""
    if plan.get("hold"):
        tell(ready={})
        sys.stdin.readline()


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def plain(address: str) -> str:
    """As a person reads it: v4-mapped is IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address


def reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send_exactly(sock: socket.socket, size: int) -> int:
    sent = 0
    while sent < size:
        sent += sock.send(bytes(min(size - sent, 1 << 16)))
    return sent


def receive(sock: socket.socket, size: int) -> int:
    """Up to ``size`` bytes, or to the end of the stream, or to a reset."""
    got = 0
    while got < size:
        try:
            data = sock.recv(min(size - got, 1 << 16))
        except ConnectionResetError:
            break
        if not data:
            break
        got += len(data)
    return got


# ---- TCP ----


def tcp_serve(plan: dict[str, Any], ledger: Ledger) -> None:
    """Accept ``count`` connections; of each read ``receive`` bytes (-1: all), answer ``send`` bytes, end it by ``end``:
    ``fin``, ``rst``, or ``peer`` (wait for the other side to end)."""
    with socket.socket(family_of(plan["host"]), socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((plan["host"], plan["port"]))
        listener.listen(plan.get("backlog", 1024))
        tell(ready={"port": listener.getsockname()[1]})
        for _ in range(plan["count"]):
            connection, peer = listener.accept()
            serve_one(connection, plain(peer[0]), plan, ledger)


def serve_one(connection: socket.socket, peer: str, plan: dict[str, Any], ledger: Ledger) -> None:
    wanted = plan.get("receive", 0)
    got = receive(connection, 1 << 40 if wanted < 0 else wanted)
    sent = send_exactly(connection, plan.get("send", 0))
    end = plan.get("end", "fin")
    if end == "peer":
        got += receive(connection, 1 << 40)
    if end == "rst":
        reset_on_close(connection)
    connection.close()
    key = ("ingress", "TCP", peer, plan["port"], "forwarded", "")
    ledger.add(key, connections=1, bytes_received=got, bytes_sent=sent)


def tcp_connect(plan: dict[str, Any], ledger: Ledger) -> None:
    """Connect ``count`` times; send, read, and end as ``tcp_serve`` does."""
    wait_for_go(plan)
    key = ("egress", "TCP", plain(plan["host"]), plan["port"], "forwarded", "")
    for _ in range(plan["count"]):
        with socket.socket(family_of(plan["host"]), socket.SOCK_STREAM) as sock:
            sock.connect((plan["host"], plan["port"]))
            sent = send_exactly(sock, plan.get("send", 0))
            if plan.get("shutdown"):
                sock.shutdown(socket.SHUT_WR)
            wanted = plan.get("receive", 0)
            got = receive(sock, 1 << 40 if wanted < 0 else wanted)
            if plan.get("end") == "peer":
                got += receive(sock, 1 << 40)
            if plan.get("end") == "rst":
                reset_on_close(sock)
            ledger.add(key, connections=1, bytes_sent=sent, bytes_received=got)


def tcp_refused(plan: dict[str, Any], ledger: Ledger) -> None:
    """Connect where nobody listens."""
    fail(plan, ledger, errno.ECONNREFUSED, "refused")


def tcp_unreachable(plan: dict[str, Any], ledger: Ledger) -> None:
    """Connect where a router says that there is no such host."""
    fail(plan, ledger, errno.EHOSTUNREACH, "unreachable")


def tcp_timeout(plan: dict[str, Any], ledger: Ledger) -> None:
    """Connect into the void until the kernel gives up."""
    fail(plan, ledger, errno.ETIMEDOUT, "timeout")


def fail(plan: dict[str, Any], ledger: Ledger, wanted: int, reason: str) -> None:
    key = ("egress", "TCP", plain(plan["host"]), plan["port"], "failed", reason)
    for _ in range(plan["count"]):
        with socket.socket(family_of(plan["host"]), socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            code = sock.connect_ex((plan["host"], plan["port"]))
            if code != wanted:
                raise SystemExit(f"connect gave {errno.errorcode.get(code, code)}, not {errno.errorcode[wanted]}")
            ledger.add(key, failures=1)


def tcp_abandoned(plan: dict[str, Any], ledger: Ledger) -> None:
    """Give up connecting into the void."""
    key = ("egress", "TCP", plain(plan["host"]), plan["port"], "failed", "abandoned")
    for _ in range(plan["count"]):
        with socket.socket(family_of(plan["host"]), socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            code = sock.connect_ex((plan["host"], plan["port"]))
            if code != errno.EINPROGRESS:
                raise SystemExit(f"connect gave {code}, not EINPROGRESS")
            select.select([], [sock], [], 0.02)
            ledger.add(key, failures=1)


def tcp_no_port_left(plan: dict[str, Any], ledger: Ledger) -> None:
    """Connect more often at once than the namespace has local ports (``ports``): the rest gives EADDRNOTAVAIL."""
    opened, host, port = [], plan["host"], plan["port"]
    for _ in range(plan["count"]):
        sock = socket.socket(family_of(host), socket.SOCK_STREAM)
        code = sock.connect_ex((host, port))
        if code == 0:
            opened.append(sock)
            ledger.add(("egress", "TCP", plain(host), port, "forwarded", ""), connections=1)
        elif code == errno.EADDRNOTAVAIL:
            ledger.add(("egress", "TCP", plain(host), port, "failed", "local_error"), failures=1)
            sock.close()
        else:
            raise SystemExit(f"connect gave {errno.errorcode.get(code, code)}")
    if len(opened) != plan["ports"]:
        raise SystemExit(f"{len(opened)} connections, not {plan['ports']}")
    for sock in opened:
        sock.close()


def tcp_handed_over(plan: dict[str, Any], ledger: Ledger) -> None:
    """Listen in cgroup ``listener``; a child in cgroup ``worker`` accepts all ``late_s`` after they are connected."""
    enter(plan["listener"])
    with socket.socket(family_of(plan["host"]), socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((plan["host"], plan["port"]))
        listener.listen(plan["count"] + 1)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            raise SystemExit(os.waitstatus_to_exitcode(status))
        enter(plan["worker"])
        tell(ready={"port": plan["port"]})
        sys.stdin.readline()  # the client is connected to all
        time.sleep(plan["late_s"])
        for _ in range(plan["count"]):
            connection, peer = listener.accept()
            serve_one(connection, plain(peer[0]), plan, ledger)


def tcp_all_at_once(plan: dict[str, Any], ledger: Ledger) -> None:
    """Connect ``count`` times and keep all open; when told, say a byte on each, read the answer, and close."""
    key = ("egress", "TCP", plain(plan["host"]), plan["port"], "forwarded", "")
    sockets = []
    for _ in range(plan["count"]):
        sock = socket.socket(family_of(plan["host"]), socket.SOCK_STREAM)
        sock.connect((plan["host"], plan["port"]))
        ledger.add(key, connections=1, bytes_sent=sock.send(b"x"))
        sockets.append(sock)
    tell(ready={})
    sys.stdin.readline()
    for sock in sockets:
        ledger.add(key, bytes_received=receive(sock, 1 << 20))
        sock.close()


def enter(cgroup: str) -> None:
    (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))


# ---- UDP, ICMP ----


def overhead(host: str) -> int:
    """IP and UDP headers of a packet to ``host``."""
    return 48 if ":" in plain(host) else 28


def udp_serve(plan: dict[str, Any], ledger: Ledger) -> None:
    """Take ``count`` datagrams; answer each with ``send`` bytes, where that is not 0."""
    with socket.socket(family_of(plan["host"]), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((plan["host"], plan["port"]))
        for group in plan.get("groups", ()):
            sock.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                socket.inet_aton(group) + socket.inet_aton(plan["interface"]),
            )
        tell(ready={"port": sock.getsockname()[1]})
        for _ in range(plan["count"]):
            data, peer = sock.recvfrom(1 << 16)
            key = ("ingress", "UDP", plain(peer[0]), plan["port"], "forwarded", "")
            head = overhead(peer[0])
            ledger.add(key, packets_received=1, bytes_received=len(data) + head)
            if plan.get("send"):
                sent = sock.sendto(bytes(plan["send"]), peer)
                ledger.add(key, packets_sent=1, bytes_sent=sent + head)


def udp_send(plan: dict[str, Any], ledger: Ledger) -> None:
    """Send ``count`` datagrams of ``size`` bytes to each of ``hosts``, connected or not; read the answers if any.

    ``segment``: hand over one buffer that the kernel cuts into datagrams of that size (UDP_SEGMENT).
    """
    hosts, port = plan["hosts"], plan["port"]
    with socket.socket(family_of(hosts[0]), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        if plan.get("source"):
            sock.bind((plan["source"], plan.get("source_port", 0)))
        if plan.get("connected"):
            sock.connect((hosts[0], port))
        if plan.get("segment"):
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, plan["segment"])
        wait_for_go(plan)
        for _ in range(plan["count"]):
            for host in hosts:
                send_datagram(sock, host, plan, ledger)
                if plan.get("answered"):
                    take_answer(sock, port, ledger)
            if plan.get("pause_s"):
                time.sleep(plan["pause_s"])


def send_datagram(sock: socket.socket, host: str, plan: dict[str, Any], ledger: Ledger) -> None:
    size, segment = plan["size"], plan.get("segment", 0)
    sent = sock.send(bytes(size)) if plan.get("connected") else sock.sendto(bytes(size), (host, plan["port"]))
    packets = -(-sent // segment) if segment else 1
    key = ("egress", "UDP", plain(host), plan["port"], "forwarded", "")
    ledger.add(key, packets_sent=packets, bytes_sent=sent + packets * overhead(host))


def take_answer(sock: socket.socket, port: int, ledger: Ledger) -> None:
    data, peer = sock.recvfrom(1 << 16)
    key = ("egress", "UDP", plain(peer[0]), port, "forwarded", "")
    ledger.add(key, packets_received=1, bytes_received=len(data) + overhead(peer[0]))


def ping(plan: dict[str, Any], ledger: Ledger) -> None:
    """Send ``count`` ICMP echoes on a raw socket, and read what comes back for them."""
    six = ":" in plan["host"]
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    head, asks, answers = (40, 128, 129) if six else (20, 8, 0)
    key = ("egress", "ICMPv6" if six else "ICMP", plan["host"], 0, "forwarded", "")
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        if six:  # ICMP6_FILTER: pass echo replies alone (RFC 3542)
            blocked = [0xFFFFFFFF] * 8
            blocked[answers >> 5] &= ~(1 << (answers & 31)) & 0xFFFFFFFF
            sock.setsockopt(protocol, 1, struct.pack("=8I", *blocked))
        else:  # SOL_RAW, ICMP_FILTER
            sock.setsockopt(255, 1, struct.pack("=I", ~(1 << answers) & 0xFFFFFFFF))
        for sequence in range(plan["count"]):
            sent = sock.sendto(echo(asks, sequence, plan["size"]), (plan["host"], 0))
            ledger.add(key, packets_sent=1, bytes_sent=sent + head)
            data = sock.recv(1 << 16)
            ledger.add(key, packets_received=1, bytes_received=len(data) + (head if six else 0))


def echo(kind: int, sequence: int, size: int) -> bytes:
    body = struct.pack(">BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, sequence) + bytes(size)
    total = sum(struct.unpack(f">{len(body) // 2}H", body[: len(body) & ~1])) + (body[-1] << 8 if len(body) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return body[:2] + struct.pack(">H", ~total & 0xFFFF) + body[4:]


def raw(plan: dict[str, Any], ledger: Ledger) -> None:
    """Send ``count`` packets of IP protocol ``protocol``."""
    six = ":" in plan["host"]
    key = ("egress", str(plan["protocol"]), plan["host"], 0, "forwarded", "")
    family = socket.AF_INET6 if six else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, plan["protocol"]) as sock:
        for _ in range(plan["count"]):
            sent = sock.sendto(bytes(plan["size"]), (plan["host"], 0))
            ledger.add(key, packets_sent=1, bytes_sent=sent + (40 if six else 20))


# ---- several processes ----


def in_processes(work: Callable[[dict[str, Any], Ledger], None], plan: dict[str, Any]) -> tuple[list[Did], list[int]]:
    """Run ``work`` in ``processes`` children (or here, for one); what they did together, and their process ids."""
    ledger, count = Ledger(), plan.get("processes", 1)
    if count == 1:
        work(plan, ledger)
        return ledger.entries(), [os.getpid()]
    pids = []
    for child in fork_all(work, plan, count):
        pids.append(child[0])
        ledger.merge(child[1])
    return ledger.entries(), pids


def fork_all(work: Callable[..., None], plan: dict[str, Any], count: int) -> Iterator[tuple[int, list[Did]]]:
    children = []
    for _ in range(count):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            mine = Ledger()
            work(plan, mine)
            os.write(writer, json.dumps(mine.entries()).encode())
            os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    for pid, reader in children:
        with os.fdopen(reader) as told:
            text = told.read()
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"a child ended with {status}")
        yield pid, json.loads(text)


WORK = {
    work.__name__: work
    for work in (
        tcp_serve,
        tcp_connect,
        tcp_refused,
        tcp_unreachable,
        tcp_timeout,
        tcp_abandoned,
        tcp_no_port_left,
        tcp_handed_over,
        tcp_all_at_once,
        udp_serve,
        udp_send,
        ping,
        raw,
    )
}


def main() -> None:
    signal.alarm(LIMIT_S)
    plan = json.loads(sys.argv[1])
    did, pids = in_processes(WORK[plan["do"]], plan)
    tell(did=did, pids=pids)


if __name__ == "__main__":
    main()
