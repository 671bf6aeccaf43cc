"""What the live table makes of status, edges and the state of the children; the server is a stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from fathom.cli.watch import Watch
from fathom.errors import ServerUnavailable
from fathom.server import examples
from fathom.server.answers import Edges, Status


@dataclass
class Server:
    """Stands in for the client: gives ``status`` and ``edges``, or fails with ``error``."""

    state: Status = examples.STATUS
    answer: Edges = examples.EDGES
    error: Exception | None = None

    async def status(self, **_: Any) -> Status:
        if self.error:
            raise self.error
        return self.state

    async def edges(self, **_: Any) -> Edges:
        return self.answer


@dataclass
class Part:
    name: str = "agent"


@dataclass
class Child:
    part: Part = field(default_factory=Part)
    state: str = "ready"
    restarts: int = 0
    last_end: str = ""


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def records(status: Status, count: int) -> Status:
    """``status`` whose probes have seen ``count`` records."""
    node = status.items[0]
    probes = [msgspec.structs.replace(probe, records=count if i == 0 else 0) for i, probe in enumerate(node.probes)]
    return msgspec.structs.replace(status, items=[msgspec.structs.replace(node, probes=probes)])


def watch(server: Server, *children: Child) -> tuple[Watch, Time]:
    clock = Time()
    return Watch(server, children, "here", now=clock), clock  # type: ignore[arg-type]


async def test_a_row_an_edge_and_the_trust_of_the_answer() -> None:
    look, _ = watch(Server())
    view = await look.look()
    edge = examples.EDGES.items[0]
    (row,) = view.rows
    assert (row.workload, row.port, row.bytes_sent, row.p99) == (
        edge.workload, edge.port, edge.bytes_sent, edge.latency.p99,
    )  # fmt: skip
    assert view.coverage == examples.EDGES.window.coverage.share
    assert view.lost == 12
    assert view.node == "here"


async def test_events_a_second_are_the_difference_of_two_looks() -> None:
    server = Server(state=records(examples.STATUS, 1000))
    look, clock = watch(server)
    assert (await look.look()).events_per_second is None
    clock.now += 2
    server.state = records(examples.STATUS, 1500)
    assert (await look.look()).events_per_second == 250
    clock.now += 1
    server.state = records(examples.STATUS, 10)
    assert (await look.look()).events_per_second is None, "a new agent counts from the start: no negative rate"


async def test_a_server_that_is_away_is_a_note_and_the_last_table_stays() -> None:
    server = Server()
    look, clock = watch(server)
    await look.look()
    server.error = ServerUnavailable("no server answers")
    clock.now += 5
    view = await look.look()
    assert len(view.rows) == 1
    assert view.uptime == 5
    assert "no server answers" in view.notes


async def test_a_stranger_in_the_servers_place_is_not_asked() -> None:
    class Never(Server):
        async def status(self, **_: Any) -> Status:
            raise AssertionError("the key was sent")

    view = await Watch(Never(), [], "here", lambda: 1234).look()  # type: ignore[arg-type]
    assert view.notes == ("user 1234 of this machine listens in the server's place: it was not asked",)


@pytest.mark.parametrize(
    ("child", "note"),
    [
        (Child(), None),
        (Child(restarts=1, last_end="was killed by SIGKILL"), "agent was killed by SIGKILL; started again (1 time)"),
        (Child(state="waiting", restarts=2, last_end="ended with status 1"),
         "agent ended with status 1; starting it again (2 times so far)"),
    ],
)  # fmt: skip
async def test_what_happened_to_a_child_is_said(child: Child, note: str | None) -> None:
    look, _ = watch(Server(state=msgspec.structs.replace(examples.STATUS, problems=[])), child)
    assert (await look.look()).notes == ((note,) if note else ())


async def test_waiting_ends_with_the_first_batch_even_if_nobody_talked() -> None:
    nothing = msgspec.structs.replace(examples.EDGES, items=[])
    ingest = msgspec.structs.replace(examples.STATUS.ingest, batches=0)
    server = Server(msgspec.structs.replace(examples.STATUS, ingest=ingest), nothing)
    look, clock = watch(server)
    clock.now += 4
    assert (await look.look()).waiting == 6
    clock.now += 60
    assert (await look.look()).waiting == 0
    server.state = examples.STATUS
    assert (await look.look()).waiting is None
