"""Policies and manifests of a live cluster, named ``kube:`` or ``kube:CONTEXT`` where a file could be named.

What a kind is missing must not pass for "there are none": each kind that decides about traffic and that the API server
has is read whole, or nothing is answered. Kinds that it does not have are left out, and said. Lists are read in parts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from fathom.cli.files import MOST_TOGETHER
from fathom.cli.output import printable
from fathom.cli.policy.kubectl import Expired, Kubectl
from fathom.cli.policy.words import counted, listed, when
from fathom.errors import PermanentError, UsageError
from fathom.policy import policysets

#: What a path of a live cluster begins with.
SCHEME = "kube:"
#: Objects of one part of a list, parts of one list at most, and how often a list is begun that grew too old.
PART, MOST_PARTS, TRIES = 500, 2_000, 3
#: Lists of which an inventory is made.
MANIFESTS = (
    *(f"/api/v1/{name}" for name in ("namespaces", "nodes", "pods", "services", "replicationcontrollers")),
    *(f"/apis/apps/v1/{name}" for name in ("deployments", "replicasets", "statefulsets", "daemonsets")),
    *(f"/apis/batch/v1/{name}" for name in ("jobs", "cronjobs")),
    "/apis/discovery.k8s.io/v1/endpointslices",
)
T = TypeVar("T")


class _Version(msgspec.Struct):
    groupVersion: str


class _Group(msgspec.Struct):
    name: str
    versions: list[_Version]


class _Groups(msgspec.Struct):
    """What a server says of its API groups (APIGroupList)."""

    groups: list[_Group]


class _Resource(msgspec.Struct):
    name: str
    kind: str
    verbs: list[str] = []


class _Resources(msgspec.Struct):
    """What a server has in one version of a group (APIResourceList)."""

    resources: list[_Resource] | None


class _ListMeta(msgspec.Struct, rename={"following": "continue"}):
    following: str = ""


class _Part(msgspec.Struct):
    """A part of a list."""

    kind: str
    apiVersion: str
    items: list[dict[str, Any]] | None
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class _Where(msgspec.Struct):
    cluster: str = ""
    server: str = ""


class _Entry(msgspec.Struct):
    name: str
    context: _Where = msgspec.field(default_factory=_Where)
    cluster: _Where = msgspec.field(default_factory=_Where)


class _Config(msgspec.Struct, rename={"current": "current-context"}):
    """A kubeconfig, as far as it matters here."""

    contexts: list[_Entry] | None = None
    clusters: list[_Entry] | None = None
    current: str = ""


@dataclass(frozen=True)
class Access:
    """How live clusters are reached: options of the command line. ``now`` is the clock, epoch seconds."""

    kubeconfig: str | None = None
    context: str | None = None
    now: Callable[[], float] = time.time


#: The cluster that kubectl speaks to by itself.
HERE = Access()


@dataclass
class Found:
    """Texts of a live cluster by the name that stands for a file, and when they were read (epoch seconds)."""

    texts: dict[str, str] = field(default_factory=dict)
    at: int = 0


def is_live(path: str) -> bool:
    """Whether ``path`` names a live cluster."""
    return path.startswith(SCHEME)


def read_policies(path: str, access: Access) -> Found:
    """All objects of kinds that decide about traffic. Raises FathomError if one of them cannot be read."""
    cluster = _Cluster(path, access)
    lists, absent = cluster.policy_lists()
    return cluster.read(lists, ("policy", "policies"), absent)


def read_manifests(path: str, access: Access) -> Found:
    """All objects that an inventory is made of. Raises FathomError if one kind cannot be read."""
    return _Cluster(path, access).read(MANIFESTS, ("object", "objects"))


class _Cluster:
    """One cluster, and its name: the context."""

    def __init__(self, path: str, access: Access) -> None:
        self._now = access.now
        named = path.removeprefix(SCHEME) or access.context or ""
        self._kubectl = Kubectl(access.kubeconfig or "", named)
        config = _decoded(self._kubectl.config(), _Config, "kubectl config view")
        self.name = named or config.current
        self.server = _server(config, self.name)

    def policy_lists(self) -> tuple[list[str], list[str]]:
        """Paths of the lists of policies that this server has, and the kinds of policies that it has not."""
        lists: list[str] = []
        present: set[str] = set()
        for group in self._object("/apis", _Groups).groups:
            if group.name not in policysets.GROUPS:
                continue
            kinds: dict[str, list[str]] = {}
            for version in group.versions:
                path = f"/apis/{version.groupVersion}"
                for item in self._object(path, _Resources).resources or ():
                    if "/" not in item.name and "list" in item.verbs:
                        kinds.setdefault(item.kind, []).append(f"{path}/{item.name}")
            for kind, paths in kinds.items():
                if policysets.decides(group.name, kind):
                    lists.append(_best(kind, paths))
                    present.add(kind)
        return lists, [kind for kind in policysets.VERSIONS if kind not in present]

    def _object(self, path: str, kind: type[T]) -> T:
        return _decoded(self._kubectl.get(path), kind, f"the API server at {path}")

    def read(self, lists: Sequence[str], what: tuple[str, str], absent: Sequence[str] = ()) -> Found:
        """The objects of ``lists``; says on standard error what was read, and when."""
        found = Found(at=int(self._now()))
        room, objects = MOST_TOGETHER, 0
        for path in lists:
            for name, text, count in self._list(path):
                assert name not in found.texts, f"two lists are called {name}"
                found.texts[name] = text
                objects += count
                room -= len(text)
                if room < 0:
                    raise PermanentError(
                        f"the objects of {self.title} are larger than {MOST_TOGETHER >> 20} MiB",
                        affects="nothing was answered",
                        do="name a recording of it, or files with the namespaces that matter",
                    )
        told = f"{counted(objects, *what)} of {self.title} as of {when(found.at)}"
        if absent:
            told += f"; its API server has no {listed(absent, 10)}"
        click.echo(f"fathom: {printable(told)}", err=True)
        return found

    @property
    def title(self) -> str:
        """For a person: the context and its server."""
        return f"{SCHEME}{self.name}" + (f" ({self.server})" if self.server else "")

    def _list(self, path: str) -> list[tuple[str, str, int]]:
        """(name, text, objects) of each part of a list; all of one state of the cluster."""
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                return list(self._parts(path))
            except Expired:
                if not tries_left:
                    raise
        raise AssertionError("no try")

    def _parts(self, path: str) -> Iterator[tuple[str, str, int]]:
        # With the group: NetworkPolicies of several makers may stand beside one another.
        name = f"{SCHEME}{self.name}/{path.removeprefix('/apis/').removeprefix('/api/')}"
        following = ""
        for number in range(MOST_PARTS):
            more = f"&continue={quote(following, safe='')}" if following else ""
            part = self._object(f"{path}?limit={PART}{more}", _Part)
            items = [_document(item, part) for item in part.items or ()]
            yield name + (f" part {number + 1}" if number else ""), "\n---\n".join(items), len(items)
            following = part.metadata.following
            if not following:
                return
        raise PermanentError(f"more than {MOST_PARTS * PART:,} objects at {path} of {self.title}")


def _document(item: dict[str, Any], part: _Part) -> str:
    """One object of a list as a document: lists leave out its kind."""
    if isinstance(metadata := item.get("metadata"), dict):
        metadata.pop("managedFields", None)  # half of the text, and says nothing
    return json.dumps({"apiVersion": part.apiVersion, "kind": part.kind.removesuffix("List"), **item})


def _best(kind: str, paths: Sequence[str]) -> str:
    """The list of a version that is read, if the server has one; else of that which it prefers."""
    versions = policysets.VERSIONS.get(kind, ())
    known = [path for version in versions for path in paths if path.startswith(f"/apis/{version}/")]
    return (known or [*paths])[0]


def _decoded(data: bytes, kind: type[T], what: str) -> T:
    """``data`` as JSON of a ``kind``. Raises PermanentError if ``what`` answered something else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise PermanentError(
            f"{what} answered something else than expected: {error}", affects="the cluster was not read"
        ) from error


def _server(config: _Config, context: str) -> str:
    """The address of the API server of a context; empty where the kubeconfig does not say."""
    contexts = {item.name: item.context.cluster for item in config.contexts or ()}
    clusters = {item.name: item.cluster.server for item in config.clusters or ()}
    if context and context not in contexts:
        raise UsageError(
            f"no context {context!r} in the kubeconfig",
            affects="the cluster was not read",
            do=f"name one of: {listed(sorted(contexts)) or 'there is none (--kubeconfig, KUBECONFIG)'}",
        )
    return clusters.get(contexts.get(context, ""), "")
