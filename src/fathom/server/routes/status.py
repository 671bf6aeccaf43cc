"""How everything is: the nodes, asked now; the store; what came in; and what of it needs a person."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from fathom.agent.questions import StatusAnswer, StatusQuestion
from fathom.link.hub import NodeState
from fathom.server import answers, examples
from fathom.server.answers import Node, Probe
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import encode, returns
from fathom.server.filters import Asked
from fathom.server.times import NS, text_s
from fathom.store.interface import NodeRow, StoreHealth

router = APIRouter(prefix="/api/v1", tags=["status"])


@router.get(
    "/status",
    summary="How everything is",
    response_class=Response,
    responses=returns(answers.Status, "Nodes, store, ingest.", examples.STATUS),
)
async def status(asked: Annotated[Asked, Query()], desk: AtDesk) -> Response:
    """Every node with its probes, the store, what came in; `problems` says what needs a person. Nodes that do not
    answer now are there all the same, with state `unknown` and why."""
    stretch = asked.window(desk.now_ns(), desk.settings)
    stored = {row.node: row for row in await desk.ask(desk.store.nodes)}
    connected = {state.node: state for state in desk.hub.nodes()}
    expected = [name for name, row in stored.items() if row.last_seen >= stretch.since_s]
    said = await desk.hub.ask_all(StatusQuestion(), desk.settings.node_timeout_s, expected)
    names = sorted({*connected, *expected})
    nodes = [
        _node(name, stored.get(name), connected.get(name), said.answers.get(name) or said.missing.get(name, ""))
        for name in names
    ]
    health = await desk.ask(desk.store.health)
    window, loss = await desk.trust(stretch)
    problems = _problems(desk, health, nodes, connected)
    return encode(
        answers.Status(
            items=nodes,
            window=window,
            loss=loss,
            state="degraded" if problems else "ok",
            problems=problems,
            version=desk.version,
            started=text_s(desk.started_s),
            retention=desk.settings.retention_days * 86_400,
            store=_store(desk, health),
            ingest=_ingest(desk),
            streams=desk.meters.streams,
        )
    )


def _node(name: str, row: NodeRow | None, link: NodeState | None, said: object) -> Node:
    answer = said if isinstance(said, StatusAnswer) else None
    here = bool(link and link.connected)
    problems = list(answer.problems) if answer else [f"its status is not known: {said or 'no answer'}"]
    if link and link.conflict:
        problems.append(f"other agents use the same node name (boots {', '.join(link.conflict)}); rename one")
    return Node(
        node=name,
        state=answer.state if answer else "unknown",
        problems=problems,
        connected=here,
        version=link.version if link else "",
        boot=link.boot if link else row.boot if row else "",
        first_seen=text_s(row.first_seen) if row else None,
        last_seen=text_s(row.last_seen) if row else None,
        batches=row.batches if row else 0,
        clock_skew=-link.skew_ns / NS if link else None,
        waiting_batches=link.spool.batches if link else 0,
        waiting_bytes=link.spool.bytes if link else 0,
        interval=answer.interval_s if answer else None,
        probes=[
            Probe(probe.name, probe.attached, probe.detail, probe.fill, probe.records, dict(probe.losses))
            for probe in (answer.probes if answer else ())
        ],
    )


def _problems(desk: Desk, health: StoreHealth, nodes: list[Node], links: dict[str, NodeState]) -> list[str]:
    """Sentences for a person; none if nothing needs one."""
    found = [] if health.writable else ["the store cannot be written: agents keep what they see until it can"]
    found += health.notes
    if not any(node.connected for node in nodes):
        found.append("no agent is connected: nothing new is seen")
    for node in nodes:
        if not node.connected:
            found.append(f"node {node.node}: its agent is not connected")
            continue
        found += [f"node {node.node}: {problem}" for problem in node.problems]
        link, skew = links[node.node], node.clock_skew or 0.0
        if abs(skew) > desk.settings.clock_skew_s:
            found.append(f"node {node.node}: its clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}")
        if not link.spool.writable:
            found.append(f"node {node.node}: its spool cannot be written")
    return found


def _store(desk: Desk, health: StoreHealth) -> answers.StoreState:
    return answers.StoreState(
        health.engine,
        desk.store.store_id,
        health.writable,
        health.edges,
        health.bytes,
        list(health.days),
        list(health.notes),
    )


def _ingest(desk: Desk) -> answers.IngestState:
    meters = desk.meters
    return answers.IngestState(
        meters.batches,
        meters.duplicates,
        meters.facts,
        meters.edges,
        meters.batches_busy,
        meters.batches_invalid,
        meters.batches_waiting,
    )
