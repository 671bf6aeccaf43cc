"""What questions about policy are answered with: plain structs, JSON-encodable as they are, each bounded in size.

Times are epoch seconds, 0 where they are not known. Lists that a limit cut say how much is left out. Every answer has
a ``basis``: how far it can be trusted.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fathom.policy.connectivity import StaticDifference
from fathom.policy.coverage import WorkloadCoverage
from fathom.policy.explain import FlowVerdict, RuleUse, Traffic
from fathom.policy.exposure import Exposed
from fathom.policy.generate import Evidence
from fathom.policy.problems import Problem
from fathom.policy.replay import Group

#: Kinds of a graph; and of its nodes. ``service``: one that leads to several workloads, or none; ``unknown``: named by
#: a flow, and not in the inventory.
GraphKind = Literal["recorded", "static"]
NodeKind = Literal["workload", "service", "node", "outside", "unknown"]


class Basis(msgspec.Struct, frozen=True):
    """What an answer stands on.

    ``flows`` recorded in [since, until); ``pods`` of the inventory. ``coverage``: the share (0 to 1) of node time that
    was observed, None where it is not known; ``lost``: how much was counted as lost meanwhile. ``not_understood``:
    parts of the policies that are not evaluated (at most 100; ``problems`` counts all): verdicts that they could
    change are ``unknown``. ``idle``: titles of policies that choose no pod of the inventory and so say nothing here (at
    most 100; ``idle_policies`` counts all). ``as_of``: the inventory is (or was completed by) the state of a live
    cluster at that time, not its history; 0 where it is not.
    """

    since: int
    until: int
    flows: int
    pods: int
    coverage: float | None
    lost: int
    not_understood: tuple[Problem, ...]
    problems: int
    as_of: int = 0
    idle: tuple[str, ...] = ()
    idle_policies: int = 0


class Replayed(msgspec.Struct, frozen=True):
    """What a policy set would have denied of what was let through, or is unknown: ``groups``, most connections first.

    ``stopped`` are groups that would not be allowed either, of flows that were dropped, refused or rejected when they
    were seen: nobody misses them. ``flows`` and ``connections`` count the others by verdict. ``suggestions`` are
    NetworkPolicy documents that would allow what the told groups would be denied, where a rule would do; groups name
    them in ``absent``.
    """

    groups: tuple[Group, ...]
    left_out: int
    stopped: tuple[Group, ...]
    stopped_left_out: int
    flows: dict[str, int]
    connections: dict[str, int]
    suggestions: tuple[dict[str, Any], ...]
    basis: Basis

    @property
    def none(self) -> bool:
        """Whether everything that was let through is allowed."""
        return not self.groups


class RecordedDifference(msgspec.Struct, frozen=True):
    """What a change does to recorded traffic: groups by kind of change (in ``verdict``: ``newly-denied``,
    ``newly-allowed``, ``now-unknown``, ``no-longer-unknown``), and how many flows each kind has.

    ``policies`` and ``rules`` of a group are those of the new set that decide its example."""

    groups: tuple[Group, ...]
    left_out: int
    flows: dict[str, int]


class Differences(msgspec.Struct, frozen=True):
    """What a change of policies does: to the ``recorded`` traffic, and (``static``) to all that the inventory's ends
    could do, with a counter-example for each difference."""

    recorded: RecordedDifference
    static: StaticDifference
    basis: Basis

    @property
    def none(self) -> bool:
        """Whether nothing changed."""
        return not self.recorded.groups and self.static.none


class Explained(msgspec.Struct, frozen=True):
    """One flow that was asked about: its verdict with who decided, and the recorded traffic between the same two
    workloads over the same protocol and port (None: none was)."""

    verdict: FlowVerdict
    recorded: Traffic | None
    basis: Basis


class RuleUses(msgspec.Struct, frozen=True):
    """Which traffic used each rule, in the order of the documents; ``unused`` counts rules that decided
    nothing."""

    rules: tuple[RuleUse, ...]
    left_out: int
    unused: int
    basis: Basis


class Covered(msgspec.Struct, frozen=True):
    """How much was seen: the share of pods, and every workload, those with too little history (``thin``) first."""

    pods: int
    pods_seen: int
    workloads: tuple[WorkloadCoverage, ...]
    left_out: int
    thin: int
    basis: Basis

    @property
    def none(self) -> bool:
        """Whether no workload has too little history."""
        return not self.thin


class Exposure(msgspec.Struct, frozen=True):
    """Workloads that no policy covers in some direction; ``workloads`` counts all that there are, ``on_host`` names
    those with pods on the host's network, which policies do not select."""

    exposed: tuple[Exposed, ...]
    left_out: int
    workloads: int
    on_host: tuple[str, ...]
    basis: Basis

    @property
    def none(self) -> bool:
        """Whether every workload is covered."""
        return not self.exposed


class GraphNode(msgspec.Struct, frozen=True, order=True):
    """An end of links. ``ingress`` and ``egress``: whether a policy isolates it there (None: no pod)."""

    name: str
    kind: NodeKind
    namespace: str = ""
    ingress: bool | None = None
    egress: bool | None = None


class GraphLink(msgspec.Struct, frozen=True, order=True):
    """From one node to another with one verdict (``may-be-allowed``: a static link that is not sure).

    ``ports`` are at most 20, as ``TCP/80`` or ``TCP/8000-8010``, ``more_ports`` counts the others. ``flows`` and
    ``connections`` are 0 in a static graph.
    """

    src: str
    dst: str
    verdict: str
    ports: tuple[str, ...]
    more_ports: int = 0
    flows: int = 0
    connections: int = 0


class Graph(msgspec.Struct, frozen=True):
    """Who talks to whom (recorded), or who may (static). Links between ends that no policy selects are not part of a
    static graph: all of them are allowed."""

    kind: GraphKind
    nodes: tuple[GraphNode, ...]
    links: tuple[GraphLink, ...]
    left_out: int
    basis: Basis


class Generation(msgspec.Struct, frozen=True):
    """Generated documents, sorted by namespace and name, and the evidence of each rule.

    ``left_out``: groups of flows that say nothing, each with its reason (in ``verdict``), ``left_out_flows`` of all (of
    those of the workloads that were asked for, where only some were).
    ``used`` counts flows that the policies allow because they were seen; ``beyond`` how many (pair of pods, port) and
    (address, port) are allowed that were not; no block holds more than ``bound`` addresses for each that was seen.
    """

    documents: tuple[dict[str, Any], ...]
    evidence: tuple[Evidence, ...]
    left_out: tuple[Group, ...]
    left_out_groups: int
    left_out_flows: int
    used: int
    beyond: int
    bound: int
    basis: Basis
