"""Status: every node with what it says of itself, and the sentences that need a person."""

from __future__ import annotations

from typing import Any

from fathom.agent.questions import ProbeStatus
from fathom.store.interface import StoreHealth
from fathom.wire.messages import SpoolState


async def test_a_node_that_is_well(world: Any) -> None:
    world.write((world.edge(), 20, {"connections": 1}))
    probes = [ProbeStatus("tcp", True, "", 0.25, 99, {"ring_full": 2})]
    world.hub.connect(world.state(spool=SpoolState(2, 4_096)), world.answering(probes=probes))
    answer = await world.get("/status")
    assert (answer["state"], answer["problems"]) == ("ok", [])
    (node,) = answer["items"]
    assert node == {
        "node": "n1",
        "state": "ok",
        "problems": [],
        "connected": True,
        "version": "0.1.0",
        "boot": "b1",
        "first_seen": "2026-01-31T11:50:00Z",
        "last_seen": "2026-01-31T12:00:00Z",
        "batches": 1,
        "clock_skew": 0.0,
        "waiting_batches": 2,
        "waiting_bytes": 4_096,
        "interval": 10,
        "probes": [
            {"name": "tcp", "attached": True, "detail": "", "fill": 0.25, "records": 99, "losses": {"ring_full": 2}}
        ],
    }
    assert answer["store"]["writable"] is True
    assert answer["store"]["engine"] == "sqlite"
    assert answer["store"]["id"] == world.store.store_id
    assert answer["retention"] == 7 * 86_400
    assert answer["window"]["coverage"]["share"] == 1.0


async def test_a_probe_that_the_kernel_refused_is_told(world: Any) -> None:
    probes = [ProbeStatus("tcp", True), ProbeStatus("flow", False, "EPERM")]
    said = world.answering(state="degraded", problems=["probe flow is not attached: EPERM"], probes=probes)
    world.hub.connect(world.state(), said)
    answer = await world.get("/status")
    assert answer["state"] == "degraded"
    assert answer["problems"] == ["node n1: probe flow is not attached: EPERM"]
    assert [p["attached"] for p in answer["items"][0]["probes"]] == [True, False]


async def test_nodes_that_went_away_are_there_all_the_same(world: Any) -> None:
    world.write((world.edge(), 20, {"connections": 1}), node="n2")
    world.hub.connect(world.state("n1"), world.answering())
    answer = await world.get("/status")
    gone = answer["items"][1]
    assert (gone["node"], gone["state"], gone["connected"], gone["clock_skew"]) == ("n2", "unknown", False, None)
    assert gone["problems"] == ["its status is not known: not connected"]
    assert answer["problems"] == ["node n2: its agent is not connected"]


async def test_nodes_that_were_not_there_in_the_window_are_not_missed(world: Any) -> None:
    world.write((world.edge(), 20, {"connections": 1}), node="n2")
    world.hub.connect(world.state("n1"), world.answering())
    world.now_ns[0] += 3_600 * 1_000_000_000
    assert [node["node"] for node in (await world.get("/status"))["items"]] == ["n1"]
    assert [node["node"] for node in (await world.get("/status", since="2h"))["items"]] == ["n1", "n2"]


async def test_a_server_without_agents_says_so(world: Any) -> None:
    assert (await world.get("/status"))["problems"] == ["no agent is connected: nothing new is seen"]


async def test_a_silent_node_a_wrong_clock_a_full_spool_and_a_doubled_name_are_told(world: Any) -> None:
    world.hub.connect(world.state("n1"), world.answering())
    world.hub.connect(world.state("n2", skew_ns=-90_000_000_000), world.answering())
    world.hub.connect(world.state("n3", skew_ns=6_000_000_000, spool=SpoolState(writable=False)), world.answering())
    world.hub.connect(world.state("n4", conflict=("b7",)), world.answering())
    world.hub.silent.add("n1")
    answer = await world.get("/status")
    assert answer["problems"] == [
        "node n1: its status is not known: no answer within 5 s",
        "node n2: its clock is 90.0 s ahead",
        "node n3: its clock is 6.0 s behind",
        "node n3: its spool cannot be written",
        "node n4: other agents use the same node name (boots b7); rename one",
    ]
    assert [node["clock_skew"] for node in answer["items"]] == [0.0, 90.0, -6.0, 0.0]
    assert answer["items"][0]["connected"] is True


async def test_a_store_that_cannot_be_written_is_told_everywhere(world: Any) -> None:
    world.hub.connect(world.state(), world.answering())
    world.store.instead["health"] = lambda: StoreHealth(
        False, "sqlite", 0, (), 0, ("day 2026-01-30 was damaged: kept aside",)
    )
    answer = await world.get("/status")
    assert answer["problems"] == [
        "the store cannot be written: agents keep what they see until it can",
        "day 2026-01-30 was damaged: kept aside",
    ]
    ready = await world.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "problems": ["the store cannot be written"]})
    assert (await world.http.get("/healthz")).status_code == 200
    assert "\nfathom_server_store_writable 0\n" in (await world.http.get("/metrics")).text


async def test_a_server_that_ends_is_not_ready(world: Any) -> None:
    assert (await world.http.get("/readyz")).json() == {"ready": True, "problems": []}
    world.app.state.desk.closing.set()
    assert (await world.http.get("/readyz")).status_code == 503
