"""Real traffic of real containers, seen by the agent, kept by the server: what is generated from it, replayed on it.

One cluster runs and is recorded; each test asks one thing of the recording.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_loop import names_in, verdicts, without
from cluster import NODE, PODS, Cluster, Did
from covered import Rules, name_of, subject_pods
from fabric import OUTSIDE
from installation import Installation, lost_on_the_way

from fathom.policy import manifests
from fathom.policy.compile import compile_policies
from fathom.policy.evaluate import VERDICTS
from fathom.policy.flows import OBSERVED, Builder, Flows, protocol_word
from fathom.policy.generate import Choices, Generated, generate, to_yaml
from fathom.policy.history import NOT_ALLOWED
from fathom.policy.inventory import Inventory, Pod
from fathom.policy.material import Material
from fathom.policy.model import DIRECTIONS, PROTOCOLS, Direction
from fathom.policy.policysets import read_texts
from fathom.policy.replay import replay
from fathom.policy.resolve import resolve
from fathom.store.material import material
from fathom.store.opening import open_store

pytestmark = [pytest.mark.root, pytest.mark.slow]
FORMS = ("networkpolicy", "cilium")


@dataclass(frozen=True)
class Recording:
    """What was recorded, and what the programs themselves say. ``pods`` by container id."""

    material: Material
    did: set[Did]
    failed: set[Did]
    pods: dict[str, str]
    node_address: str

    @property
    def flows(self) -> Flows:
        """All edges of containers."""
        return self.material.flows

    @property
    def inventory(self) -> Inventory:
        """The cluster's."""
        return self.material.inventory

    def told(self, number: int) -> Did:
        """A flow as a program would tell it."""
        flow = self.flows.to_dict(number)
        mine = f"Node/{NODE}/"
        into = not flow["src"].startswith(mine)
        pod, peer = (flow["dst"], flow["src"]) if into else (flow["src"], flow["dst"])
        return Did(
            "ingress" if into else "egress", self.pods[pod.removeprefix(mine)], peer, flow["protocol"], flow["port"]
        )

    def generated(self, form: Any, directions: tuple[Direction, ...] = ("ingress", "egress")) -> Generated:
        """Policies for all that was recorded."""
        return generate(self.flows, self.inventory, Choices(form, directions))

    def verdicts(self, documents: Any, flows: Flows | None = None) -> list[str]:
        """The word for each flow."""
        resolved = resolve(self.flows if flows is None else flows, self.inventory)
        found = verdicts(documents, self.inventory, resolved)
        return [VERDICTS[int(item)] for item in found]


@pytest.fixture(scope="module")
def recording(container_root: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """The cluster's traffic, recorded by a server and an agent; all of them have ended."""
    here = Installation(tmp_path_factory.mktemp("installation"))
    try:
        here.start_both()  # first: who began a conversation of an older UDP socket is not known for two minutes
        with Cluster(container_root, place) as cluster:
            cluster.visit()
            time.sleep(0.5)  # the last sockets close
            until = time.time()
            here.observed_until(until)
            cluster.stop()
        assert lost_on_the_way(here.get("edges", since="1h", limit=1)) == []
        here.end("agent")
        here.end("server")
        found = manifests.read_texts([("cluster.json", cluster.manifests())])
        assert not found.records.problems
        pods = {identity: pod for pod, identity in cluster.identities.items()}
        yield Recording(
            _material(here.data / "store", found), cluster.did(), cluster.failed(), pods, cluster.fabric.node_address
        )
    finally:
        here.close()


def _material(store: Path, manifests: Inventory) -> Material:
    """What the store holds of containers. Programs that are in none stand for other machines, where no agent is."""
    opened = open_store(f"sqlite://{store}", read_only=True)
    found = material(opened, manifests=manifests.records)
    opened.close()
    flows = found.flows
    outside = [number for number, text in enumerate(flows.strings) if text == f"Node/{NODE}"]
    return replace(
        found, flows=flows.select(~np.isin(flows.rows["src"], outside) & ~np.isin(flows.rows["dst"], outside))
    )


def test_the_recording_is_what_the_programs_did(recording: Recording) -> None:
    """Every edge of every pod, at both ends, by the ids of their containers; nothing else."""
    told: dict[str, set[Did]] = {word: set() for word in OBSERVED}
    for number in range(len(recording.flows)):
        told[OBSERVED[recording.flows.rows["observed"][number]]].add(recording.told(number))
    print(f"{len(recording.flows)} edges of {len(PODS)} pods")
    assert told["forwarded"] == recording.did
    assert told["failed"] == recording.failed
    assert told["dropped"] | told["unknown"] == set()
    assert len(recording.flows) == len(recording.did | recording.failed)


def test_what_was_let_through_is_used_and_what_was_not_is_not(recording: Recording) -> None:
    found = recording.generated("networkpolicy")
    used = {recording.told(int(number)) for number in np.flatnonzero(found.used)}
    away = {recording.told(int(number)): int(found.reasons[number]) for number in np.flatnonzero(~found.used)}
    assert used == recording.did
    assert away == dict.fromkeys(recording.failed, NOT_ALLOWED)


@pytest.mark.parametrize("form", FORMS)
def test_the_generated_set_replayed_on_its_own_history_denies_nothing(form: Any, recording: Recording) -> None:
    """As files, read back; what failed is denied too, and nothing else is."""
    found = recording.generated(form)
    policies = read_texts([("made.yaml", to_yaml(found.documents))])
    assert {problem.severity for problem in policies.problems} <= {"warning"}
    print(f"{form}: {len(found.documents)} policies, {len(found.evidence)} rules, {found.beyond} beyond")
    compiled = compile_policies(policies, recording.inventory)
    history = recording.flows.select(found.used)
    told = replay(compiled, history, resolve(history, recording.inventory))
    assert (told.groups, told.flows["allowed"]) == ((), len(recording.did))
    words = recording.verdicts(found.documents)
    denied = {recording.told(number) for number, word in enumerate(words) if word != "allowed"}
    assert denied == recording.failed
    assert len(found.documents) == len({pod.workload for pod in recording.inventory.records.pods})


@pytest.mark.parametrize("form", FORMS)
def test_a_rule_that_goes_takes_the_edges_of_its_evidence_and_nothing_else(form: Any, recording: Recording) -> None:
    found = recording.generated(form)
    edges = recording.flows.rows["edge"]
    checked = 0
    for rule in found.evidence:
        assert not (rule.companion and names_in(found, rule))  # no names were seen here
        words = recording.verdicts(without(found.documents, rule))
        denied = {number for number, word in enumerate(words) if word != "allowed"} & set(
            np.flatnonzero(found.used).tolist()
        )
        assert denied == set(rule.flows), rule
        assert {int(edges[number]) for number in denied} == set(rule.edges)
        assert all(words[number].startswith("denied") for number in denied), rule
        checked += 1
    assert checked == len(found.evidence) > 20


@pytest.mark.parametrize("form", FORMS)
def test_a_flow_outside_of_every_peer_protocol_and_port_is_denied(form: Any, recording: Recording) -> None:
    """Everybody to everybody, on every port of any rule and some others: exactly what a rule's evidence covers."""
    found = recording.generated(form)
    rules = Rules(found, recording.inventory)
    ends: list[Pod | str] = [*recording.inventory.records.pods, *OUTSIDE, "192.0.2.1"]
    ports = sorted({port for rule in found.evidence for port in rule.ports} | {"TCP/22", "UDP/9090", "SCTP/8080"})
    probes, expected = Builder(), []
    for src, dst, port in ((s, d, p) for s in ends for d in ends for p in ports):
        if isinstance(src, Pod) or isinstance(dst, Pod):
            protocol, _, number = port.partition("/")
            texts = [end if isinstance(end, str) else f"{end.namespace}/{end.name}" for end in (src, dst)]
            probes.add(*texts, PROTOCOLS[protocol], int(number))
            expected.append(rules.verdict(src, dst, port))
    flows = probes.flows()
    words = recording.verdicts(found.documents, flows)
    print(f"{form}: {len(words)} probes, {words.count('allowed')} allowed")
    assert [flows.to_dict(n) for n in range(len(words)) if words[n] != expected[n]] == []
    assert words.count("allowed") < len(words) / 10
    assert {"allowed", "denied-egress", "denied-ingress", "denied-both"} == set(words)


def test_both_forms_say_the_same_on_the_history(recording: Recording) -> None:
    first, second = (recording.generated(form) for form in FORMS)
    assert np.array_equal(first.reasons, second.reasons)
    one, other = (recording.verdicts(found.documents) for found in (first, second))
    assert one == other


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_is_allowed_beyond_the_history_is_counted_and_within_its_bound(
    direction: Direction, recording: Recording
) -> None:
    """Counted anew: every pod to every pod, and for each policy one of its pods with every address of its blocks."""
    found = recording.generated("networkpolicy", (direction,))
    subjects = {name_of(doc): subject_pods(recording.inventory, doc) for doc in found.documents}
    seen = _seen_pairs(found, recording, direction)
    beyond = 0
    for policy, mine in subjects.items():
        rules = [rule for rule in found.evidence if rule.policy == policy]
        ports = sorted({port for rule in rules for port in rule.ports})
        blocks = {word for rule in rules for word in rule.peer.split() if word[0].isdigit() and "/" in word}
        addresses = [str(one) for block in sorted(blocks) for one in ip_network(block)]
        pairs = [(pod, f"{peer.namespace}/{peer.name}") for pod in mine for peer in recording.inventory.records.pods]
        tried = [(*pair, port) for pair in [*pairs, *((mine[0], one) for one in addresses)] for port in ports]
        probes = Builder()
        for pod, peer, port in tried:
            protocol, _, number = port.partition("/")
            ends = (pod, peer) if direction == "egress" else (peer, pod)
            probes.add(*ends, PROTOCOLS[protocol], int(number))
        words = recording.verdicts(found.documents, probes.flows()) if tried else []
        allowed = {one for one, word in zip(tried, words, strict=True) if word == "allowed" and one[0] != one[1]}
        known = {(mine[0] if "/" not in peer else pod, peer, port) for pod, peer, port in seen if pod in mine}
        assert known <= allowed
        beyond += len(allowed - known)
        outside = {peer for _, peer, _ in known if "/" not in peer}
        assert len(addresses) <= found.bound * len(outside) or "kube-apiserver" in {r.peer.split()[0] for r in rules}
    own = sum(len(rule.ports) * len(subjects[rule.policy]) for rule in found.evidence if _holds_itself(rule, found))
    print(f"{direction}: {beyond} beyond the history")
    assert found.beyond == beyond + own


def _seen_pairs(found: Generated, recording: Recording, direction: Direction) -> set[tuple[str, str, str]]:
    """(pod, peer, port) of the flows that were used, the peer a pod or an address outside, through services too."""
    resolved = resolve(recording.flows, recording.inventory)
    rows, pods = resolved.rows, recording.inventory.records.pods
    mine, theirs = ("src", "dst") if direction == "egress" else ("dst", "src")
    seen = set()
    for n in np.flatnonzero(found.used[rows["flow"]]).tolist():
        pod, peer = int(rows[f"{mine}_pod"][n]), int(rows[f"{theirs}_pod"][n])
        if pod < 0 or pod == peer:
            continue
        (address,) = resolved.index.addresses.values[int(rows[f"{theirs}_addresses"][n])][:1]
        other = f"{pods[peer].namespace}/{pods[peer].name}" if peer >= 0 else str(address)
        if peer < 0 and other == recording.node_address:
            continue  # the pods' own node may always reach them, and needs no rule
        port = f"{protocol_word(int(rows['protocol'][n]))}/{int(rows['port'][n])}"
        seen.add((f"{pods[pod].namespace}/{pods[pod].name}", other, port))
    return seen


def _holds_itself(rule: Any, found: Generated) -> bool:
    document = next(doc for doc in found.documents if name_of(doc) == rule.policy)
    return rule.peer == document["metadata"]["annotations"]["fathom.dev/workloads"]
