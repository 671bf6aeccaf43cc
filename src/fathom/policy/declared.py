"""Which flows go to a port that is a client's more likely than a server's, since its destination does not declare it.

A port is declared by a pod of the destination's workload, or by a service or an EndpointSlice that leads to it: what
others in its namespace declare says nothing about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from fathom.policy.addresses import Address, address
from fathom.policy.bits import Bools
from fathom.policy.columns import distinct
from fathom.policy.flows import Flows
from fathom.policy.index import POD, Index
from fathom.policy.inventory import Backend, Pod, Records, Slice
from fathom.policy.labelling import workload_of
from fathom.policy.model import PROTOCOLS
from fathom.policy.options import DNAT
from fathom.policy.resolve import Resolved

#: First port of the range that kernels take client ports from (Linux: net.ipv4.ip_local_port_range).
EPHEMERAL_FIRST = 32768
_Ports = set[tuple[int, int]]  # protocol, port
_NONE: _Ports = set()


def ephemeral(flows: Flows, resolved: Resolved, servers: frozenset[int] = frozenset()) -> Bools:
    """The flows to a port of the ephemeral range that their destination does not declare, which may be a client's.

    ``servers`` are ports that are servers' nonetheless. A flow through a service goes to a port that this declares.
    """
    rows, index = resolved.rows, resolved.index
    found = np.zeros(len(flows), bool)
    given = (rows["assumed"] & DNAT > 0) | np.isin(rows["port"], sorted(servers))
    high = np.flatnonzero((rows["port"] >= EPHEMERAL_FIRST) & ~given)
    if not len(high):
        return found
    by_workload, by_address = _of_workloads(index), _of_addresses(index.records)
    names = ("dst_pod", "dst_addresses", "protocol", "port")
    unique, which = distinct([rows[name][high].astype(np.int64) for name in names])
    undeclared = np.ones(len(unique), bool)
    for place, (pod, addresses, *port) in enumerate(unique.tolist()):
        if pod >= 0:
            held = [by_workload.get(workload_of(index.records.pods[pod]), _NONE)]
        else:
            held = [by_address.get(one, _NONE) for one in index.addresses.values[addresses]]
        undeclared[place] = not any(tuple(port) in ports for ports in held)
    found[rows["flow"][high[undeclared[which]]]] = True
    return found


def _of_workloads(index: Index) -> dict[str, _Ports]:
    """Workload → the ports of the ephemeral range that its pods, and what leads to them, declare."""
    found: dict[str, _Ports] = defaultdict(set)
    services = _of_services(index.records)
    for pod in index.records.pods:
        own = _high((item.protocol, item.number) for item in pod.ports)
        for selector, ports in _selecting(services, pod):
            if selector.items() <= (pod.labels or {}).items():
                own |= ports
        if own:
            found[workload_of(pod)] |= own
    for piece in index.records.slices:
        if ports := _high((word, number) for _, word, number in piece.ports):
            for backend in piece.backends:
                for pod in _behind(index, piece, backend):
                    found[workload_of(pod)] |= ports
    return found


_Services = dict[tuple[str, tuple[str, str]], list[tuple[dict[str, str], _Ports]]]


def _of_services(records: Records) -> _Services:
    """Selectors and ports of services, by namespace and one label of the selector."""
    found: _Services = defaultdict(list)
    for service in records.services:
        ports = _high((item.protocol, item.target) for item in service.ports if isinstance(item.target, int))
        if ports and service.selector:
            found[service.namespace, min(service.selector.items())].append((service.selector, ports))
    return found


def _selecting(services: _Services, pod: Pod) -> Iterator[tuple[dict[str, str], _Ports]]:
    """The services that may select the pod."""
    for pair in (pod.labels or {}).items() if services else ():
        yield from services.get((pod.namespace, pair), ())


def _behind(index: Index, piece: Slice, backend: Backend) -> Iterator[Pod]:
    """The pods that an endpoint of a slice is: by name, or those that had its addresses during the slice's time."""
    if backend.pod:
        rows = list(index.by_pod.get(f"{piece.namespace}/{backend.pod}", ()))
    else:
        holders = [item for text in backend.addresses for item in _holders(index, text)]
        spans = [(row, since, until) for kind, row, since, until in holders if kind == POD]
        rows = [row for row, since, until in spans if since < piece.until and until > piece.since]
    for number in index.presences["pod"][rows].tolist():
        yield index.records.pods[number]


def _holders(index: Index, text: str) -> list[tuple[int, int, int, int]]:
    one = address(text)
    return index.holders.get(one, []) if one is not None else []


def _of_addresses(records: Records) -> dict[Address, _Ports]:
    """Address → the ports of the ephemeral range that slices have at it."""
    found: dict[Address, _Ports] = defaultdict(set)
    for piece in records.slices:
        if ports := _high((word, number) for _, word, number in piece.ports):
            for backend in piece.backends:
                for text in backend.addresses:
                    if (one := address(text)) is not None:
                        found[one] |= ports
    return found


def _high(ports: Iterable[tuple[str, int]]) -> _Ports:
    return {(PROTOCOLS.get(word, 0), number) for word, number in ports if number >= EPHEMERAL_FIRST}
