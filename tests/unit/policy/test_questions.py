"""Each question, from a Material and policies to its answer; and that every answer is JSON as it stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fathom.errors import UsageError
from fathom.policy import questions
from fathom.policy.columns import MOST_COUNT, MOST_SUM
from fathom.policy.coverage import Gap, Loss
from fathom.policy.explain import Traffic
from fathom.policy.flows import Flows, from_dicts
from fathom.policy.generate import Choices
from fathom.policy.inventory import Inventory, Namespace, Node, Pod, Records
from fathom.policy.material import Material
from fathom.policy.model import PolicySet
from fathom.policy.policysets import read_texts
from fathom.policy.questions import RulesAsked
from fathom.policy.thin import Need

WEB = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 80}]
  - from: [{podSelector: {matchLabels: {app: nobody}}}]
"""
OPEN = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, ingress: [{}]}
"""
NOT_ISOLATING = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: shown}
spec:
  endpointSelector: {}
  enableDefaultDeny: {ingress: false, egress: false}
  ingress: [{fromEntities: [cluster]}]
  egress: [{toEntities: [cluster]}]
"""
ADMIN = """
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: no-telnet}
spec:
  priority: 1
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {protocol: TCP, port: 23}}]}]
  egress: [{action: Pass, to: [{namespaces: {}}]}]
"""
ODD = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: odd, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEndpoints: [{}], surprise: 1}]}
"""


def cluster() -> Inventory:
    records = Records()
    records.namespaces = [Namespace("shop", {})]
    records.nodes = [Node("n1", {}, ("192.168.0.1",)), Node("n2", {}, ("192.168.0.2",))]
    for number, app in enumerate(("web", "api", "db")):
        place = f"n{1 + number % 2}"
        records.pods.append(
            Pod("shop", app, {"app": app}, (f"10.0.0.{number + 1}",), place, workload=("Deployment", app))
        )
    return Inventory(records)


def flows() -> Flows:
    return from_dicts(
        [
            {"src": "shop/api", "dst": "shop/web", "port": 80, "count": 5, "first_seen": 100, "last_seen": 200},
            {"src": "shop/db", "dst": "shop/web", "port": 443, "count": 2, "first_seen": 50, "last_seen": 60},
            {"src": "shop/db", "dst": "shop/web", "port": 22, "count": 1, "first_seen": 70, "last_seen": 80},
            {"src": "shop/api", "dst": "shop/web", "port": 443, "count": 1},
        ]
    )


def material(**more: Any) -> Material:
    return Material(cluster(), flows(), **more)


def policies(*texts: str) -> PolicySet:
    return read_texts([(f"p{number}.yaml", text) for number, text in enumerate(texts)])


def plain(answer: Any) -> Any:
    """The answer through JSON, as another program sees it."""
    return msgspec.json.decode(msgspec.json.encode(answer))


def test_evaluate_tells_each_flow_with_who_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(questions.evaluate(material(), policies(WEB)))
    assert [item.verdict for item in whole] == ["allowed", *["denied-ingress"] * 3]
    told = plain(whole[0])
    assert told["flow"]["src"] == "shop/api"
    assert told["ingress"]["policies"] == ["NetworkPolicy shop/web"]
    assert told["ingress"]["rules"][0]["place"] == {"file": "p0.yaml", "document": 0, "path": "spec.ingress[0]"}
    assert told["egress"] == {
        "outcome": "allowed", "tier": "none", "policies": [], "rules": [],
        "because": "no policy selects a pod at this side",
    }  # fmt: skip
    monkeypatch.setattr(questions, "_SMALL_PART", 3)
    assert list(questions.evaluate(material(), policies(WEB))) == whole


def test_policies_that_choose_no_pod_are_named_in_every_answer() -> None:
    """Without a namespace, in one with another name, with a label that no pod has: each proves nothing."""
    idle = [
        WEB.replace("namespace: shop", "namespace: shpo"),
        WEB.replace(", namespace: shop", ""),
        WEB.replace("name: web", "name: other").replace("app: web", "app: wbe"),
    ]
    assert len({*idle, WEB}) == 4
    made = policies(WEB, *idle)
    titles = tuple(policy.title for policy in made.policies[1:])
    for basis in (
        questions.replay(material(), made).basis,
        questions.diff(material(), policies(WEB), made).basis,
        questions.explain_rule(material(), made).basis,
        questions.exposure(material(), made).basis,
    ):
        assert (basis.idle, basis.idle_policies) == (titles, 3)


def test_replay_groups_and_names_the_absent_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    found = questions.replay(material(), policies(WEB))
    assert [(g.src, g.port, g.connections, g.absent) for g in found.groups] == [
        ("shop/Deployment/db", 443, 2, ("NetworkPolicy shop/deployment-web-ingress-tcp-443",)),
        ("shop/Deployment/api", 443, 1, ("NetworkPolicy shop/deployment-web-ingress-tcp-443",)),
        ("shop/Deployment/db", 22, 1, ("NetworkPolicy shop/deployment-web-ingress-tcp-22",)),
    ]
    assert [item["metadata"]["name"] for item in found.suggestions] == [
        "deployment-web-ingress-tcp-22",
        "deployment-web-ingress-tcp-443",
    ]
    assert found.suggestions[1]["spec"]["ingress"][0]["from"] == [
        {"podSelector": {"matchLabels": {"app": "api"}}},
        {"podSelector": {"matchLabels": {"app": "db"}}},
    ]
    assert found.flows["denied-ingress"] == 3
    assert not found.none
    assert plain(found)["basis"] == {
        "since": 50, "until": 201, "flows": 4, "pods": 3, "coverage": None, "lost": 0, "not_understood": [],
        "problems": 0, "as_of": 0, "idle": [], "idle_policies": 0,
    }  # fmt: skip
    told: list[float] = []
    monkeypatch.setattr(questions, "_PART", 3)
    assert questions.replay(material(), policies(WEB), progress=told.append) == found
    assert told == [0.75, 1.0]
    short = questions.replay(material(), policies(WEB), limit=1)
    assert (len(short.groups), short.left_out) == (1, 2)
    assert questions.replay(material(), policies()).none


def test_what_was_not_let_through_is_told_apart_and_no_rule_is_suggested_for_it() -> None:
    seen = from_dicts(
        [
            {"src": "203.0.113.9", "dst": "shop/web", "port": 22, "count": 3, "verdict": "dropped"},
            {"src": "203.0.113.9", "dst": "shop/web", "port": 23, "count": 2, "verdict": "failed"},
            {"src": "shop/api", "dst": "shop/web", "port": 80, "count": 9, "verdict": "unknown"},
        ]
    )
    found = questions.replay(Material(cluster(), seen), policies(WEB))
    assert found.none
    assert found.suggestions == ()
    assert [(group.port, group.verdict) for group in found.stopped] == [(22, "denied-ingress"), (23, "denied-ingress")]
    assert found.flows == {**dict.fromkeys(found.flows, 0), "allowed": 1}
    assert found.connections["allowed"] == 9
    assert questions.replay(Material(cluster(), seen), policies(WEB), limit=1).stopped_left_out == 1


def test_with_the_suggestions_nothing_is_denied() -> None:
    base = policies(WEB)
    found = questions.replay(material(), base)
    more = policies(*(msgspec.json.encode(item).decode() for item in found.suggestions))
    assert questions.replay(material(), PolicySet(base.policies + more.policies)).none


def test_diff_tells_the_recorded_and_the_static_part_apart() -> None:
    found = questions.diff(material(), policies(OPEN), policies(WEB))
    assert [(g.verdict, g.src, g.port) for g in found.recorded.groups] == [
        ("newly-denied", "shop/Deployment/db", 443),
        ("newly-denied", "shop/Deployment/api", 443),
        ("newly-denied", "shop/Deployment/db", 22),
    ]
    assert {group.policies for group in found.recorded.groups} == {("NetworkPolicy shop/web",)}
    back = questions.diff(material(), policies(WEB), policies(OPEN)).recorded
    assert {(g.verdict, tuple(rule.place.path for rule in g.rules)) for g in back.groups} == {
        ("newly-allowed", ("spec.ingress[0]",))
    }
    assert found.static.pairs["newly-denied"] > 0
    assert found.static.pairs["newly-allowed"] == 0
    assert all(change.example[1] == "shop/web" for change in found.static.changes)
    assert not found.none
    same = questions.diff(material(), policies(WEB), policies(WEB), progress=lambda _: None)
    assert same.none
    assert plain(same)["static"]["changes"] == []


def test_a_flow_is_explained_with_what_was_recorded_between_its_workloads() -> None:
    found = questions.explain_flow(material(), policies(WEB), {"src": "shop/api", "dst": "10.0.0.1", "port": 80})
    assert found.verdict.verdict == "allowed"
    assert found.recorded == Traffic("shop/Deployment/api", "shop/Deployment/web", "TCP", 80, 1, 5, 100, 200)
    never = questions.explain_flow(material(), policies(WEB), {"src": "shop/api", "dst": "shop/db", "port": 5})
    assert never.recorded is None
    assert plain(never)["recorded"] is None
    empty = Material(cluster(), from_dicts([]))
    assert (
        questions.explain_flow(empty, policies(WEB), {"src": "shop/api", "dst": "shop/db", "port": 5}).recorded is None
    )
    with pytest.raises(UsageError, match="port"):
        questions.explain_flow(material(), policies(WEB), {"src": "shop/api", "dst": "shop/db"})


def test_rules_are_explained_by_their_traffic() -> None:
    found = questions.explain_rule(material(), policies(WEB))
    assert [(use.place.path, use.unused, len(use.traffic)) for use in found.rules] == [
        ("spec.ingress[0]", False, 1),
        ("spec.ingress[1]", True, 0),
    ]
    assert found.unused == 1
    for name in ("shop/web", "NetworkPolicy shop/web"):
        (one,) = questions.explain_rule(material(), policies(WEB), RulesAsked(name, "spec.ingress[1]")).rules
        assert one.unused
    assert len(questions.explain_rule(material(), policies(WEB), RulesAsked(path="spec.ingress")).rules) == 2
    never = questions.explain_rule(material(), policies(WEB), RulesAsked(unused=True), limit=1)
    assert ([use.place.path for use in never.rules], never.unused) == (["spec.ingress[1]"], 1)
    with pytest.raises(UsageError, match="no policy 'web'"):
        questions.explain_rule(material(), policies(WEB), RulesAsked("web"))
    with pytest.raises(UsageError, match=r"no rule at 'spec.ingress\[10\]'"):
        questions.explain_rule(material(), policies(WEB), RulesAsked(path="spec.ingress[10]"))
    with pytest.raises(UsageError, match="no rule"):
        questions.explain_rule(material(), policies(WEB), RulesAsked(path="spec.ing"))


def test_coverage_puts_thin_workloads_first_and_asks_no_share_of_a_window_that_is_not_known() -> None:
    need = Need(seconds=60, connections=1)
    found = questions.coverage(material(), need)
    assert [(item.workload, bool(item.thin)) for item in found.workloads] == [
        ("shop/Deployment/db", True),
        ("shop/Deployment/api", False),
        ("shop/Deployment/web", False),
    ]
    assert (found.thin, found.basis.coverage, found.none) == (1, None, False)
    known = material(
        window=(0, 1000), nodes=("n1", "n2"), gaps=(Gap("n1", 0, 500),), losses=(Loss("a", "b", "c", "n1", 7),)
    )
    seen = questions.coverage(known, need)
    assert (seen.basis.coverage, seen.basis.lost, seen.thin) == (0.75, 7, 3)
    assert questions.coverage(material(), need, limit=1).left_out == 2


def test_exposure_counts_what_no_policy_covers() -> None:
    found = questions.exposure(material(), policies(WEB))
    assert [(item.workload, item.open) for item in found.exposed] == [
        ("shop/Deployment/api", ("ingress", "egress")),
        ("shop/Deployment/db", ("ingress", "egress")),
        ("shop/Deployment/web", ("egress",)),
    ]
    assert (found.workloads, found.on_host, found.none) == (3, (), False)
    assert plain(questions.exposure(material(), policies(WEB), limit=1))["left_out"] == 2


@pytest.mark.parametrize("text", [NOT_ISOLATING, ADMIN], ids=["without default deny", "ordered"])
def test_what_a_policy_selects_and_does_not_isolate_is_open(text: str) -> None:
    made = policies(text)
    assert not made.problems
    found = questions.exposure(material(), made)
    apps = [f"shop/Deployment/{app}" for app in ("api", "db", "web")]
    assert [(item.workload, item.open, item.pods) for item in found.exposed] == [
        (app, ("ingress", "egress"), 1) for app in apps
    ]
    assert [(item.reached_by, item.outside) for item in found.exposed] == [(2, True)] * 3
    for kind in ("recorded", "static"):
        nodes = questions.graph(material(), made, kind=kind).nodes  # type: ignore[arg-type]
        states = {(node.ingress, node.egress) for node in nodes if node.kind == "workload"}
        assert states == {(False, False)}


def test_generate_gives_documents_with_evidence_and_what_was_left_out() -> None:
    records = cluster().records
    odd = from_dicts(
        [
            *(flows().to_dict(n) for n in range(4)),
            {"src": "shop/api", "dst": "shop/db", "port": 5, "verdict": "dropped"},
        ]
    )
    found = questions.generate(Material(Inventory(records), odd), Choices(directions=("ingress",)))
    assert [item["metadata"]["name"] for item in found.documents] == [
        "deployment-api",
        "deployment-db",
        "deployment-web",
    ]
    assert (found.used, found.left_out_flows, found.left_out_groups) == (4, 1, 1)
    assert found.left_out[0].verdict == "it was dropped, refused or rejected"
    assert sum(item.connections for item in found.evidence) == 9
    assert plain(found)["bound"] == 4


def test_what_is_not_understood_is_part_of_the_basis() -> None:
    found = questions.replay(material(), policies(ODD))
    assert found.basis.problems == 1
    assert "surprise" in str(found.basis.not_understood[0])


def test_refused_documents_and_odd_limits_are_refused() -> None:
    broken = policies(WEB.replace("{port: 80}", "{port: 80, endPort: 1}"))
    for ask in (questions.evaluate, questions.replay, questions.exposure, questions.explain_rule):
        with pytest.raises(UsageError, match="endPort"):
            ask(material(), broken)
    with pytest.raises(UsageError, match="limit"):
        questions.replay(material(), policies(WEB), limit=-1)


def test_every_question_takes_a_material_without_anything() -> None:
    empty = Material(Inventory(Records()), from_dicts([]))
    assert list(questions.evaluate(empty, policies(WEB))) == []
    assert questions.replay(empty, policies(WEB), progress=lambda _: None).none
    assert questions.diff(empty, policies(WEB), policies(WEB)).none
    assert questions.coverage(empty).none
    assert questions.exposure(empty, policies(WEB)).none
    assert questions.generate(empty).documents == ()
    assert questions.explain_rule(empty, policies(WEB)).unused == 2


def test_the_recorded_graph_has_a_link_for_each_verdict() -> None:
    found = questions.graph(material(), policies(WEB))
    api, db, web = (f"shop/Deployment/{name}" for name in ("api", "db", "web"))
    assert [(link.src, link.dst, link.verdict, link.ports, link.connections) for link in found.links] == [
        (api, web, "allowed", ("TCP/80",), 5),
        (db, web, "denied-ingress", ("TCP/22", "TCP/443"), 3),
        (api, web, "denied-ingress", ("TCP/443",), 1),
    ]
    assert [(node.name, node.kind, node.namespace, node.ingress, node.egress) for node in found.nodes] == [
        (api, "workload", "shop", False, False),
        (db, "workload", "shop", False, False),
        (web, "workload", "shop", True, False),
    ]
    short = questions.graph(material(), policies(WEB), limit=1)
    assert (len(short.links), len(short.nodes), short.left_out) == (1, 2, 2)


def test_ends_of_links_that_are_no_workloads_have_their_kind() -> None:
    seen = from_dicts(
        [
            {"src": "192.168.0.1", "dst": "shop/web", "port": 80},
            {"src": "shop/gone", "dst": "203.0.113.9", "protocol": "ICMP"},
        ]
    )
    found = questions.graph(Material(cluster(), seen), policies(WEB))
    assert {node.name: node.kind for node in found.nodes} == {
        "203.0.113.9": "outside",
        "Node/n1": "node",
        "shop/Deployment/web": "workload",
        "shop/gone": "unknown",
    }
    assert {link.ports for link in found.links} == {("TCP/80",), ("ICMP",)}


def test_the_static_graph_says_who_may_reach_what_is_isolated() -> None:
    found = questions.graph(material(), policies(WEB), kind="static")
    api, web = "shop/Deployment/api", "shop/Deployment/web"
    into = {link.src: link.ports for link in found.links if link.dst == web and link.verdict == "allowed"}
    assert into == {api: ("TCP/80",)}  # that a pod reaches itself is no news
    assert {link.dst for link in found.links} == {web}
    kinds = {node.name: (node.kind, node.ingress) for node in found.nodes}
    assert kinds["outside, such as 203.0.113.1"] == ("outside", None)
    assert kinds[web] == ("workload", True)
    assert kinds["Node/n1"] == ("node", None)
    assert questions.graph(material(), policies(WEB), kind="static", limit=0).left_out == len(found.links) == 1


def test_workloads_that_policies_do_not_tell_apart_are_one_node_of_the_static_graph() -> None:
    records = cluster().records
    records.pods += [Pod("shop", f"x{n}", {"app": "x"}, workload=("Deployment", f"x{n}")) for n in range(5)]
    found = questions.graph(Material(Inventory(records), from_dicts([])), policies(WEB), kind="static")
    names = [node.name for node in found.nodes if "x0" in node.name]
    assert names == ["shop/Deployment/x0, shop/Deployment/x1, shop/Deployment/x2 and 2 more"]


def test_connections_beyond_what_can_be_added_up_stay_there() -> None:
    one = {"src": "shop/db", "dst": "shop/web", "port": 443, "count": MOST_COUNT}
    seen = Material(cluster(), from_dicts([one] * 1_025))
    found = questions.replay(seen, policies(WEB))
    assert [group.connections for group in found.groups] == [MOST_SUM]
    assert found.connections["denied-ingress"] == MOST_SUM
    few = questions.replay(Material(cluster(), from_dicts([one] * 4)), policies(WEB))
    assert few.groups[0].connections == few.connections["denied-ingress"] == 4 * MOST_COUNT
