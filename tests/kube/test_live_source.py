"""``kube:`` on the real cluster, by its own kubectl: the answers are those of the same objects from files."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from admission import Admission
from inhabitants import SPACES, Place
from kube_cluster import CACHE, KINDS, Cluster, Doc
from random_policies import policy_set

from fathom.cli.main import main

FLOWS, SEED, BEYOND_A_PART = 400, 11, 503
SPACE = next(iter(SPACES))
CILIUM = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "live", "namespace": SPACE},
    "spec": {"endpointSelector": {}, "egress": [{"toEntities": ["cluster"]}]},
}
#: May read everything that is needed but services.
LESS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "fathom-less"},
    "rules": [
        {
            "apiGroups": ["", "apps", "batch", "discovery.k8s.io", "networking.k8s.io"],
            "resources": "namespaces nodes pods replicationcontrollers deployments replicasets statefulsets daemonsets"
            " jobs cronjobs endpointslices networkpolicies".split(),
            "verbs": ["get", "list"],
        }
    ],
}


@pytest.fixture
def flows(places: list[Place], tmp_path: Path) -> Path:
    """Flows of now between all places, as JSON lines."""
    dice, now = random.Random(SEED), int(time.time())
    file = tmp_path / "flows.jsonl"
    made: list[Doc] = []
    for _ in range(FLOWS):
        src, dst = dice.sample(places, 2)
        ends = {"src": dice.choice((src.flow, src.address)), "dst": dice.choice((dst.flow, dst.address))}
        made.append({**ends, "protocol": "TCP", "port": dice.choice((80, 81, 443)), "count": 1})
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    file.write_text("".join(json.dumps({**flow, "first_seen": stamp, "last_seen": stamp}) + "\n" for flow in made))
    return file


@pytest.fixture
def as_a_user(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster's kubectl and kubeconfig are those of the shell."""
    monkeypatch.setenv("PATH", f"{CACHE / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("KUBECONFIG", str(cluster.state / "admin.conf"))


def policy(*arguments: str) -> tuple[int, str, str]:
    """Status, output and messages of a command of ``fathom policy``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["policy", *arguments])
    return status, out.getvalue(), err.getvalue()


def plain(answer: Any) -> Any:
    """An answer without where in which file policies stand, when it was read, and the order of policies."""
    if isinstance(answer, dict):
        found = {key: plain(value) for key, value in answer.items() if key not in ("file", "document", "as_of")}
        return {key: sorted(value, key=str) if key in ("policies", "rules") else value for key, value in found.items()}
    if isinstance(answer, str):
        return re.sub(r"^items\[\d+\]\.", "", answer)
    return [plain(item) for item in answer] if isinstance(answer, list) else answer


@pytest.mark.usefixtures("as_a_user")
def test_the_live_cluster_answers_as_its_objects_in_files(cluster: Cluster, flows: Path, tmp_path: Path) -> None:
    Admission(cluster, SPACES)  # Cilium's definitions
    made = policy_set(SEED, ["10.244.1.77", "10.244.2.3"])
    try:
        cluster.apply([*made, CILIUM])
        status, live, said = policy(
            "evaluate", *("--policies", "kube:"), *("--manifests", "kube:"), "--flows", str(flows)
        )
        whole = cluster.get("networkpolicies,ciliumnetworkpolicies")
        (tmp_path / "policies.json").write_text(whole)
        (tmp_path / "objects.json").write_text(cluster.get(KINDS))
        files = ("--policies", str(tmp_path / "policies.json"), "--manifests", str(tmp_path / "objects.json"))
        again = policy("evaluate", *files, "--flows", str(flows))
        replays = [
            policy("replay", *s, "--flows", str(flows), "-o", "json")
            for s in (files, ("--policies", "kube:", "--manifests", "kube:"))
        ]
        difference = policy("diff", "--old", "kube:", "--new", str(tmp_path / "policies.json"), *files[2:])
    finally:
        for space in SPACES:
            cluster.kubectl("-n", space, "delete", "networkpolicies,ciliumnetworkpolicies", "--all")
    assert (status, again[0]) == (0, 0), said + again[2]
    assert f"fathom: {len(json.loads(whole)['items'])} policies of kube:" in said
    assert "has no CiliumNetworkPolicy" not in said
    assert "has no CiliumClusterwideNetworkPolicy" not in said
    lines = [[json.loads(line) for line in text.splitlines()] for text in (live, again[1])]
    assert plain(lines[0]) == plain(lines[1])
    counts = Counter(line["verdict"] for line in lines[0])
    print(f"{len(lines[0])} flows: {dict(counts)}")
    assert len(lines[0]) == FLOWS
    assert counts["allowed"] > 20
    assert FLOWS - counts["allowed"] - counts["unknown"] > 20
    assert [found[0] for found in replays] == [1, 1]
    assert plain(json.loads(replays[0][1])) == plain(json.loads(replays[1][1]))
    assert difference[0] == 0, difference[1]


@pytest.mark.usefixtures("as_a_user", "places")
def test_a_list_longer_than_a_part_is_whole(cluster: Cluster) -> None:
    spec = {"podSelector": {"matchLabels": {"app": "none"}}}
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    others = len(cluster.items("networkpolicies"))
    many = [{**head, "metadata": {"name": f"many-{n}", "namespace": SPACE}, "spec": spec} for n in range(BEYOND_A_PART)]
    try:
        cluster.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": many}))
        status, out, said = policy("diff", "--old", "kube:", "--new", "kube:", "--manifests", "kube:")
    finally:
        cluster.api.delete(f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies").raise_for_status()
    assert (status, said.count(f"fathom: {BEYOND_A_PART + others:,} policies of kube:")) == (0, 2), out + said


@pytest.mark.usefixtures("as_a_user", "places")
def test_a_reader_that_may_not_read_all_is_told_what_is_missing(cluster: Cluster, flows: Path, tmp_path: Path) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "less", "namespace": SPACE}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "fathom-less"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fathom-less"},
        "subjects": [{"kind": "ServiceAccount", "name": "less", "namespace": SPACE}],
    }
    cluster.apply([account, LESS, binding])
    token = cluster.kubectl("-n", SPACE, "create", "token", "less").strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    (tmp_path / "less.conf").write_text(json.dumps(config))
    given = ("--kubeconfig", str(tmp_path / "less.conf"), "--manifests", "kube:", "--flows", str(flows))
    status, out, said = policy("replay", "--policies", "kube:", *given)
    assert (status, out) == (2, "")
    assert 'cannot list resource "services" in API group ""' in said
    for user in config["users"]:
        user["user"] = {"token": token[:-8]}
    (tmp_path / "less.conf").write_text(json.dumps(config))
    status, out, said = policy("replay", "--policies", "kube:", *given)
    assert (status, out) == (2, "")
    assert "log in again" in said
