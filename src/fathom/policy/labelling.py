"""What people call the ends of flows: workloads, nodes, names and addresses; and the labels that select a workload.

Used wherever flows are grouped or a rule is written down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fathom.policy.endpoints import INGRESS, Finder
from fathom.policy.flows import Flows
from fathom.policy.index import NODE, Index
from fathom.policy.inventory import Pod
from fathom.policy.model import PROTOCOLS
from fathom.policy.resolve import Resolved

#: Labels that tell pods or revisions of one workload apart, or that name where it runs.
_OWN = re.compile(
    r"pod-template-hash\Z|controller-revision-hash\Z|pod-template-generation\Z|controller-uid\Z|job-name\Z"
    r"|statefulset\.kubernetes\.io/pod-name\Z|apps\.kubernetes\.io/pod-index\Z|batch\.kubernetes\.io/"
    r"|topology\.kubernetes\.io/|failure-domain\.beta\.kubernetes\.io/|helm\.sh/chart\Z"
    r"|app\.kubernetes\.io/(?:version|managed-by|created-by|owner|revision)\Z"
)


def workload_of(pod: Pod) -> str:
    """``ns/Kind/name`` of the top of the owner chain; a pod without an owner is its own."""
    kind, name = pod.workload
    return f"{pod.namespace}/{kind}/{name}" if name else f"{pod.namespace}/Pod/{pod.name}"


def stable_labels(pod: Pod) -> dict[str, str]:
    """The pod's labels without those that differ between replicas, revisions and places."""
    return {key: value for key, value in sorted((pod.labels or {}).items()) if not _OWN.match(key)}


def naming(workload: str) -> Callable[[str], bool]:
    """Whether ``name``, ``kind/name`` or ``namespace/kind/name``, in which ``*`` stands for any text, means a label."""
    count = workload.count("/") + 1
    first, *middle = map(re.escape, workload.split("*"))
    # Each part where it is found first, for good: the time is bounded, whatever is asked for.
    later = [f"(?>.*?{part})" for part in middle[:-1]] + [f".*{part}" for part in middle[-1:]]
    pattern = re.compile("".join((first, *later)))
    return lambda text: bool(pattern.fullmatch("/".join(text.split("/")[-count:])))


class Labels:
    """Numbers for the two ends of each flow, and the text of each number, in the order of the texts.

    So what is sorted by these numbers has one order, whatever the order of flows and of the inventory. An end that may
    be several things is the service that leads to them, else the first of them. ``src_rows`` and ``dst_rows`` are the
    same for each row of the resolution.
    """

    def __init__(self, flows: Flows, resolved: Resolved) -> None:
        self._numbers: dict[str, int] = {}
        src, dst = (self._rows(flows, resolved, end) for end in ("src", "dst"))
        through = _through(flows, resolved, dst)
        services = {flow: self._number(text) for flow, text in through.items()}
        place = ranks(list(self._numbers))
        self.texts = sorted(self._numbers)
        self.src_rows, self.dst_rows = place[src], place[dst]
        start = np.searchsorted(resolved.rows["flow"], np.arange(resolved.count))
        self.src = np.minimum.reduceat(self.src_rows, start)
        # Who is reached stands for the destination, not the address that it is reached by.
        by_address = _by_address(resolved) * len(self.texts)
        self.dst = np.minimum.reduceat(self.dst_rows + by_address, start) % max(1, len(self.texts))
        self.dst[list(services)] = place[list(services.values())]

    def _rows(self, flows: Flows, resolved: Resolved, end: str) -> NDArray[np.int64]:
        rows = resolved.rows
        pods, kinds = rows[end + "_pod"], rows[end + "_kind"]
        nodes, given = rows[end + "_node"].astype(np.int64), flows.rows[end][rows["flow"]]
        code = np.where(pods >= 0, pods.astype(np.int64), -1 - given.astype(np.int64))
        code = np.where((kinds == NODE) & (nodes >= 0), (1 << 40) + nodes, code)
        unique, inverse = np.unique(code, return_inverse=True)
        numbers = [self._number(self._text(item, flows, resolved.index)) for item in unique.tolist()]
        return np.array(numbers, np.int64)[inverse.reshape(-1)]

    def _text(self, code: int, flows: Flows, index: Index) -> str:
        if code >= 1 << 40:
            return f"Node/{index.nodes.values[code - (1 << 40)]}"
        if code >= 0:
            return workload_of(index.records.pods[code])
        return flows.strings[-1 - code]

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))


def ranks(texts: Sequence[str]) -> NDArray[np.int64]:
    """The place of each text in the order of all; equal ones have one each."""
    found = np.empty(len(texts), np.int64)
    found[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    return found


def _by_address(resolved: Resolved) -> NDArray[np.bool_]:
    """Rows that stand for the address by which a service is reached, and not for a backend."""
    found: NDArray[np.bool_] = resolved.rows["sides"] & INGRESS == 0
    return found


def _through(flows: Flows, resolved: Resolved, dst: NDArray[np.int64]) -> dict[int, str]:
    """Flow → the service, of flows through a service with backends of several workloads. ``dst``: of each row."""
    kept = ~_by_address(resolved)
    flow, labels = resolved.rows["flow"][kept], dst[kept]
    mixed = np.unique(flow[1:][(flow[1:] == flow[:-1]) & (labels[1:] != labels[:-1])])
    if not len(mixed):
        return {}
    finder, memory = Finder(resolved.index, resolved.options), dict[tuple[int, int, int], str]()
    columns = zip(*(flows.rows[name][mixed].tolist() for name in ("dst", "protocol", "port")), strict=True)
    found: dict[int, str] = {}
    for number, key in zip(mixed.tolist(), columns, strict=True):
        if key not in memory:
            memory[key] = _service(finder, flows.strings[key[0]], key[1], key[2])
        if memory[key]:
            found[number] = memory[key]
    return found


def _service(finder: Finder, text: str, protocol: int, port: int) -> str:
    """The first service that ``text`` is on a port; empty: it is none."""
    found: list[str] = []
    for kind, number in finder.services(text):
        service = finder.index.records.services[number]
        ports = ((item, item.node_port if kind == NODE else item.port) for item in service.ports)
        if any(PROTOCOLS.get(item.protocol) == protocol and ours == port for item, ours in ports):
            found.append(f"{service.namespace}/Service/{service.name}")
    return min(found, default="")
