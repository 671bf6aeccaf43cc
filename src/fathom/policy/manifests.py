"""Plain Kubernetes manifests to an inventory: what a repository or ``kubectl get -o yaml`` holds.

A workload without pods of its own becomes one virtual pod made of its template, so that a repository can be evaluated
before anything runs. A namespace that is only mentioned has a name and no known labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from fathom.policy import addresses
from fathom.policy.documents import LIMITS, Document, Limits
from fathom.policy.documents import read as read_documents
from fathom.policy.fields import Field
from fathom.policy.inventory import (
    FOREVER,
    Backend,
    ContainerPort,
    Inventory,
    Namespace,
    Node,
    Pod,
    Records,
    Service,
    ServicePort,
    Slice,
    Workload,
)
from fathom.policy.metadata import head, labels_of, name_of, namespace_of, owner_of
from fathom.policy.problems import Problem, Refused
from fathom.policy.times import seconds

#: Kinds that own pods through a template, and where the template stands.
_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("", "ReplicationController"): ("spec", "template"),
}
#: As a container's hostIP: each address of the node.
_EVERY_ADDRESS = ("0.0.0.0", "::")
_Owner = tuple[str, str, str]  # namespace, kind, name


class _Reading:
    """Records so far, and who owns whom."""

    def __init__(self) -> None:
        self.records = Records()
        self.owners: dict[_Owner, tuple[str, str]] = {}
        self.templates: dict[_Owner, Pod] = {}
        self.pod_owners: list[tuple[Pod, tuple[str, str]]] = []
        self.mentioned: dict[str, None] = {}


def read_texts(texts: Iterable[tuple[str, str]], limits: Limits = LIMITS) -> Inventory:
    """The inventory in pairs of (file name, text). Documents of other kinds are skipped."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for file, text in texts:
        found, wrong = read_documents(text, file, limits)
        documents += found
        problems += wrong
    return read(documents, problems)


def read(documents: Iterable[Document], problems: Iterable[Problem] = ()) -> Inventory:
    """The inventory in ``documents``. A malformed document is a problem of the inventory, and left out."""
    reading = _Reading()
    reading.records.problems += problems
    for document in documents:
        mine: list[Problem] = []
        try:
            _read(Field(document.data, document.place, mine), reading)
        except Refused as refused:
            mine.append(refused.problem)
        reading.records.problems += mine
    _finish(reading)
    return Inventory(reading.records)


def _read(document: Field, reading: _Reading) -> None:
    if not isinstance(document.value, dict):
        return
    if not document.has("kind"):
        raise document.refuse("has no kind")
    group, kind = head(document)
    if (group, kind) in _TEMPLATES:
        _workload(document, kind, _TEMPLATES[group, kind], reading)
    else:
        reader = _READERS.get((group, kind))
        if reader is not None:
            reader(document, reading)


def _times(document: Field) -> int:
    created = document.get("metadata").get("creationTimestamp")
    return 0 if created.absent else seconds(created)


def _namespace(document: Field, reading: _Reading) -> None:
    reading.records.namespaces.append(Namespace(name_of(document), labels_of(document)))


def _node(document: Field, reading: _Reading) -> None:
    spec, status = document.get("spec"), document.get("status")
    blocks = [_block(item) for item in spec.get("podCIDRs").elements()]
    if not blocks and spec.get("podCIDR").text(default=""):
        blocks = [_block(spec.get("podCIDR"))]
    wanted = ("InternalIP", "ExternalIP")
    found = tuple(
        _address(item.get("address"))
        for item in status.get("addresses").elements()
        if item.get("type").text(default="") in wanted
    )
    reading.records.nodes.append(Node(name_of(document), labels_of(document), found, tuple(blocks)))


def _address(field: Field) -> str:
    """An IP address. One that cannot be read would be taken for the outside: it is refused."""
    text = field.text()
    if addresses.address(text) is None:
        raise field.refuse(f"{text[:64]!r} is not an IP address")
    return text


def _block(field: Field) -> str:
    text = field.text()
    if addresses.block(text) is None:
        raise field.refuse(f"{text[:64]!r} is not an address block")
    return text


def _pod(document: Field, reading: _Reading) -> None:
    spec, status = document.get("spec"), document.get("status")
    ips = [_address(item.get("ip")) for item in status.get("podIPs").elements()]
    if not ips and status.get("podIP").text(default=""):
        ips = [_address(status.get("podIP"))]
    namespace = namespace_of(document)
    pod = Pod(
        namespace,
        name_of(document),
        labels_of(document),
        tuple(ips),
        spec.get("nodeName").text(default=""),
        spec.get("hostNetwork").boolean(False),
        _ports(spec),
        spec.get("serviceAccountName").text(default="") or "default",
        since=_times(document) if ips else 0,
        until=_end(status),
        containers=_containers(status),
    )
    reading.pod_owners.append((pod, _controller(document)))
    reading.mentioned[namespace] = None


def _containers(status: Field) -> tuple[str, ...]:
    """Ids of the containers that run or ran, without the runtime's name (``containerd://…``)."""
    lists = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    texts = [item.get("containerID").text(default="") for name in lists for item in status.get(name).elements()]
    return tuple(text.rpartition("//")[2] for text in texts if text)


def _end(status: Field) -> int:
    """When a completed pod gave its address back; FOREVER for others."""
    if status.get("phase").text(default="") not in ("Succeeded", "Failed"):
        return FOREVER
    ends = [
        seconds(item.get("state").get("terminated").get("finishedAt"))
        for item in status.get("containerStatuses").elements()
        if item.get("state").get("terminated").has("finishedAt")
    ]
    return max(ends, default=0) + 1


def _ports(spec: Field) -> tuple[ContainerPort, ...]:
    found: list[ContainerPort] = []
    containers = spec.get("containers").elements()
    containers += [
        item
        for item in spec.get("initContainers").elements()
        if item.get("restartPolicy").text(default="") == "Always"  # a sidecar keeps running
    ]
    for container in containers:
        found += [_port(item, spec.get("hostNetwork").boolean(False)) for item in container.get("ports").elements()]
    return tuple(found)


def _port(field: Field, on_host: bool) -> ContainerPort:
    name, protocol = field.get("name").text(default=""), field.get("protocol").text(default="TCP")
    number = field.get("containerPort").integer(1, 65535)
    host_port = field.get("hostPort").integer(0, 65535) if field.has("hostPort") else 0
    if on_host or not host_port:
        return ContainerPort(name, protocol, number)
    one = _address(field.get("hostIP")) if field.get("hostIP").text(default="") else ""
    return ContainerPort(name, protocol, number, host_port, "" if one in _EVERY_ADDRESS else one)


def _controller(document: Field) -> tuple[str, str]:
    """(kind, name) of the owner that controls it, or the first owner. Raises Refused if these are no names."""
    owners = document.get("metadata").get("ownerReferences").elements()
    for item in sorted(owners, key=lambda o: not o.get("controller").boolean(False)):
        return owner_of(item)
    return "", ""


def _workload(document: Field, kind: str, path: tuple[str, ...], reading: _Reading) -> None:
    namespace, name = namespace_of(document), name_of(document)
    template = document
    for key in path:
        template = template.get(key)
    selector = document.get("spec").get("selector").mapping()
    if kind == "ReplicationController":
        selector = {"matchLabels": selector} if selector else {}
    labels = labels_of(template)
    spec = template.get("spec")
    owner = _controller(document)
    if owner[1]:
        reading.owners[namespace, kind, name] = owner
    reading.templates[namespace, kind, name] = Pod(
        namespace,
        name,
        labels,
        host_network=spec.get("hostNetwork").boolean(False),
        ports=_ports(spec),
        account=spec.get("serviceAccountName").text(default="") or "default",
        workload=(kind, name),
        virtual=True,
    )
    reading.records.workloads.append(Workload(namespace, kind, name, selector, labels))
    reading.mentioned[namespace] = None


def _service(document: Field, reading: _Reading) -> None:
    spec = document.get("spec")
    if spec.get("type").text(default="") == "ExternalName":
        return
    given = spec.get("clusterIPs").elements() or [spec.get("clusterIP")]
    ips = tuple(_address(item) for item in given if item.text(default="") not in ("", "None"))
    balanced = [
        item.get("ip")
        for item in document.get("status").get("loadBalancer").get("ingress").elements()
        if item.has("ip")
    ]
    outer = tuple(_address(item) for item in (*spec.get("externalIPs").elements(), *balanced))
    chosen = spec.get("selector")
    selector = {key: chosen.get(key).text() for key in chosen.mapping()}
    reading.records.services.append(
        Service(
            namespace_of(document),
            name_of(document),
            selector or None,
            ips,
            outer,
            tuple(_service_port(item) for item in spec.get("ports").elements()),
            labels_of(document),
            spec.get("externalTrafficPolicy").text(default="") == "Local",
            headless=given[0].text(default="") == "None",
        )
    )


def _service_port(field: Field) -> ServicePort:
    port = field.get("port").integer(1, 65535)
    target = field.get("targetPort")
    value: int | str = port
    if isinstance(target.value, str) and target.value:
        value = target.value
    elif not target.absent and target.value != "":
        value = target.integer(0, 65535) or port
    node_port = field.get("nodePort").integer(0, 65535) if field.has("nodePort") else 0
    name, protocol = field.get("name").text(default=""), field.get("protocol").text(default="TCP")
    return ServicePort(name, protocol, port, value, node_port)


def _slice(document: Field, reading: _Reading) -> None:
    service = labels_of(document).get("kubernetes.io/service-name", "")
    if not service:
        return
    numbers = document.get("addressType").text(default="") != "FQDN"
    backends = tuple(
        Backend(
            tuple(_address(one) for one in item.get("addresses").elements()) if numbers else (),
            item.get("targetRef").get("name").text(default="")
            if item.get("targetRef").get("kind").text(default="") == "Pod"
            else "",
            item.get("conditions").get("ready").boolean(True),
        )
        for item in document.get("endpoints").elements()
    )
    ports = tuple(_slice_port(item) for item in document.get("ports").elements() if item.has("port"))
    space, name = namespace_of(document), document.get("metadata").get("name").text(default="")
    reading.records.slices.append(Slice(space, service, backends, ports, name=name))


def _slice_port(field: Field) -> tuple[str, str, int]:
    name, protocol = field.get("name").text(default=""), field.get("protocol").text(default="TCP")
    return name, protocol, field.get("port").integer(1, 65535)


_READERS: dict[tuple[str, str], Callable[[Field, _Reading], None]] = {
    ("", "Namespace"): _namespace,
    ("", "Node"): _node,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("discovery.k8s.io", "EndpointSlice"): _slice,
}
KINDS = frozenset((*_TEMPLATES, *_READERS))


def _finish(reading: _Reading) -> None:
    """Owner chains, virtual pods, and namespaces that are only mentioned."""
    records, used = reading.records, set()
    for pod, owner in reading.pod_owners:
        workload = _top(pod, owner, reading)
        used.add((pod.namespace, *workload))
        records.pods.append(_owned(pod, workload))
    for key, pod in reading.templates.items():
        if key not in used and key not in reading.owners:
            records.pods.append(pod)
    known = {item.name for item in records.namespaces}
    records.namespaces += [Namespace(name) for name in reading.mentioned if name not in known]


def _owned(pod: Pod, workload: tuple[str, str]) -> Pod:
    return msgspec.structs.replace(pod, workload=workload)


def _top(pod: Pod, owner: tuple[str, str], reading: _Reading) -> tuple[str, str]:
    """The top of the owner chain. A ReplicaSet that is not in the manifests is named after its Deployment."""
    if not owner[1]:
        return "Pod", pod.name
    for _ in range(8):
        above = reading.owners.get((pod.namespace, *owner))
        if above is None:
            break
        owner = above
    suffix = (pod.labels or {}).get("pod-template-hash", "")
    if owner[0] == "ReplicaSet" and suffix and owner[1].endswith("-" + suffix):
        return "Deployment", owner[1].removesuffix("-" + suffix)
    return owner
