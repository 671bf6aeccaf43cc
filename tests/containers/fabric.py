"""The network of a cluster in network namespaces: each pod has its own, and the node's routes, translates and refuses.

As a simple network plugin makes it: a veth pair for each pod, one address of each family on it, and a route to it. The
node's namespace has the services (translated by iptables, as kube-proxy does it) and what is not let through. What is
outside of the cluster is one more namespace with several addresses.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.truth.network import Namespaces, ip

#: Networks for documentation (RFC 5737): the world outside.
OUTSIDE = ("203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.250", "198.51.100.7")


@dataclass(frozen=True)
class Translation:
    """A service's address and port, and the backends' addresses with theirs."""

    protocol: str
    address: str
    port: int
    backends: Sequence[str]
    target: int


class Fabric(Namespaces):
    """Namespaces ``node``, ``outside`` and one for each pod. ``address`` and ``address6`` by pod, ``node_address``."""

    def __init__(self, pods: Sequence[str]) -> None:
        super().__init__("node", "outside", *(f"p{number}" for number in range(len(pods))))
        net = secrets.randbelow(200) + 20
        self.places = {pod: f"p{number}" for number, pod in enumerate(pods)}
        self.block = f"10.{net}.0.0/24"
        self.address = {pod: f"10.{net}.0.{number}" for number, pod in enumerate(pods, 10)}
        self.address6 = {pod: f"fd00:fa:{net:x}::{number:x}" for number, pod in enumerate(pods, 10)}
        self.node_address = f"10.{net}.255.1"

    def path(self, pod: str) -> str:
        """Where the pod's namespace can be opened."""
        return f"/var/run/netns/{self[self.places[pod]]}"

    def join(self) -> None:
        """Devices, addresses, routes."""
        for key in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.set("node", f"net.{key}", "1")
        for pod, place in self.places.items():
            self._attach(place, [self.address[pod]], [self.address6[pod]])
        self._attach("outside", OUTSIDE, [])

    def _attach(self, place: str, v4: Sequence[str], v6: Sequence[str]) -> None:
        inner, node, device = self[place], self["node"], f"to-{place}"
        ip("-n", inner, "link", "add", "eth0", "type", "veth", "peer", "name", device, "netns", node)
        for address in v4:
            ip("-n", inner, "address", "add", f"{address}/32", "dev", "eth0")
        for address in v6:
            ip("-n", inner, "-6", "address", "add", f"{address}/128", "dev", "eth0", "nodad")
        ip("-n", node, "address", "add", f"{self.node_address}/32", "dev", device)
        ip("-n", node, "-6", "address", "add", "fe80::1/64", "dev", device, "nodad")
        ip("-n", inner, "link", "set", "eth0", "up")
        ip("-n", node, "link", "set", device, "up")
        ip("-n", inner, "route", "add", self.node_address, "dev", "eth0", "scope", "link")
        ip("-n", inner, "route", "add", "default", "via", self.node_address)
        ip("-n", inner, "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
        for address in (*v4, *v6):
            family = ("-6",) if ":" in address else ()
            ip("-n", node, *family, "route", "add", address, "dev", device)

    def iptables(self, *arguments: str) -> None:
        """A rule of the node. Raises RuntimeError with its words if it is refused."""
        command = ["ip", "netns", "exec", self["node"], "iptables", "-w", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def translate(self, item: Translation) -> None:
        """Connections to the service go to its backends in turn."""
        match = ["-p", item.protocol.lower(), "-d", item.address, "--dport", str(item.port)]
        for left in range(len(item.backends), 0, -1):
            turn = ["-m", "statistic", "--mode", "nth", "--every", str(left), "--packet", "0"] if left > 1 else []
            goal = f"{item.backends[left - 1]}:{item.target}"
            self.iptables("-t", "nat", "-A", "PREROUTING", *match, *turn, "-j", "DNAT", "--to-destination", goal)

    def refuse(self, address: str, protocol: str, port: int, how: str) -> None:
        """``DROP`` or ``REJECT`` what goes to an address and port."""
        self.iptables("-A", "FORWARD", "-d", address, "-p", protocol.lower(), "--dport", str(port), "-j", how)
