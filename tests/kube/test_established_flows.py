"""What was there before a policy: the API leaves it open, the engine has an option, this enforcer lets it go on."""

from __future__ import annotations

import engine
from canary import Canary
from comparison import Comparison
from inhabitants import Place
from kube_cluster import Cluster
from probes import Probe

from fathom.policy.compile import compile_policies
from fathom.policy.evaluate import VERDICTS, evaluate
from fathom.policy.options import Options
from fathom.policy.resolve import resolve

DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "b"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}
PORT = 31_000


def test_a_flow_goes_on_that_was_there_before_its_policy(cluster: Cluster, canary: Canary, places: list[Place]) -> None:
    comparison = Comparison(cluster, canary, places)
    comparison.enforce([])
    pods = [place for place in places if place.kind == "pod"]
    probe = Probe(pods[0], next(place for place in pods if place.flow.startswith("b/")), "UDP", 53)
    assert comparison.prober.again(probe, PORT).open
    comparison.enforce([DENY])
    assert comparison.prober.again(probe, PORT).open
    assert not comparison.prober([probe])[0].open

    inventory, policies = comparison.here.inventory, engine.policy_set([DENY])
    old, new = ({"count": 0, "edge": 1}, {"count": 1, "edge": 1})
    said = {}
    for name, fields in (("old", old), ("new", new)):
        for option in ("allowed", "evaluate"):
            chosen = Options(established=option)  # type: ignore[arg-type]
            resolved = resolve(comparison.here.flows([probe], more=fields), inventory, chosen)
            found = evaluate(compile_policies(policies, inventory, chosen), resolved)
            said[name, option] = VERDICTS[int(found.verdict[0])]
    assert said == {
        ("old", "allowed"): "allowed",
        ("old", "evaluate"): "denied-ingress",
        ("new", "allowed"): "denied-ingress",
        ("new", "evaluate"): "denied-ingress",
    }
