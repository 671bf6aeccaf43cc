"""Graphs: who talks to whom by what was recorded, or who may talk to whom by what policies say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fathom.policy.answers import GraphLink, GraphNode
from fathom.policy.columns import distinct, sums
from fathom.policy.compile import Compiled
from fathom.policy.connectivity import Connectivity, connectivity, joined
from fathom.policy.ends import Ends, ends_of, latest, ports_of
from fathom.policy.evaluate import VERDICTS, Verdicts
from fathom.policy.flows import Flows, protocol_word
from fathom.policy.index import EXTERNAL, NODE, POD, Interner
from fathom.policy.labelling import Labels, workload_of
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.resolve import Resolved

#: Ports that are told with one link.
MOST_PORTS = 20
#: Names of workloads that one node of a static graph is called by.
_MOST_NAMES = 3


def recorded(
    compiled: Compiled, flows: Flows, resolved: Resolved, verdicts: Verdicts, *, limit: int = 1_000
) -> tuple[list[GraphNode], list[GraphLink], int]:
    """Nodes by name, links with most connections first, and how many links the limit left out."""
    if not len(flows):
        return [], [], 0
    labels = Labels(flows, resolved)
    unique, inverse = distinct([labels.src, labels.dst, verdicts.verdict.astype(np.int64)])
    number, connections = np.bincount(inverse, minlength=len(unique)), sums(flows.rows["count"], inverse, len(unique))
    order = np.lexsort((unique[:, 2], unique[:, 1], unique[:, 0], -connections))[:limit]
    ports = _ports(flows, inverse, order)
    links = []
    for n in order.tolist():
        src, dst, verdict = unique[n].tolist()
        counts = int(number[n]), int(connections[n])
        links.append(GraphLink(labels.texts[src], labels.texts[dst], VERDICTS[verdict], *_told(ports[n]), *counts))
    names = {name for link in links for name in (link.src, link.dst)}
    return _named(compiled, names), links, len(unique) - len(links)


def _ports(flows: Flows, link: NDArray[np.int64], wanted: NDArray[np.int64]) -> dict[int, list[str]]:
    """The ports of the flows of each of the ``wanted`` links; ``link`` is the link of each flow."""
    mine = np.flatnonzero(np.isin(link, wanted))
    rows = flows.rows[mine]
    pairs = np.stack([link[mine], rows["protocol"].astype(np.int64) << 16 | rows["port"]], axis=1)
    found: dict[int, list[str]] = defaultdict(list)
    for number, code in np.unique(pairs, axis=0).tolist():
        word = protocol_word(code >> 16)
        found[number].append(f"{word}/{code & 0xFFFF}" if code & 0xFFFF else word)
    return found


def _named(compiled: Compiled, names: Iterable[str]) -> list[GraphNode]:
    """What the inventory knows of the ends of recorded links."""
    isolated = _isolated(compiled.current())
    found = []
    for name in sorted(names):
        space, slash, rest = name.partition("/")
        if name in isolated:
            held = isolated[name]
            found.append(GraphNode(name, "workload", space, held["ingress"], held["egress"]))
        elif space == "Node":
            found.append(GraphNode(name, "node"))
        elif (space, rest.removeprefix("Service/")) in compiled.index.services and rest.startswith("Service/"):
            found.append(GraphNode(name, "service", space))
        else:
            found.append(GraphNode(name, "unknown" if slash else "outside", space if slash else ""))
    return found


def _isolated(compiled: Compiled) -> dict[str, dict[Direction, bool | None]]:
    """Workload → whether each of its pods is isolated, by direction; None where all are on the host's network."""
    index = compiled.index
    table = index.presences
    isolated = {way: compiled.isolated(way, np.arange(compiled.profiles)) for way in DIRECTIONS}
    found: dict[str, dict[Direction, bool | None]] = {}
    for number, profile, kind in zip(
        table["pod"].tolist(), table["profile"].tolist(), table["kind"].tolist(), strict=True
    ):
        held = found.setdefault(workload_of(index.records.pods[number]), dict.fromkeys(DIRECTIONS))
        if kind == POD:
            for direction in DIRECTIONS:
                held[direction] = bool(isolated[direction][profile]) and held[direction] is not False
    return found


def static(
    compiled: Compiled, *, time: int | None = None, limit: int = 1_000
) -> tuple[list[GraphNode], list[GraphLink], int]:
    """Nodes, links where a policy selects at least one end, and how many links the limit left out.

    Workloads that policies do not tell apart are one node. ``time``: epoch seconds, default the newest.
    """
    compiled = compiled.current()
    ends = ends_of((compiled,), latest(compiled.index) if time is None else time)
    whole = connectivity(compiled, ends, ports_of((compiled,)))
    names = [_name(ends, number) for number in range(len(ends))]
    members: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        members[name].append(number)
    numbers = Interner[str](names)
    to = np.array([numbers.number(name) for name in names], np.int64)
    links: list[GraphLink] = []
    left_out = 0
    for name in sorted(members):
        found, more = _from(whole, (numbers.values, to), members[name], limit - len(links))
        links += found
        left_out += more
    return [_node(whole, name, members[name]) for name in sorted(members)], links, left_out


def _name(ends: Ends, number: int) -> str:
    if ends.kind[number] == EXTERNAL and ends.names[number] >= 0:
        return " ".join(sorted(ends.name_sets[int(ends.names[number])]))
    if ends.kind[number] == EXTERNAL:
        return f"outside, such as {ends.text[number]}"
    workloads = sorted(ends.workloads[number])
    if not workloads:
        return ends.text[number]
    more = len(workloads) - _MOST_NAMES
    return ", ".join(workloads[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _node(whole: Connectivity, name: str, members: list[int]) -> GraphNode:
    kind = int(whole.ends.kind[members[0]])
    if kind != POD:
        return GraphNode(name, "node" if kind == NODE else "outside")
    spaces = {workload.partition("/")[0] for n in members for workload in whole.ends.workloads[n]}
    isolated = {d: bool(whole.isolated[d][members].all()) for d in DIRECTIONS}
    return GraphNode(
        name, "workload", spaces.pop() if len(spaces) == 1 else "", isolated["ingress"], isolated["egress"]
    )


def _from(
    whole: Connectivity, names: tuple[list[str], NDArray[np.int64]], members: list[int], room: int
) -> tuple[list[GraphLink], int]:
    """The first ``room`` links of the ends ``members``, which have one name, and how many more there are.

    ``names``: all names, and the number of each end's name.
    """
    texts, to = names
    ports: dict[tuple[str, str], NDArray[np.bool_]] = {}
    keys: set[tuple[str, int]] = set()
    for src in members:
        allowed, denied = whole.from_end(src)
        held = (whole.of["egress"][src] >= 0) | (whole.of["ingress"] >= 0)
        others = held & ((np.arange(len(held)) != src) | whole.ends.several[src])  # a pod reaches itself
        for verdict, plane in (("allowed", allowed & ~denied), ("may-be-allowed", allowed & denied)):
            there = np.flatnonzero(plane.any(axis=1) & others)
            keys |= {(verdict, number) for number in np.unique(to[there]).tolist()}
            for dst in there.tolist() if room > 0 else ():
                bits = np.unpackbits(plane[dst], count=len(whole.ports), bitorder="little").view(np.bool_)
                key = texts[int(to[dst])], verdict
                ports[key] = ports[key] | bits if key in ports else bits
    name = texts[int(to[members[0]])]
    told = [
        GraphLink(name, dst, verdict, *_told(_spans(whole, bits)))
        for (dst, verdict), bits in sorted(ports.items(), key=lambda item: item[0])[: max(0, room)]
    ]
    return told, len(keys) - len(told)


def _spans(whole: Connectivity, chosen: NDArray[np.bool_]) -> list[str]:
    """Ports in words: ``all``; ``TCP`` for all of a protocol; ``TCP/80``; ``TCP/8000-8010``."""
    if chosen.all():
        return ["all"]
    found: list[str] = []
    for protocol in sorted({span.protocol for span in whole.ports}):
        mine = [
            span
            for span, there in zip(whole.ports, chosen.tolist(), strict=True)
            if there and span.protocol == protocol
        ]
        for first, last in joined(mine):
            whole_protocol = (first, last) in ((1, 65535), (0, 0))
            text = "" if whole_protocol else f"/{first}" if first == last else f"/{first}-{last}"
            found.append(protocol_word(protocol) + text)
    return found


def _told(ports: list[str]) -> tuple[tuple[str, ...], int]:
    return tuple(ports[:MOST_PORTS]), max(0, len(ports) - MOST_PORTS)
