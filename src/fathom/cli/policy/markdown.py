"""Answers about policy as Markdown for a comment on a pull request: short, bounded, safe to show. Pure.

All that comes from documents and flows stands in code spans, so that it can neither mark up nor mention anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from fathom.cli.output import printable
from fathom.cli.policy import words
from fathom.policy.answers import Basis, Covered, Differences, Exposure, Replayed
from fathom.policy.connectivity import StaticChange
from fathom.policy.coverage import WorkloadCoverage
from fathom.policy.exposure import Exposed
from fathom.policy.generate import to_yaml
from fathom.policy.replay import Group

T = TypeVar("T")

#: Rows of one table, characters of one cell, of the suggested rules, and of the whole (a comment holds 65,536).
MOST_ROWS, MOST_CELL, MOST_YAML, MOST = 50, 200, 20_000, 60_000


def code(text: str) -> str:
    """``text`` as a code span that can stand in a table; ``-`` stays as it is."""
    shown = printable(text)
    shown = shown if len(shown) <= MOST_CELL else shown[: MOST_CELL - 1] + "…"
    return shown if shown in ("", "-") else "`" + shown.replace("`", "'").replace("|", "\\|") + "`"


def replayed(answer: Replayed) -> str:
    """What would be denied, and the rules that would allow it."""
    bad = sum(number for word, number in answer.flows.items() if word != "allowed")
    title = "every recorded flow is allowed"
    if bad:
        title = f"{words.counted(bad, 'recorded flow')} would be denied or {'is' if bad == 1 else 'are'} unknown"
    lines = [f"### Policy replay: {title}", "", "; ".join([words.verdicts(answer.flows), *words.stopped(answer)])]
    lines += _table(
        answer.groups, ("Verdict", "Source", "Destination", "Port", "Connections", "Last seen", "Why"), _group
    )
    lines += _more(len(answer.groups), answer.left_out)
    lines += _suggested(answer)
    return _whole(lines, answer.basis)


def differences(answer: Differences) -> str:
    """What changes: of the recorded traffic, then statically."""
    recorded, static = answer.recorded, answer.static
    title = "no difference" if answer.none else words.changes(recorded.flows)
    if not answer.none and not recorded.groups:
        title = "no recorded flow changes, but what could be does"
    lines = [f"### Policy diff: {title}", "", "**Recorded traffic**: " + words.changes(recorded.flows)]
    lines += _table(
        recorded.groups, ("Change", "Source", "Destination", "Port", "Connections", "Last seen", "Why"), _group
    )
    lines += _more(len(recorded.groups), recorded.left_out)
    lines += ["", "**All that could be** (pairs of ends): " + words.changes(static.pairs)]
    lines += _table(static.changes, ("Change", "Source", "Destinations", "Ports", "Counter-example"), _static)
    lines += _more(len(static.changes), static.left_out)
    return _whole(lines, answer.basis)


def covered(answer: Covered) -> str:
    """Workloads with too little history."""
    title = f"{words.counted(answer.thin, 'workload')} with too little history" if answer.thin else "enough history"
    lines = [f"### Coverage: {title}", "", f"{answer.pods_seen:,} of {words.counted(answer.pods, 'pod')} seen"]
    thin = [item for item in answer.workloads if item.thin]
    lines += _table(thin, ("Workload", "Pods seen", "Flows", "First seen", "Last seen", "Too little"), _coverage)
    lines += _more(len(thin), max(0, answer.thin - len(thin)))
    return _whole(lines, answer.basis)


def exposure(answer: Exposure) -> str:
    """What no policy covers."""
    total = len(answer.exposed) + answer.left_out
    title = "every workload is covered" if answer.none else f"{words.counted(total, 'workload')} open"
    lines = [f"### Exposure: {title}", "", f"{total:,} of {words.counted(answer.workloads, 'workload')} open"]
    heads = ("Workload", "Open", "Pods", "From outside", "From nodes", "From workloads")
    lines += _table(answer.exposed, heads, _exposed)
    lines += _more(len(answer.exposed), answer.left_out)
    if answer.on_host:
        lines += ["", "On the host's network, where policies do not select them: " + code(words.listed(answer.on_host))]
    return _whole(lines, answer.basis)


def _group(group: Group) -> tuple[str, ...]:
    ends = code(group.src), code(group.dst), code(words.port(group))
    return group.verdict, *ends, f"{group.connections:,}", words.when(group.last), code(words.why(group))


def _static(change: StaticChange) -> tuple[str, ...]:
    targets = code(words.listed(change.targets, 3))
    return change.change, code(change.src), targets, code(words.spans(change)), code(words.example(change))


def _coverage(item: WorkloadCoverage) -> tuple[str, ...]:
    seen = f"{item.pods_seen}/{item.pods}"
    times = words.when(item.first), words.when(item.last)
    return code(item.workload), seen, f"{item.flows:,}", *times, code("; ".join(item.thin))


def _exposed(item: Exposed) -> tuple[str, ...]:
    sources = f"{item.reached_by}" + (f": {code(words.listed(item.sources, 3))}" if item.sources else "")
    reach = "yes" if item.outside else "no", "yes" if item.nodes else "no", sources
    return code(item.workload), ", ".join(item.open), f"{item.pods}/{item.of}", *reach


def _table(rows: Sequence[T], heads: tuple[str, ...], cells: Callable[[T], tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    lines = ["", "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return lines + ["| " + " | ".join(cells(row)) + " |" for row in rows[:MOST_ROWS]]


def _more(told: int, left_out: int) -> list[str]:
    hidden = max(0, told - MOST_ROWS) + left_out
    return ["", f"… and {words.counted(hidden, 'more row')}"] if hidden else []


def _suggested(answer: Replayed) -> list[str]:
    if not answer.suggestions:
        return []
    told, size = [], 0
    for item in answer.suggestions:
        size += len(to_yaml([item]))
        if size > MOST_YAML:
            break
        told.append(item)
    if not told:
        return []
    short = f" (the first {len(told)})" if len(told) < len(answer.suggestions) else ""
    head = f"<details><summary>{words.counted(len(answer.suggestions), 'absent rule')}{short}</summary>"
    return ["", head, "", "````yaml", to_yaml(told).rstrip("\n").replace("````", "'''' "), "````", "", "</details>"]


def _whole(lines: Sequence[str], basis: Basis) -> str:
    """All lines with the footer; where they are too many characters, the last of them are left out, and it is said."""
    foot = ["", "<sub>" + "; ".join(words.footer(basis)) + "</sub>"]
    text = "\n".join([*lines, *foot])
    if len(text) <= MOST:
        return text
    kept, size = [], len("\n".join(foot)) + 100
    for line in lines:
        size += len(line) + 1
        if size > MOST:
            break
        kept.append(line)
    return "\n".join([*kept, "", "… the rest is too long for a comment: `-o json` has all of it", *foot])
