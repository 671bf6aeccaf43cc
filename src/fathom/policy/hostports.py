"""Ports of nodes that lead to pods (``hostPort``): which pods may be behind a node's address and port.

As a NodePort, a hostPort is translated on the node; other than that it is of one pod, and the source stays known. A pod
whose node is not known (the virtual one of a workload) may be behind that port of any node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fathom.policy.addresses import Address, address
from fathom.policy.index import NODE, POD, Index
from fathom.policy.model import PROTOCOLS


class HostPorts:
    """Look-up by address of a node; a node that is given by its name is itself. Rows are presences of the index. False
    where no pod has such a port."""

    def __init__(self, index: Index) -> None:
        self._index = index
        #: (protocol, port) → (row, node (-1: not known), address of the node (None: each), the pod's own port).
        self._found: dict[tuple[int, int], list[tuple[int, int, Address | None, int]]] = defaultdict(list)
        table = index.presences
        pods = zip(*(table[name].tolist() for name in ("pod", "kind", "node")), strict=True)
        for row, (pod, kind, node) in enumerate(pods):
            for item in index.records.pods[pod].ports if kind == POD else ():
                if item.host_port and item.protocol in PROTOCOLS:
                    key = PROTOCOLS[item.protocol], item.host_port
                    self._found[key].append((row, node, address(item.host_address), item.number))

    def behind(self, one: Address, protocol: int, port: int) -> Iterator[tuple[int, int, tuple[int, int], bool]]:
        """Pods behind a port of the node that has an address: (row, the pod's own port, since and until when the node
        had it, whether the pod's node is known)."""
        found = self._found.get((protocol, port), ())
        for kind, number, since, until in self._index.holders.get(one, ()) if found else ():
            if kind == NODE:
                node = self._index.nodes.numbers[self._index.records.nodes[number].name]
                for row, home, only, target in found:
                    if home in (node, -1) and only in (None, one):
                        yield row, target, (since, until), home == node

    def __bool__(self) -> bool:
        return bool(self._found)
