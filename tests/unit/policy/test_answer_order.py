"""Answers are equal for every order of flows, pods and strings: ties are broken by what a person reads."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from fathom.policy import questions
from fathom.policy.flows import Flows, from_dicts
from fathom.policy.inventory import Inventory, Namespace, Node, Pod, Records, Service, ServicePort
from fathom.policy.material import Material, about
from fathom.policy.model import PolicySet
from fathom.policy.policysets import read_texts

CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: a}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"""
SOME = CLOSED.replace(
    "Egress]}", "Egress], ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}]}"
)
LET = SOME.replace("Ingress, Egress", "Ingress")


def material(seed: int) -> Material:
    """One cluster and its flows, each list in an order of its own."""
    rng = random.Random(seed)
    records = Records()
    records.namespaces = [Namespace("a", {})]
    records.nodes = [Node("n1", {}, ("192.168.0.1",)), Node("n2", {}, ("192.168.0.2",))]
    for number in range(12):
        app = ("web", "db", "api", "job")[number % 4]
        name, place = f"{app}-{number}", f"n{1 + number % 2}"
        labels = {"app": app, "copy": f"c{number % 8}", "part": f"p{number % 3}"}
        records.pods.append(Pod("a", name, labels, (f"10.0.0.{number + 1}",), place, workload=("Deployment", app)))
    for number in range(3):
        ports = (ServicePort("", "TCP", 80, 80, 30_080), ServicePort("", "TCP", 443, 443))
        records.services.append(Service("a", f"s{number}", {"part": f"p{number}"}, (f"10.96.0.{number}",), ports=ports))
    names = [f"a/{pod.name}" for pod in records.pods]
    outside = ["9.9.9.9", "8.8.8.8", "Node/n2", "192.168.0.1", "api.example.com"]
    found: list[dict[str, Any]] = [
        {"src": src, "dst": dst, "port": port, "first_seen": 100 + len(src) + port, "last_seen": 900}
        for src in names + outside[:4]
        for dst in [*names, *outside, "a/Service/s0", "10.96.0.1", "10.96.0.2"]
        for port in (80, 443)
        if src != dst
    ]
    for held in (found, records.pods, records.nodes, records.services):
        rng.shuffle(held)  # type: ignore[arg-type]
    return Material(Inventory(records), flows(found, rng))


def flows(items: list[dict[str, Any]], rng: random.Random) -> Flows:
    """Numbers of strings as another source gives them."""
    made = from_dicts(items)
    order = [0, *rng.sample(range(1, len(made.strings)), len(made.strings) - 1)]
    strings, rows = [made.strings[n] for n in order], made.rows.copy()
    for name in ("src", "dst", "src_address", "dst_address", "name", "node"):
        rows[name] = [order.index(number) for number in made.rows[name].tolist()]
    return Flows(rows, strings)


def answers(which: Material) -> dict[str, Any]:
    """What each question answers, without the numbers of flows."""
    let, some = (read_texts([("p.yaml", text)]) for text in (LET, SOME))
    assert not let.problems
    assert not some.problems
    made = questions.generate(which, limit=50)
    found = {
        "replay": questions.replay(which, some, limit=40),
        "diff": questions.diff(which, let, some, limit=40),
        "graph": questions.graph(which, some, limit=15),
        "static graph": questions.graph(which, some, kind="static", limit=5),
        "rules": questions.explain_rule(which, some, limit=40),
        "coverage": questions.coverage(which),
        "exposure": questions.exposure(which, some),
        "left out": made.left_out,
        "documents": made.documents,
    }
    return {name: plain(msgspec.to_builtins(item)) for name, item in found.items()}


def plain(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items() if key != "example" or not isinstance(value, int)}
    return [plain(value) for value in item] if isinstance(item, list | tuple) else item


@pytest.mark.parametrize("seed", range(1, 6))
def test_answers_do_not_depend_on_the_order_of_what_they_are_made_from(seed: int) -> None:
    one, other = answers(material(0)), answers(material(seed))
    assert one["replay"]["groups"]
    assert one["replay"]["suggestions"]
    assert one["diff"]["static"]["changes"]
    for name, answer in one.items():
        assert other[name] == answer, name


@pytest.mark.parametrize("dst", ["a/Service/both", "10.96.0.9"])
def test_a_service_before_several_workloads_is_what_a_flow_goes_to(dst: str) -> None:
    """No backend is named as the one that was reached, in whatever order they are known."""
    policy = CLOSED.replace("podSelector: {}", "podSelector: {matchLabels: {app: w2}}")
    found = []
    for apps in (("w1", "w2"), ("w2", "w1")):
        records = Records()
        records.namespaces = [Namespace("a", {})]
        for app in apps:
            address = f"10.0.0.{app[1]}"
            records.pods.append(Pod("a", app, {"app": app, "web": "yes"}, (address,), workload=("Deployment", app)))
        records.pods.append(Pod("a", "c", {"app": "c"}, ("10.0.0.9",)))
        ports = (ServicePort("", "TCP", 80, 80),)
        records.services.append(Service("a", "both", {"web": "yes"}, ("10.96.0.9",), ports=ports))
        seen = Material(Inventory(records), from_dicts([{"src": "a/c", "dst": dst, "port": 80}]))
        replayed = questions.replay(seen, read_texts([("p.yaml", policy)]))
        assert [len(about(seen, name).flows) for name in ("c", "w1", "w2", "Service/both")] == [1] * 4
        found.append((replayed.groups, questions.graph(seen, read_texts([("p.yaml", policy)]))))
    assert found[0] == found[1]
    assert [(item.src, item.dst, item.verdict) for item in found[0][0]] == [("a/Pod/c", "a/Service/both", "unknown")]
    assert {node.name: node.kind for node in found[0][1].nodes} == {"a/Pod/c": "workload", "a/Service/both": "service"}


def test_a_service_before_one_workload_is_that_workload() -> None:
    records = Records()
    records.pods += [Pod("a", f"w-{n}", {"app": "w"}, (f"10.0.0.{n}",), workload=("Deployment", "w")) for n in (1, 2)]
    ports = (ServicePort("", "TCP", 80, 80, 30_080),)
    records.services.append(Service("a", "s", {"app": "w"}, ("10.96.0.9",), ("198.51.100.1",), ports))
    records.nodes = [Node("n1", {}, ("192.168.0.1",))]
    places = [("10.96.0.9", 80), ("198.51.100.1", 80), ("192.168.0.1", 30_080)]
    seen = from_dicts([{"src": "203.0.113.1", "dst": dst, "port": port} for dst, port in places])
    found = questions.graph(Material(Inventory(records), seen), PolicySet())
    assert [link.dst for link in found.links] == ["a/Deployment/w"]


def test_groups_of_equal_counts_stand_in_the_order_of_their_names() -> None:
    found = questions.replay(material(3), read_texts([("p.yaml", CLOSED)]), limit=1_000).groups
    keys = [(-item.connections, item.src, item.dst, item.protocol, item.port) for item in found]
    assert keys == sorted(keys)
    assert len(keys) > 50
