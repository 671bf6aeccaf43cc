"""The index over an inventory: compact arrays of who was there, and look-ups by name and by address at a time.

A *profile* is all of a pod that a policy can see: namespace with its labels, pod labels, named ports, service
account. Pods with equal profiles are one to the engine. A *presence* is one pod with one profile over one span of
time: a pod's record cut where its namespace's labels change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.addresses import Address, Block, address, block
from fathom.policy.inventory import Namespace, Node, Pod, Records
from fathom.policy.model import PROTOCOLS

T = TypeVar("T", bound=Hashable)
#: Kinds of an endpoint of a flow.
POD, HOST_POD, NODE, EXTERNAL, SELF = range(5)

#: One pod with one profile over one span of time. ``pod`` indexes the records, ``addresses`` an address set,
#: ``node`` the node names (-1 not known); times in epoch seconds.
PRESENCE = np.dtype(
    [
        ("pod", "<i4"),
        ("profile", "<i4"),
        ("kind", "u1"),
        ("node", "<i4"),
        ("addresses", "<i4"),
        ("since", "<i8"),
        ("until", "<i8"),
    ]
)


class Interner(Generic[T]):
    """Values to consecutive numbers, in the order in which they came."""

    __slots__ = ("numbers", "values")

    def __init__(self, values: Iterable[T] = ()) -> None:
        self.values: list[T] = []
        self.numbers: dict[T, int] = {}
        for value in values:
            self.number(value)

    def number(self, value: T) -> int:
        """The value's number, made if need be."""
        found = self.numbers.get(value)
        if found is None:
            found = self.numbers[value] = len(self.values)
            self.values.append(value)
        return found


class Profile(msgspec.Struct, frozen=True):
    """What policies see of a pod. None: not known. ``any`` pod of which not even the namespace is known: name None.

    ``pod`` may be None for a pod that the inventory does not hold; labels are sorted pairs.
    """

    namespace: str | None
    namespace_labels: tuple[tuple[str, str], ...] | None
    pod: tuple[tuple[str, str], ...] | None
    ports: tuple[tuple[str, int, int], ...] = ()
    account: str | None = None
    certain: bool = True


#: A peer of which nothing is known: it may be a pod, a node, or outside.
NOBODY = Profile(None, None, None, certain=False)


class Index:
    """Built once from records. ``presences`` is an array of PRESENCE; profiles and address sets are interned."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.profiles: Interner[Profile] = Interner([NOBODY])
        self.addresses: Interner[tuple[Address, ...]] = Interner([()])
        self.nodes: Interner[str] = Interner()
        self.node_records: dict[str, list[Node]] = defaultdict(list)
        for node in records.nodes:
            self.nodes.number(node.name)
            self.node_records[node.name].append(node)
        self.spaces: dict[str, list[Namespace]] = defaultdict(list)
        for space in records.namespaces:
            self.spaces[space.name].append(space)
        self._labels: dict[int, tuple[tuple[str, str], ...]] = {}
        self._unknown: dict[str, int] = {}
        self.presences = self._presences()
        for pod in records.pods:
            self.unknown_pod(pod.namespace)
        self.by_pod, self.by_workload, self.by_container = self._names()
        self.holders = self._holders()
        self.pod_blocks = _blocks(item for node in records.nodes for item in node.pod_blocks)
        self.services: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, service in enumerate(records.services):
            self.services[service.namespace, service.name].append(number)
        self.by_namespace: dict[str, list[int]] = defaultdict(list)
        for row, number in enumerate(self.presences["pod"].tolist()):
            self.by_namespace[records.pods[number].namespace].append(row)
        self.api_servers = self._api_servers()
        self.answers: dict[Address, list[tuple[str, int, int]]] = defaultdict(list)
        for answer in records.answers:
            found = address(answer.address)
            if found is not None:
                name = answer.name.lower().removesuffix(".")
                self.answers[found].append((name, answer.since, answer.until))

    # -- building

    def _presences(self) -> NDArray[np.void]:
        rows: list[tuple[int, int, int, int, int, int, int]] = []
        ports: dict[tuple[object, ...], tuple[tuple[str, int, int], ...]] = {}
        for number, pod in enumerate(self.records.pods):
            kind = HOST_POD if pod.host_network else POD
            node = self.nodes.number(pod.node) if pod.node else -1
            addresses = self.address_set(pod.addresses)
            named = ports.get(pod.ports)
            if named is None:
                named = ports[pod.ports] = _named(pod)
            for space in self._spaces_during(pod):
                profile = self._profile(pod, space, named)
                since, until = max(pod.since, space.since), min(pod.until, space.until)
                rows.append((number, profile, kind, node, addresses, since, until))
        return np.array(rows, dtype=PRESENCE)

    def _spaces_during(self, pod: Pod) -> list[Namespace]:
        found = [s for s in self.spaces.get(pod.namespace, ()) if s.since < pod.until and s.until > pod.since]
        return found or [Namespace(pod.namespace, since=pod.since, until=pod.until)]

    def _profile(self, pod: Pod, space: Namespace, named: tuple[tuple[str, int, int], ...]) -> int:
        labels = None if pod.labels is None else tuple(sorted(pod.labels.items()))
        profile = Profile(pod.namespace, self._space_labels(space), labels, named, pod.account)
        return self.profiles.number(profile)

    def _space_labels(self, space: Namespace) -> tuple[tuple[str, str], ...] | None:
        if space.labels is None:
            return None
        found = self._labels.get(id(space))
        if found is None:
            found = self._labels[id(space)] = tuple(sorted(space.all_labels.items()))
        return found

    def _names(self) -> tuple[dict[str, list[int]], dict[str, list[int]], dict[str, list[int]]]:
        """Presences by pod, by workload, and by the id of a container."""
        by_pod: dict[str, list[int]] = defaultdict(list)
        by_workload: dict[str, list[int]] = defaultdict(list)
        by_container: dict[str, list[int]] = defaultdict(list)
        for row, number in enumerate(self.presences["pod"].tolist()):
            pod = self.records.pods[number]
            if not pod.virtual:
                by_pod[f"{pod.namespace}/{pod.name}"].append(row)
            if pod.workload[1]:
                by_workload[f"{pod.namespace}/{pod.workload[0]}/{pod.workload[1]}"].append(row)
            for container in pod.containers:
                by_container[container].append(row)
        return by_pod, by_workload, by_container

    def _holders(self) -> dict[Address, list[tuple[int, int, int, int]]]:
        """Address → (kind, row or number, since, until). Kinds: POD or HOST_POD (presence), NODE (record), SELF: a
        service's cluster address, EXTERNAL: its outer address (both: service record)."""
        found: dict[Address, list[tuple[int, int, int, int]]] = defaultdict(list)
        columns = (self.presences[name].tolist() for name in ("kind", "since", "until", "addresses"))
        for row, (kind, since, until, addresses) in enumerate(zip(*columns, strict=True)):
            if kind == POD:
                for one in self.addresses.values[addresses]:
                    found[one].append((POD, row, since, until))
        for number, node in enumerate(self.records.nodes):
            for one in self.addresses.values[self.address_set(node.addresses)]:
                found[one].append((NODE, number, node.since, node.until))
        for number, service in enumerate(self.records.services):
            for kind, texts in ((SELF, service.cluster_ips), (EXTERNAL, service.external_ips)):
                for one in self.addresses.values[self.address_set(texts)]:
                    found[one].append((kind, number, service.since, service.until))
        return dict(found)

    def _api_servers(self) -> frozenset[Address]:
        found = {
            one
            for item in self.records.slices
            if (item.namespace, item.service) == ("default", "kubernetes")
            for backend in item.backends
            for text in backend.addresses
            if (one := address(text)) is not None
        }
        return frozenset(found)

    # -- look-ups

    def address_set(self, texts: Iterable[str]) -> int:
        """The number of a set of addresses; what is no address is left out."""
        found = {one for text in texts if (one := address(text)) is not None}
        return self.addresses.number(tuple(sorted(found)))

    def unknown_pod(self, namespace: str) -> int:
        """The profile of a pod that is not in the inventory, in a namespace that may be.

        When it was there is not known either: labels of the namespace count only where they never changed.
        """
        found = self._unknown.get(namespace)
        if found is None:
            spaces = {self._space_labels(space) for space in self.spaces.get(namespace, ())}
            labels = spaces.pop() if len(spaces) == 1 else None
            found = self._unknown[namespace] = self.profiles.number(Profile(namespace, labels, None))
        return found

    def in_pod_blocks(self, one: Address) -> bool:
        """Whether the address lies in the pods' blocks of some node."""
        return any(item.holds(one) for item in self.pod_blocks)

    def at(self, text: str, time: int) -> str:
        """Who had the address ``text`` at ``time``; ``""`` where nobody is known."""
        one = address(text)
        for kind, number, since, until in self.holders.get(one, ()) if one is not None else ():
            if since <= time < until:
                if kind == POD:
                    pod = self.records.pods[int(self.presences["pod"][number])]
                    return f"{pod.namespace}/{pod.name}"
                if kind == NODE:
                    return f"Node/{self.records.nodes[number].name}"
                service = self.records.services[number]
                return f"{service.namespace}/Service/{service.name}"
        return ""


def _named(pod: Pod) -> tuple[tuple[str, int, int], ...]:
    """(name, protocol number, port number) of the ports that have a name, sorted."""
    named = [p for p in pod.ports if p.name and p.protocol in ("TCP", "UDP", "SCTP")]
    return tuple(sorted((p.name, PROTOCOLS[p.protocol], p.number) for p in named))


def _blocks(texts: Iterable[str]) -> list[Block]:
    return [found for text in texts if (found := block(text)) is not None]
