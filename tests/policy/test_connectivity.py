"""Static connectivity says of every two ends what the evaluation of a flow between them says."""

from __future__ import annotations

import engine
import numpy as np
from hypothesis import HealthCheck, given, settings
from reference_cluster import Timed
from strategies import CHANGE, Case, cases
from world import World, namespace, node, pod, policy, slice_of

from fathom.policy.addresses import address
from fathom.policy.connectivity import Connectivity, connectivity, connectivity_difference
from fathom.policy.ends import Ends, ends_of, ports_of
from fathom.policy.exposure import exposed
from fathom.policy.flows import protocol_word
from fathom.policy.index import NODE, POD, Index
from fathom.policy.inventory import Inventory

NOW = CHANGE + 50


def outcomes(static: Connectivity, src: int, dst: int, port: int) -> set[str]:
    """What may happen from one end to another on one port."""
    allowed, denied = static.from_end(src)
    found = set()
    for word, plane in (("allow", allowed), ("deny", denied)):
        if np.unpackbits(plane[dst], bitorder="little")[port]:
            found.add(word)
    return found


def contested(index: Index, ends: Ends, end: int) -> bool:
    """Whether the made-up history gives the end's address to two at once."""
    one = address(ends.address[end])
    holders = index.holders.get(one, []) if one else []
    return sum(since <= NOW < until for _, _, since, until in holders) > 1


@settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(1))
def test_static_and_flow_by_flow_agree(case: Case) -> None:
    who, options = engine.inventory(case.cluster), engine.options(case.settings)
    compiled = engine.compile_policies(engine.accepted(engine.policy_set(case.policies)), who, options).current()
    ends, ports = ends_of((compiled,), NOW), ports_of((compiled,))
    static = connectivity(compiled, ends, ports)
    pairs = [
        (src, dst, port)
        for src in range(len(ends))
        for dst in range(len(ends))
        for port in range(0, len(ports), 3)
        if POD in (ends.kind[src], ends.kind[dst]) and NODE not in (ends.kind[src], ends.kind[dst])
        if ends.family[src] == ends.family[dst] or not ends.family[src] or not ends.family[dst]
        if not contested(compiled.index, ends, src) | contested(compiled.index, ends, dst)
    ][:: max(1, len(ends) * len(ends) // 40)]
    flows = [
        {
            "src": ends.address[src] or ends.text[src],
            "dst": ends.address[dst] or ends.text[dst],
            "protocol": protocol_word(ports[port].protocol),
            "port": ports[port].first,
            "first_seen": NOW,
            "last_seen": NOW,
        }
        for src, dst, port in pairs
    ]
    if not flows:
        return
    verdicts = engine.evaluate(compiled, engine.resolve(engine.flows(flows), who, options))
    for number, (src, dst, port) in enumerate(pairs):
        egress, ingress = engine.told(verdicts, number)[1:]
        want = {"allow"} if "allow" in egress and "allow" in ingress else set()
        want |= {"deny"} if "deny" in egress | ingress else set()
        if src != dst or ends.members[src] == 1:
            assert outcomes(static, src, dst, port) == want, flows[number]


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
