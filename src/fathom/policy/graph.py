"""Graphs: who talks to whom by what was recorded, or who may talk to whom by what policies say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fathom.policy.answers import GraphLink, GraphNode
from fathom.policy.compile import Compiled
from fathom.policy.connectivity import Connectivity, connectivity, joined
from fathom.policy.ends import Ends, ends_of, latest, ports_of
from fathom.policy.evaluate import Verdicts
from fathom.policy.flows import Flows, protocol_word
from fathom.policy.index import EXTERNAL, NODE, POD
from fathom.policy.labelling import workload_of
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.replay import Group, group
from fathom.policy.resolve import Resolved

#: Ports that are told with one link.
MOST_PORTS = 20
#: Names of workloads that one node of a static graph is called by.
_MOST_NAMES = 3


def recorded(
    compiled: Compiled, flows: Flows, resolved: Resolved, verdicts: Verdicts, *, limit: int = 1_000
) -> tuple[list[GraphNode], list[GraphLink], int]:
    """Nodes by name, links with most connections first, and how many links the limit left out."""
    merged: dict[tuple[str, str, str], list[Group]] = defaultdict(list)
    for item in group(flows, resolved, verdicts.verdict, np.arange(len(flows))):
        merged[item.src, item.dst, item.verdict].append(item)
    links = []
    for (src, dst, verdict), parts in merged.items():
        numbers = sorted({(item.protocol, item.port) for item in parts})
        ports = [f"{protocol}/{port}" if port else protocol for protocol, port in numbers]
        counts = sum(item.flows for item in parts), sum(item.connections for item in parts)
        links.append(GraphLink(src, dst, verdict, *_told(ports), *counts))
    links.sort(key=lambda link: (-link.connections, link))
    told = links[:limit]
    names = {name for link in told for name in (link.src, link.dst)}
    return _named(compiled, names), told, len(links) - len(told)


def _named(compiled: Compiled, names: Iterable[str]) -> list[GraphNode]:
    """What the inventory knows of the ends of recorded links."""
    isolated = _isolated(compiled.current())
    found = []
    for name in sorted(names):
        space, slash, _ = name.partition("/")
        if name in isolated:
            held = isolated[name]
            found.append(GraphNode(name, "workload", space, held["ingress"], held["egress"]))
        elif space == "Node":
            found.append(GraphNode(name, "node"))
        else:
            found.append(GraphNode(name, "unknown" if slash else "outside", space if slash else ""))
    return found


def _isolated(compiled: Compiled) -> dict[str, dict[Direction, bool | None]]:
    """Workload → whether each of its pods is isolated, by direction; None where all are on the host's network."""
    index = compiled.index
    table = index.presences
    found: dict[str, dict[Direction, bool | None]] = {}
    for number, profile, kind in zip(
        table["pod"].tolist(), table["profile"].tolist(), table["kind"].tolist(), strict=True
    ):
        held = found.setdefault(workload_of(index.records.pods[number]), dict.fromkeys(DIRECTIONS))
        if kind == POD:
            for direction in DIRECTIONS:
                column = compiled.classes.profile_column[profile]
                mine = int(compiled.sides[direction].group_of[column]) >= 0
                held[direction] = mine and held[direction] is not False
    return found


def static(
    compiled: Compiled, *, time: int | None = None, limit: int = 1_000
) -> tuple[list[GraphNode], list[GraphLink], int]:
    """Nodes, links where a policy isolates at least one end, and how many links the limit left out.

    Workloads that policies do not tell apart are one node. ``time``: epoch seconds, default the newest.
    """
    compiled = compiled.current()
    ends = ends_of((compiled,), latest(compiled.index) if time is None else time)
    whole = connectivity(compiled, ends, ports_of((compiled,)))
    names = [_name(ends, number) for number in range(len(ends))]
    members: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        members[name].append(number)
    links: list[GraphLink] = []
    left_out = 0
    for name in sorted(members):
        found = _from(whole, names, members[name])
        room = max(0, limit - len(links))
        links += found[:room]
        left_out += max(0, len(found) - room)
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
    isolated = {d: bool((whole.of[d][members] >= 0).all()) for d in DIRECTIONS}
    return GraphNode(
        name, "workload", spaces.pop() if len(spaces) == 1 else "", isolated["ingress"], isolated["egress"]
    )


def _from(whole: Connectivity, names: list[str], members: list[int]) -> list[GraphLink]:
    """All links of the ends ``members``, which have one name."""
    ports: dict[tuple[str, str], NDArray[np.bool_]] = {}
    for src in members:
        allowed, denied = whole.from_end(src)
        held = (whole.of["egress"][src] >= 0) | (whole.of["ingress"] >= 0)
        for verdict, plane in (("allowed", allowed & ~denied), ("may-be-allowed", allowed & denied)):
            others = held & ((np.arange(len(held)) != src) | (whole.ends.members[src] > 1))  # a pod reaches itself
            for dst in np.flatnonzero(plane.any(axis=1) & others).tolist():
                bits = np.unpackbits(plane[dst], count=len(whole.ports), bitorder="little").view(np.bool_)
                key = names[dst], verdict
                ports[key] = ports[key] | bits if key in ports else bits
    name = names[members[0]]
    return [
        GraphLink(name, dst, verdict, *_told(_spans(whole, bits)))
        for (dst, verdict), bits in sorted(ports.items(), key=lambda item: item[0])
    ]


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
