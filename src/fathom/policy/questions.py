"""The questions that can be asked about policy, one function each: from a Material and policies to a bounded answer.

Every door (command line, REST, Python) goes through these. They hold no rule of their own: what is allowed is decided
in ``evaluate``. Each raises UsageError where documents of a policy set were refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from fathom.errors import UsageError
from fathom.policy.answers import (
    Basis,
    Covered,
    Differences,
    Explained,
    Exposure,
    Generation,
    Graph,
    GraphKind,
    RecordedDifference,
    Replayed,
    RuleUses,
)
from fathom.policy.columns import total
from fathom.policy.compile import Compiled, compile_policies
from fathom.policy.connectivity import connectivity_difference
from fathom.policy.coverage import coverage as measure
from fathom.policy.difference import difference
from fathom.policy.evaluate import Verdicts
from fathom.policy.evaluate import evaluate as verdicts_of
from fathom.policy.explain import FlowVerdict, Traffic, rule_use
from fathom.policy.explain import explain as explained
from fathom.policy.exposure import exposed, on_host
from fathom.policy.flows import Flows, from_dicts
from fathom.policy.generate import Choices, Window
from fathom.policy.generate import generate as made_from
from fathom.policy.graph import recorded as seen_graph
from fathom.policy.graph import static as static_graph
from fathom.policy.labelling import Labels, workload_of
from fathom.policy.material import Material
from fathom.policy.model import PolicySet
from fathom.policy.options import DEFAULTS, Options
from fathom.policy.replay import replay as replayed
from fathom.policy.replay import told
from fathom.policy.resolve import Resolved, resolve
from fathom.policy.suggest import absent
from fathom.policy.thin import Need

#: Items that a list of an answer holds where nothing else is asked for, and at most.
LIMIT, MOST = 1_000, 100_000
#: Told how much of the work is done, from 0 to 1.
Progress = Callable[[float], None]
#: Flows that are worked on at a time where progress is told, or answers are told one by one.
_PART, _SMALL_PART = 100_000, 10_000
_MOST_PROBLEMS = 100


def evaluate(material: Material, policies: PolicySet, options: Options = DEFAULTS) -> Iterator[FlowVerdict]:
    """The verdict of each flow in order, with the policies and rules that decided on both sides."""
    resolved = resolve(material.flows, material.inventory, options)
    compiled = compile_policies(policies, material.inventory, options)
    return _evaluated(material.flows, resolved, compiled)


def idle(material: Material, policies: PolicySet, options: Options = DEFAULTS) -> list[str]:
    """Titles of policies that choose no pod: no verdict is about them."""
    return compile_policies(policies, material.inventory, options).idle


def _evaluated(flows: Flows, resolved: Resolved, compiled: Compiled) -> Iterator[FlowVerdict]:
    for first in range(0, len(flows), _SMALL_PART):
        last = min(first + _SMALL_PART, len(flows))
        part = resolved.part(first, last)
        yield from explained(compiled, flows.select(slice(first, last)), part, verdicts_of(compiled, part))


def replay(
    material: Material,
    policies: PolicySet,
    options: Options = DEFAULTS,
    *,
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> Replayed:
    """What ``policies`` would have denied of the recorded flows, with the rules that are absent."""
    resolved, (compiled,), (verdicts,) = _verdicts(material, (policies,), options, progress)
    most = _bounded(limit)
    found = replayed(compiled, material.flows, resolved, verdicts, explained=most)
    groups, suggestions = absent(found.groups[:most], material.flows, resolved, verdicts, compiled)
    return Replayed(
        tuple(groups),
        max(0, len(found.groups) - most),
        found.stopped[:most],
        max(0, len(found.stopped) - most),
        found.flows,
        found.connections,
        tuple(suggestions),
        basis(material, policies, compiled),
    )


def diff(
    material: Material,
    old: PolicySet,
    new: PolicySet,
    options: Options = DEFAULTS,
    *,
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> Differences:
    """What going from ``old`` to ``new`` newly denies and allows: of the recorded flows, and statically."""
    resolved, sets, verdicts = _verdicts(material, (old, new), options, progress)
    most = _bounded(limit)
    seen = difference(material.flows, resolved, *verdicts)
    possible = connectivity_difference(sets[0], sets[1], limit=most)
    groups = tuple(told(sets[1], resolved, verdicts[1], seen.groups[:most]))
    recorded = RecordedDifference(groups, len(seen.groups) - len(groups), seen.flows)
    both = PolicySet(old.policies + new.policies, tuple(dict.fromkeys(old.problems + new.problems)))
    return Differences(recorded, possible, basis(material, both, sets[1]))


def explain_flow(
    material: Material, policies: PolicySet, flow: Mapping[str, Any], options: Options = DEFAULTS
) -> Explained:
    """Why one flow (its fields as in JSON lines; it need not be recorded) has its verdict.

    Raises UsageError if ``flow`` is malformed.
    """
    try:
        asked = from_dicts([flow])
    except ValueError as error:
        raise UsageError(f"no flow: {error}", do="give src, dst, protocol and port") from None
    resolved = resolve(asked, material.inventory, options)
    compiled = compile_policies(policies, material.inventory, options)
    (found,) = explained(compiled, asked, resolved, verdicts_of(compiled, resolved))
    return Explained(found, _recorded(material, asked, resolved, options), basis(material, policies, compiled))


def _recorded(material: Material, asked: Flows, alone: Resolved, options: Options) -> Traffic | None:
    """Recorded flows of the same ends, protocol and port as the one that was asked about."""
    wanted = Labels(asked, alone)
    src, dst = wanted.texts[int(wanted.src[0])], wanted.texts[int(wanted.dst[0])]
    flows = material.flows
    if not len(flows):
        return None
    labels = Labels(flows, resolve(flows, material.inventory, options))
    numbers = {text: number for number, text in enumerate(labels.texts)}
    one = asked.rows[0]
    same = (flows.rows["protocol"] == one["protocol"]) & (flows.rows["port"] == one["port"])
    same &= (labels.src == numbers.get(src, -1)) & (labels.dst == numbers.get(dst, -1))
    rows = flows.rows[same]
    if not len(rows):
        return None
    timed = rows[rows["last"] > 0]
    first, last = (int(timed["first"].min()), int(timed["last"].max())) if len(timed) else (0, 0)
    spoken = asked.to_dict(0)
    return Traffic(src, dst, spoken["protocol"], spoken["port"], len(rows), total(rows["count"]), first, last)


class RulesAsked(msgspec.Struct, frozen=True):
    """Which rules are asked about: those of ``policy`` (``ns/name`` or ``Kind ns/name``; empty: all) at or below
    ``path`` (as in ``spec.ingress[0]``), all or only those that decided nothing."""

    policy: str = ""
    path: str = ""
    unused: bool = False


def explain_rule(
    material: Material,
    policies: PolicySet,
    asked: RulesAsked | None = None,
    options: Options = DEFAULTS,
    *,
    limit: int = LIMIT,
) -> RuleUses:
    """Which traffic matched each rule, and which rules decided nothing of it.

    Raises UsageError if there is no such policy, or no rule of it is there.
    """
    wanted = asked or RulesAsked()
    policy, path = wanted.policy, wanted.path
    resolved = resolve(material.flows, material.inventory, options)
    compiled = compile_policies(policies, material.inventory, options)
    titles = {item.title for item in policies.policies}
    chosen = {title for title in titles if not policy or policy in (title, title.partition(" ")[2])}
    if policy and not chosen:
        raise UsageError(f"no policy {policy!r} in the set", do="write it as NAMESPACE/NAME or 'KIND NAMESPACE/NAME'")
    every = rule_use(compiled, material.flows, resolved, traffic=10)
    found = [use for use in every if use.policy in chosen and _below(use.place.path, path)]
    if path and not found:
        known = sorted({use.place.path for use in every if use.policy in chosen})
        raise UsageError(
            f"no rule at {path!r}", do=f"rules are at {', '.join(known[:20]) or 'no place: there is none'}"
        )
    most = _bounded(limit)
    unused = sum(use.unused for use in found)
    found = [use for use in found if use.unused or not wanted.unused]
    return RuleUses(tuple(found[:most]), max(0, len(found) - most), unused, basis(material, policies, compiled))


def _below(path: str, asked: str) -> bool:
    return not asked or path == asked or (path.startswith(asked) and path[len(asked)] in ".[")


def coverage(material: Material, need: Need | None = None, *, limit: int = LIMIT) -> Covered:
    """How much was seen of the window, by workload; ``need`` says what is enough history."""
    window = _window(material)
    found = measure(
        window,
        material.inventory,
        material.flows,
        resolve(material.flows, material.inventory),
        nodes=material.nodes,
        gaps=material.gaps,
        share=material.share,
        losses=material.losses,
        need=_need(material, need or Need()),
    )
    most = _bounded(limit)
    ordered = sorted(found.workloads, key=lambda item: (not item.thin, item.workload))
    left_out = max(0, len(ordered) - most)
    return Covered(
        found.pods, found.pods_seen, tuple(ordered[:most]), left_out, len(found.thin), basis(material, PolicySet())
    )


def _need(material: Material, need: Need) -> Need:
    """A share of time can be asked of a record with a window only."""
    return need if material.window[1] else msgspec.structs.replace(need, time=0.0)


def exposure(material: Material, policies: PolicySet, options: Options = DEFAULTS, *, limit: int = LIMIT) -> Exposure:
    """Workloads that no policy covers, and what could reach them."""
    compiled = compile_policies(policies, material.inventory, options)
    found = exposed(compiled)
    most = _bounded(limit)
    workloads = len({workload_of(pod) for pod in material.inventory.records.pods})
    hosts = on_host(compiled)[:most]
    left_out = max(0, len(found) - most)
    return Exposure(tuple(found[:most]), left_out, workloads, hosts, basis(material, policies, compiled))


def graph(
    material: Material,
    policies: PolicySet,
    options: Options = DEFAULTS,
    *,
    kind: GraphKind = "recorded",
    limit: int = LIMIT,
) -> Graph:
    """Who talked to whom with the verdict of ``policies``; or, ``static``, who may talk to whom."""
    most = _bounded(limit)
    resolved, (compiled,), (verdicts,) = _verdicts(material, (policies,), options, None)
    if kind == "static":
        nodes, links, left_out = static_graph(compiled, limit=most)
    else:
        nodes, links, left_out = seen_graph(compiled, material.flows, resolved, verdicts, limit=most)
    return Graph(kind, tuple(nodes), tuple(links), left_out, basis(material, policies, compiled))


def whole(choices: Choices, *, workload: str | None = None, node: str | None = None) -> Choices:
    """``choices`` where one ``workload`` is asked about: policies for it alone, out of all flows.

    Raises UsageError if one ``node`` is asked about: what it saw is not all that its workloads need.
    """
    if node:
        raise UsageError(
            f"what node {node} saw makes no whole policy: its workloads may have pods and peers elsewhere",
            do="leave the node out, and choose workloads",
        )
    return replace(choices, only=(*choices.only, workload)) if workload else choices


def generate(material: Material, choices: Choices | None = None, *, limit: int = LIMIT) -> Generation:
    """Policies for the workloads that the recorded flows show, each rule with its evidence.

    ``limit`` bounds the told groups of flows that were left out. Raises UsageError as ``generate.generate`` does.
    """
    foundation = basis(material, PolicySet())
    window = Window(foundation.since, foundation.until, foundation.coverage, foundation.lost)
    made = made_from(material.flows, material.inventory, choices, window)
    most = _bounded(limit)
    used = int(made.used.sum())
    return Generation(
        made.documents,
        made.evidence,
        made.left_out[:most],
        len(made.left_out),
        int(made.concerned.sum()) - used,
        used,
        made.beyond,
        made.bound,
        foundation,
    )


def basis(material: Material, policies: PolicySet, compiled: Compiled | None = None) -> Basis:
    """What an answer about ``policies`` on ``material`` stands on. ``compiled``: those that count."""
    since, until = _window(material)
    doubts = [problem for problem in policies.problems if problem.severity == "not-understood"]
    share = None
    if material.window[1]:
        empty = material.flows.select(slice(0, 0))
        at = (material.window, material.inventory, empty, resolve(empty, material.inventory))
        share = measure(*at, nodes=material.nodes, gaps=material.gaps, share=material.share).time
    pods = sum(not pod.virtual for pod in material.inventory.records.pods)
    lost = sum(item.count for item in material.losses)
    idle = compiled.idle if compiled else []
    return Basis(
        since,
        until,
        len(material.flows),
        pods,
        share,
        lost,
        tuple(doubts[:_MOST_PROBLEMS]),
        len(doubts),
        material.as_of,
        tuple(idle[:_MOST_PROBLEMS]),
        len(idle),
    )


def _window(material: Material) -> tuple[int, int]:
    """The window; where it is not known, that of the flows' own times."""
    if material.window[1]:
        return material.window
    timed = material.flows.rows[material.flows.rows["last"] > 0]
    return (int(timed["first"].min()), int(timed["last"].max()) + 1) if len(timed) else (0, 0)


def _verdicts(
    material: Material, sets: tuple[PolicySet, ...], options: Options, progress: Progress | None
) -> tuple[Resolved, list[Compiled], list[Verdicts]]:
    """The flows resolved once, each set compiled, and the verdicts of each."""
    resolved = resolve(material.flows, material.inventory, options)
    compiled = [compile_policies(policies, material.inventory, options) for policies in sets]
    if progress is None:
        return resolved, compiled, [verdicts_of(one, resolved) for one in compiled]
    found: list[Verdicts] = []
    for done, one in enumerate(compiled):
        parts = []
        for first in range(0, max(1, resolved.count), _PART):
            parts.append(verdicts_of(one, resolved.part(first, min(first + _PART, resolved.count))))
            progress((done + min(1.0, (first + _PART) / max(1, resolved.count))) / len(compiled))
        found.append(_joined(parts))
    return resolved, compiled, found


def _joined(parts: list[Verdicts]) -> Verdicts:
    """The verdicts of consecutive flows as one."""
    names = ("verdict", "egress", "ingress", "reasons", "assumptions")
    return Verdicts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _bounded(limit: int) -> int:
    """Raises UsageError if ``limit`` is not between 0 and MOST."""
    if not 0 <= limit <= MOST:
        raise UsageError(f"a limit of {limit} is not between 0 and {MOST}")
    return limit
