"""Small worlds for named cases: pods in namespaces, one line each, and verdicts of single flows as words."""

from __future__ import annotations

from typing import Any

import engine
import yaml
from reference_cluster import Doc, Settings, Timed

from fathom.policy import policysets
from fathom.policy.decide import Decision, decide
from fathom.policy.evaluate import VERDICTS, Verdicts, evaluate
from fathom.policy.options import ASSUMPTIONS, REASONS


def pod(name: str, ip: str | list[str] = "", *, node: str = "n1", **more: Any) -> Doc:
    """``ns/name``; labels default to ``app: name``. ``more``: labels, ports, host, phase, ended, owner, account."""
    space, _, bare = name.partition("/")
    ips = [ip] if isinstance(ip, str) else ip
    ports = [{"name": n, "containerPort": p, "protocol": w} for n, w, p in more.get("ports", ())]
    meta: Doc = {"name": bare, "namespace": space, "labels": more.get("labels", {"app": bare})}
    if "owner" in more:
        meta["ownerReferences"] = [{"kind": more["owner"][0], "name": more["owner"][1], "controller": True}]
    spec: Doc = {
        "nodeName": node,
        "hostNetwork": more.get("host", False),
        "containers": [{"name": "c", "ports": ports}],
    }
    if "account" in more:
        spec["serviceAccountName"] = more["account"]
    status: Doc = {"podIPs": [{"ip": one} for one in ips if one]}
    if "ended" in more:
        ended = {"state": {"terminated": {"finishedAt": more["ended"]}}}
        status |= {"phase": "Succeeded", "containerStatuses": [ended]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def namespace(name: str, **labels: str) -> Doc:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def node(name: str, ip: str, **more: Any) -> Doc:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": more.get("labels", {})},
        "spec": {"podCIDRs": more.get("blocks", [])},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
    }


def service(name: str, ip: str, ports: list[Doc], **more: Any) -> Doc:
    space, _, bare = name.partition("/")
    spec = {"clusterIP": ip, "ports": ports, **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": bare, "namespace": space}, "spec": spec}


def slice_of(name: str, ips: list[str], ports: list[tuple[str, int]]) -> Doc:
    space, _, bare = name.partition("/")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": bare + "-x", "namespace": space, "labels": {"kubernetes.io/service-name": bare}},
        "endpoints": [{"addresses": [one]} for one in ips],
        "ports": [{"name": word, "port": number} for word, number in ports],
    }


def policy(name: str, spec: str | Doc, kind: str = "NetworkPolicy") -> Doc:
    """``ns/name`` (or ``name``, clusterwide) with its spec as YAML."""
    space, slash, bare = name.partition("/")
    versions = {
        "NetworkPolicy": "networking.k8s.io/v1",
        "CiliumNetworkPolicy": "cilium.io/v2",
        "CiliumClusterwideNetworkPolicy": "cilium.io/v2",
        "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
        "AdminNetworkPolicy": "policy.networking.k8s.io/v1alpha1",
        "BaselineAdminNetworkPolicy": "policy.networking.k8s.io/v1alpha1",
    }
    meta = {"name": bare, "namespace": space} if slash else {"name": name}
    body = yaml.safe_load(spec) if isinstance(spec, str) else spec
    return {"apiVersion": versions[kind], "kind": kind, "metadata": meta, "spec": body}


class World:
    """A cluster; ``see`` evaluates flows written ``src > dst TCP/80`` under policies."""

    def __init__(self, *items: Doc | Timed, **options: str) -> None:
        self.cluster = [item if isinstance(item, Timed) else Timed(item) for item in items]
        self.settings = Settings(**options)

    def evaluate(self, policies: list[Doc], flow: str, **more: Any) -> Verdicts:
        return self._run(policies, flow, more)[0]

    def verdicts(self, policies: list[Doc], flows: list[Doc]) -> list[str]:
        """The verdicts of flows that are evaluated together, as words."""
        who, chosen = engine.inventory(self.cluster), engine.options(self.settings)
        compiled = engine.compile_policies(engine.policy_set(policies), who, chosen)
        found = evaluate(compiled, engine.resolve(engine.flows(flows), who, chosen))
        return [VERDICTS[number] for number in found.verdict.tolist()]

    def see(self, policies: list[Doc], flow: str, **more: Any) -> str:
        """The verdict's word."""
        return VERDICTS[int(self.evaluate(policies, flow, **more).verdict[0])]

    def reasons(self, policies: list[Doc], flow: str, **more: Any) -> list[str]:
        bits = int(self.evaluate(policies, flow, **more).reasons[0])
        return [text for bit, text in REASONS.items() if bits & bit]

    def assumptions(self, policies: list[Doc], flow: str, **more: Any) -> list[str]:
        bits = int(self.evaluate(policies, flow, **more).assumptions[0])
        return [text for bit, text in ASSUMPTIONS.items() if bits & bit]

    def decision(self, policies: list[Doc], flow: str, **more: Any) -> Decision:
        _, compiled, resolved = self._run(policies, flow, more)
        return decide(compiled, resolved)[0]

    def _run(self, policies: list[Doc], flow: str, more: Doc) -> engine.Run:
        found = engine.policy_set(policies)
        assert not found.refused, [str(p) for p in found.refused]
        src, _, rest = flow.partition(" > ")
        dst, _, port = rest.partition(" ")
        word, _, number = port.partition("/")
        item = {"src": src, "dst": dst, "protocol": word, "port": int(number or 0), **more}
        who, chosen = engine.inventory(self.cluster), engine.options(self.settings)
        resolved = engine.resolve(engine.flows([item]), who, chosen)
        compiled = engine.compile_policies(found, who, chosen)
        return evaluate(compiled, resolved), compiled, resolved


def refused(doc: Doc) -> str:
    """The first reason for which the document is refused, with its path; "" if it is taken."""
    found = engine.policy_set([doc]).refused
    return f"{found[0].place.path}: {found[0].reason}" if found else ""


def problems(doc: Doc) -> list[tuple[str, str]]:
    """(path, severity) of every problem."""
    return [(p.place.path, p.severity) for p in policysets.read([engine.Document(engine.Place("f"), doc)]).problems]
