"""Recent events, asked live: merged over nodes, newest first, paged without a hole, with absent nodes named."""

from __future__ import annotations

from typing import Any

import pytest

from fathom.agent.questions import EventFilter, EventsAnswer, EventsQuestion
from fathom.errors import NodeUnavailable
from fathom.server.times import text_ns

NS = 1_000_000_000


def event(at_ns: int, **fields: Any) -> dict[str, Any]:
    """An event as agents render it: its time is cut to microseconds."""
    return {"time": text_ns(at_ns)[:-4] + "Z", "kind": "tcp", **fields}


class Agent:
    """A node that holds events, answers as an agent does, and remembers what it was asked."""

    def __init__(self, *times_ns: int) -> None:
        self.events = [event(at, n=i) for i, at in enumerate(sorted(times_ns, reverse=True))]
        self.times = sorted(times_ns, reverse=True)
        self.asked: list[EventsQuestion] = []

    def __call__(self, question: EventsQuestion) -> EventsAnswer:
        self.asked.append(question)
        found = [
            e for at, e in zip(self.times, self.events, strict=True) if question.since_ns <= at < question.until_ns
        ]
        return EventsAnswer(found[: question.limit], len(found) > question.limit, 7 * NS, 3)


async def test_events_of_all_nodes_are_merged_newest_first_and_say_their_node(world: Any) -> None:
    now = world.now * NS
    world.hub.connect(world.state("n1"), Agent(now - 3 * NS, now - 1 * NS))
    world.hub.connect(world.state("n2"), Agent(now - 2 * NS))
    answer = await world.get("/events")
    assert [(e["node"], e["time"][17:20]) for e in answer["items"]] == [("n1", "59."), ("n2", "58."), ("n1", "57.")]
    assert answer["next_cursor"] == ""
    assert answer["missing"] == []
    assert answer["nodes"][0] == {
        "node": "n1",
        "events": 2,
        "oldest": "1970-01-01T00:00:07.000000000Z",
        "overwritten": 3,
    }
    assert answer["window"]["until"] == "2026-01-31T12:00:00Z"


async def test_the_filters_reach_the_nodes(world: Any) -> None:
    agent = Agent()
    world.hub.connect(world.state("n1"), agent)
    await world.get(
        "/events", kind="tcp", workload="unit/nginx", pid=42, comm="curl", address="10.0.0.0/8", port=443,
        since="2026-01-31T11:59:00.5Z", until="30s", limit=7,
    )  # fmt: skip
    (question,) = agent.asked
    assert question.filter == EventFilter("tcp", 42, "curl", "10.0.0.0/8", 443, "unit/nginx")
    assert question.since_ns == (world.now - 60) * NS + NS // 2
    assert question.until_ns == (world.now - 30) * NS
    assert question.limit == 8  # one more shows whether there is a next page


async def test_nodes_that_do_not_answer_are_named_and_the_others_are_not_lost(world: Any) -> None:
    world.hub.connect(world.state("n1"), Agent(world.now * NS - NS))
    world.hub.connect(world.state("n2"), Agent(world.now * NS - NS))
    world.hub.silent.add("n2")
    world.write((world.edge(), 20, {"connections": 1}), node="n3")
    answer = await world.get("/events")
    assert [e["node"] for e in answer["items"]] == ["n1"]
    assert answer["missing"] == [
        {"node": "n2", "why": "no answer within 5 s"},
        {"node": "n3", "why": "not connected"},
    ]


async def test_one_node_can_be_asked(world: Any) -> None:
    first, second = Agent(world.now * NS - NS), Agent(world.now * NS - NS)
    world.hub.connect(world.state("n1"), first)
    world.hub.connect(world.state("n2"), second)
    answer = await world.get("/events", node="n2")
    assert [e["node"] for e in answer["items"]] == ["n2"]
    assert first.asked == []
    assert (await world.get("/events", node="n9"))["missing"] == [{"node": "n9", "why": "not connected"}]


async def test_a_node_that_refuses_is_named_with_its_words(world: Any) -> None:
    def refuse(_question: object) -> Any:
        raise NodeUnavailable("n1", "limit must be from 1 to 10000")

    world.hub.connect(world.state("n1"), refuse)
    assert (await world.get("/events"))["missing"] == [{"node": "n1", "why": "limit must be from 1 to 10000"}]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 100])
async def test_pages_hold_every_event_once_even_those_of_one_microsecond(world: Any, limit: int) -> None:
    base = world.now * NS - 10 * NS
    world.hub.connect(world.state("n1"), Agent(base, base, base + 7, base + 999, base + 5_000, base + 5_001))
    world.hub.connect(world.state("n2"), Agent(base + 3, base + 5_002, base + 5_999, base + 9_000))
    found: list[tuple[str, int]] = []
    cursor, pages = "", 0
    while True:
        answer = await world.get("/events", limit=limit, cursor=cursor)
        assert len(answer["items"]) <= limit
        found += [(e["node"], e["n"]) for e in answer["items"]]
        pages += 1
        if not (cursor := answer["next_cursor"]):
            break
    assert sorted(found) == [("n1", n) for n in range(6)] + [("n2", n) for n in range(4)]
    assert pages == -(-10 // limit)


@pytest.mark.parametrize(
    "cursor",
    ["x", "AAAA", "WzEsMl0", "W10", "WzIsMSwwXQ", "WzEsMiwtMV0", "e30", "WzEsMiwzLDRd", "WzAsMWUzMDAsMF0", "\xff"],
)
async def test_a_cursor_that_was_not_given_is_refused(world: Any, cursor: str) -> None:
    assert "no cursor" in (await world.get("/events", status=422, cursor=cursor))["what"]


@pytest.mark.parametrize("address", ["10.0.0.0/33", "nginx", "10.0.0", "::g", "1.2.3.4/x"])
async def test_an_address_that_is_none_is_refused(world: Any, address: str) -> None:
    assert "no address" in (await world.get("/events", status=422, address=address))["what"]


async def test_events_without_a_time_come_last_and_are_kept(world: Any) -> None:
    def agent(_question: object) -> EventsAnswer:
        return EventsAnswer(
            [{"kind": "tcp"}, event(world.now * NS - NS), {"kind": "tcp", "time": "broken"}], False, 0, 0
        )

    world.hub.connect(world.state("n1"), agent)
    answer = await world.get("/events")
    assert len(answer["items"]) == 3
    assert answer["items"][0]["time"].startswith("2026")
    assert answer["nodes"][0]["oldest"] is None


async def test_a_node_cannot_speak_for_another(world: Any) -> None:
    def agent(_question: object) -> EventsAnswer:
        return EventsAnswer([event(world.now * NS - NS, node="n2")], False, 0, 0)

    world.hub.connect(world.state("n1"), agent)
    assert (await world.get("/events"))["items"][0]["node"] == "n1"
