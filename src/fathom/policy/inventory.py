"""The inventory over time: who existed, with which labels, addresses and ports, from when until when.

Built from manifests, from the store's endpoints, or later from the Kubernetes watch: the records are the same. Times
are epoch seconds; a record holds from ``since`` (inclusive) until ``until`` (exclusive). A record whose labels or
addresses changed is two records. Nothing is guessed: what is not known is empty, and says so where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fathom.policy.problems import Problem

if TYPE_CHECKING:
    from fathom.policy.index import Index

#: ``until`` of what has no known end.
FOREVER = 1 << 62
NAME_LABEL = "kubernetes.io/metadata.name"


class Namespace(msgspec.Struct, frozen=True):
    """A namespace. ``labels`` None: its own labels are not known, only its name is."""

    name: str
    labels: dict[str, str] | None = None
    since: int = 0
    until: int = FOREVER

    @property
    def all_labels(self) -> dict[str, str]:
        """The known labels with the one that the API server sets on each namespace."""
        return {**(self.labels or {}), NAME_LABEL: self.name}


class ContainerPort(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """A port that a pod declares; ``name`` is empty where it has none (so it is no named port to policies).

    ``host_port``: the port of the pod's node that leads to it (0: none), at ``host_address`` alone where it has one. On
    the host's network a port is the node's own, and none leads to it.
    """

    name: str
    protocol: str
    number: int
    host_port: int = 0
    host_address: str = ""


class Pod(msgspec.Struct, frozen=True):
    """A pod, or (``virtual``) the pods that a workload's template would make.

    ``labels`` None: they are not known. ``workload`` is the top of the owner chain as (kind, name). ``containers`` are
    the runtime's ids of its containers, as their cgroups are called.
    """

    namespace: str
    name: str
    labels: dict[str, str] | None = None
    addresses: tuple[str, ...] = ()
    node: str = ""
    host_network: bool = False
    ports: tuple[ContainerPort, ...] = ()
    account: str = "default"
    workload: tuple[str, str] = ("", "")
    since: int = 0
    until: int = FOREVER
    virtual: bool = False
    containers: tuple[str, ...] = ()


class Workload(msgspec.Struct, frozen=True):
    """The owner of pods: its ``selector`` as a LabelSelector document, and the labels of its pod template."""

    namespace: str
    kind: str
    name: str
    selector: dict[str, object] = {}
    template: dict[str, str] = {}
    since: int = 0
    until: int = FOREVER

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}"


class ServicePort(msgspec.Struct, frozen=True, order=True):
    """One port of a service; ``target`` is a number, or the name of a container's port."""

    name: str
    protocol: str
    port: int
    target: int | str
    node_port: int = 0


class Service(msgspec.Struct, frozen=True):
    """A service. ``selector`` None: its endpoints are made by hand (as those of ``default/kubernetes``).

    ``headless``: its name stands for the addresses of its backends, and no port is translated.
    """

    namespace: str
    name: str
    selector: dict[str, str] | None = None
    cluster_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    labels: dict[str, str] = {}
    local_traffic: bool = False
    since: int = 0
    until: int = FOREVER
    headless: bool = False


class Backend(msgspec.Struct, frozen=True):
    """One endpoint of a slice: its addresses and, where it is a pod, the pod's name."""

    addresses: tuple[str, ...]
    pod: str = ""
    ready: bool = True


class Slice(msgspec.Struct, frozen=True):
    """An EndpointSlice: the backends of one service, and its ports as (name, protocol, number).

    ``name`` is the slice's own: a service may have several.
    """

    namespace: str
    service: str
    backends: tuple[Backend, ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()
    since: int = 0
    until: int = FOREVER
    name: str = ""


class Node(msgspec.Struct, frozen=True):
    """A node, its addresses, and the address blocks of its pods."""

    name: str
    labels: dict[str, str] | None = None
    addresses: tuple[str, ...] = ()
    pod_blocks: tuple[str, ...] = ()
    since: int = 0
    until: int = FOREVER


class Answer(msgspec.Struct, frozen=True, order=True):
    """A DNS answer that was seen: ``name`` had ``address``."""

    name: str
    address: str
    since: int = 0
    until: int = FOREVER


class Records(msgspec.Struct):
    """What an inventory is made of; readers fill it."""

    namespaces: list[Namespace] = []
    pods: list[Pod] = []
    workloads: list[Workload] = []
    services: list[Service] = []
    slices: list[Slice] = []
    nodes: list[Node] = []
    answers: list[Answer] = []
    problems: list[Problem] = []


class Inventory:
    """Records that do not change any more, and (built when first asked for) the index over them."""

    __slots__ = ("_index", "records")

    def __init__(self, records: Records) -> None:
        self.records = records
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        """Look-up by name, by address at a time, and compact arrays of who was there."""
        if self._index is None:
            from fathom.policy.index import Index

            self._index = Index(self.records)
        return self._index

    def at(self, address: str, time: int) -> str:
        """Who had ``address`` at ``time`` (epoch seconds): ``ns/pod``, ``Node/name``, ``ns/Service/name`` or ``""``."""
        return self.index.at(address, time)
