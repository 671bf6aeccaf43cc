"""What the live table looks at: the local server's own REST, like any other client, plus how the two children are.

A look never fails: what cannot be known just now is said in a note, and the last table stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fathom.cli.children import Child
from fathom.cli.traffic import Row, View
from fathom.client import Client
from fathom.errors import AuthenticationError, FathomError
from fathom.server.answers import Edge, Edges, Status

#: Seconds of the past that the table sums up.
WINDOW_S = 300
_ROWS = 500
#: Seconds in which an agent that is not connected yet is no problem.
_SETTLING_S = 3.0


class Watch:
    """Makes one ``View`` a call of ``look``.

    ``stranger`` names the user who listens where our server should, if another does: that user would learn the key.
    ``now`` gives seconds on a monotonic clock.
    """

    def __init__(
        self,
        client: Client,
        children: Sequence[Child],
        node: str,
        stranger: Callable[[], int | None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._children = children
        self._stranger = stranger
        self._now = now
        self._born = now()
        self.view = View(node=node, uptime=0.0, window=float(WINDOW_S), waiting=10.0)
        self._records: tuple[float, int] | None = None

    async def look(self) -> View:
        """What there is to see now."""
        notes = [note for child in self._children for note in _about(child)]
        uptime = self._now() - self._born
        try:
            self._require_our_own()
            status = await self._client.status(since=f"{WINDOW_S}s")
            edges = await self._client.edges(since=f"{WINDOW_S}s", order="traffic", limit=_ROWS)
        except FathomError as error:
            self.view = replace(self.view, uptime=uptime, notes=(*notes, error.what))
            return self.view
        self.view = self._seen(status, edges, uptime, notes)
        return self.view

    def _require_our_own(self) -> None:
        """Raises AuthenticationError if somebody else listens in the place of the server."""
        user = self._stranger()
        if user is not None:
            raise AuthenticationError(f"user {user} of this machine listens in the server's place: it was not asked")

    def _seen(self, status: Status, edges: Edges, uptime: float, notes: list[str]) -> View:
        total = sum(probe.records for node in status.items for probe in node.probes)
        coverage = edges.window.coverage
        interval = max((node.interval or 0 for node in status.items), default=0) or 10
        return View(
            node=self.view.node,
            uptime=uptime,
            window=float(WINDOW_S),
            rows=tuple(_row(edge) for edge in edges.items),
            events_total=total if status.items else None,
            events_per_second=self._rate(total),
            coverage=coverage.share if coverage.node_seconds > 0 else None,
            lost=edges.lost,
            waiting=None if edges.items or status.ingest.batches else max(interval - uptime, 0.0),
            notes=(*notes, *(status.problems if uptime > _SETTLING_S else ())),
        )

    def _rate(self, total: int) -> float | None:
        """Events a second since the last look; None at the first, or when the agent started anew."""
        now, before = self._now(), self._records
        self._records = (now, total)
        if before is None or total < before[1] or now <= before[0]:
            return None
        return (total - before[1]) / (now - before[0])


def _row(edge: Edge) -> Row:
    return Row(
        workload=edge.workload,
        direction=edge.direction,
        peer=edge.peer,
        protocol=edge.protocol,
        port=edge.port,
        connections=edge.connections,
        bytes_sent=edge.bytes_sent,
        bytes_received=edge.bytes_received,
        p50=edge.latency.p50,
        p99=edge.latency.p99,
        failures=edge.failures,
        reason=edge.reason,
    )


def _about(child: Child) -> list[str]:
    """What a person should know about a child that died."""
    name, times = child.part.name, f"{child.restarts} time" + ("s" if child.restarts != 1 else "")
    if child.state == "ready":
        return [f"{name} {child.last_end}; started again ({times})"] if child.restarts else []
    return [f"{name} {child.last_end}; starting it again ({times} so far)"] if child.last_end else []
