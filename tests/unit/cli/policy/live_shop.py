"""The shop of the documentation in a cluster that answers through a program in the place of kubectl."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from .conftest import EXAMPLES

#: Where the API server has the kinds that it has from the beginning.
PLURALS = {
    "Namespace": ("v1", "namespaces"),
    "Node": ("v1", "nodes"),
    "Pod": ("v1", "pods"),
    "Service": ("v1", "services"),
    "ReplicationController": ("v1", "replicationcontrollers"),
    "Deployment": ("apps/v1", "deployments"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "DaemonSet": ("apps/v1", "daemonsets"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "Ingress": ("networking.k8s.io/v1", "ingresses"),
    "CiliumNetworkPolicy": ("cilium.io/v2", "ciliumnetworkpolicies"),
    "CiliumEndpoint": ("cilium.io/v2", "ciliumendpoints"),
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1", "adminnetworkpolicies"),
    "GlobalNetworkPolicy": ("crd.projectcalico.org/v1", "globalnetworkpolicies"),
    "FQDNNetworkPolicy": ("networking.gke.io/v1alpha1", "fqdnnetworkpolicies"),
    "FrontendConfig": ("networking.gke.io/v1beta1", "frontendconfigs"),
    "Tier": ("crd.projectcalico.org/v1", "tiers"),
    "IPPool": ("crd.projectcalico.org/v1", "ippools"),
}
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
Told = dict[str, Any]


def path_of(kind: str) -> str:
    version, plural = PLURALS[kind]
    return f"/{'apis' if '/' in version else 'api'}/{version}/{plural}"


def documents(folder: str) -> list[Told]:
    texts = (file.read_text() for file in sorted((EXAMPLES / folder).glob("*.yaml")))
    return [item for text in texts for item in yaml.safe_load_all(text) if item]


def serve(kinds: list[str], items: list[Told]) -> Told:
    """What a server says that has ``kinds`` and ``items``."""
    objects: dict[str, list[Told]] = {path_of(kind): [] for kind in kinds}
    for item in items:
        item.setdefault("metadata", {})["managedFields"] = [{"manager": "somebody"}]
        objects[path_of(item["kind"])].append(item)
    groups: dict[str, dict[str, list[Told]]] = {}
    for kind in kinds:
        version, plural = PLURALS[kind]
        mine = groups.setdefault(version.rpartition("/")[0], {}).setdefault(version, [])
        mine.append({"name": plural, "kind": kind, "verbs": ["get", "list"]})
        mine.append({"name": f"{plural}/status", "kind": kind, "verbs": ["get"]})
    listed = [
        {"name": group, "versions": [{"groupVersion": version} for version in found]}
        for group, found in groups.items()
        if group
    ]
    answers: Told = {"/apis": {"kind": "APIGroupList", "groups": listed}}
    for found in groups.values():
        answers |= {f"/apis/{version}": {"resources": mine} for version, mine in found.items()}
    config = {
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "one"}}, {"name": "old", "context": {"cluster": "two"}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://prod:6443"}}, {"name": "two", "cluster": {}}],
    }
    names = {path_of(kind): (kind, PLURALS[kind][0]) for kind in kinds}
    return {"config": config, "objects": objects, "answers": answers, "kinds": names}


#: A server without more kinds than each has.
PLAIN = [kind for kind, (version, _) in PLURALS.items() if "." not in version or version.endswith("k8s.io/v1")]


def shop(*more: str) -> Told:
    """The example in a cluster, which has ``more`` kinds."""
    manifests = "---\n".join(file.read_text() for file in sorted((EXAMPLES / "manifests").glob("*.yaml")))
    return {
        **serve([*PLAIN, *more], [*documents("manifests"), *documents("policies")]),
        "manifests": manifests,
    }


def install(folder: Path) -> None:
    """Put the program into ``folder``; ``tell`` says what it answers."""
    shutil.copy(Path(__file__).with_name("fake_kubectl.py"), folder)
    program = folder / "kubectl"
    program.write_text(f"#!{sys.executable} -S\n" + (folder / "fake_kubectl.py").read_text())
    program.chmod(0o755)


def tell(folder: Path, told: Told) -> Path:
    """From now on the program answers so; the file of its calls."""
    (folder / "told.json").write_text(json.dumps(told))
    return folder / "called"
