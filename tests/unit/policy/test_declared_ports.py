"""A port of the ephemeral range is a server's where its destination declares it, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fathom.policy.compile import compile_policies
from fathom.policy.declared import ephemeral
from fathom.policy.evaluate import ALLOWED, evaluate
from fathom.policy.flows import from_dicts
from fathom.policy.generate import generate, to_yaml
from fathom.policy.inventory import (
    Backend,
    ContainerPort,
    Inventory,
    Namespace,
    Node,
    Pod,
    Records,
    Service,
    ServicePort,
    Slice,
)
from fathom.policy.manifests import read_texts
from fathom.policy.policysets import read_texts as read_policies
from fathom.policy.resolve import resolve

HIGH = 50_051
TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {0}, namespace: a}}
spec:
  selector: {{matchLabels: {{app: {0}}}}}
  template: {{metadata: {{labels: {{app: {0}}}}}, spec: {{containers: [{{name: c, ports: [{1}]}}]}}}}
"""


def flow(dst: str, port: int = HIGH, **more: Any) -> dict[str, Any]:
    return {"src": "a/Deployment/client", "dst": dst, "protocol": "TCP", "port": port, **more}


def manifests(**ports: str) -> Inventory:
    found = read_texts([("f", "---".join(TEMPLATE.format(name, listed) for name, listed in ports.items()))])
    assert not found.records.problems, found.records.problems
    return found


def test_a_port_without_a_name_is_declared_and_the_generated_set_denies_nothing_of_its_own_history() -> None:
    who = manifests(client="", server=f"{{containerPort: 8080}}, {{containerPort: {HIGH}}}")
    flows = from_dicts([flow("a/Deployment/server", 8080, count=10), flow("a/Deployment/server", count=90_000)])
    made = generate(flows, who)
    assert made.left_out == ()
    server = next(item for item in made.documents if item["metadata"]["name"] == "deployment-server")
    assert [item["port"] for item in server["spec"]["ingress"][0]["ports"]] == [8080, HIGH]
    compiled = compile_policies(read_policies([("p", to_yaml(made.documents))]), who)
    assert evaluate(compiled, resolve(flows, who)).verdict.tolist() == [ALLOWED, ALLOWED]


def test_what_another_workload_of_the_namespace_declares_makes_no_server() -> None:
    who = manifests(client="", db="{name: sql, containerPort: 5432}", unrelated=f"{{name: x, containerPort: {HIGH}}}")
    made = generate(from_dicts([{**flow("a/Deployment/client"), "src": "a/Deployment/db"}]), who)
    assert made.documents == ()
    assert "does not declare" in made.left_out[0].verdict


def test_a_port_of_another_protocol_is_not_declared() -> None:
    who = manifests(client="", server=f"{{containerPort: {HIGH}, protocol: UDP}}")
    flows = from_dicts([flow("a/Deployment/server"), flow("a/Deployment/server", protocol="UDP")])
    assert ephemeral(flows, resolve(flows, who)).tolist() == [True, False]


def pods(*more: Pod) -> Records:
    records = Records(namespaces=[Namespace("a", {})], nodes=[Node("n1", {}, ("192.0.2.1",))])
    for number, app in enumerate(("client", "server", "other")):
        labels = {"app": app, "tier": "x"}
        records.pods.append(Pod("a", f"{app}-1", labels, (f"10.0.0.{number + 1}",), "n1", workload=("Deployment", app)))
    records.pods += more
    return records


def undeclared(records: Records, *texts: str) -> list[bool]:
    flows = from_dicts([flow(text) for text in texts])
    found = ephemeral(flows, resolve(flows, Inventory(records)))
    assert found.dtype == np.bool_
    return found.tolist()


BOTH = ("a/server-1", "a/other-1")


def test_a_replica_declares_for_its_workload() -> None:
    ports = (ContainerPort("", "TCP", HIGH),)
    newer = Pod("a", "server-2", {}, ("10.0.0.9",), "n1", ports=ports, workload=("Deployment", "server"))
    assert undeclared(pods(newer), *BOTH) == [False, True]


@pytest.mark.parametrize("selector", [{"app": "server"}, {"app": "server", "tier": "x"}])
def test_a_service_declares_for_the_pods_that_it_selects_also_where_they_are_named(selector: dict[str, str]) -> None:
    records = pods()
    port = ServicePort("", "TCP", 443, HIGH)
    records.services.append(Service("a", "s", selector, ("10.96.0.1",), ports=(port,)))
    assert undeclared(records, *BOTH, "10.0.0.2", "10.0.0.3") == [False, True, False, True]
    records.services[0] = Service("b", "s", selector, ("10.96.0.1",), ports=(port,))
    assert undeclared(records, *BOTH) == [True, True]


def test_a_port_that_a_service_has_is_declared_where_it_is_reached_through_it() -> None:
    records = pods()
    port = ServicePort("", "TCP", HIGH, HIGH + 1)
    records.services.append(Service("a", "s", {"app": "server"}, ("10.96.0.1",), ("198.51.100.7",), (port,)))
    assert undeclared(records, "10.96.0.1", "198.51.100.7", "a/Service/s") == [False, False, False]
    assert undeclared(records, "a/server-1") == [True]  # it is the service's, not the pod's


@pytest.mark.parametrize("backend", [Backend((), "server-1"), Backend(("10.0.0.2",))])
def test_a_slice_declares_for_the_pods_that_it_leads_to(backend: Backend) -> None:
    records = pods()
    records.slices.append(Slice("a", "s", (backend,), (("", "TCP", HIGH),)))
    assert undeclared(records, *BOTH) == [False, True]


def test_a_slice_says_nothing_about_who_has_its_address_at_another_time() -> None:
    earlier = Pod("a", "gone", {"app": "gone"}, ("10.0.0.8",), "n1", since=0, until=100)
    later = Pod("a", "new", {"app": "new"}, ("10.0.0.8",), "n1", since=200)
    records = pods(earlier, later)
    records.slices.append(Slice("a", "s", (Backend(("10.0.0.8",)),), (("", "TCP", HIGH),), since=0, until=100))
    assert undeclared(records, "a/gone", "a/new") == [False, True]


def test_a_slice_declares_for_an_address_outside() -> None:
    records = pods()
    records.slices.append(Slice("a", "s", (Backend(("203.0.113.5",)),), (("", "TCP", HIGH),)))
    assert undeclared(records, "203.0.113.5", "203.0.113.6") == [False, True]
