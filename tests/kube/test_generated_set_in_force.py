"""From real traffic to policies in force: what was recorded passes, and what the engine denies is blocked."""

from __future__ import annotations

import random
from pathlib import Path

from canary import Canary
from comparison import Comparison
from inhabitants import SPACES, Place
from kube_cluster import Cluster
from probes import Probe
from recorded import flows, recording

from fathom.policy.flows import Flows, protocol_word
from fathom.policy.generate import Choices, generate

#: What the cluster itself offers, by its services: names, and its API.
DNS = Place("kube-system/Service/kube-dns", "10.96.0.10", "", kind="service")
SERVER = Place("default/Service/kubernetes", "10.96.0.1", "", kind="service")
PAIRS = 60


def known_traffic(comparison: Comparison, places: list[Place]) -> list[Probe]:
    """Some of all pairs and services, and what every application does: ask for names, ask the API server.

    Not UDP from outside: the socket of a server is not told from a client's, and outside nobody records.
    """
    dice = random.Random(4)
    pods = [place for place in places if place.kind == "pod"]
    pairs = [p for p in comparison.probes if "pod" in (p.src.kind, p.dst.kind) and p.src != p.dst]
    chosen = dice.sample([p for p in pairs if (p.src.kind, p.protocol) != ("outside", "UDP")], PAIRS)
    chosen += [Probe(pod, DNS, "DNS", 53) for pod in dice.sample(pods, 4)]
    chosen += [Probe(pod, SERVER, "TLS", 443) for pod in dice.sample(pods, 3)]
    return chosen


def evidence(probe: Probe) -> tuple[str, str, str, int]:
    """The flow that shows a probe: recorded where it began, or where it came in."""
    if probe.src.kind == "outside":
        return probe.src.address, probe.dst.flow, probe.transport, probe.port
    return probe.src.flow, probe.dst.address, probe.transport, probe.port


def ends(history: Flows) -> set[tuple[str, str, str, int]]:
    """(source, destination, protocol, port) of every flow."""
    rows, text = history.rows, history.strings
    return {(text[r["src"]], text[r["dst"]], protocol_word(int(r["protocol"])), int(r["port"])) for r in rows}


def test_recorded_traffic_passes_and_other_traffic_is_blocked(
    cluster: Cluster, canary: Canary, places: list[Place], tmp_path: Path
) -> None:
    comparison = Comparison(cluster, canary, places)
    comparison.enforce([])
    known = known_traffic(comparison, places)
    with recording(tmp_path) as record:
        for _ in range(2):
            assert not [str(p) for p, met in zip(known, comparison.prober(known), strict=True) if not met.open]
        history = flows(record.edges(), cluster)
    seen = ends(history)
    assert not [str(probe) for probe in known if evidence(probe) not in seen]

    made = generate(history, comparison.here.inventory, Choices())
    documents = [doc for doc in made.documents if doc["metadata"]["namespace"] in SPACES]
    comparison.compare(documents)
    again = comparison.prober(known)
    assert not [str(p) for p, met in zip(known, again, strict=True) if not met.open]
    tally = comparison.tally
    print(f"{len(history)} flows recorded, {len(documents)} policies; {len(known)} known probes pass")
    print(f"of {len(comparison.probes)} others: {dict(tally.met)}; {dict(tally.explained)}, {len(tally.wrong)} wrong")
    assert not tally.wrong, "\n".join(tally.wrong[:40])
    assert tally.met["refused"] >= 100
