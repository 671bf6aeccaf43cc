"""Fuzzed documents, each judged: refused, reported as not understood and then unknown, or what the reference says.

The judge looks at the flows of one small world. A document that is accepted in full must mean exactly what the slow
reference says. Of one that is understood in part, no verdict may be more certain than the reference, which ignores
fields that it does not know as an API server would.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from functools import lru_cache
from typing import Any

import engine
import yaml
from reference import Reference
from reference_cluster import ALLOW, DENY, Doc, Timed
from strategies import Tape, make_cluster, make_policy
from world import namespace, node, pod, service, slice_of

from fathom.policy import documents, manifests, policysets
from fathom.policy.documents import Document
from fathom.policy.inventory import Inventory
from fathom.policy.problems import Place
from fathom.policy.resolve import Resolved

#: Kind → the versions of the API that are read.
VERSIONS = {
    "NetworkPolicy": ("networking.k8s.io/v1",),
    "CiliumNetworkPolicy": ("cilium.io/v2",),
    "CiliumClusterwideNetworkPolicy": ("cilium.io/v2",),
    "ClusterNetworkPolicy": ("policy.networking.k8s.io/v1alpha2", "policy.networking.k8s.io/v1beta1"),
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "BaselineAdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
}
#: API group → kinds of manifests that are read.
MANIFESTS = {"": ("Namespace", "Pod", "Node", "Service"), "discovery.k8s.io": ("EndpointSlice",)}
#: Values that no field expects, and values that some field does.
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 70, 1.5, "", "\x00", "x" * 300, "*", [], {}, [None], {"a": 1}, [[]], "日本"),
    *("80", 80, 65535, 65536, "http", "TCP", "UDP", "SCTP", "ICMP", "ANY", "In", "NotIn", "Exists", "DoesNotExist"),
    *("Ingress", "Egress", "Deny", "Allow", "Accept", "Pass", "Admin", "Baseline", "a", "b", "web", "db", "world"),
    *("0.0.0.0/0", "10.0.0.0/8", "10.0.0.1", "::/0", "cluster", "kube-apiserver", "*.example.com", "010", "08"),
    *({"podSelector": {}}, {"matchLabels": {"app": "web"}}, {"cidr": "10.0.0.0/8"}, [{}], ["Ingress"], ["Egress"]),
)
KEYS = (
    *(
        "spec",
        "from",
        "to",
        "ports",
        "x",
        "cidr",
        "except",
        "endPort",
        "port",
        "protocol",
        "podSelector",
        "matchLabels",
    ),
    *("namespaceSelector", "matchExpressions", "ipBlock", "ingress", "egress", "policyTypes", "toPorts", "rules"),
    *("fromEndpoints", "fromEntities", "toCIDR", "ingressDeny", "enableDefaultDeny", "subject", "namespaces", "pods"),
    *("kind", "apiVersion", "namespace", "name", "metadata", "specs", "toFQDNs", "icmps", "action", "priority", "tier"),
)
MARKS = ("", "[", "{", ":", "\n", "- ", "&a ", "*a", "\x00", "'", '"', "é", "---\n", "!!int ", "<<: ", "  ", "#", ",")
#: Keys whose values are the writer's own names.
MAPS = ("matchLabels", "labels")


# -- the world, and what is asked of it


@lru_cache(maxsize=1)
def cluster() -> tuple[Timed, ...]:
    """Pods with and without labels, ports and addresses; nodes, services, names."""
    items = (
        namespace("a", team="x"),
        namespace("b", team="y", env="prod"),
        node("n1", "192.168.0.1", labels={"zone": "n1"}, blocks=["10.0.1.0/24"]),
        node("n2", "192.168.0.2", labels={"zone": "n2"}),
        pod("a/web", "10.0.0.1", labels={"app": "web", "tier": "1"}, ports=(("http", "TCP", 80), ("dns", "UDP", 53))),
        pod("a/db", ["10.0.0.2", "fd00::2"], labels={"app": "db"}, ports=(("http", "TCP", 8080),), account="robot"),
        pod("b/web", "10.0.0.3", node="n2", labels={"app": "web"}),
        pod("c/dns", "10.0.0.4", labels={"app": "dns", "tier": "2"}, ports=(("http", "TCP", 80),)),
        pod("default/db", "10.0.0.5", labels={"app": "db"}),
        service("a/s", "10.96.0.1", [{"port": 80, "targetPort": "http", "name": "w"}], selector={"app": "web"}),
        service("default/kubernetes", "10.96.0.2", [{"port": 443, "targetPort": 6443, "name": "https"}]),
        slice_of("default/kubernetes", ["203.0.113.5"], [("https", 6443)]),
        {"kind": "Answer", "name": "api.example.com", "address": "93.184.216.34"},
    )
    return tuple(Timed(item) for item in items)


#: The flows are asked in parts, one part for each document.
PARTS = 15
PODS = ("a/web", "a/db", "b/web", "c/dns", "default/db")
OTHERS = ("8.8.8.8", "93.184.216.34", "2001:db8::5", "192.168.0.2", "Node/n1", "a/gone", "10.0.1.9", "203.0.113.5")
PORTS = (("TCP", 80), ("TCP", 8080), ("UDP", 53), ("TCP", 443), ("SCTP", 80), ("ICMP", 0), ("UDP", 80), ("TCP", 53))


@lru_cache(maxsize=1)
def flows() -> tuple[Doc, ...]:
    """Between all pods, and from and to what is no pod, over some port each."""
    pairs = [(src, dst) for src in PODS for dst in PODS if src != dst]
    pairs += [pair for mine in PODS for other in OTHERS for pair in ((mine, other), (other, mine))]
    pairs += [(src, "10.96.0.1") for src in PODS]
    return tuple(
        {"src": src, "dst": dst, "protocol": PORTS[n % len(PORTS)][0], "port": PORTS[n % len(PORTS)][1]}
        for n, (src, dst) in enumerate(pairs)
    )


@lru_cache(maxsize=PARTS)
def resolved(part: int) -> tuple[Inventory, Resolved, tuple[Doc, ...]]:
    """Some of the flows, resolved once for all documents."""
    mine = flows()[part::PARTS]
    who = engine.inventory(list(cluster()))
    return who, engine.resolve(engine.flows(list(mine)), who), mine


# -- making documents


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Every value below, with its path."""
    found = [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += nodes(item, (*path, key))
    return found


def at(doc: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        doc = doc[key]
    return doc


def somewhere(rng: random.Random, doc: Any) -> tuple[Any, Any] | None:
    """(object or list, key or index) of some value below ``doc``, most often a deep one."""
    found: list[tuple[Any, Any]] = []
    value = doc
    while isinstance(value, (dict, list)) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if value is doc and key == "metadata" and rng.random() < 0.7:
            continue
        found.append((value, key))
        value = value[key]
    return found[-1 - min(int(rng.expovariate(1)), len(found) - 1)] if found else None


def mutated(rng: random.Random, doc: Doc) -> Doc:
    """Some values replaced, removed, doubled, moved or added."""
    doc = json.loads(json.dumps(doc))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        place = somewhere(rng, doc)
        if place is None:
            return doc
        parent, key = place
        choice = rng.random()
        if choice < 0.35:
            parent[key] = copy.deepcopy(rng.choice(JUNK))
        elif choice < 0.5:
            other = somewhere(rng, doc)
            parent[key] = copy.deepcopy(other[0][other[1]]) if other else None
        elif choice < 0.65:
            del parent[key]
        elif choice < 0.75 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif isinstance(parent, dict):
            parent[rng.choice(KEYS)] = copy.deepcopy(rng.choice((parent[key], rng.choice(JUNK))))
    return doc


def changed(rng: random.Random, text: str) -> str:
    """Some characters of a text replaced, removed or added."""
    characters = list(text)
    for _ in range(rng.randrange(1, 8)):
        place = rng.randrange(len(characters) or 1)
        characters[place : place + rng.randrange(3)] = rng.choice(MARKS)
    return "".join(characters)


# -- judging them


class Judge:
    """Reads documents one by one, and compares them with the reference by the set.

    A set holds documents of different namespaces (a policy of one namespace decides nothing in another), or one
    document that is about all namespaces; in full understood ones, or others. Of the others a third is compared, of
    manifests a fifth.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.seen: Counter[str] = Counter()
        self.waiting: dict[bool, list[dict[str, Doc]]] = {False: [], True: []}

    def judge(self, doc: Any) -> None:
        """Refused, or kept to be compared. Raises AssertionError on a wrong verdict."""
        found = policysets.read([Document(Place("fuzz"), doc)])
        if found.refused:
            assert not found.policies
            self.seen["refused"] += 1
        elif not found.policies:
            assert not isinstance(doc, dict) or doc.get("kind") not in VERSIONS, doc
            self.seen["no policy"] += 1
        else:
            doubtful = any(problem.severity == "not-understood" for problem in found.problems)
            self.seen["not understood in full" if doubtful else "understood"] += 1
            if not doubtful or not self.rng.randrange(3):
                self._keep(doc, doubtful)

    def _keep(self, doc: Doc, doubtful: bool) -> None:
        space = doc["metadata"].get("namespace") or "default"
        if doc.get("apiVersion") not in VERSIONS.get(doc["kind"], ()):
            self._unread(doc)
        elif doc["kind"] not in ("NetworkPolicy", "CiliumNetworkPolicy"):
            self._compare([doc], doubtful)
        else:
            open_sets = self.waiting[doubtful]
            mine = next((item for item in open_sets if space not in item), None)
            if mine is None:
                open_sets.append(mine := {})
            mine[space] = doc
            if len(mine) == 4 or len(open_sets) > 8:
                open_sets.remove(mine if len(mine) == 4 else (mine := open_sets[0]))
                self._compare(list(mine.values()), doubtful)

    def finish(self) -> None:
        """Compare what still waits."""
        for doubtful, open_sets in self.waiting.items():
            for item in open_sets:
                self._compare(list(item.values()), doubtful)
            open_sets.clear()

    def _compare(self, docs: list[Doc], doubtful: bool) -> None:
        """The engine's outcomes against those of the reference: equal, or (where in doubt) no more certain."""
        who, rows, mine = resolved(self.rng.randrange(PARTS))
        verdicts = engine.evaluate(engine.compile_policies(engine.policy_set(docs), who), rows)
        reference = Reference([stored(doc) for doc in docs], list(cluster()), refuse=False)
        for number, flow in enumerate(mine):
            want, got = reference.verdict(flow), engine.told(verdicts, number)
            if doubtful:
                assert got[1] >= want[1], told(docs, flow, got, want)
                assert got[2] >= want[2], told(docs, flow, got, want)
            else:
                assert got == want, told(docs, flow, got, want)
        self.seen["compared"] += len(docs)

    def _unread(self, doc: Doc) -> None:
        """Of a kind that is not read: what it means to the pods that it may be about nobody here can say."""
        who, rows, mine = resolved(self.rng.randrange(PARTS))
        verdicts = engine.evaluate(engine.compile_policies(engine.policy_set([doc]), who), rows)
        space = doc["metadata"].get("namespace") or ""
        for number, flow in enumerate(mine):
            _, *outcomes_ = engine.told(verdicts, number)
            for end, outcome in zip(("src", "dst"), outcomes_, strict=True):
                if flow[end] in PODS and (not space or flow[end].startswith(space + "/")):
                    assert outcome == {ALLOW, DENY}, told([doc], flow, outcome, end)
        self.seen["compared"] += 1

    def text(self, text: str) -> None:
        """Refused, or each of its documents judged. What a JSON reader takes is taken as it reads it."""
        found, problems = documents.read(text, "fuzz")
        try:
            plain = json.loads(text, object_pairs_hook=once)
        except (ValueError, RecursionError):
            plain = None
        if isinstance(plain, dict) and not str(plain.get("kind", "")).endswith("List"):
            assert not problems, text
            assert [item.data for item in found] == [plain], text
        self.seen["text refused" if problems else "text read"] += 1
        for item in found:
            self.judge(item.data)

    def manifest(self, doc: Any) -> None:
        """In the place of one of the world's: refused, or every verdict is what the reference says."""
        found = manifests.read([Document(Place("fuzz"), doc)]).records
        if any(problem.severity == "refused" for problem in found.problems):
            self.seen["manifest refused"] += 1
            return
        self.seen["manifest understood"] += 1
        if self.rng.randrange(5):
            return
        others = [item for item in cluster() if key_of(item.doc) != key_of(doc)]
        mine = flows()[self.rng.randrange(PARTS) :: PARTS]
        items = [*others, Timed(stored(doc))] if understood(doc) else others
        rows = engine.resolve(engine.flows(list(mine)), who := engine.inventory(items))
        verdicts = engine.evaluate(engine.compile_policies(engine.policy_set(policies()), who), rows)
        reference = Reference(policies(), items)
        for number, flow in enumerate(mine):
            want, got = reference.verdict(flow), engine.told(verdicts, number)
            assert got == want, told([doc], flow, got, want)
        self.seen["manifest compared"] += 1


def stored(value: Any) -> Any:
    """What the decoder of the API server makes of it: a field that is null is absent, a null element empty."""
    if isinstance(value, dict):
        return {key: stored(item) for key, item in value.items() if item is not None}
    return [stored({} if item is None else item) for item in value] if isinstance(value, list) else value


def told(docs: list[Doc], flow: Doc, got: Any, want: Any) -> str:
    return f"{json.dumps(docs, default=repr)}\n{flow}\nengine    {got}\nreference {want}"


def understood(doc: Any) -> bool:
    """Whether it is a manifest that is read at all."""
    group, slash, _ = (doc.get("apiVersion") or "").partition("/") if isinstance(doc, dict) else ("", "", "")
    known = isinstance(doc, dict) and isinstance(doc.get("metadata"), dict)
    return known and doc.get("kind") in MANIFESTS.get(group if slash else "", ())


def key_of(doc: Any) -> Any:
    meta = doc.get("metadata") if isinstance(doc, dict) else None
    return (doc.get("kind"), meta.get("namespace"), meta.get("name")) if isinstance(meta, dict) else None


@lru_cache(maxsize=1)
def policies() -> list[Doc]:
    """Policies that look at labels, names, blocks and named ports."""

    def rules(key: str) -> list[Doc]:
        space = {"namespaceSelector": {"matchLabels": {"team": "y"}}, "podSelector": {"matchLabels": {"app": "web"}}}
        return [
            {key: [space], "ports": [{"port": "http"}, {"port": 443}]},
            {key: [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.3/32"]}}], "ports": [{"port": 8080}]},
            {key: [{"podSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}}]},
        ]

    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rules("from"), "egress": rules("to")}
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    made: list[Doc] = [
        {**head, "metadata": {"name": "p", "namespace": space}, "spec": spec} for space in ("a", "b", "c")
    ]
    cilium = {"endpointSelector": {}, "egress": [{"toEntities": ["kube-apiserver"]}, {"toEndpoints": [{}]}]}
    meta = {"name": "q", "namespace": "default"}
    return [*made, {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": cilium}]


def strange(rng: random.Random, part: int) -> None:
    """An unknown field, or a value of a wrong kind, somewhere in a spec: it is never taken in silence."""
    doc = make_policy(Tape(rng.randbytes(200)), 1)
    where = ("spec",) if doc.get("spec") else ("specs", 0)
    places = [
        (path, value)
        for path, value in nodes(at(doc, where))
        if not any(key in (*MAPS, "http") for key in path[:-1]) and (not path or path[-1] != "http")
    ]  # http rules are not understood as they are
    odd = copy.deepcopy(doc)
    if rng.random() < 0.5:
        path = rng.choice([p for p, v in places if isinstance(v, dict) and (not p or p[-1] not in MAPS)])
        at(odd, (*where, *path))["strange"] = {"x": 1}
    else:
        path, value = rng.choice([item for item in places if item[0]])
        at(odd, (*where, *path[:-1]))[path[-1]] = "text" if isinstance(value, (dict, list)) else {"strange": 1}
    before, after = (policysets.read([Document(Place("f"), one)]) for one in (doc, odd))
    told_before = {problem for problem in before.problems if problem.severity != "warning"}
    news = [problem for problem in after.problems if problem.severity != "warning" and problem not in told_before]
    assert news, json.dumps(odd)
    if not after.refused and not before.refused:
        less_certain(doc, odd, (where, path), part)


def less_certain(doc: Doc, odd: Doc, place: tuple[tuple[Any, ...], tuple[Any, ...]], part: int) -> None:
    """What the document meant without the unknown field stays possible; so does its rule meaning nothing, or all."""
    where, path = place
    after = outcomes(odd, part)
    possible = [doc]
    if len(path) == 2 and path[0] in ("ingress", "egress"):  # a field of a rule
        possible += [with_rule(doc, (*where, *path), nothing=nothing) for nothing in (True, False)]
    for one in possible:
        for number, (got, want) in enumerate(zip(after, outcomes(one, part), strict=True)):
            assert got[0] >= want[0], told([odd], resolved(part)[2][number], got, want)
            assert got[1] >= want[1], told([odd], resolved(part)[2][number], got, want)
    if not path:  # a field of the policy
        reference = Reference([doc], list(cluster()), refuse=False)
        for flow, got in zip(resolved(part)[2], after, strict=True):
            reference.verdict(flow)
            for end, outcome in (("src", got[0]), ("dst", got[1])):
                mine = [t for t in reference.at(flow[end], (0, 1), None) if t.kind == "pod" and t.labels is not None]
                if mine and reference.selects(doc, at(doc, where), mine[0]) is True:
                    assert outcome == {ALLOW, DENY}, told([odd], flow, got, end)


def with_rule(doc: Doc, path: tuple[Any, ...], *, nothing: bool) -> Doc:
    """The document with one rule that matches nothing, or everything."""
    changed_doc = copy.deepcopy(doc)
    side = "from" if path[-2] == "ingress" else "to"
    rule = at(changed_doc, path)
    if doc["kind"].startswith("Cilium"):
        new: Doc = {} if nothing else {side + "Entities": ["all"]}
    elif doc["kind"] == "NetworkPolicy":
        new = {side: [{"podSelector": {"matchLabels": {"no": "pod"}}}]} if nothing else {}
    else:
        no_pod = {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"no": "pod"}}}}
        new = {"action": rule["action"], side: [no_pod if nothing else {"namespaces": {}}]}
    at(changed_doc, path[:-1])[path[-1]] = new
    return changed_doc


def outcomes(doc: Doc, part: int) -> list[tuple[set[str], set[str]]]:
    who, rows, mine = resolved(part)
    verdicts = engine.evaluate(engine.compile_policies(engine.policy_set([doc]), who), rows)
    return [engine.told(verdicts, number)[1:] for number in range(len(mine))]


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def fuzz(count: int, seed: int) -> Counter[str]:
    """Make and judge ``count`` documents, and count what became of them."""
    rng = random.Random(seed)
    policy_docs = [make_policy(Tape(rng.randbytes(200)), 1) for _ in range(min(count, 1_000))]
    cluster_docs = [item.doc for item in cluster() if item.doc["kind"] != "Answer"] * 8
    for _ in range(20):
        cluster_docs += [item.doc for item in make_cluster(Tape(rng.randbytes(200))) if item.doc["kind"] != "Answer"]
    texts = [
        yaml.dump(doc, Dumper=yaml.CSafeDumper) if number % 3 else json.dumps(doc)
        for number, doc in enumerate(policy_docs)
    ]
    judge = Judge(rng)
    for number in range(count):
        kind = number % 40
        if kind < 4:
            judge.manifest(mutated(rng, rng.choice(cluster_docs)))
        elif kind < 15:
            judge.text(changed(rng, rng.choice(texts)))
        elif kind < 16 and number % 80 < 40:
            strange(rng, rng.randrange(PARTS))
            judge.seen["strange"] += 1
        else:
            judge.judge(mutated(rng, rng.choice(policy_docs)))
    judge.finish()
    judge.seen["documents"] = count
    return judge.seen
