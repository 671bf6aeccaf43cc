"""One example of each question about policy and its answer; see ``fathom.server.examples``."""

from __future__ import annotations

import msgspec

from fathom.policy.answers import (
    Basis,
    Covered,
    Differences,
    Explained,
    Exposure,
    Generation,
    Graph,
    GraphLink,
    GraphNode,
    RecordedDifference,
    Replayed,
    RuleUses,
)
from fathom.policy.asked import (
    CoverageAsked,
    DiffAsked,
    FlowAsked,
    GenerateAsked,
    GraphAsked,
    PoliciesAsked,
    RuleAsked,
    Text,
)
from fathom.policy.connectivity import StaticChange, StaticDifference
from fathom.policy.coverage import WorkloadCoverage
from fathom.policy.decide import Hit
from fathom.policy.explain import FlowVerdict, RuleUse, SideVerdict, Traffic
from fathom.policy.exposure import Exposed
from fathom.policy.generate import Evidence
from fathom.policy.problems import Place
from fathom.policy.questions import RulesAsked
from fathom.policy.replay import Group
from fathom.server.audit_examples import AUDIT_DOCUMENTS

_SINCE, _UNTIL = 1_769_774_400, 1_769_860_800
_WEB, _OPS, _DB = "shop/Deployment/web", "shop/Deployment/ops", "shop/StatefulSet/db"
_POLICY = "NetworkPolicy shop/db"
_BASIS = Basis(_SINCE, _UNTIL, 2, 3, 1.0, 0, (), 0)
_TEXTS = [Text("db.yaml", AUDIT_DOCUMENTS.documents)]
_RULE = Hit(_POLICY, Place("db.yaml", 0, "spec.ingress[0]"), "allow", True)
_OPEN = SideVerdict("allowed", "none", (), (), "no policy selects a pod at this side")
_CLOSED = SideVerdict(
    "denied", "developer", (_POLICY,), (), "policies isolate the pod, and none of their rules matches"
)
_FLOW = {"src": "shop/ops-1", "dst": "shop/db-0", "protocol": "TCP", "port": 5432}
_SEEN = {"count": 24, "first_seen": 1_769_814_000, "last_seen": 1_769_814_119}
_DENIED = Group(
    _OPS, _DB, "TCP", 5432, "denied-ingress", 1, 24, 1_769_814_000, 1_769_814_119, policies=(_POLICY,), example=1
)
_FROM_OPS = Traffic(_OPS, _DB, "TCP", 5432, 1, 24, 1_769_814_000, 1_769_814_119)
_FROM_WEB = Traffic(_WEB, _DB, "TCP", 5432, 1, 812, _SINCE, _UNTIL - 1)
_ABSENT = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "statefulset-db-ingress-tcp-5432", "namespace": "shop"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "db"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": {"app": "ops"}}}],
                "ports": [{"protocol": "TCP", "port": 5432}],
            }
        ],
    },
}

POLICIES_ASKED = PoliciesAsked(since="7d", policies=_TEXTS)
DIFF_ASKED = DiffAsked(since="7d", new=_TEXTS)
FLOW_ASKED = FlowAsked(flow=_FLOW, policies=_TEXTS)
RULE_ASKED = RuleAsked(since="7d", policies=_TEXTS, rules=RulesAsked(policy="shop/db"))
COVERAGE_ASKED = CoverageAsked(since="7d")
GRAPH_ASKED = GraphAsked(policies=_TEXTS)
GENERATE_ASKED = GenerateAsked(since="7d")

_VERDICT = FlowVerdict({**_FLOW, **_SEEN}, "denied-ingress", _OPEN, _CLOSED)
VERDICTS = msgspec.json.encode(_VERDICT).decode() + "\n"
REPLAYED = Replayed(
    groups=(msgspec.structs.replace(_DENIED, absent=("NetworkPolicy shop/statefulset-db-ingress-tcp-5432",)),),
    left_out=0,
    stopped=(),
    stopped_left_out=0,
    flows={"allowed": 1, "denied-ingress": 1, "denied-egress": 0, "denied-both": 0, "unknown": 0},
    connections={"allowed": 812, "denied-ingress": 24, "denied-egress": 0, "denied-both": 0, "unknown": 0},
    suggestions=(_ABSENT,),
    basis=_BASIS,
)
_CHANGES = {"newly-denied": 1, "newly-allowed": 0, "now-unknown": 0, "no-longer-unknown": 0}
DIFFERENCES = Differences(
    RecordedDifference((msgspec.structs.replace(_DENIED, verdict="newly-denied"),), 0, _CHANGES),
    StaticDifference(
        (
            StaticChange(
                "newly-denied", _OPS, "TCP", ((1, 65_535),), (_DB,), 1, 1, ("shop/ops-1", "shop/db-0", "TCP", 1)
            ),
        ),
        _CHANGES,
        4,
        0,
    ),
    _BASIS,
)
EXPLAINED = Explained(FlowVerdict({**_FLOW, "count": 1}, "denied-ingress", _OPEN, _CLOSED), _FROM_OPS, _BASIS)
RULE_USES = RuleUses(
    (
        RuleUse(
            *(_POLICY, _RULE.place, "ingress", "allow", 1, 812, 1, _SINCE, _UNTIL - 1, 0, 0, False, 1),
            traffic=(_FROM_WEB,),
        ),
    ),
    0,
    0,
    _BASIS,
)
COVERED = Covered(
    3,
    3,
    (
        WorkloadCoverage(
            _OPS, 1, 1, 1, 1_769_814_000, 1_769_814_119, ("119 s between first and last seen, less than 86400 s",)
        ),
    ),
    0,
    1,
    _BASIS,
)
EXPOSURE = Exposure((Exposed(_WEB, ("ingress", "egress"), 1, 1, 2, (_OPS, _DB), False, True),), 0, 3, (), _BASIS)
GRAPH = Graph(
    "recorded",
    (
        GraphNode(_WEB, "workload", "shop", False, False),
        GraphNode(_DB, "workload", "shop", True, False),
    ),
    (GraphLink(_WEB, _DB, "allowed", ("TCP/5432",), 0, 1, 812),),
    0,
    _BASIS,
)
GENERATION = Generation(
    documents=({**_ABSENT, "metadata": {"name": "statefulset-db", "namespace": "shop"}},),
    evidence=(
        Evidence(
            "shop/statefulset-db", "ingress", 0, _OPS, ("TCP/5432",), (1,), (), 24, 1_769_814_000, 1_769_814_119, 0
        ),
    ),
    left_out=(),
    left_out_groups=0,
    left_out_flows=0,
    used=2,
    beyond=0,
    bound=4,
    basis=_BASIS,
)
