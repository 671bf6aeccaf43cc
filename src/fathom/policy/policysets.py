"""Texts and documents to one policy set: each kind by its reader, everything else accounted for.

Nothing is dropped in silence: a policy kind that is not read makes the verdicts that it may change unknown, the same
policy given twice with different content is refused, and other kinds are left to the inventory.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fathom.policy import cilium, clusternetworkpolicy, labels, networkpolicy
from fathom.policy.documents import LIMITS, Document, Limits
from fathom.policy.documents import read as read_documents
from fathom.policy.fields import Field
from fathom.policy.metadata import head, name_of
from fathom.policy.model import Policy, PolicySet, Selector
from fathom.policy.problems import Problem, Refused

_CILIUM = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
#: Groups whose kinds decide about traffic. Their kinds that are not read make verdicts unknown.
_GROUPS = frozenset(
    (
        "networking.k8s.io",
        "policy.networking.k8s.io",
        "cilium.io",
        "projectcalico.org",
        "crd.projectcalico.org",
        "crd.antrea.io",
        "security.antrea.io",
        "security.istio.io",
        "policy.linkerd.io",
        "k8s.ovn.org",
    )
)
#: How kinds of policies are called, in any group.
_POLICIES = ("NetworkPolicy", "NetworkPolicySet")
#: Groups that a live cluster is asked for: those, and others that are known to have kinds of policies.
GROUPS = _GROUPS | {"networking.gke.io", "k8s.cni.cncf.io", "networking.k8s.aws", "network.openshift.io"}
#: Calico's bookkeeping, and sets of addresses that only its own policies can name.
_CALICO = (
    *("IPPool", "IPReservation", "IPAMBlock", "IPAMConfig", "IPAMConfiguration", "IPAMHandle", "BlockAffinity"),
    *("BGPConfiguration", "BGPFilter", "BGPPeer", "CalicoNodeStatus", "ClusterInformation", "FelixConfiguration"),
    *("KubeControllersConfiguration", "NetworkSet", "GlobalNetworkSet"),
)
#: Kinds of these groups that decide nothing about what is allowed.
_HARMLESS = frozenset(
    (
        ("networking.k8s.io", "Ingress"),
        ("networking.k8s.io", "IngressClass"),
        ("networking.k8s.io", "IPAddress"),
        ("networking.k8s.io", "ServiceCIDR"),
        # Orders Calico's own policies, of which each is not understood by itself.
        ("crd.projectcalico.org", "Tier"),
        ("projectcalico.org", "Tier"),
        ("cilium.io", "CiliumEndpoint"),
        ("cilium.io", "CiliumIdentity"),
        ("cilium.io", "CiliumNode"),
        ("cilium.io", "CiliumLoadBalancerIPPool"),
        ("cilium.io", "CiliumL2AnnouncementPolicy"),
        ("cilium.io", "CiliumBGPClusterConfig"),
        ("cilium.io", "CiliumBGPPeerConfig"),
        ("cilium.io", "CiliumBGPAdvertisement"),
        ("cilium.io", "CiliumEndpointSlice"),
        ("cilium.io", "CiliumNodeConfig"),
        ("cilium.io", "CiliumPodIPPool"),
        ("cilium.io", "CiliumCIDRGroup"),
        ("cilium.io", "CiliumBGPNodeConfig"),
        ("cilium.io", "CiliumBGPNodeConfigOverride"),
        ("cilium.io", "CiliumBGPPeeringPolicy"),
        *((group, kind) for group in ("projectcalico.org", "crd.projectcalico.org") for kind in _CALICO),
        ("crd.antrea.io", "AntreaAgentInfo"),
        ("crd.antrea.io", "AntreaControllerInfo"),
        ("crd.antrea.io", "IPPool"),
        ("crd.antrea.io", "ExternalIPPool"),
        ("crd.antrea.io", "Traceflow"),
    )
)
#: Kinds that are evaluated, and the versions of each that are read.
VERSIONS = {
    "NetworkPolicy": ("networking.k8s.io/v1",),
    "CiliumNetworkPolicy": ("cilium.io/v2",),
    "CiliumClusterwideNetworkPolicy": ("cilium.io/v2",),
    "ClusterNetworkPolicy": ("policy.networking.k8s.io/v1alpha2", "policy.networking.k8s.io/v1beta1"),
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "BaselineAdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
}
_TOP = frozenset(("apiVersion", "kind", "metadata", "spec", "specs", "status"))


def decides(group: str, kind: str) -> bool:
    """Whether objects of a kind decide about traffic, evaluated or not, as far as the kinds of a group are known."""
    return kind.endswith(_POLICIES) or (group in _GROUPS and (group, kind) not in _HARMLESS)


def read_texts(texts: Iterable[tuple[str, str]], limits: Limits = LIMITS) -> PolicySet:
    """The policies in pairs of (file name, text). Documents of other kinds are skipped."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for file, text in texts:
        found, wrong = read_documents(text, file, limits)
        documents += found
        problems += wrong
    return read(documents, problems)


def read(documents: Iterable[Document], problems: Iterable[Problem] = ()) -> PolicySet:
    """The policies in ``documents``; ``problems`` are those of reading the texts, kept with the others."""
    found = list(problems)
    policies: list[Policy] = []
    seen: dict[tuple[str, ...], Document] = {}
    for document in documents:
        mine: list[Problem] = []
        try:
            read_here = _read(Field(document.data, document.place, mine))
            policies += _once(read_here, document, seen, mine)
        except Refused as refused:
            mine.append(refused.problem)
        found += mine
    found += cilium.without_dns(policies)
    return PolicySet(tuple(policies), tuple(found))


def _once(
    policies: list[Policy], document: Document, seen: dict[tuple[str, ...], Document], problems: list[Problem]
) -> list[Policy]:
    """The same policy twice: an equal document counts once, a different one is refused."""
    if not policies:
        return []
    group = str(document.data.get("apiVersion", "")).partition("/")[0]
    key = (group, policies[0].kind, policies[0].namespace, policies[0].name)
    first = seen.setdefault(key, document)
    if first is document:
        return policies
    if _content(first.data) != _content(document.data):
        raise Refused(document.place, f"{policies[0].title} stands at {first.place} already, with other content")
    problems.append(Problem(document.place, f"the same as {first.place}", "warning"))
    return []


def _content(data: dict[str, object]) -> tuple[object, object]:
    return data.get("spec"), data.get("specs")


def _read(document: Field) -> list[Policy]:
    if not isinstance(document.value, dict):
        raise document.refuse("is not a Kubernetes object")
    group, kind = head(document)
    if kind not in VERSIONS or group not in _GROUPS:
        return _other(document, group, kind)
    version = document.get("apiVersion").text()
    if version not in VERSIONS[kind]:
        return _unread(document, f"{kind} of {version[:64]!r} is not read")
    document.custom = kind != "NetworkPolicy"
    unknown = list(document.unknown(_TOP))
    if kind == "NetworkPolicy":
        policies = networkpolicy.read(document)
    elif kind in _CILIUM:
        policies = cilium.read(document, kind)
    else:
        policies = clusternetworkpolicy.read(document, kind)
    for field in unknown:
        problem = field.not_understood(f"unknown field of a {kind}")
        policies = [_doubt(policy, problem) for policy in policies]
    return policies


def _doubt(policy: Policy, problem: Problem) -> Policy:
    unclear = (*policy.unclear, ("ingress", problem), ("egress", problem))
    return msgspec.structs.replace(policy, unclear=unclear)


def _other(document: Field, group: str, kind: str) -> list[Policy]:
    if kind in VERSIONS:
        if not group:
            raise document.get("apiVersion").refuse(f"a {kind} needs its apiVersion, {VERSIONS[kind][0]}")
        return _unread(document, f"{kind} of the group {group[:64]!r} is not read")
    if decides(group, kind):
        return _unread(document, f"{kind[:64]} of {group[:64]} is not evaluated")
    return []


def _unread(document: Field, reason: str) -> list[Policy]:
    """A policy of a kind that is not read: it may do anything to the pods of its namespace, or to all."""
    problem = document.not_understood(reason)
    namespace = document.get("metadata").get("namespace").text(default="")
    subject = labels.by_name(namespace) if namespace else Selector()
    return [
        Policy(
            document.get("kind").text(),
            namespace,
            name_of(document),
            document.place,
            subject,
            tier="admin",
            unclear=(("ingress", problem), ("egress", problem)),
        )
    ]
