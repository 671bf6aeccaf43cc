"""How the agent is: one answer for status, readiness and the person who reads them.

``failed``: nothing is observed. ``degraded``: it works and something is missing, named in ``problems``. Load alone is
neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathom.agent.limits import cpu_ns, resident_bytes
from fathom.agent.questions import ProbeStatus, StatusAnswer

if TYPE_CHECKING:
    from fathom.agent.agent import Agent


def probe_states(agent: Agent) -> list[ProbeStatus]:
    """All probes, also those that could not be opened."""
    states = [
        ProbeStatus(
            name=w.name,
            attached=w.attached,
            detail=w.failure,
            fill=round(w.fill, 4),
            records=w.records,
            losses={reason: loss[0] for reason, loss in w.totals().items() if loss[0]},
        )
        for w in agent.watched
    ]
    return states + [ProbeStatus(name=name, attached=False, detail=why) for name, why in agent.refused.items()]


def problems(agent: Agent) -> list[str]:
    """What is missing or wrong now, each for a person."""
    found = [
        f"probe {probe.name} is not attached: {probe.detail}" for probe in probe_states(agent) if not probe.attached
    ]
    sink = agent.sink.state()
    if not sink.ok:
        found.append(": ".join(filter(None, ("batches do not reach a store", sink.detail))))
    if agent.sender.problem:
        found.append(f"the last batch was not taken: {agent.sender.problem}")
    if agent.budget.resident > agent.budget.budget_bytes:
        found.append(f"memory is over its budget of {agent.settings.memory_budget_mib} MiB")
    return found


def state(agent: Agent) -> str:
    """``ok``, ``degraded`` or ``failed``."""
    if not any(w.attached for w in agent.watched):
        return "failed"
    return "degraded" if problems(agent) else "ok"


def status(agent: Agent) -> StatusAnswer:
    """All of it."""
    sink = agent.sink.state()
    return StatusAnswer(
        state=state(agent),
        problems=problems(agent),
        node=agent.node,
        boot=agent.boot,
        version=agent.version,
        started_ns=agent.started.wall_ns,
        interval_s=agent.settings.interval_s,
        probes=probe_states(agent),
        sink_ok=sink.ok,
        sink_detail=sink.detail,
        batches=agent.sender.sequence,
        queued=sink.queued,
        facts=agent.sender.facts,
        edges=len(agent.turns.reducer.edges),
        workloads=len(agent.identities.workloads),
        own_excluded=agent.turns.counts.own_rows,
        rss_bytes=resident_bytes(),
        cpu_ns=cpu_ns(),
        clock_steps=agent.turns.wall.steps,
    )
