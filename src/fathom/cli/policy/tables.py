"""Answers about policy as tables for people: rows, and below them what was left out and how far to trust it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fathom.cli.output import Column, T, table
from fathom.cli.policy import words
from fathom.policy.answers import Covered, Differences, Explained, Exposure, Replayed, RuleUses
from fathom.policy.connectivity import StaticChange
from fathom.policy.coverage import WorkloadCoverage
from fathom.policy.explain import FlowVerdict, RuleUse, SideVerdict
from fathom.policy.exposure import Exposed
from fathom.policy.replay import Group


def _groups(kind: str) -> list[Column[Group]]:
    return [
        Column(kind, lambda group: group.verdict),
        Column("SOURCE", lambda group: group.src, name=True),
        Column("DESTINATION", lambda group: group.dst, name=True),
        Column("PORT", words.port),
        Column("CONNS", lambda group: f"{group.connections:,}", number=True),
        Column("FLOWS", lambda group: f"{group.flows:,}", number=True, wide=True),
        Column("FIRST SEEN", lambda group: words.when(group.first), wide=True),
        Column("LAST SEEN", lambda group: words.when(group.last)),
        Column("WHY", words.why, name=True),
    ]


_ABSENT: Column[Group] = Column(
    "ABSENT RULE",
    lambda group: " ".join(group.absent) or (f"none: {group.no_rule}" if group.no_rule else "-"),
    name=True,
)
_STATIC: list[Column[StaticChange]] = [
    Column("CHANGE", lambda change: change.change),
    Column("SOURCE", lambda change: change.src, name=True),
    Column("DESTINATIONS", lambda change: words.listed(change.targets, 3), name=True),
    Column("PORTS", words.spans, name=True),
    Column("FROM PODS", lambda change: f"{change.sources:,}", number=True, wide=True),
    Column("TO PODS", lambda change: f"{change.destinations:,}", number=True, wide=True),
    Column("COUNTER-EXAMPLE", words.example, name=True),
]
_COVERAGE: list[Column[WorkloadCoverage]] = [
    Column("WORKLOAD", lambda item: item.workload, name=True),
    Column("PODS", lambda item: str(item.pods), number=True),
    Column("SEEN", lambda item: str(item.pods_seen), number=True),
    Column("FLOWS", lambda item: f"{item.flows:,}", number=True),
    Column("CONNS", lambda item: f"{item.connections:,}", number=True),
    Column("FIRST SEEN", lambda item: words.when(item.first)),
    Column("LAST SEEN", lambda item: words.when(item.last)),
    Column("TOO LITTLE", lambda item: "; ".join(item.thin) or "-"),
]
_EXPOSURE: list[Column[Exposed]] = [
    Column("WORKLOAD", lambda item: item.workload, name=True),
    Column("OPEN", lambda item: ",".join(item.open)),
    Column("PODS", lambda item: f"{item.pods}/{item.of}", number=True),
    Column("OUTSIDE", lambda item: "yes" if item.outside else "no"),
    Column("NODES", lambda item: "yes" if item.nodes else "no"),
    Column("WORKLOADS", lambda item: str(item.reached_by), number=True),
    Column("REACHED BY", lambda item: words.listed(item.sources, 3) or "-", name=True),
]
_RULES: list[Column[RuleUse]] = [
    Column("POLICY", lambda use: use.policy, name=True),
    Column("RULE", lambda use: use.place.path),
    Column("ACTION", lambda use: use.action),
    Column("CONNS", lambda use: f"{use.connections:,}", number=True),
    Column("FLOWS", lambda use: f"{use.flows:,}", number=True),
    Column("DECIDED", lambda use: f"{use.decided:,}", number=True),
    Column("ALONE", lambda use: f"{use.alone:,}", number=True),
    Column("PERHAPS", lambda use: f"{use.doubtful:,}", number=True, wide=True),
    Column("LAST USED", lambda use: words.when(use.last) if use.flows or use.doubtful else "never"),
    Column("MOST OF IT", lambda use: _most(use), name=True),
]


def _most(use: RuleUse) -> str:
    if use.unused:
        return "- (a candidate to remove)"
    if not use.traffic:
        return "-"
    one = use.traffic[0]
    return f"{one.src} > {one.dst} {one.protocol}" + (f"/{one.port}" if one.port else "")


def _shown(rows: Iterable[T], columns: Sequence[Column[T]], wide: bool, nothing: str) -> str:
    return table(rows, columns, wide=wide) or nothing


def replayed(answer: Replayed, *, wide: bool = False) -> str:
    """What would be denied, and what is not known."""
    parts = [_shown(answer.groups, [*_groups("VERDICT"), _ABSENT], wide, "Everything is allowed.")]
    parts += words.more(answer.left_out)
    parts += ["", f"flows: {words.verdicts(answer.flows)}", *words.stopped(answer)]
    parts += [f"connections: {words.verdicts(answer.connections)}", *words.footer(answer.basis)]
    return "\n".join(parts)


def differences(answer: Differences, *, wide: bool = False) -> str:
    """What changes: of the recorded traffic, then statically."""
    recorded, static = answer.recorded, answer.static
    parts = ["Recorded traffic", "", _shown(recorded.groups, _groups("CHANGE"), wide, "No difference.")]
    parts += [*words.more(recorded.left_out), "", "All that could be", ""]
    parts += [_shown(static.changes, _STATIC, wide, "No difference."), *words.more(static.left_out)]
    parts += ["", f"flows: {words.changes(recorded.flows)}", f"pairs of ends: {words.changes(static.pairs)}"]
    return "\n".join([*parts, *words.footer(answer.basis)])


def covered(answer: Covered, *, wide: bool = False) -> str:
    """What was seen of each workload."""
    parts = [_shown(answer.workloads, _COVERAGE, wide, "No workload."), *words.more(answer.left_out, "workload"), ""]
    parts.append(f"{answer.pods_seen:,} of {words.counted(answer.pods, 'pod')} seen")
    parts.append(f"{words.counted(answer.thin, 'workload')} with too little history")
    return "\n".join([*parts, *words.footer(answer.basis)])


def exposure(answer: Exposure, *, wide: bool = False) -> str:
    """What no policy covers."""
    parts = [
        _shown(answer.exposed, _EXPOSURE, wide, "Every workload is covered."),
        *words.more(answer.left_out, "workload"),
    ]
    if answer.on_host:
        parts.append(f"on the host's network, where policies do not select them: {words.listed(answer.on_host)}")
    total = answer.left_out + len(answer.exposed)
    return "\n".join([*parts, "", f"{total:,} of {words.counted(answer.workloads, 'workload')} open"])


def rules(answer: RuleUses, *, wide: bool = False) -> str:
    """What matched each rule, and what it decided."""
    parts = [_shown(answer.rules, _RULES, wide, "No rule."), *words.more(answer.left_out, "rule"), ""]
    parts.append(f"{words.counted(answer.unused, 'rule')} decided nothing")
    parts += [f"  {use.policy} {use.place.path}: {use.because}" for use in answer.rules if use.unused]
    return "\n".join([*parts, *words.footer(answer.basis)])


def explained(answer: Explained) -> str:
    """Why one flow has its verdict."""
    seen = answer.recorded
    recorded = "not in the recorded traffic"
    if seen is not None:
        times = f", {words.when(seen.first)} to {words.when(seen.last)}" if seen.last else ""
        recorded = f"recorded: {words.counted(seen.connections, 'connection')} {seen.src} > {seen.dst}{times}"
    return "\n".join([*verdict(answer.verdict), recorded, *words.footer(answer.basis)])


def verdict(found: FlowVerdict) -> list[str]:
    """One flow and both its sides, in lines."""
    flow = found.flow
    number = f"/{flow['port']}" if flow["port"] else ""
    lines = [f"{flow['src']} > {flow['dst']} {flow['protocol']}{number}: {found.verdict}"]
    lines += [*_side("egress", found.egress), *_side("ingress", found.ingress)]
    lines += [f"not known: {reason}" for reason in found.reasons]
    return lines + [f"rests on: {assumption}" for assumption in found.assumptions]


def _side(name: str, side: SideVerdict) -> list[str]:
    tier = "" if side.tier == "none" else f" (tier {side.tier})"
    lines = [f"  {name}: {side.outcome}{tier}" + (f": {side.because}" if side.because else "")]
    lines += [f"    {policy}" for policy in side.policies]
    return lines + [f"    {words.rule(hit)}  {hit.place.file}" for hit in side.rules]


_VERDICTS: list[Column[FlowVerdict]] = [
    Column("SOURCE", lambda found: str(found.flow["src"]), name=True),
    Column("DESTINATION", lambda found: str(found.flow["dst"]), name=True),
    Column("PROTO", lambda found: str(found.flow["protocol"])),
    Column("PORT", lambda found: str(found.flow["port"] or "-"), number=True),
    Column("VERDICT", lambda found: found.verdict),
    Column("EGRESS", lambda found: _short(found.egress), name=True),
    Column("INGRESS", lambda found: _short(found.ingress), name=True),
]


def _short(side: SideVerdict) -> str:
    return words.listed((words.rule(hit) for hit in side.rules), 1) or words.listed(side.policies, 2) or "-"


def verdicts(found: Iterable[FlowVerdict], *, wide: bool = False) -> str:
    """Flows with their verdicts."""
    return table(found, _VERDICTS, wide=wide)
