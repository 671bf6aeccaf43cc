"""JSON schemas of the documents that are generated, strict: from the API reference of networking.k8s.io/v1 and from
Cilium's description of its policy rules. A field that is not listed is an error. What a schema cannot say (an end of a
range below its begin) the reader of policies refuses."""

from __future__ import annotations

from typing import Any

import jsonschema

from fathom.policy import policysets
from fathom.policy.documents import Document
from fathom.policy.problems import Place

Schema = dict[str, Any]


def closed(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def many(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


QUALIFIED = r"^(k8s:)?([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
VALUE: Schema = {"type": "string", "pattern": r"^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"}
CIDR: Schema = {"type": "string", "pattern": r"^[0-9a-f.:]+/\d{1,3}$"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
PROTOCOL: Schema = {"enum": ["TCP", "UDP", "SCTP"]}
LABELS: Schema = {
    "type": "object",
    "propertyNames": {"pattern": QUALIFIED},
    "additionalProperties": VALUE,
    "minProperties": 1,
}
EXPRESSION = closed(
    ("key", "operator", "values"),
    key={"type": "string", "pattern": QUALIFIED},
    operator={"enum": ["In", "NotIn"]},
    values=many(VALUE, minItems=1),
)
SELECTOR = closed(matchLabels=LABELS, matchExpressions=many(EXPRESSION, minItems=1))
CHOOSES = {**SELECTOR, "required": ["matchLabels"]}
METADATA = closed(
    ("name", "namespace", "annotations"),
    name={"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"},
    namespace={"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
    annotations={
        "type": "object",
        "propertyNames": {"pattern": r"^[a-z0-9.]+/[a-z-]+$"},
        "additionalProperties": {"type": "string"},
    },
)

PEER = {
    "oneOf": [
        closed(("ipBlock",), ipBlock=closed(("cidr",), cidr=CIDR)),
        closed(("podSelector",), podSelector=SELECTOR, namespaceSelector=SELECTOR),
    ]
}
NETWORK_PORT = closed(("protocol", "port"), protocol=PROTOCOL, port=PORT, endPort=PORT)


def network_rule(key: str) -> Schema:
    return closed((key, "ports"), **{key: many(PEER, minItems=1), "ports": many(NETWORK_PORT, minItems=1)})


NETWORK_POLICY = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "networking.k8s.io/v1"},
    kind={"const": "NetworkPolicy"},
    metadata=METADATA,
    spec=closed(
        ("podSelector", "policyTypes"),
        podSelector=CHOOSES,
        policyTypes=many({"enum": ["Ingress", "Egress"]}, minItems=1, maxItems=2, uniqueItems=True),
        ingress=many(network_rule("from"), minItems=1),
        egress=many(network_rule("to"), minItems=1),
    ),
)

DECIMAL: Schema = {"type": "string", "pattern": r"^([1-9]\d{0,4})$"}
CILIUM_PORT = closed(("port", "protocol"), port=DECIMAL, protocol=PROTOCOL, endPort=PORT)
DNS_RULES = closed(("dns",), dns=many(closed(("matchPattern",), matchPattern={"type": "string"}), minItems=1))


def cilium_rule(side: str) -> Schema:
    kinds: dict[str, Schema] = {
        "Endpoints": many(CHOOSES, minItems=1),
        "CIDR": many(CIDR, minItems=1),
        "Entities": many({"enum": ["kube-apiserver", "host", "remote-node"]}, minItems=1),
    }
    ports = closed(("ports",), ports=many(CILIUM_PORT, minItems=1, maxItems=40))
    if side == "to":
        name = {"type": "string", "pattern": r"^[-a-z0-9_.]{1,253}$"}
        kinds["FQDNs"] = many(closed(("matchName",), matchName=name), minItems=1)
        ports["properties"]["rules"] = DNS_RULES
    to_ports = many(ports, minItems=1)
    rules = [
        closed((side + kind, "toPorts"), **{side + kind: form, "toPorts": to_ports}) for kind, form in kinds.items()
    ]
    return {"oneOf": [*rules, closed()]}


CILIUM_POLICY = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "cilium.io/v2"},
    kind={"const": "CiliumNetworkPolicy"},
    metadata=METADATA,
    spec={
        **closed(
            ("endpointSelector", "enableDefaultDeny"),
            endpointSelector=CHOOSES,
            enableDefaultDeny=closed(("ingress", "egress"), ingress={"type": "boolean"}, egress={"type": "boolean"}),
            ingress=many(cilium_rule("from"), minItems=1),
            egress=many(cilium_rule("to"), minItems=1),
        ),
        "anyOf": [{"required": ["ingress"]}, {"required": ["egress"]}],
    },
)
SCHEMAS = {"NetworkPolicy": NETWORK_POLICY, "CiliumNetworkPolicy": CILIUM_POLICY}
VALIDATORS = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in SCHEMAS.items()}


def wrong(document: Any) -> list[str]:
    """What is wrong with a document of a kind that is generated: by its schema, and by the reader."""
    found = [f"{error.json_path}: {error.message}" for error in VALIDATORS[document["kind"]].iter_errors(document)]
    return found + not_read(document)


def not_read(document: Any) -> list[str]:
    """What the reader of policies refuses or does not understand."""
    problems = policysets.read([Document(Place("document"), document)]).problems
    return [str(problem) for problem in problems if problem.severity != "warning"]
