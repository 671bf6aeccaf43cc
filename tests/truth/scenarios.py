"""What the programs are made to do: each scenario runs to its end on a stage and gives the truth that they told.

A scenario knows nothing of who watches, so the same ones serve for kernel events, store, REST and the command line.
Each uses ports of its own, so that several may run in one window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.truth.ledger import Ledger
from tests.truth.network import Bridged
from tests.truth.talkers import Talker, Talkers

CLIENT, SERVER = "truth-client", "truth-server"
PROGRAMS = (CLIENT, SERVER)


@dataclass(frozen=True)
class Stage:
    """Namespaces a, b, c on one network, and the programs that play there. ``pids`` collects who connected."""

    net: Bridged
    talkers: Talkers
    pids: set[int]

    def serve(self, name: str, **plan: object) -> Talker:
        """Start a server in a namespace and wait until it listens."""
        server = self.talkers.start(SERVER, self.net[name], **plan)
        server.ready()
        return server

    def play(self, name: str, **plan: object) -> Ledger:
        """Run a client in a namespace to its end."""
        client = self.talkers.start(CLIENT, self.net[name], **plan)
        ledger = client.did()
        self.pids.update(client.pids)
        return ledger

    def both(self, server: Talker, **plan: object) -> Ledger:
        """Run a client in a against a server; what both did."""
        return self.play("a", **plan) + server.did()


# ---- TCP ----


def tcp_ipv4(stage: Stage) -> Ledger:
    """Connect, talk, end by FIN; from a to b."""
    server = stage.serve("b", do="tcp_serve", host=stage.net.address["b"], port=5001, count=20, receive=1000, send=3000)
    return stage.both(server, do="tcp_connect", host=stage.net.address["b"], port=5001, count=20, send=1000, receive=-1)


def tcp_ipv6(stage: Stage) -> Ledger:
    """The same over IPv6."""
    host = stage.net.address6["b"]
    server = stage.serve("b", do="tcp_serve", host=host, port=5002, count=10, receive=-1, send=17)
    return stage.both(server, do="tcp_connect", host=host, port=5002, count=10, send=70_001, shutdown=True, receive=-1)


def tcp_mapped(stage: Stage) -> Ledger:
    """IPv4 on IPv6 sockets, at both ends: shown as IPv4."""
    server = stage.serve("b", do="tcp_serve", host="::", port=5003, count=10, receive=10, send=20)
    host = f"::ffff:{stage.net.address['b']}"
    return stage.both(server, do="tcp_connect", host=host, port=5003, count=10, send=10, receive=-1)


def tcp_between_all_three(stage: Stage) -> Ledger:
    """c to a, c to b: the third namespace takes part."""
    truth = Ledger()
    for name, port in (("a", 5004), ("b", 5005)):
        host = stage.net.address[name]
        server = stage.serve(name, do="tcp_serve", host=host, port=port, count=5, receive=5, send=7)
        truth += stage.play("c", do="tcp_connect", host=host, port=port, count=5, send=5, receive=-1) + server.did()
    return truth


def tcp_many_processes(stage: Stage) -> Ledger:
    """50 processes, 10 connections each."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="tcp_serve", host=host, port=5006, count=500, receive=3, send=4)
    return stage.both(server, do="tcp_connect", host=host, port=5006, count=10, processes=50, send=3, receive=-1)


def tcp_client_resets(stage: Stage) -> Ledger:
    """The client ends by RST: what was sent and received before counts."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="tcp_serve", host=host, port=5007, count=10, receive=5000, send=2000, end="peer")
    return stage.both(server, do="tcp_connect", host=host, port=5007, count=10, send=5000, receive=2000, end="rst")


def tcp_server_resets(stage: Stage) -> Ledger:
    """The server resets the client, which still reads."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="tcp_serve", host=host, port=5008, count=10, receive=300, end="rst")
    return stage.both(server, do="tcp_connect", host=host, port=5008, count=10, send=300, receive=-1)


def tcp_unread(stage: Stage) -> Ledger:
    """The server closes with bytes that it never read: the kernel answers with RST, and recv returned less."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="tcp_serve", host=host, port=5009, count=10, receive=100)
    return stage.both(server, do="tcp_connect", host=host, port=5009, count=10, send=4000, receive=-1)


def tcp_bulk(stage: Stage) -> Ledger:
    """Megabytes both ways."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="tcp_serve", host=host, port=5010, count=2, receive=10_000_019, send=5_000_011)
    return stage.both(server, do="tcp_connect", host=host, port=5010, count=2, send=10_000_019, receive=-1)


def tcp_refused(stage: Stage) -> Ledger:
    """Nobody listens."""
    return stage.play("a", do="tcp_refused", host=stage.net.address["b"], port=5011, count=25)


def tcp_refused_ipv6(stage: Stage) -> Ledger:
    """Nobody listens, over IPv6."""
    return stage.play("a", do="tcp_refused", host=stage.net.address6["b"], port=5012, count=25)


def tcp_unreachable(stage: Stage) -> Ledger:
    """A router says so."""
    return stage.play("a", do="tcp_unreachable", host=stage.net.nowhere, port=5013, count=2)


def tcp_abandoned(stage: Stage) -> Ledger:
    """Nobody answers, and the caller gives up."""
    return stage.play("a", do="tcp_abandoned", host=stage.net.void, port=5014, count=10)


def tcp_timeout(stage: Stage) -> Ledger:
    """Nobody answers, and the kernel gives up, after a few seconds."""
    return stage.play("a", do="tcp_timeout", host=stage.net.void, port=5015, count=1)


def tcp_no_port_left(stage: Stage) -> Ledger:
    """EADDRNOTAVAIL: four ports, nine connections at once."""
    host = stage.net.address["b"]
    stage.net.set("a", "net.ipv4.ip_local_port_range", "40000 40003")
    try:
        server = stage.serve("b", do="tcp_serve", host=host, port=5016, count=4, receive=-1)
        return stage.both(server, do="tcp_no_port_left", host=host, port=5016, count=9, ports=4)
    finally:
        stage.net.set("a", "net.ipv4.ip_local_port_range", "32768 60999")


# ---- UDP and the rest ----


def udp_connected(stage: Stage) -> Ledger:
    """A connected socket, each datagram answered."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6001, count=200, send=10)
    return stage.both(
        server, do="udp_send", hosts=[host], port=6001, count=200, size=100, connected=True, answered=True
    )


def udp_unconnected(stage: Stage) -> Ledger:
    """sendto, answered."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6002, count=50, send=1)
    return stage.both(server, do="udp_send", hosts=[host], port=6002, count=50, size=1, answered=True)


def udp_unanswered(stage: Stage) -> Ledger:
    """One way only, as syslog is."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6003, count=100)
    return stage.both(server, do="udp_send", hosts=[host], port=6003, count=100, size=512)


def udp_ipv6(stage: Stage) -> Ledger:
    """Over IPv6, answered."""
    host = stage.net.address6["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6004, count=50, send=33)
    return stage.both(server, do="udp_send", hosts=[host], port=6004, count=50, size=77, answered=True)


def udp_mapped(stage: Stage) -> Ledger:
    """IPv4 on IPv6 sockets, at both ends."""
    server = stage.serve("b", do="udp_serve", host="::", port=6005, count=20, send=5)
    host = f"::ffff:{stage.net.address['b']}"
    return stage.both(server, do="udp_send", hosts=[host], port=6005, count=20, size=9, answered=True)


def udp_many_peers(stage: Stage) -> Ledger:
    """One socket, many peers."""
    server = stage.serve("b", do="udp_serve", host="0.0.0.0", port=6006, count=5 * len(stage.net.many))
    return stage.both(server, do="udp_send", hosts=stage.net.many, port=6006, count=5, size=40)


def udp_segmented(stage: Stage) -> Ledger:
    """UDP_SEGMENT: one buffer, many datagrams; 7 × 1200 bytes and a rest of 345."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6007, count=20 * 8)
    return stage.both(
        server, do="udp_send", hosts=[host], port=6007, count=20, size=7 * 1200 + 345, segment=1200, connected=True
    )


def udp_segmented_ipv6(stage: Stage) -> Ledger:
    """The same over IPv6, whose headers are longer."""
    host = stage.net.address6["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6008, count=20 * 6)
    return stage.both(
        server, do="udp_send", hosts=[host], port=6008, count=20, size=5 * 1000 + 1, segment=1000, connected=True
    )


def udp_fragmented(stage: Stage) -> Ledger:
    """Datagrams larger than the MTU: one packet each at both ends, since IP cuts them below the hook."""
    host = stage.net.address["b"]
    server = stage.serve("b", do="udp_serve", host=host, port=6009, count=10, send=20_000)
    return stage.both(server, do="udp_send", hosts=[host], port=6009, count=10, size=60_000, answered=True)


def udp_group(stage: Stage) -> Ledger:
    """To a multicast group; the one who answers does so from an address of its own."""
    address = stage.net.address["b"]
    server = stage.serve(
        "b", do="udp_serve", host="", port=6010, count=10, send=8, groups=["239.9.9.9"], interface=address
    )
    return stage.both(server, do="udp_send", hosts=["239.9.9.9"], port=6010, count=10, size=16, answered=True)


def ping(stage: Stage) -> Ledger:
    """ICMP echoes by a raw socket; the kernel of b answers."""
    return stage.play("a", do="ping", host=stage.net.address["b"], count=7, size=56)


def ping_ipv6(stage: Stage) -> Ledger:
    """The same over IPv6."""
    return stage.play("a", do="ping", host=stage.net.address6["b"], count=7, size=56)


def raw_protocol(stage: Stage) -> Ledger:
    """A protocol that has no name here (253, for experiments)."""
    return stage.play("a", do="raw", host=stage.net.address["c"], protocol=253, count=5, size=30)


Scenario = Callable[[Stage], Ledger]

TCP: tuple[Scenario, ...] = (
    tcp_ipv4,
    tcp_ipv6,
    tcp_mapped,
    tcp_between_all_three,
    tcp_many_processes,
    tcp_client_resets,
    tcp_server_resets,
    tcp_unread,
    tcp_bulk,
    tcp_refused,
    tcp_refused_ipv6,
    tcp_unreachable,
    tcp_abandoned,
    tcp_timeout,
    tcp_no_port_left,
)
UDP: tuple[Scenario, ...] = (
    udp_connected,
    udp_unconnected,
    udp_unanswered,
    udp_ipv6,
    udp_mapped,
    udp_many_peers,
    udp_segmented,
    udp_segmented_ipv6,
    udp_fragmented,
    udp_group,
)
OTHERS: tuple[Scenario, ...] = (ping, ping_ipv6, raw_protocol)
