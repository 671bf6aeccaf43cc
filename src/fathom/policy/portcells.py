"""Ports as intervals: the ports of a policy set cut each protocol's range into cells, each in or out.

Named ports depend on the destination pod: what a pod names gets columns of its own when rows are bound.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.model import TRANSPORTS, IcmpType, NamedPort, Port, PortRange, PossiblePort

_KNOWN = (6, 17, 132, 1, 58)
_OTHER = len(_KNOWN)
Pair = tuple[Bools, Bools]


class PortCells:
    """Cells of one set of ports. Protocols that no policy can name share one cell."""

    def __init__(self, ports: Iterable[Port]) -> None:
        edges: dict[int, set[int]] = {number: {0} for number in _KNOWN}
        names: set[tuple[int, str]] = set()
        for port in ports:
            if isinstance(port, PortRange) and port.protocol in edges:
                edges[port.protocol] |= {port.first, port.last + 1}
            elif isinstance(port, PossiblePort):
                edges[port.protocol] |= {port.number, port.number + 1}
            elif isinstance(port, NamedPort):
                names.add((port.protocol, port.name))
        self.named = frozenset(name for _, name in names)
        self._spans: dict[int, tuple[int, list[int]]] = {}
        at = 0
        for protocol in _KNOWN:
            cuts = sorted(edge for edge in edges[protocol] if edge < 65536)
            self._spans[protocol] = (at, cuts)
            at += len(cuts)
        self.other = at
        self.count = at + 1
        self._table: NDArray[np.int32] | None = None
        self._row = np.full(256, _OTHER, np.int64)
        self._row[list(_KNOWN)] = np.arange(_OTHER)

    @property
    def table(self) -> NDArray[np.int32]:
        """The cell of every port, a row for each known protocol and one for all others; made when first asked for."""
        if self._table is None:
            self._table = np.empty((_OTHER + 1, 65536), np.int32)
            for row, (at, cuts) in enumerate(self._spans.values()):
                marks = np.zeros(65536, np.int32)
                marks[cuts] = 1
                self._table[row] = at + np.cumsum(marks) - 1
            self._table[_OTHER] = self.other
        return self._table

    def edges(self, protocol: int) -> list[int]:
        """The ports at which the cells of a protocol begin."""
        return self._spans[protocol][1]

    def cells(self, protocol: NDArray[np.uint8], port: NDArray[np.uint16]) -> NDArray[np.int32]:
        """The cell of each (protocol, port)."""
        if len(port) < 4_096:  # not worth a table
            found = np.full(len(port), self.other, np.int32)
            for number, (at, cuts) in self._spans.items():
                mine = protocol == number
                found[mine] = at + np.searchsorted(cuts, port[mine], side="right") - 1
            return found
        return self.table[self._row[protocol], port]

    def ports(self, ports: tuple[Port, ...] | None) -> Pair:
        """Cells that the ports hold, named ones left out."""
        must, may = np.zeros(self.count, bool), np.zeros(self.count, bool)
        if ports is None:
            return ~must, ~may
        for port in ports:
            if isinstance(port, PortRange):
                if port.protocol < 0:
                    must[:] = True
                else:
                    must |= self._range(port)
            elif isinstance(port, PossiblePort):
                may |= self._range(PortRange(port.protocol, port.number, port.number))
            elif isinstance(port, IcmpType):
                at, cuts = self._spans[port.protocol]
                may[at : at + len(cuts)] = True
        return must, may | must

    def _range(self, port: PortRange) -> Bools:
        found = np.zeros(self.count, bool)
        if port.protocol not in self._spans:
            return found
        at, cuts = self._spans[port.protocol]
        starts = np.array(cuts)
        found[at : at + len(cuts)] = (starts >= port.first) & (starts <= port.last)
        return found


def settled(ports: tuple[Port, ...], given: Iterable[tuple[str, int, int]]) -> tuple[Port, ...]:
    """Shared names as what they may stand for: ``given`` is (name, protocol, port) of all pods.

    A name stays shared for a protocol in which pods give it to different ports: it is certain for none of them.
    """
    shared = [port for port in ports if isinstance(port, NamedPort) and port.shared]
    if not shared:
        return ports
    meant: dict[NamedPort, set[PossiblePort]] = {port: set() for port in shared}
    for name, protocol, number in given:
        for port in shared:
            if port.name == name and port.protocol in (0, protocol):
                meant[port].add(PossiblePort(protocol, number))
    found = [port for port in ports if port not in meant]
    for port, possible in meant.items():
        found += sorted(possible)
        for protocol in TRANSPORTS if port.protocol == 0 else (port.protocol,):
            agreed = sum(one.protocol == protocol for one in possible) < 2
            found.append(NamedPort(protocol, port.name, shared=not agreed))
    return tuple(found)
