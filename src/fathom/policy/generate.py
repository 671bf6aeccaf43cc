"""Generate: from recorded flows and the inventory to one policy for each workload, every rule with its evidence.

Pure and stable: equal input gives equal output, sorted. What a flow does not prove is not allowed, and what was left
out is told with its reason. What rules allow beyond the history is counted with each of them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom import __version__
from fathom.errors import UsageError
from fathom.policy import cilium_documents, networkpolicy_documents
from fathom.policy.columns import total
from fathom.policy.flows import Flows, protocol_word
from fathom.policy.grants import Form, Grant, Granter, Peer, Shape, Span
from fathom.policy.history import NEVER, REASONS, USED, History, Limits, Observations
from fathom.policy.history import read as read_history
from fathom.policy.index import POD
from fathom.policy.inventory import Inventory
from fathom.policy.labelling import naming, workload_of
from fathom.policy.model import Direction
from fathom.policy.replay import Group, group
from fathom.policy.resolve import Resolved, resolve
from fathom.policy.subjects import NOBODY, Subject, Subjects
from fathom.policy.thin import Need, Seen, too_little
from fathom.policy.yamltext import blocks

#: Before the slash of every annotation.
PREFIX = "fathom.dev/"
#: The first fields of Evidence.
_About = tuple[str, Direction, int, str, tuple[str, ...]]


@dataclass(frozen=True)
class Window:
    """What the flows are a record of: epoch seconds, the share of that time that was observed (0 to 1, None where it is
    not known), and how many connections or packets were lost meanwhile."""

    since: int = 0
    until: int = 0
    coverage: float | None = None
    lost: int = 0


@dataclass(frozen=True)
class Choices:
    """What to generate.

    ``form``: NetworkPolicy or CiliumNetworkPolicy. ``directions`` are isolated. ``only``: ``name``, ``Kind/name`` or
    ``ns/Kind/name`` of workloads that were seen, where ``*`` stands for any text (one that is named in full need not
    have been), or ``ns/pod`` for the policy of a pod's workload as that pod alone shows it; empty: all that were seen.
    ``spread``: how many addresses a block may hold for each that was seen (1: none beyond). ``merge_ports``: from how
    many adjacent ports on they are one range (0: never). ``widen``: peers become all pods of their namespace.
    """

    form: Form = "networkpolicy"
    directions: tuple[Direction, ...] = ("ingress", "egress")
    only: tuple[str, ...] = ()
    spread: int = 4
    merge_ports: int = 0
    widen: bool = False
    limits: Limits = field(default_factory=Limits)


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """What is behind one rule: ``policy`` (``ns/name``), ``direction`` and ``rule``, its place in the document's list.

    ``flows`` are their numbers, ``edges`` the store's ids of them where there are any. ``beyond``: how many (pair of
    pods, port) or (address, port) the rule allows that were not seen. ``companion``: ``dns`` for the rule that opens
    both protocols of port 53 where one of them was seen. Times are epoch seconds, 0 where not known.
    """

    policy: str
    direction: Direction
    rule: int
    peer: str
    ports: tuple[str, ...]
    flows: tuple[int, ...]
    edges: tuple[int, ...]
    connections: int
    first: int
    last: int
    beyond: int
    companion: str = ""


@dataclass(frozen=True)
class Generated:
    """Documents sorted by namespace and name, the evidence of every rule, and for each flow why it is left out (index
    into ``history.REASONS``), and whether it is ``concerned``: all are, but where only some policies were asked for.
    ``bound``: no block holds more than so many addresses for each that was seen."""

    documents: tuple[dict[str, Any], ...]
    evidence: tuple[Evidence, ...]
    reasons: NDArray[np.uint8]
    concerned: NDArray[np.bool_]
    left_out: tuple[Group, ...]
    bound: int

    @property
    def used(self) -> NDArray[np.bool_]:
        """The flows that the policies allow because they were seen."""
        found: NDArray[np.bool_] = (self.reasons == USED) & self.concerned
        return found

    @property
    def beyond(self) -> int:
        """How many (pair of pods, port) and (address, port) all rules allow that were not seen."""
        return sum(item.beyond for item in self.evidence)


def generate(
    flows: Flows,
    inventory: Inventory,
    choices: Choices | None = None,
    window: Window | None = None,
    resolved: Resolved | None = None,
) -> Generated:
    """Policies for the workloads that ``flows`` show. ``resolved``: the flows' resolution, where it is there already.

    Raises UsageError if a workload or pod of ``choices.only`` is not there, or nothing is to be isolated.
    """
    chosen, span = choices or Choices(), window or _seen(flows)
    if not chosen.directions:
        raise UsageError("no direction to generate", do="choose ingress, egress or both")
    if chosen.spread < 1:
        raise UsageError(f"a block cannot hold fewer addresses than were seen: spread {chosen.spread}")
    found = resolve(flows, inventory) if resolved is None else resolved
    subjects = Subjects(inventory.index)
    history = read_history(flows, found, subjects, chosen.limits)
    asked = _asked(chosen.only, inventory, subjects, history.subjects)
    maker = _Maker(flows, found, subjects, chosen, span, _pods(inventory, found, subjects, span))
    documents, evidence = [], []
    for number, grants in maker.policies(history, asked):
        document, behind = maker.policy(number, grants, history, (asked or {}).get(number))
        documents.append(document)
        evidence += behind
    concerned = _concerned(asked, found, subjects)
    away = np.flatnonzero((history.left_out != USED) & concerned)
    told = group(flows, found, history.left_out, away, REASONS)
    return Generated(tuple(documents), tuple(evidence), history.left_out, concerned, tuple(told), chosen.spread)


def _seen(flows: Flows) -> Window:
    """The window of which nothing is said: from the first to the last time that a flow has."""
    timed = flows.rows[flows.rows["last"] > 0]
    return Window(int(timed["first"].min()), int(timed["last"].max())) if len(timed) else Window()


def _pods(inventory: Inventory, resolved: Resolved, subjects: Subjects, window: Window) -> NDArray[np.int64]:
    """How many pods of each subject were seen at an end of a flow, and how many lived in the window: shape
    (subjects, 2)."""
    always = not window.until
    living = np.array(
        [
            not pod.virtual and (always or (pod.since < window.until and pod.until > window.since))
            for pod in inventory.records.pods
        ],
        bool,
    )
    living &= subjects.of_pod[: len(living)] >= 0
    seen = np.zeros(len(living), bool)
    for end in ("src_pod", "dst_pod"):
        seen[resolved.rows[end][resolved.rows[end] >= 0]] = True
    found = np.zeros((len(subjects.all), 2), np.int64)
    np.add.at(found[:, 0], subjects.of_pod[: len(living)][living & seen], 1)
    np.add.at(found[:, 1], subjects.of_pod[: len(living)][living], 1)
    return found


def _asked(only: Iterable[str], inventory: Inventory, subjects: Subjects, seen: Set[int]) -> dict[int, set[int]] | None:
    """Subject → the pod records that it is asked for by (empty: all); None: every subject. ``seen``: subjects."""
    shown: dict[int, set[int]] = {}
    whole: set[int] = set()
    index, pods = inventory.index, inventory.records.pods
    for text in only:
        records = {int(index.presences["pod"][row]) for row in index.by_pod.get(text, ())}
        of_pods = {subjects.of_workload.get(workload_of(pods[number]), NOBODY) for number in records} - {NOBODY}
        means = naming(text)
        named = {n for name, n in subjects.of_workload.items() if name == text or (n in seen and means(name))}
        if not (of_pods or named):
            raise UsageError(
                f"no policy can be made for {text!r}",
                do="name a workload that was seen as name, Kind/name or ns/Kind/name, or a pod as ns/pod",
            )
        whole |= named
        for number in of_pods:
            shown.setdefault(number, set()).update(records)
    return {**shown, **{number: set() for number in whole}} if only else None


def _concerned(asked: dict[int, set[int]] | None, resolved: Resolved, subjects: Subjects) -> NDArray[np.bool_]:
    """Which flows have an end that is asked for."""
    if asked is None:
        return np.ones(resolved.count, bool)
    pods = np.zeros(len(subjects.of_pod), bool)
    for number, records in asked.items():
        pods |= subjects.of_pod == number if not records else np.isin(np.arange(len(pods)), list(records))
    found, rows = np.zeros(resolved.count, bool), resolved.rows
    found[rows["flow"][pods[rows["src_pod"]] | pods[rows["dst_pod"]]]] = True  # the last is no pod
    return found


class _Maker:
    """Documents and evidence of one run."""

    def __init__(
        self,
        flows: Flows,
        resolved: Resolved,
        subjects: Subjects,
        choices: Choices,
        window: Window,
        pods: NDArray[np.int64],
    ) -> None:
        self.flows, self.resolved, self.subjects = flows, resolved, subjects
        self.choices, self.window, self.pods = choices, window, pods
        self._taking_part: dict[tuple[Direction, tuple[int, ...]], NDArray[np.bool_]] = {}
        shape = Shape(choices.form, choices.spread, choices.merge_ports, choices.widen)
        written = cilium_documents if choices.form == "cilium" else networkpolicy_documents
        self.writer = written.Writer(subjects)
        self.granter = Granter(resolved, subjects, shape)

    def policies(
        self, history: History, asked: dict[int, set[int]] | None
    ) -> Iterator[tuple[int, dict[Direction, list[Grant]]]]:
        """(subject, grants by direction) of every subject that was seen, in order."""
        directions = self.choices.directions
        by_subject: dict[Direction, dict[int, list[int]]] = {d: defaultdict(list) for d in directions}
        for direction in directions:
            seen = history.observations[direction]
            for number, subject in enumerate(seen.subject):
                if asked is None or (
                    subject in asked and len(self._shown(seen.evidence([number]), asked[subject], direction))
                ):
                    by_subject[direction][subject].append(number)
        for subject in sorted(history.subjects if asked is None else asked, key=self._key):
            yield (
                subject,
                {
                    d: self.granter.grants(d, subject, history.observations[d], by_subject[d].get(subject, ()))
                    for d in directions
                },
            )

    def _shown(self, behind: list[int], records: set[int] | None, direction: Direction) -> list[int]:
        """Those of the flows ``behind`` in which one of the pods ``records`` took part; none asked for: all."""
        if not records:
            return behind
        key = (direction, tuple(sorted(records)))
        mine = self._taking_part.get(key)
        if mine is None:
            rows, end = self.resolved.rows, "src" if direction == "egress" else "dst"
            mine = self._taking_part[key] = np.zeros(self.resolved.count, bool)
            mine[rows["flow"][(rows[end + "_kind"] == POD) & np.isin(rows[end + "_pod"], key[1])]] = True
        return [flow for flow in behind if mine[flow]]

    def _key(self, number: int) -> tuple[str, str]:
        subject = self.subjects.all[number]
        return subject.namespace, subject.name

    def policy(
        self, number: int, grants: dict[Direction, list[Grant]], history: History, records: set[int] | None
    ) -> tuple[dict[str, Any], list[Evidence]]:
        """One document and the evidence of its rules; ``records``: only as these pods show it."""
        subject = self.subjects.all[number]
        evidence: list[Evidence] = []
        for direction in sorted(grants, reverse=True):
            seen = history.observations[direction]
            policy = f"{subject.namespace}/{subject.name}"
            for place, grant in enumerate(grants[direction]):
                about = (policy, direction, place, self._peer_text(grant.peer), _port_texts(grant.ports))
                behind = seen.evidence(grant.observations)
                if records:
                    evidence.append(self._evidence_of(about, grant, self._shown(behind, records, direction)))
                else:
                    evidence.append(self._evidence(about, grant, seen, behind))
        document = self.writer.write(subject, grants, {})
        document["metadata"]["annotations"] = self._annotations(
            subject, document["spec"], evidence, None if records else self._share(number)
        )
        return document, evidence

    def _evidence(self, about: _About, grant: Grant, seen: Observations, behind: list[int]) -> Evidence:
        """The evidence of a grant with all flows ``behind`` it."""
        numbers, start = grant.observations, seen.start
        if len(numbers) == 1:  # most of all
            return self._evidence_once(about, grant, seen, behind)
        if sum([start[n + 1] - start[n] for n in numbers]) > len(behind):  # flows that are behind two observations
            return self._evidence_of(about, grant, behind)
        first = min([seen.first[n] for n in numbers])
        return Evidence(
            *about,
            tuple(behind),
            seen.edges_behind(numbers),
            sum([seen.count[n] for n in numbers]),
            0 if first == NEVER else first,
            max([seen.last[n] for n in numbers]),
            grant.beyond,
            "dns" if grant.companion else "",
        )

    def _evidence_once(self, about: _About, grant: Grant, seen: Observations, behind: list[int]) -> Evidence:
        """The same of one observation, behind which every flow is once."""
        number = grant.observations[0]
        first = seen.first[number]
        edges = seen.edges_behind(grant.observations)
        times = (0 if first == NEVER else first), seen.last[number]
        told = "dns" if grant.companion else ""
        return Evidence(*about, tuple(behind), edges, seen.count[number], *times, grant.beyond, told)

    def _evidence_of(self, about: _About, grant: Grant, behind: list[int]) -> Evidence:
        """The same with some of these flows, or with flows that are behind several observations."""
        rows = self.flows.rows[behind]
        timed = rows[rows["last"] > 0]
        return Evidence(
            *about,
            tuple(behind),
            tuple(sorted({edge for edge in rows["edge"].tolist() if edge})),
            total(rows["count"]),
            int(timed["first"].min()) if len(timed) else 0,
            int(timed["last"].max()) if len(timed) else 0,
            grant.beyond,
            "dns" if grant.companion else "",
        )

    def _peer_text(self, peer: Peer) -> str:
        if peer.kind == "pods":
            return " ".join(self.subjects.all[peer.subject].workloads)
        if peer.kind == "namespace":
            return f"{peer.namespace}/*"
        if peer.kind == "name":
            return peer.name
        words = {"server": "kube-apiserver", "nodes": "nodes"}.get(peer.kind, "")
        return " ".join(filter(None, (words, *peer.blocks)))

    def _share(self, number: int) -> tuple[int, int] | None:
        """Pods of a subject that were seen, and all; None where flows name the workload alone."""
        seen, living = self.pods[number].tolist()
        return (seen, living) if seen else None

    def _annotations(
        self, subject: Subject, spec: dict[str, Any], evidence: list[Evidence], pods: tuple[int, int] | None
    ) -> dict[str, str]:
        window = self.window
        unwatched = window.coverage is None
        covered = "unknown" if unwatched else f"{window.coverage:.4f}"
        found = {
            "beyond": str(sum(item.beyond for item in evidence)),
            "bound": f"{self.choices.spread} addresses of a block for each that was seen",
            "coverage": covered,
            "digest": digest(spec),
            "generated-by": f"fathom {__version__}",
            "lost": "unknown" if unwatched and not window.lost else str(window.lost),
            "window": f"{_time(window.since)}/{_time(window.until)}",
            "workloads": " ".join(subject.workloads),
        }
        if self.choices.only:
            found["only"] = " ".join(sorted(self.choices.only))
        if thin := too_little(self._seen(evidence, pods), Need()):
            found["thin-data"] = "; ".join(thin)
        return {PREFIX + key: found[key] for key in sorted(found)}

    def _seen(self, evidence: list[Evidence], pods: tuple[int, int] | None) -> Seen:
        """The history behind one policy: each flow once, whatever it is evidence of."""
        behind = {number for item in evidence for number in item.flows}
        rows = self.flows.rows[np.fromiter(behind, np.int64, len(behind))]
        timed = rows[rows["last"] > 0]
        first, last = (int(timed["first"].min()), int(timed["last"].max())) if len(timed) else (0, 0)
        return Seen(total(rows["count"]), first, last, self.window.coverage, pods)


def port_text(span: Span) -> str:
    """``TCP/80`` or ``TCP/8000-8010``."""
    protocol, first, last = span
    return f"{protocol_word(protocol)}/{first}" + (f"-{last}" if last > first else "")


@lru_cache(maxsize=1 << 12)
def _port_texts(ports: tuple[Span, ...]) -> tuple[str, ...]:
    return tuple(port_text(span) for span in ports)


def digest(spec: object) -> str:
    """``sha256:…`` of the canonical JSON of a spec: equal where, and only where, the policy is."""
    return "sha256:" + hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if epoch else "unknown"


def to_yaml(documents: Iterable[dict[str, Any]]) -> str:
    """The documents as one YAML stream, keys in the order in which people write them; ends with a newline."""
    return "---\n".join(blocks(documents))
