"""``/metrics``: the series of workloads, and what the agent says about itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fathom.agent import families
from fathom.agent.exposition import label_text
from fathom.agent.families import Family
from fathom.agent.limits import cpu_ns, resident_bytes

if TYPE_CHECKING:
    from fathom.agent.agent import Agent

#: Label values → number.
Samples = Iterable[tuple[tuple[str, ...], float]]


def metrics_text(agent: Agent) -> str:
    """All families (Prometheus text format 0.0.4), each told once."""
    turns = agent.turns
    traffic = turns.traffic.render(list(turns.reducer.open.values()), turns.reducer.edges)
    return traffic + "".join(_family(family, samples) for family, samples in _own(agent))


def _family(family: Family, samples: Samples) -> str:
    lines = [f"{family.name}{label_text(family.labels, values)} {number!r}\n" for values, number in samples]
    return "".join((family.head(), *lines))


def _own(agent: Agent) -> list[tuple[Family, Samples]]:
    counts, sink = agent.turns.counts, agent.sink.state()
    return [
        *_losses(agent),
        *_probes(agent),
        (
            families.MERGED,
            [
                (("edge",), agent.turns.grouping.merged.edges),
                (("workload",), agent.turns.grouping.merged.workloads),
                (("series",), agent.turns.traffic.merged),
            ],
        ),
        (families.OWN_EXCLUDED, [((), counts.own_rows)]),
        (families.OWN_EXCLUDED_BYTES, [((), counts.own_bytes)]),
        (families.FALLBACKS, [((reason,), n) for reason, n in agent.identities.fallbacks.items()]),
        (families.LOOKUPS, [((), agent.identities.lookups)]),
        (families.WORKLOADS, [((), len(agent.identities.workloads))]),
        (families.EDGES, [((), len(agent.turns.reducer.edges))]),
        (families.FACTS, [((), agent.sender.facts)]),
        (families.BATCHES, [((), agent.sender.sequence)]),
        (families.QUEUED, [((), sink.queued)]),
        (families.QUEUED_BYTES, [((), sink.queued_bytes)]),
        (families.LINK_UP, [((), int(sink.ok))]),
        (families.SUBSCRIBERS, [((), len(agent.live))]),
        (families.SUBSCRIBERS_LOST, [((), agent.live.lost)]),
        (families.REQUESTS, [((str(code),), n) for code, n in sorted(agent.requests.items())]),
        (families.TURNS, [((), counts.turns)]),
        (families.CLOCK_STEPS, [((), agent.turns.wall.steps)]),
        (families.OVER_BUDGET, [((), agent.budget.over)]),
        (families.CPU, [((), cpu_ns() / 1e9)]),
        (families.RESIDENT, [((), resident_bytes())]),
        (families.STARTED, [((), agent.started.wall_ns / 1e9)]),
        (families.BUILD, [((agent.version,), 1)]),
    ]


def _losses(agent: Agent) -> list[tuple[Family, Samples]]:
    totals: dict[tuple[str, str, str], list[int]] = {}
    for watched in agent.watched:
        for reason, (count, packets, sent, received) in watched.totals().items():
            totals["kernel", watched.name, reason] = [count, packets, sent + received]
    for probe, lost in agent.turns.counts.dropped.items():
        totals["agent", probe, "edges_full"] = [lost.count, lost.packets, lost.bytes_sent + lost.bytes_received]
    for reason, count in agent.sender.given_up.items():
        totals["agent", "", reason] = [count, 0, 0]
    for loss in agent.sink.state().losses:
        total = totals.setdefault((loss.hop, loss.probe, loss.reason), [0, 0, 0])
        for index, number in enumerate((loss.count, loss.packets, loss.bytes_sent + loss.bytes_received)):
            total[index] += number
    every = (families.LOST_EVENTS, families.LOST_PACKETS, families.LOST_BYTES)
    return [(family, [(key, total[index]) for key, total in totals.items()]) for index, family in enumerate(every)]


def _probes(agent: Agent) -> list[tuple[Family, Samples]]:
    up: list[tuple[tuple[str, ...], float]] = [((w.name,), int(w.attached)) for w in agent.watched]
    return [
        (families.PROBE_UP, [*up, *(((name,), 0) for name in agent.refused)]),
        (families.PROBE_RECORDS, [((w.name,), w.records) for w in agent.watched]),
        (families.PROBE_FILL, [((w.name,), w.fill) for w in agent.watched]),
        (families.RECENT, [((w.name,), len(w.recent)) for w in agent.watched]),
    ]
