"""Static connectivity says of every two ends what the evaluation of a flow between them says."""

from __future__ import annotations

import copy

import engine
import numpy as np
from hypothesis import HealthCheck, given, settings
from reference_cluster import Doc, Timed
from strategies import CHANGE, OUTSIDE, Case, cases
from world import World, namespace, node, pod, policy, slice_of

from fathom.policy.addresses import address
from fathom.policy.connectivity import Connectivity, StaticChange, connectivity, connectivity_difference
from fathom.policy.difference import CHANGES, changes
from fathom.policy.ends import ends_of, ports_of
from fathom.policy.exposure import exposed
from fathom.policy.flows import protocol_word
from fathom.policy.index import POD
from fathom.policy.inventory import Inventory
from fathom.policy.labelling import workload_of
from fathom.policy.pairs import Pairs

NOW = CHANGE + 50


def outcomes(static: Connectivity, src: int, dst: int, port: int) -> set[str]:
    """What may happen from one end to another on one port."""
    allowed, denied = static.from_end(src)
    found = set()
    for word, plane in (("allow", allowed), ("deny", denied)):
        if np.unpackbits(plane[dst], bitorder="little")[port]:
            found.add(word)
    return found


def two_families(case: Case) -> list[Timed]:
    """The case's cluster with a second address for the first node."""
    found = copy.deepcopy(case.cluster)
    for item in found:
        if item.doc["kind"] == "Node" and item.doc["metadata"]["name"] == "n1":
            item.doc["status"]["addresses"].append({"type": "InternalIP", "address": "fd01::1"})
    return found


def flow(src: str, dst: str, protocol: str, port: int) -> Doc:
    """One flow at the time that is asked about."""
    return {"src": src, "dst": dst, "protocol": protocol, "port": port, "first_seen": NOW, "last_seen": NOW}


@settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(1))
def test_static_and_flow_by_flow_agree(case: Case) -> None:
    who, options = engine.inventory(two_families(case)), engine.options(case.settings)
    compiled = engine.compile_policies(engine.accepted(engine.policy_set(case.policies)), who, options).current()
    ends, ports = ends_of((compiled,), NOW, placed=True), ports_of((compiled,))
    static, meeting = connectivity(compiled, ends, ports), Pairs(ends)
    chosen = [
        (src, dst, port)
        for src in range(len(ends))
        for dst in np.flatnonzero(meeting.possible(src)).tolist()
        for port in range((src + dst) % 3, len(ports), 3)
        if POD in (ends.kind[src], ends.kind[dst])
        if ends.family[src] == ends.family[dst] or not ends.family[src] or not ends.family[dst]
    ]
    flows = [
        flow(*meeting.example(src, dst), protocol_word(ports[port].protocol), ports[port].first)
        for src, dst, port in chosen
    ]
    if not flows:
        return
    verdicts = engine.evaluate(compiled, engine.resolve(engine.flows(flows), who, options))
    for number, (src, dst, port) in enumerate(chosen):
        egress, ingress = engine.told(verdicts, number)[1:]
        want = {"allow"} if "allow" in egress and "allow" in ingress else set()
        want |= {"deny"} if "deny" in egress | ingress else set()
        assert outcomes(static, src, dst, port) == want, (flows[number], src, dst)


def contested(who: Inventory, text: str) -> bool:
    """Whether the made-up history gives an address to two at once: it does not say whom it means."""
    holders = who.index.holders[address(text)]  # type: ignore[index]
    return sum(since <= NOW < until for _, _, since, until in holders) > 1


def everyone(who: Inventory) -> list[tuple[str, int, str]]:
    """(how to write it, family or 0, what it is called) of all that lives: pods, nodes, addresses outside."""
    found = []
    for one in who.records.pods:
        if one.since <= NOW < one.until:
            name = workload_of(one) if one.virtual else f"{one.namespace}/{one.name}"
            families = {address(text).family for text in one.addresses}  # type: ignore[union-attr]
            ways = one.addresses if len(families) > 1 else (name,)
            held = [address(text).family for text in ways] if len(families) > 1 else [*families, 0]  # type: ignore[union-attr]
            found += [
                (way, family, workload_of(one))
                for way, family in zip(ways, held, strict=False)
                if len(families) < 2 or not contested(who, way)
            ]
    found += [(f"Node/{name}", 0, f"Node/{name}") for name in who.index.node_records]
    outside = [text for text in OUTSIDE if address(text) not in who.index.holders]  # what a service has is its backends
    return found + [(text, address(text).family, text) for text in outside]  # type: ignore[union-attr]


KINDS = dict(zip(CHANGES, range(5), strict=True))


@settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(1))
def test_a_difference_tells_what_flows_show_and_shows_what_it_tells(case: Case) -> None:
    who, options = engine.inventory(two_families(case)), engine.options(case.settings)
    both = [
        engine.compile_policies(engine.accepted(engine.policy_set(docs)), who, options)
        for docs in (case.policies, case.other)
    ]
    found = connectivity_difference(both[0], both[1], time=NOW, limit=100_000)
    assert len(set(found.changes)) == len(found.changes)
    assert len({(c.change, *c.example) for c in found.changes}) == len(found.changes)
    every = everyone(who)
    pairs = [(one, other) for one in every for other in every if one[1] == other[1] or not one[1] or not other[1]]
    pairs = [(one, other) for one, other in pairs if one[0] != other[0]][:: 1 + len(pairs) // 600]
    ports = (("TCP", 80), ("TCP", 9), ("UDP", 53), ("ICMP", 0))
    asked = [(one, other, *port) for one, other in pairs for port in ports]
    told = [flow(*change.example) for change in found.changes]
    flows = engine.flows(told + [flow(one[0], other[0], *port) for one, other, *port in asked])
    resolved = engine.resolve(flows, who, options)
    kinds = changes(*(engine.evaluate(one, resolved) for one in both)).tolist()
    for change, kind in zip(found.changes, kinds, strict=False):
        assert KINDS[change.change] == kind, change
    seen = {(KINDS[c.change], c.protocol, p): c for c in found.changes for p in (80, 9, 53, 0) if within(c, p)}
    for (one, other, word, port), kind in zip(asked, kinds[len(told) :], strict=True):
        assert not kind or (kind, word, port) in seen, (CHANGES[kind], one, other, word, port)


def within(change: StaticChange, port: int) -> bool:
    return any(first <= port <= last for first, last in change.ports)


def test_every_living_pod_is_one_of_the_ends() -> None:
    world = World(namespace("a"), *[pod(f"a/p{n}", f"10.0.0.{n}", labels={"app": f"x{n % 2}"}) for n in range(9)])
    who = engine.inventory(world.cluster)
    one = policy("a/p", "{podSelector: {matchLabels: {app: x1}}, ingress: [{from: [{podSelector: {}}]}]}")
    compiled = engine.compile_policies(engine.policy_set([one]), who)
    ends = ends_of((compiled,), NOW)
    assert sorted(ends.pods[ends.kind == POD].tolist()) == [4, 5]


def test_a_difference_has_a_counter_example_for_each_change() -> None:
    world = World(
        namespace("a"),
        namespace("b", team="y"),
        node("n1", "192.168.0.1"),
        pod("a/web", "10.0.0.1", ports=(("http", "TCP", 8080),)),
        pod("a/db", "10.0.0.2"),
        pod("b/web", "10.0.0.3"),
    )
    who = engine.inventory(world.cluster)
    old = [policy("a/p", "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]}")]
    new = [policy("a/p", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]}")]
    sets = [engine.compile_policies(engine.policy_set(docs), who) for docs in (old, new)]
    found = connectivity_difference(*sets)
    assert not found.none
    for change in found.changes:
        src, dst, word, port = change.example
        was, now = (world.see(docs, f"{src} > {dst} {word}/{port}") for docs in (old, new))
        expected = {"newly-denied": ("allowed", "denied-ingress"), "newly-allowed": ("denied-ingress", "allowed")}
        assert (was, now) == expected[change.change], change
    assert {c.ports for c in found.changes if c.change == "newly-denied"} == {((8080, 8080),)}
    assert connectivity_difference(sets[0], sets[0]).none
    short = connectivity_difference(*sets, limit=1)
    assert (len(short.changes), short.left_out) == (1, len(found.changes) - 1)


def static_changes(world: World, old: str, new: str, kind: str = "NetworkPolicy") -> list[tuple[object, ...]]:
    """What a diff tells for TCP, after each example was evaluated: (change, sources, destinations, src, dst, ports)."""
    sides = [[policy("a/p", spec, kind)] for spec in (old, new)]
    who = engine.inventory(world.cluster)
    found = connectivity_difference(*(engine.compile_policies(engine.policy_set(docs), who) for docs in sides))
    for change in found.changes:
        src, dst, word, port = change.example
        was, now = (world.see(docs, f"{src} > {dst} {word}/{port}").partition("-")[0] for docs in sides)
        want = {"newly-denied": ("allowed", "denied"), "newly-allowed": ("denied", "allowed")}
        assert (was, now) == want[change.change], change
    return [
        (c.change, c.sources, c.destinations, *c.example[:2], c.ports) for c in found.changes if c.protocol == "TCP"
    ]


CLOSED = "{podSelector: {}, policyTypes: [Ingress], ingress: []}"
EVERY = ((1, 65535),)


def test_a_block_of_the_pods_own_node_changes_nothing() -> None:
    open_node = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.1/32}}]}]}"
    one = World(namespace("a"), node("n1", "192.0.2.1"), pod("a/web-1", "10.0.0.1", node="n1"))
    assert static_changes(one, CLOSED, open_node) == []
    other = World(*one.cluster, pod("a/web-2", "10.0.0.2", node="n2"), pod("a/web-3", "10.0.0.3", node="n2"))
    assert static_changes(other, CLOSED, open_node) == [("newly-allowed", 0, 2, "Node/n1", "a/web-2", EVERY)]


def test_replicas_are_shown_by_two_of_them_and_one_pod_alone_not_at_all() -> None:
    space, first = namespace("a"), pod("a/web-1", "10.0.0.1")
    among = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"
    assert static_changes(World(space, first), CLOSED, among) == []
    two = World(space, first, pod("a/web-2", "10.0.0.2"))
    assert static_changes(two, CLOSED, among) == [("newly-allowed", 2, 2, "a/web-1", "a/web-2", EVERY)]


def test_pods_with_addresses_of_both_families_are_told_once_and_counted() -> None:
    pods = [
        pod(f"a/{name}", [f"10.0.0.{n}", f"fd00::{n}"], labels={"app": name}) for n, name in enumerate(("w", "d"), 1)
    ]
    world = World(namespace("a"), *pods)
    closed = "{podSelector: {matchLabels: {app: d}}, ingress: []}"
    by_label = "{podSelector: {matchLabels: {app: d}}, ingress: [{from: [{podSelector: {}}]}]}"
    assert static_changes(world, closed, by_label) == [("newly-allowed", 1, 1, "a/w", "a/d", EVERY)]
    by_block = "{podSelector: {matchLabels: {app: d}}, ingress: [{from: [{ipBlock: {cidr: 'fd00::/8'}}]}]}"
    told = static_changes(world, closed, by_block)
    assert ("newly-allowed", 1, 1, "fd00::1", "fd00::2", EVERY) in told
    assert not [item for item in told if item[3] in ("a/w", "10.0.0.1")]


def test_what_only_a_pods_own_node_tells_apart_is_told() -> None:
    world = World(namespace("a"), node("n1", "192.0.2.1"), pod("a/web", "10.0.0.1", node="n1"))
    closed, host = "{endpointSelector: {}, egress: [{}]}", "{endpointSelector: {}, egress: [{toEntities: [host]}]}"
    told = static_changes(world, closed, host, "CiliumNetworkPolicy")
    assert told == [("newly-allowed", 1, 0, "a/web", "Node/n1", EVERY)]


def changed(who: Inventory, old: str, new: str) -> set[tuple[str, str]]:
    """(kind of change, destination) for TCP."""
    sets = [
        engine.compile_policies(engine.policy_set([policy("a/c", spec, "CiliumNetworkPolicy")]), who)
        for spec in (old, new)
    ]
    found = [c for c in connectivity_difference(*sets).changes if c.protocol == "TCP"]
    return {(c.change, target) for c in found for target in c.targets}


NOTHING = "{endpointSelector: {}, egress: [{}]}"


def test_a_difference_finds_the_api_server_outside_of_the_cluster() -> None:
    servers = slice_of("default/kubernetes", ["198.51.100.5"], [("https", 6443)])
    who = engine.inventory(World(namespace("a"), pod("a/web", "10.0.0.1"), servers).cluster)
    entity = "{endpointSelector: {}, egress: [{toEntities: [kube-apiserver]}]}"
    assert changed(who, NOTHING, entity) == {("newly-allowed", "198.51.100.5")}


def test_a_difference_finds_names_with_and_without_an_answer() -> None:
    answer = Timed({"kind": "Answer", "name": "api.example.com", "address": "198.51.100.7"})
    again = Timed({"kind": "Answer", "name": "also.example.com", "address": "198.51.100.8"})
    who = engine.inventory(World(namespace("a"), pod("a/web", "10.0.0.1"), answer, again).cluster)
    dns = "{toEndpoints: [{}], toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}]}"
    names = "{matchName: api.example.com}, {matchName: other.org}, {matchPattern: '**.sub.org'}"
    some = f"{{endpointSelector: {{}}, egress: [{dns}, {{toFQDNs: [{names}]}}]}}"
    none = f"{{endpointSelector: {{}}, egress: [{dns}]}}"
    found = {"198.51.100.7", "other.org", "x.sub.org"}
    assert changed(who, none, some) == {("newly-allowed", name) for name in found}


def test_answers_that_no_rule_tells_apart_are_one_end() -> None:
    answers = [
        Timed({"kind": "Answer", "name": f"h{n}.example.com", "address": f"198.51.{n >> 8}.{n & 255}"})
        for n in range(9_000)
    ]
    who = engine.inventory(World(namespace("a"), pod("a/web", "10.0.0.1"), *answers).cluster)
    spec = "{endpointSelector: {}, egress: [{toFQDNs: [{matchName: h8999.example.com}]}]}"
    compiled = engine.compile_policies(engine.policy_set([policy("a/c", spec, "CiliumNetworkPolicy")]), who)
    ends = ends_of((compiled,), NOW)
    assert [text for text in ends.text if text.startswith("198.51.")] == ["198.51.0.0", "198.51.35.39"]


def test_exposed_workloads_are_those_that_no_policy_isolates() -> None:
    world = World(namespace("a"), namespace("b"), pod("a/web", "10.0.0.1"), pod("b/open", "10.0.0.2"))
    who = engine.inventory(world.cluster)
    deny = policy("a/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")
    found = exposed(engine.compile_policies(engine.policy_set([deny]), who))
    (one,) = found
    assert (one.workload, one.open, one.pods, one.of) == ("b/Pod/open", ("ingress", "egress"), 1, 1)
    assert (one.reached_by, one.sources, one.nodes, one.outside) == (0, (), False, True)  # a/web may not leave


def test_each_workload_that_is_open_is_told_also_where_policies_see_no_difference() -> None:
    pods = [pod(f"a/{name}", f"10.0.0.{n}", labels={"app": name}) for n, name in enumerate(("web", "db", "shut"), 1)]
    world = World(namespace("a"), node("n1", "192.168.0.1"), *pods)
    deny = policy("a/deny", "{podSelector: {matchLabels: {app: shut}}, policyTypes: [Ingress]}")
    found = exposed(engine.compile_policies(engine.policy_set([deny]), engine.inventory(world.cluster)))
    told = [(one.workload, one.open, one.reached_by, one.sources, one.nodes, one.outside) for one in found]
    both = ("ingress", "egress")
    assert told == [
        ("a/Pod/db", both, 2, ("a/Pod/shut", "a/Pod/web"), True, True),
        ("a/Pod/shut", ("egress",), 0, (), False, False),
        ("a/Pod/web", both, 2, ("a/Pod/db", "a/Pod/shut"), True, True),
    ]
