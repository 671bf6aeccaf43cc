"""What an endpoint of a flow may have been: candidates from the inventory, each with the time that it holds for.

An endpoint is written as text; a pod whose labels changed, an address that was reused, a workload with different
pods or a service with several backends has several candidates. The evaluation then takes all that fit the flow's
time, and a verdict on which they disagree is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from fathom.policy.addresses import Address, address
from fathom.policy.hostports import HostPorts
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD, SELF, Index
from fathom.policy.inventory import FOREVER, Service, ServicePort, Slice
from fathom.policy.model import PROTOCOLS
from fathom.policy.options import (
    ABSENT,
    BACKENDS,
    CHANGED,
    HIDDEN,
    HOST_PLUGIN,
    NO_BACKENDS,
    REPLICAS,
    Options,
)

#: Which sides of a connection a candidate speaks for.
EGRESS, INGRESS, BOTH = 1, 2, 3


class Candidate(msgspec.Struct, frozen=True):
    """One thing that an endpoint may have been. Numbers index the inventory's index; -1 is not known or none.

    ``port``: the port after translation (0 unchanged). ``note``: a reason that applies where candidates disagree;
    ``cause``: one that applies where this candidate itself leaves a rule undecided. ``inferred``: through a service.
    ``gone``: the profile outside of its time, when its address is not known either unless it ``keeps`` it.
    ``pod`` is the record of (one of) its pods; ``within``: they are this entry of ``Finder.within``.
    """

    kind: int
    profile: int = 0
    identity: int = -1
    addresses: int = 0
    node: int = -1
    since: int = 0
    until: int = FOREVER
    port: int = 0
    sides: int = BOTH
    hides: bool = False
    note: int = 0
    cause: int = 0
    inferred: bool = False
    gone: int = 0
    keeps: bool = False
    pod: int = -1
    within: int = -1


class Finder:
    """Candidates by endpoint text, remembered."""

    def __init__(self, index: Index, options: Options) -> None:
        self.index = index
        self.options = options
        self._slices: Mapping[tuple[str, str], list[Slice]] = _by_service(index.records.slices)
        self._identities: dict[str, int] = {}
        #: Identities of the pods that became one candidate: one that reaches itself needs no policy.
        self.within: list[frozenset[int]] = []
        self._found: dict[str, list[Candidate]] = {}
        self._columns = {name: index.presences[name].tolist() for name in index.presences.dtype.names or ()}
        self._node_ports = self._find_node_ports()
        self._host_ports = HostPorts(index)

    def find(self, text: str) -> list[Candidate]:
        """What ``text`` may have been, whatever the port."""
        found = self._found.get(text)
        if found is None:
            found = self._found[text] = self._find(text)
        return found

    def _find(self, text: str) -> list[Candidate]:
        if "/" not in text:
            one = address(text)
            return self._address(one) if one is not None else self._name(text)
        head, _, tail = text.partition("/")
        if head == "Node":
            node, _, container = tail.partition("/")
            return self._container(container) or [self._node(node)]
        if tail.startswith("Service/"):  # one that the inventory does not have, or that leads outside
            return [Candidate(POD, cause=NO_BACKENDS, note=NO_BACKENDS)]
        if tail.count("/") == 1:
            found = self._rows(self.index.by_workload.get(text, ()), REPLICAS, text)
        else:
            found = self._rows(self.index.by_pod.get(text, ()), CHANGED, text)
        return found or [self._absent(head)]

    def services(self, text: str) -> list[tuple[int, int]]:
        """(kind of address, service record) pairs that the endpoint is: 0 by name, else SELF, EXTERNAL or NODE."""
        parts = text.split("/")
        if len(parts) == 3 and parts[1] == "Service":
            return [(0, number) for number in self.index.services.get((parts[0], parts[2]), ())]
        one = address(text) if len(parts) == 1 else None
        if one is None:
            return []
        holders = self.index.holders.get(one, ())
        found = [(kind, number) for kind, number, _, _ in holders if kind in (SELF, EXTERNAL)]
        if any(kind == NODE for kind, *_ in holders):
            found += [(NODE, number) for number in self._node_ports]
        return found

    def leads_on(self, text: str) -> bool:
        """Whether the endpoint may be something else on some port: a service, or a node's address."""
        return bool(self.services(text)) or (bool(self._host_ports) and self._is_of_node(text))

    def _is_of_node(self, text: str) -> bool:
        one = address(text)
        return one is not None and any(kind == NODE for kind, *_ in self.index.holders.get(one, ()))

    def through(self, text: str, protocol: int, port: int) -> list[Candidate]:
        """What an endpoint that leads on may have been for one protocol and port; without its port, it is itself."""
        found: list[Candidate] = []
        for kind, number in self.services(text):
            service = self.index.records.services[number]
            for item in service.ports:
                ours = item.node_port if kind == NODE else item.port
                if PROTOCOLS.get(item.protocol) == protocol and ours == port:
                    found += self._translated(text, kind, service, item)
        found += self._behind_host(text, protocol, port)
        if found:
            return found
        if "/" in text:
            return [Candidate(POD, cause=NO_BACKENDS)]
        return self.find(text)

    # -- kinds of endpoints

    def _rows(self, rows: Iterable[int], note: int, identity: str) -> list[Candidate]:
        """Presences as candidates; replicas of a workload that are alike (on a host's network: of one node) are one."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        table = self._columns
        for row in rows:
            kind = table["kind"][row]
            alike = (kind, table["profile"][row], table["node"][row] if kind == HOST_POD else 0)
            groups[alike if note == REPLICAS else (row,)].append(row)
        return [self._merged(group, note, identity) for group in groups.values()]

    def _merged(self, rows: list[int], note: int, identity: str) -> Candidate:
        table, index = self._columns, self.index
        first = rows[0]
        kind = table["kind"][first]
        node = table["node"][first] if len({table["node"][row] for row in rows}) == 1 else -1
        addresses = table["addresses"][first]
        if len(rows) > 1:
            every = {one for row in rows for one in index.addresses.values[table["addresses"][row]]}
            addresses = index.addresses.number(tuple(sorted(every)))
        cause = 0
        profile = table["profile"][first]
        virtual = index.records.pods[table["pod"][first]].virtual
        if kind == HOST_POD:
            if not addresses and node >= 0:
                addresses = self._node_addresses(index.nodes.values[node])
            if self.options.host_network == "pod":
                kind = POD
            elif self.options.host_network == "unknown":
                kind, profile, cause = POD, 0, HOST_PLUGIN
        single = not virtual and note != REPLICAS
        return Candidate(
            kind,
            profile,
            self._identity(identity) if single else -1,
            addresses,
            node,
            min(table["since"][row] for row in rows),
            max(table["until"][row] for row in rows),
            note=note,
            cause=cause,
            gone=index.unknown_pod(index.records.pods[table["pod"][first]].namespace),
            pod=table["pod"][first],
        )

    def _identity(self, text: str) -> int:
        return self._identities.setdefault(text, len(self._identities))

    def _absent(self, namespace: str) -> Candidate:
        return Candidate(POD, self.index.unknown_pod(namespace), cause=ABSENT, note=ABSENT)

    def some_pod(self, text: str) -> Candidate:
        """A pod of which no more is known than the namespace that ``text`` names (or not even that)."""
        profile = self.index.unknown_pod(text.partition("/")[0]) if "/" in text else 0
        return Candidate(POD, profile, cause=REPLICAS, note=REPLICAS)

    def _container(self, identity: str) -> list[Candidate]:
        """The pod of a container; nothing where no pod is known to have it: then it is a process on its node."""
        rows = self.index.by_container.get(identity, ())
        if not rows:
            return []
        pod = self.index.records.pods[self._columns["pod"][rows[0]]]
        return self._rows(rows, CHANGED, f"{pod.namespace}/{pod.name}")

    def _node(self, name: str) -> Candidate:
        node = self.index.nodes.numbers.get(name, -1)
        return Candidate(NODE, addresses=self._node_addresses(name), node=node, note=CHANGED)

    def _node_addresses(self, name: str) -> int:
        return self.index.address_set(text for item in self.index.node_records.get(name, ()) for text in item.addresses)

    def _address(self, one: Address) -> list[Candidate]:
        """Who held the address; nobody: outside, or (in the pods' blocks) a pod that is not in the inventory."""
        own = self.index.addresses.number((one,))
        found: list[Candidate] = []
        for kind, number, since, until in self.index.holders.get(one, ()):
            if kind == POD:
                pod = self.index.records.pods[int(self.index.presences["pod"][number])]
                name = f"{pod.namespace}/{pod.name}"
                held = self._merged([number], CHANGED, name)
                found.append(replace(held, addresses=own, gone=0, keeps=True))
            elif kind == NODE:
                node = self.index.nodes.numbers[self.index.records.nodes[number].name]
                found.append(Candidate(NODE, 0, -1, own, node, since, until, note=CHANGED, keeps=True))
        if found:
            return found
        if (one.family == 4 and one.number >> 24 == 127) or (one.family == 6 and one.number == 1):
            return [Candidate(SELF, addresses=own)]
        if self.index.in_pod_blocks(one):
            return [Candidate(POD, 0, addresses=own, cause=ABSENT, note=ABSENT)]
        return [Candidate(EXTERNAL, addresses=own)]

    def _name(self, text: str) -> list[Candidate]:
        """A DNS name: whoever has each address that its answers gave, while they did; else an unknown one outside."""
        wanted = text.lower().removesuffix(".")
        found: list[Candidate] = []
        for one, answers in self.index.answers.items():
            for name, since, until in answers:
                if name == wanted:
                    held = _during(self._address(one), since, until)
                    found += [replace(item, note=CHANGED) for item in held]
        return found or [Candidate(EXTERNAL)]

    # -- services

    def _translated(self, text: str, kind: int, service: Service, item: ServicePort) -> list[Candidate]:
        """Backends, and the address before translation where that is what egress rules see (or may see)."""
        outer = kind in (NODE, EXTERNAL)
        hides = outer and not service.local_traffic
        before = self.options.dnat == "before" and not outer and bool(service.cluster_ips)
        found: list[Candidate] = []
        for backend in self._backends(service, item):
            sides = INGRESS if before else BOTH
            port = 0 if service.headless else backend.port
            spoken = self._of_family(backend.addresses, text)
            found.append(replace(backend, sides=sides, hides=hides, inferred=True, port=port, addresses=spoken))
        if before:
            own = self.index.address_set(service.cluster_ips if kind == 0 else (text,))
            found.append(Candidate(EXTERNAL, addresses=own, sides=EGRESS, inferred=True, since=service.since))
        elif outer:
            plain = self._address(one) if (one := address(text)) is not None else []
            found += [replace(c, sides=EGRESS, note=HIDDEN, inferred=True) for c in plain]
        return found

    def _of_family(self, addresses: int, text: str) -> int:
        """Those of the set that are of the family of the address ``text``: a translation stays in it."""
        one, every = address(text), self.index.addresses.values[addresses]
        same = tuple(item for item in every if one is not None and item.family == one.family)
        return self.index.addresses.number(same) if same else addresses

    def _behind_host(self, text: str, protocol: int, port: int) -> list[Candidate]:
        """Pods behind a port of a node's address, and the node, which is what egress rules see (or may see)."""
        found: list[Candidate] = []
        one, sides = address(text), EGRESS
        for row, target, (since, until), sure in (
            self._host_ports.behind(one, protocol, port) if one is not None else ()
        ):
            pod = self.index.records.pods[self._columns["pod"][row]]
            held = self._merged([row], BACKENDS, f"{pod.namespace}/{pod.name}")
            since, until = max(held.since, since), min(held.until, until)
            if since < until:
                found.append(replace(held, port=target, since=since, until=until, gone=0, inferred=True))
                sides = sides if sure else BOTH
        plain = self._address(one) if found and one is not None else []
        return found + [replace(c, sides=sides, note=BACKENDS, inferred=True) for c in plain]

    def _backends(self, service: Service, item: ServicePort) -> list[Candidate]:
        slices = self._slices.get((service.namespace, service.name))
        if slices:
            found = self._from_slices(slices, item)
        else:
            found = self._from_selector(service, replace(item, target=item.port) if service.headless else item)
        found = _during(found, service.since, service.until)
        if found:
            return self._joined(found)
        return [Candidate(POD, cause=NO_BACKENDS, note=NO_BACKENDS, since=service.since, until=service.until)]

    def _from_slices(self, slices: list[Slice], item: ServicePort) -> list[Candidate]:
        found: list[Candidate] = []
        for piece in slices:
            numbers = {number for name, word, number in piece.ports if word == item.protocol and name == item.name}
            for number in numbers:
                for backend in piece.backends:
                    if backend.ready:
                        held = _during(self._backend(piece, backend.pod, backend.addresses), piece.since, piece.until)
                        found += [replace(one, port=number, note=BACKENDS, gone=0, keeps=False) for one in held]
        return found

    def _backend(self, piece: Slice, pod: str, texts: tuple[str, ...]) -> list[Candidate]:
        if pod:
            name = f"{piece.namespace}/{pod}"
            rows = self.index.by_pod.get(name, ())
            if rows:
                return self._rows(rows, CHANGED, name)
        return [c for text in texts if (one := address(text)) is not None for c in self._address(one)]

    def _from_selector(self, service: Service, item: ServicePort) -> list[Candidate]:
        if not service.selector:
            return []
        found: list[Candidate] = []
        table = self._columns
        wanted = service.selector.items()
        for row in self.index.by_namespace.get(service.namespace, ()):
            pod = self.index.records.pods[table["pod"][row]]
            if pod.labels is None or not wanted <= pod.labels.items():
                continue
            target = _target(item, self.index.profiles.values[table["profile"][row]].ports)
            if target:
                name = f"{pod.namespace}/{pod.name}"
                merged = self._merged([row], CHANGED, name)
                found.append(replace(merged, port=target, note=BACKENDS, gone=0))
        return found

    def _joined(self, candidates: list[Candidate]) -> list[Candidate]:
        """Backends of a workload that policies cannot tell apart but by address and node become one, where there are
        many."""
        if len(candidates) <= 8:
            return candidates
        groups: dict[tuple[object, ...], list[Candidate]] = defaultdict(list)
        for item in candidates:
            owner = self.index.records.pods[item.pod].workload if item.pod >= 0 else ()
            groups[item.kind, item.profile, item.port, item.since, item.until, owner].append(item)
        return [group[0] if len(group) == 1 else self._one_of(group) for group in groups.values()]

    def _one_of(self, group: list[Candidate]) -> Candidate:
        every = {one for item in group for one in self.index.addresses.values[item.addresses]}
        nodes = {item.node for item in group}
        self.within.append(frozenset(item.identity for item in group))
        pods = self.index.records.pods
        return replace(
            min(group, key=lambda item: pods[item.pod].name if item.pod >= 0 else ""),  # whatever the order of files
            identity=-1,
            addresses=self.index.addresses.number(tuple(sorted(every))),
            node=nodes.pop() if len(nodes) == 1 else -1,
            within=len(self.within) - 1,
        )

    def _find_node_ports(self) -> list[int]:
        services = self.index.records.services
        return [number for number, item in enumerate(services) if any(port.node_port for port in item.ports)]


def _during(candidates: list[Candidate], since: int, until: int) -> list[Candidate]:
    """Those that held for some of a span of time, for that part of it."""
    return [
        replace(item, since=max(item.since, since), until=min(item.until, until))
        for item in candidates
        if item.since < until and item.until > since
    ]


def _by_service(slices: Iterable[Slice]) -> dict[tuple[str, str], list[Slice]]:
    found: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for item in slices:
        found[item.namespace, item.service].append(item)
    return found


def _target(item: ServicePort, named: tuple[tuple[str, int, int], ...]) -> int:
    """The pod's port behind a service's port; 0 where the pod does not have the name."""
    if isinstance(item.target, int):
        return item.target
    protocol = PROTOCOLS.get(item.protocol)
    return next((number for name, kind, number in named if name == item.target and kind == protocol), 0)
