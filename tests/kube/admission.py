"""Asks the real API server about documents, by a server-side dry run: nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kube_cluster import CACHE, Cluster, Doc

CRDS = CACHE / "crds"
PATHS = {
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "CiliumNetworkPolicy": "/apis/cilium.io/v2/namespaces/{}/ciliumnetworkpolicies",
}


@dataclass(frozen=True)
class Answer:
    """What the server said: HTTP status, reason of a refusal, warnings."""

    status: int
    reason: str
    warnings: str

    @property
    def accepted(self) -> bool:
        return self.status == 201


class Admission:
    """The API server with Cilium's definitions, and the namespaces that documents are for."""

    def __init__(self, cluster: Cluster, namespaces: Iterable[str]) -> None:
        self.api = cluster.api
        for file in sorted(CRDS.glob("*.yaml")):
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces)

    def ask(self, document: Any) -> Answer:
        """Whether the server would take the document. Unknown fields are refused, as kubectl asks for."""
        kind = document["kind"]
        space = document["metadata"].get("namespace", "default")
        path = PATHS[kind].format(space)
        said = self.api.post(path, params={"dryRun": "All", "fieldValidation": "Strict"}, json=document)
        assert said.status_code in (201, 400, 422), said.text
        reason = "" if said.status_code == 201 else said.json()["message"]
        return Answer(said.status_code, reason, said.headers.get("warning", ""))

    def ask_all(self, documents: list[Doc]) -> list[Answer]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self.ask, documents))
