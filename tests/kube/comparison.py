"""Policy sets in force on the cluster, one after another: what is met against what the engine says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import engine
from canary import Canary
from enforcer import Readings
from inhabitants import SPACES, Place, services
from kube_cluster import Cluster
from probes import Met, Probe, Prober, every
from reference_cluster import Doc
from verdicts_here import Here, read_live

from fathom.policy.model import PolicySet

OWN_SERVICE = "a pod reaches itself through its service only where policies let it"


@dataclass
class Tally:
    """What was compared, over all sets. ``explained``: differences by name."""

    verdicts: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Comparison:
    """Every pair of places and every port, and the services, under each set that is put in force."""

    def __init__(self, cluster: Cluster, canary: Canary, places: Sequence[Place]) -> None:
        self.cluster, self.canary = cluster, canary
        self.prober = Prober(cluster)
        self.here = Here(cluster)
        self.readings = Readings(cluster.items("pods"), cluster.items("namespaces"))
        self.tally = Tally()
        self.probes = every(places, places)
        self.ways = [[probe] for probe in self.probes]
        # Probes of services: a way for each backend.
        for service in services(cluster, list(places)):
            for word, port, behind in service.ports:
                for src in (place for place in places if place.kind != "outside"):
                    self.probes.append(Probe(src, service.place, word, port))
                    self.ways.append([Probe(src, backend, word, behind) for backend in service.backends])

    def enforce(self, documents: Sequence[Doc]) -> None:
        """Put these policies in force, and no others."""
        for space in (*SPACES, "default"):
            self.cluster.kubectl("-n", space, "delete", "networkpolicy", "--all")
        if documents:
            self.cluster.apply(documents)
        self.canary.wait()

    def compare(self, documents: list[Doc]) -> None:
        """Probe under these policies; what is not as the engine says is explained, or wrong."""
        self.enforce(documents)
        met = self.prober(self.probes)
        live, stored = read_live(self.cluster)
        words = self.words(engine.policy_set(documents), self.ways)
        assert words == self.words(live, self.ways), "a policy means something else as the API server has stored it"
        self._count(documents, met, words)
        odd = [n for n in range(len(met)) if not agrees(met[n], self.ways[n], words[n])]
        for number, name in zip(odd, self._explain(odd, met, stored), strict=True):
            if name:
                self.tally.explained[name] += 1
            else:
                self.tally.wrong.append(f"{self.probes[number]}: {words[number]}, but {met[number]}")

    def words(self, policies: PolicySet, ways: Sequence[Sequence[Probe]]) -> list[list[str]]:
        """The engine's verdicts of every way, which are the same whether ends have names or addresses."""
        flat = [probe for item in ways for probe in item]
        found = self.here.verdicts(policies, flat)
        assert found == self.here.verdicts(policies, flat, addresses=True)
        rest = iter(found)
        return [[next(rest) for _ in item] for item in ways]

    def _count(self, documents: list[Doc], met: list[Met], words: list[list[str]]) -> None:
        self.tally.met.update(item.word for item in met)
        self.tally.verdicts.update(word for item in words for word in item[:1])
        self.tally.ends.update(f"{probe.src.kind} to {probe.dst.kind}" for probe in self.probes)
        self.tally.features += self.here.matched(documents, [item[0] for item in self.ways])

    def _explain(self, odd: list[int], met: list[Met], stored: list[Doc]) -> list[str]:
        """For each difference the name of what explains it, ``""`` if nothing does."""
        ways = [self.ways[n] for n in odd]
        names = [OWN_SERVICE if to_itself(met[n], self.probes[n], self.ways[n]) else "" for n in odd]
        for name, read in self.readings:
            if all(names):
                break
            words = self.words(engine.policy_set(read(stored)), ways)
            for place, number in enumerate(odd):
                if not names[place] and agrees(met[number], ways[place], words[place]):
                    names[place] = name
        return names


def agrees(met: Met, ways: Sequence[Probe], words: Sequence[str]) -> bool:
    """What was met is what the verdict of the way that it went says; a closed one may have been any way."""
    if met.open:
        return any(word == "allowed" and way.dst.answers == met.who for way, word in zip(ways, words, strict=True))
    return any(word.startswith("denied") for word in words)


def to_itself(met: Met, probe: Probe, ways: Sequence[Probe]) -> bool:
    return not met.open and probe.dst.kind == "service" and any(way.dst == probe.src for way in ways)
