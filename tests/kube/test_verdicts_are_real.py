"""Policies of the strategies, in force on a real cluster: each probed connection meets what the engine says of it."""

from __future__ import annotations

from canary import Canary
from comparison import Comparison
from inhabitants import Place
from kube_cluster import Cluster
from random_policies import policy_set

SETS = range(24)
#: Matched by how many probes at least, in all sets together: what rules are made of, and each kind of verdict.
FEATURES = (
    "podSelector namespaceSelector namespaceSelector+podSelector ipBlock except anybody isolated In NotIn Exists "
    "DoesNotExist"
).split()
PORTS = ("any port", "number of a port", "name of a port", "range of ports", "protocol alone")
SELDOM = 5


def test_each_connection_meets_its_verdict(cluster: Cluster, canary: Canary, places: list[Place]) -> None:
    comparison = Comparison(cluster, canary, places)
    comparison.compare([])
    tally = comparison.tally
    assert set(tally.met) == {"open"}, tally.wrong
    pods = [place.address for place in places if place.kind == "pod"]
    for seed in SETS:
        comparison.compare(policy_set(seed, pods))
    print(f"{comparison.prober.tried} probes; verdicts {dict(tally.verdicts)}; met {dict(tally.met)}")
    print(f"ends {dict(tally.ends)}")
    print(f"features {dict(sorted(tally.features.items()))}")
    print(f"differences by name {dict(tally.explained)}, {len(tally.wrong)} others")
    assert not tally.wrong, "\n".join(tally.wrong[:40])
    assert comparison.prober.tried >= 2_000
    assert not [word for word in ("denied-ingress", "denied-egress", "denied-both") if tally.verdicts[word] < 100]
    wanted = [f"{direction}: {feature}" for direction in ("ingress", "egress") for feature in (*FEATURES, *PORTS)]
    assert not [feature for feature in wanted if tally.features[feature] < SELDOM]
