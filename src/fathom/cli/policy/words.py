"""Answers about policy in words: what tables, Markdown and SARIF say alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from fathom.cli.traffic import trust
from fathom.policy.answers import Basis, Replayed
from fathom.policy.connectivity import StaticChange
from fathom.policy.decide import Hit
from fathom.policy.replay import Group


def when(epoch: int) -> str:
    """RFC 3339 in UTC; ``-`` where it is not known."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if epoch else "-"


def port(group: Group) -> str:
    """``TCP/80``, or ``ICMP`` where there is no port."""
    return f"{group.protocol}/{group.port}" if group.port else group.protocol


def rule(hit: Hit) -> str:
    """``allow NetworkPolicy shop/web spec.ingress[0]``."""
    certain = "" if hit.sure else "perhaps "
    return f"{certain}{hit.action} {hit.policy} {hit.place.path}".rstrip()


def why(group: Group) -> str:
    """Who decided a group, or why it is not known."""
    if group.reasons:
        return "; ".join(group.reasons)
    if group.rules:
        return "; ".join(rule(hit) for hit in group.rules)
    if group.policies:
        return f"no rule of {', '.join(group.policies)} matches"
    return "no policy selects it"


def spans(change: StaticChange) -> str:
    """Ports of a static change: ``TCP/80,443,8000-8010``; ``TCP`` for all ports."""
    if change.ports in (((1, 65535),), ((0, 0),)):
        return change.protocol
    texts = (str(first) if first == last else f"{first}-{last}" for first, last in change.ports)
    return f"{change.protocol}/{','.join(texts)}"


def example(change: StaticChange) -> str:
    """The counter-example: ``shop/web > shop/db TCP/5432``."""
    src, dst, protocol, number = change.example
    return f"{src} > {dst} {protocol}/{number}" if number else f"{src} > {dst} {protocol}"


def counted(number: int, singular: str, plural: str = "") -> str:
    """``1 flow``, ``2,000 flows``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def verdicts(counts: dict[str, int]) -> str:
    """``allowed 12 · denied-ingress 3``: the verdicts that occur."""
    return " · ".join(f"{word} {number:,}" for word, number in counts.items() if number) or "no flow"


def stopped(answer: Replayed) -> list[str]:
    """What was not let through when it was seen, and would not be allowed."""
    flows = sum(group.flows for group in answer.stopped)
    more_than = "more than " if answer.stopped_left_out else ""
    return [f"not let through then, nor allowed: {more_than}{counted(flows, 'flow')}"] if flows else []


def changes(counts: dict[str, int]) -> str:
    """As ``verdicts``, of changes."""
    return " · ".join(f"{word} {number:,}" for word, number in counts.items() if number) or "no difference"


def footer(basis: Basis) -> list[str]:
    """How far an answer can be trusted, and what of the policies is not understood."""
    known = basis.coverage is not None
    span = float(basis.until - basis.since) if basis.until else None
    lines = [f"{counted(basis.flows, 'flow')} · " + trust(span, basis.coverage, basis.lost if known else None)]
    if basis.as_of:
        lines.append(f"inventory: the live cluster as of {when(basis.as_of)}, not its history")
    if basis.problems:
        parts = counted(basis.problems, "part")
        lines.append(f"{parts} of the policies not understood: what they could change is unknown")
    if basis.idle:
        lines.append(idle(basis.idle, basis.idle_policies))
    return lines


def idle(titles: Sequence[str], number: int) -> str:
    """That some policies choose no pod; ``number`` counts all of them."""
    return f"{counted(number, 'policy chooses', 'policies choose')} no pod of the inventory: {listed(titles)}"


def more(left_out: int, noun: str = "row") -> list[str]:
    """The line that says what a limit left out, if it did."""
    return [f"and {counted(left_out, 'more ' + noun)} (--limit)"] if left_out else []


def listed(texts: Iterable[str], most: int = 5) -> str:
    """Texts with commas; beyond ``most`` only their number."""
    every = list(texts)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
