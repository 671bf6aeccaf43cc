"""The closed loop: policies generated from a history, evaluated on that history, whole and less one rule each."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
from covered import Rules, name_of, subject_pods
from generated_clusters import CHANGE, OUTSIDE, SPACES, START, TCP, Made, make

from fathom.policy.compile import compile_policies
from fathom.policy.documents import Document
from fathom.policy.evaluate import UNDECIDED, VERDICTS, evaluate
from fathom.policy.flows import Builder
from fathom.policy.generate import Choices, Evidence, Generated, generate
from fathom.policy.inventory import Inventory, Pod
from fathom.policy.model import DIRECTIONS, PROTOCOLS, Direction
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.resolve import Resolved, resolve

FORMS = ("networkpolicy", "cilium")


def verdicts(documents: Any, inventory: Inventory, resolved: Resolved) -> np.ndarray[Any, Any]:
    """The verdict of each flow (index into VERDICTS) under the documents, which must be understood in full."""
    found = read(Document(Place("generated", number), doc) for number, doc in enumerate(documents))
    assert not [p for p in found.problems if p.severity != "warning"], found.problems
    return evaluate(compile_policies(found, inventory), resolved).verdict


def without(documents: Any, rule: Evidence) -> list[dict[str, Any]]:
    """The documents less one rule."""
    changed = list(documents)
    (at,) = (n for n, doc in enumerate(changed) if name_of(doc) == rule.policy)
    rules = list(changed[at]["spec"][rule.direction])
    del rules[rule.rule]
    if changed[at]["kind"] == "CiliumNetworkPolicy" and not rules:
        rules = [{}]
    changed[at] = {**changed[at], "spec": {**changed[at]["spec"], rule.direction: rules}}
    return changed


def told(verdict: np.ndarray[Any, Any], made: Made, wrong: Any) -> list[Any]:
    return [(made.flows.to_dict(int(n)), VERDICTS[int(verdict[n])]) for n in wrong]


def check_history_is_allowed(seed: int, choices: Choices) -> int:
    """What was seen is allowed. Returns how many flows that are."""
    made = make(seed)
    found = generate(made.flows, made.inventory, choices)
    verdict = verdicts(found.documents, made.inventory, resolve(made.flows, made.inventory))
    wrong = np.flatnonzero(found.used & (verdict != 0))
    assert not len(wrong), (seed, told(verdict, made, wrong))
    assert found.used.any()
    return int(found.used.sum())


def check_each_rule(form: Any, seed: int, *, widen: bool) -> int:
    """A rule that goes takes its evidence with it, and nothing else. Returns how many rules that were."""
    made = make(seed, 40)
    found = generate(made.flows, made.inventory, Choices(form, widen=widen))
    resolved = resolve(made.flows, made.inventory)
    # Backends may differ, and an address may have gone from one replica to another during the flow.
    several = set(np.flatnonzero(np.bincount(resolved.rows["flow"]) > 1).tolist())
    used = set(np.flatnonzero(found.used).tolist())
    rules = 0
    for rule in found.evidence:
        if form == "cilium" and rule.companion and names_in(found, rule):
            continue  # the names of other rules are learned through it
        verdict = verdicts(without(found.documents, rule), made.inventory, resolved)
        denied = set(np.flatnonzero(verdict != 0).tolist()) & used
        assert denied == set(rule.flows), (seed, rule, denied)
        unsure = set(np.flatnonzero(verdict == UNDECIDED).tolist()) & used
        assert unsure <= several, (seed, rule, unsure)
        rules += 1
    return rules


def names_in(found: Generated, rule: Evidence) -> bool:
    policies = {name_of(doc): doc for doc in found.documents}
    return any("toFQDNs" in item for item in policies[rule.policy]["spec"].get("egress", ()))


def check_outside_is_denied(form: Any, seed: int) -> int:
    """A flow outside of every peer, or protocol, or port of the rules is denied. Returns how many were tried."""
    rng = random.Random(seed)
    made = make(seed)
    found = generate(made.flows, made.inventory, Choices(form))
    subjects = sorted({name for doc in found.documents for name in subject_pods(made.inventory, doc)})
    used = {number for rule in found.evidence for port in rule.ports for number in span(port)}
    free = [number for number in rng.sample(range(1, 65_536), 40) if number not in used]
    builder = Builder()
    for name in subjects:
        builder.add(name, OUTSIDE[0], TCP, free[0])
        builder.add("203.0.113.7", name, TCP, 8080)  # an address that nothing used
        builder.add(name, "203.0.113.8", TCP, 443)
        builder.add(name, "shop/stranger", TCP, free[1])
        builder.add(name, OUTSIDE[0], 132, 443)  # a protocol that this port was not used with
        for other in rng.sample(subjects, min(3, len(subjects))):
            if other != name:
                builder.add(name, other, rng.choice((TCP, 17, 132)), rng.choice(free))
    probes = builder.flows()
    verdict = verdicts(found.documents, made.inventory, resolve(probes, made.inventory))
    words = [VERDICTS[int(v)] for v in verdict]
    assert words, seed
    wrong = [probes.to_dict(n) for n, word in enumerate(words) if not word.startswith("denied")]
    assert not wrong, (seed, wrong)
    return len(words)


def span(port: str) -> range:
    """The numbers of ``TCP/80`` or ``TCP/80-90``."""
    first, _, last = port.partition("/")[2].partition("-")
    return range(int(first), int(last or first) + 1)


def check_coverage(seed: int, choices: Choices, count: int = 400) -> tuple[int, int]:
    """Random flows, most of which the history does not hold: documents and evidence agree on each. Returns how many
    were allowed and denied."""
    made, dice = make(seed), random.Random(seed)
    found = generate(made.flows, made.inventory, choices)
    answers = made.inventory.records.answers
    rules = Rules(
        found,
        made.inventory,
        lambda address, time: [a.name for a in answers if a.address == address and a.since <= time < a.until],
    )
    ports = sorted({port for rule in found.evidence for port in rule.ports} | {"TCP/1", "UDP/8080", "SCTP/443"})
    builder, expected = Builder(), []
    for _ in range(count):
        time = dice.choice((START, CHANGE + 10))
        living = [p for p in made.inventory.records.pods if not p.host_network and p.since <= time < p.until]
        src, dst = (dice.choice(living) if dice.random() < 0.7 else dice.choice(OUTSIDE) for _ in range(2))
        protocol, port = dice.choice(ports).partition("-")[0].split("/")
        if isinstance(src, Pod) or isinstance(dst, Pod):
            ends = [end if isinstance(end, str) else f"{end.namespace}/{end.name}" for end in (src, dst)]
            builder.add(*ends, PROTOCOLS[protocol], int(port), first=time, last=time)
            expected.append(rules.verdict(src, dst, f"{protocol}/{port}", time))
    probes = builder.flows()
    verdict = verdicts(found.documents, made.inventory, resolve(probes, made.inventory))
    words = [VERDICTS[int(v)] for v in verdict]
    wrong = [(probes.to_dict(n), words[n], expected[n]) for n in range(len(words)) if words[n] != expected[n]]
    assert not wrong, (seed, wrong[:3])
    return words.count("allowed"), len(words) - words.count("allowed")


def check_both_forms_agree(seed: int) -> int:
    """NetworkPolicy and Cilium say the same on the history. Returns how many flows were compared."""
    made = make(seed)
    resolved = resolve(made.flows, made.inventory)
    first, second = (generate(made.flows, made.inventory, Choices(form)) for form in FORMS)
    assert np.array_equal(first.reasons, second.reasons)
    one, other = (verdicts(found.documents, made.inventory, resolved) for found in (first, second))
    assert np.array_equal(one[first.used], other[first.used])
    return int(first.used.sum())


def check_what_is_beyond(seed: int, direction: Direction, *, widen: bool) -> int:
    """What rules between pods allow beyond the history is what was counted. Returns how much that is."""
    made = make(seed, 40)
    found = generate(made.flows, made.inventory, Choices("networkpolicy", (direction,), widen=widen))
    pods = sorted({f"{p.namespace}/{p.name}" for p in made.inventory.records.pods if not p.host_network})
    seen = pairs_seen(made, found)
    rules = [
        rule for rule in found.evidence if "/" in rule.peer and not rule.peer[0].isdigit() and ":" not in rule.peer
    ]
    rules = [rule for rule in rules if rule.peer.split("/")[0] in SPACES]
    ports = sorted({port for rule in rules for port in rule.ports})
    builder = Builder()
    for src in pods:
        for dst in pods:
            for port in ports:
                word, number = port.split("/")
                builder.add(
                    src,
                    dst,
                    {"TCP": 6, "UDP": 17, "SCTP": 132}[word],
                    int(number),
                )
    probes = builder.flows()
    named = {name for doc in found.documents for name in subject_pods(made.inventory, doc)}
    verdict = verdicts(found.documents, made.inventory, resolve(probes, made.inventory)) if len(probes) else np.zeros(0)
    allowed = 0
    for number in np.flatnonzero(verdict == 0).tolist():
        flow = probes.to_dict(number)
        key = (flow["src"], flow["dst"], flow["protocol"], flow["port"])
        subject = flow["src" if direction == "egress" else "dst"]
        allowed += subject in named and key not in seen and flow["src"] != flow["dst"]
    counted = sum(rule.beyond for rule in rules)
    own = sum(1 for key in self_pairs(rules, made, found))
    assert counted == allowed + own, seed
    return counted


def pairs_seen(made: Made, found: Generated) -> set[tuple[str, str, str, int]]:
    resolved = resolve(made.flows, made.inventory)
    pods, rows = made.inventory.records.pods, resolved.rows
    words = {6: "TCP", 17: "UDP", 132: "SCTP"}
    seen = set()
    for n in range(len(rows)):
        src, dst = int(rows["src_pod"][n]), int(rows["dst_pod"][n])
        if (
            found.used[rows["flow"][n]]
            and src >= 0
            and dst >= 0
            and not pods[src].host_network | pods[dst].host_network
        ):
            ends = [f"{pods[p].namespace}/{pods[p].name}" for p in (src, dst)]
            seen.add((*ends, words[int(rows["protocol"][n])], int(rows["port"][n])))
    return seen


def self_pairs(rules: Any, made: Made, found: Generated) -> list[Any]:
    """(pod, port) of rules that hold the subject itself: counted, though a pod may always reach itself."""
    pairs = []
    policies = {f"{d['metadata']['namespace']}/{d['metadata']['name']}": d for d in found.documents}
    for rule in rules:
        for name in subject_pods(made.inventory, policies[rule.policy]):
            space = name.split("/")[0]
            workloads = policies[rule.policy]["metadata"]["annotations"]["fathom.dev/workloads"].split()
            if rule.peer == f"{space}/*" or rule.peer.split() == workloads:
                pairs += [(name, port) for port in rule.ports]
    return pairs


def check_blocks_within_bound(seed: int, spread: int) -> int:
    """No block holds more than its bound beyond what was seen. Returns how many rules with blocks there are."""
    checked = 0
    made = make(seed)
    found = generate(made.flows, made.inventory, Choices(spread=spread))
    for rule in found.evidence:
        if rule.peer.split("/")[0].replace(".", "").isdigit() and not rule.companion:
            seen = {
                (row[key], row["port"])
                for row in (made.flows.to_dict(n) for n in rule.flows)
                for key in (("dst",) if rule.direction == "egress" else ("src",))
            }
            assert rule.beyond <= (spread - 1) * len(seen), (seed, rule)
            checked += 1
    return checked


def clusters(count: int, first: int) -> Counter[str]:
    """Every property over ``count`` random clusters, and how often each was tried."""
    seen: Counter[str] = Counter()
    for seed in range(first * 10_000, first * 10_000 + count):
        seen["clusters"] += 1
        for form in FORMS:
            choices = Choices(form, widen=seed % 3 == 0, merge_ports=seed % 4, spread=(1, 2, 4, 16)[seed % 4])
            seen["flows allowed"] += check_history_is_allowed(seed, choices)
            seen["rules removed"] += check_each_rule(form, seed, widen=seed % 5 == 0)
            seen["flows outside"] += check_outside_is_denied(form, seed)
            seen["flows tried"] += sum(check_coverage(seed, choices))
        seen["flows in both forms"] += check_both_forms_agree(seed)
        for direction in DIRECTIONS:
            seen["allowed beyond"] += check_what_is_beyond(seed, direction, widen=seed % 5 == 0)
        seen["rules with blocks"] += check_blocks_within_bound(seed, (1, 2, 4, 16)[seed % 4])
    return seen
