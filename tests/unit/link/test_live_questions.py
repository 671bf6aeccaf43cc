"""Questions and live events down the stream, and who is said to be there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from fathom.agent.questions import EventFilter, EventsAnswer, EventsQuestion, StatusQuestion
from fathom.errors import NodeUnavailable
from fathom.events.batches import Clock
from fathom.link.bus import MemoryBus
from fathom.link.doubles import Ledger, ScriptedAgent, sample_batch
from fathom.link.hub import Hub, NodeEvents
from fathom.link.memory import MemoryHub
from fathom.wire import messages
from fathom.wire.messages import AgentHello, SpoolState

EVENTS = [{"kind": "tcp" if number % 2 else "flow", "number": number} for number in range(1200)]


async def gather(live: Any, count: int) -> list[NodeEvents]:
    """Chunks until they hold ``count`` events."""
    chunks: list[NodeEvents] = []
    async with asyncio.timeout(10):
        async for chunk in live:
            chunks.append(chunk)
            if sum(len(chunk.events) for chunk in chunks) >= count:
                break
    return chunks


# -- questions


async def test_a_question_is_answered_by_its_node(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path
) -> None:
    agents = {node: ScriptedAgent([{"node": node}]) for node in ("node-1", "node-2")}
    async with make_server(Ledger()) as server:
        async with (
            make_client(server.port, agent=agents["node-1"]) as one,
            make_client(server.port, "bb", "node-2", agents["node-2"], spool_dir=str(tmp_path / "2")) as two,
        ):
            await until(lambda: {one.status().state, two.status().state} == {"connected"}, "both agents")
            question = EventsQuestion(EventFilter(kind="tcp"), limit=3)
            assert await server.ask("node-2", question) == EventsAnswer([{"node": "node-2"}], False, 0, 0)
            assert agents["node-2"].asked == [question]
            assert agents["node-1"].asked == []
            answers = await server.ask_all(question, expected=["node-3"])
            assert set(answers.answers) == {"node-1", "node-2"}
            assert answers.missing == {"node-3": "not connected"}
        await until(lambda: not any(node.connected for node in server.nodes()), "both to leave")
        assert (await server.ask_all(question)).missing == {"node-1": "not connected", "node-2": "not connected"}


async def test_who_does_not_answer_says_why(make_server: Any, make_client: Any, until: Any) -> None:
    agent = ScriptedAgent()
    async with make_server(Ledger()) as server, make_client(server.port, agent=agent) as client:
        await until(lambda: client.status().state == "connected", "the agent")
        with pytest.raises(NodeUnavailable, match="limit must be from 1 to 5"):
            await server.ask("node-1", EventsQuestion(limit=6))
        agent.answer_delay_s = 30
        with pytest.raises(NodeUnavailable, match=r"no answer within 0\.05 s|did not answer in time"):
            await server.ask("node-1", StatusQuestion(), timeout_s=0.05)
        asking = asyncio.create_task(server.ask("node-1", StatusQuestion(), timeout_s=30))
        await until(lambda: len(agent.asked) == 3, "the question")
        await client.close()
        with pytest.raises(NodeUnavailable, match="the connection was lost"):
            await asking
        with pytest.raises(NodeUnavailable, match="not connected"):
            await server.ask("node-1", StatusQuestion())


async def test_an_agent_without_answers_says_so(make_server: Any, make_client: Any, until: Any) -> None:
    async with make_server(Ledger()) as server, make_client(server.port) as client:
        await until(lambda: client.status().state == "connected", "the agent")
        with pytest.raises(NodeUnavailable, match="answers no questions"):
            await server.ask("node-1", StatusQuestion())
        async with server.subscribe(EventFilter()) as live:
            assert (await anext(live)).error == "this agent answers no questions"


async def test_an_answer_above_the_bound_is_refused_on_the_node(make_server: Any, make_client: Any, until: Any) -> None:
    agent = ScriptedAgent([{"text": "x" * 100_000}])
    async with (
        make_server(Ledger(), link_max_message_bytes=64 * 1024) as server,
        make_client(server.port, agent=agent) as client,
    ):
        await until(lambda: client.status().state == "connected", "the agent")
        with pytest.raises(NodeUnavailable, match="ask for less"):
            await server.ask("node-1", EventsQuestion(limit=1))
        assert client.status().state == "connected"


async def test_questions_do_not_wait_for_a_slow_store(make_server: Any, make_client: Any, until: Any) -> None:
    ledger, agent = Ledger(), ScriptedAgent()
    ledger.delay_s = 60
    server = make_server(ledger)
    await server.start()
    async with make_client(server.port, agent=agent) as client:
        for sequence in range(1, 20):
            await client.put(sample_batch(sequence))
        await until(lambda: ledger.busy == 1, "a write that takes a minute")
        assert isinstance(await server.ask("node-1", EventsQuestion(limit=1)), EventsAnswer)
        client.outbox.close()
        client._state = "waiting"  # do not linger for acknowledgements
    for write in list(server._writes):
        write.cancel()
    await server.stop()


# -- live events


async def test_live_events_of_all_nodes_also_of_those_that_come_later(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path
) -> None:
    agents = [ScriptedAgent(EVENTS), ScriptedAgent(EVENTS)]
    async with make_server(Ledger()) as server, make_client(server.port, agent=agents[0]) as one:
        await until(lambda: one.status().state == "connected", "the first agent")
        async with server.subscribe(EventFilter(kind="tcp")) as live:
            first = await gather(live, 600)
            assert {chunk.node for chunk in first} == {"node-1"}
            second = make_client(server.port, "bb", "node-2", agents[1], spool_dir=str(tmp_path / "2"))
            async with second:
                later = await gather(live, 600)
                assert {chunk.node for chunk in later} == {"node-2"}
                numbers = [event["number"] for chunk in later for event in chunk.events]
                assert numbers == list(range(1, 1200, 2))
                assert [agent.streams for agent in agents] == [1, 1]
        await until(lambda: [agent.streams for agent in agents] == [0, 0], "the streams to end")


async def test_a_slow_reader_misses_events_and_is_told_how_many(make_server: Any, make_client: Any, until: Any) -> None:
    agent = ScriptedAgent(EVENTS)
    async with make_server(Ledger(), link_live_events=700) as server, make_client(server.port, agent=agent) as client:
        await until(lambda: client.status().state == "connected", "the agent")
        async with server.subscribe(EventFilter()) as live:
            await until(lambda: live._reader._dropped > 0, "the reader's bound")
            await asyncio.sleep(0.1)
            chunks = await gather(live, 700)
            assert [len(chunk.events) for chunk in chunks] == [500, 200]
            assert sum(chunk.dropped for chunk in chunks) == 500


async def test_two_readers_each_get_all(make_server: Any, make_client: Any, until: Any) -> None:
    agent = ScriptedAgent(EVENTS[:10])
    async with make_server(Ledger()) as server, make_client(server.port, agent=agent) as client:
        await until(lambda: client.status().state == "connected", "the agent")
        async with server.subscribe(EventFilter()) as one, server.subscribe(EventFilter(kind="tcp")) as two:
            assert sum(len(chunk.events) for chunk in await gather(one, 10)) == 10
            assert sum(len(chunk.events) for chunk in await gather(two, 5)) == 5


# -- who is there


async def test_a_node_tells_its_version_clock_and_spool(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    ledger.delay_s = 0.3
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await client.put(sample_batch(2))
        await until(lambda: server.nodes() != [] and server.nodes()[0].spool.batches == 2, "a heartbeat with the spool")
        node = server.nodes()[0]
        assert (node.node, node.boot, node.version, node.features) == ("node-1", "aa", "0.1.0", ("tcp", "flow"))
        assert node.connected
        assert 0 <= node.skew_ns < 5_000_000_000
        assert node.spool.bytes == 2 * 4096
        heard = node.heard_ns
        await until(lambda: server.nodes()[0].heard_ns > heard, "the next heartbeat")
        ledger.delay_s = 0


async def test_the_clock_skew_of_a_node_is_seen(make_server: Any, token: str) -> None:
    async with make_server(Ledger()) as server:
        server._clock = lambda: 5_000_000_000_000
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = channel.stream_stream("/fathom.v1.Link/Connect")(metadata=(("authorization", f"Bearer {token}"),))
            await call.write(messages.hello(AgentHello("n", "b", "1"), Clock(1, 1, 4_000_000_000_000), SpoolState()))
            await call.read()
            assert server.nodes()[0].skew_ns == 1_000_000_000_000


async def test_a_newer_stream_of_the_same_agent_replaces_the_older(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        await until(lambda: client.status().state == "connected", "the agent")
        first = server._registry.connection("node-1")
        await client._session._call.write(b"")  # the server ends this stream; the client comes back
        await until(lambda: server._registry.connection("node-1") not in (first, None), "the second stream")
        assert server.counts().connected == 1
        assert server.nodes()[0].conflict == ()


async def test_a_half_open_stream_is_replaced_by_the_agents_next(make_server: Any, token: str, until: Any) -> None:
    async with (
        make_server(Ledger()) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        connect = channel.stream_stream("/fathom.v1.Link/Connect")
        hello = messages.hello(AgentHello("n", "b", "1"), Clock(1, 1, 1), SpoolState())
        calls = [connect(metadata=(("authorization", f"Bearer {token}"),)) for _ in range(2)]
        for call in calls:
            await call.write(hello)
            await call.read()
        assert await calls[0].code() == grpc.StatusCode.UNAVAILABLE
        assert "replaced" in await calls[0].details()
        assert server.counts().connected == 1
        calls[1].cancel()
        await until(lambda: server.counts().connected == 0, "the second to leave")


async def test_two_agents_with_one_node_name_are_told_and_both_deliver(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port, "aa") as one:
        await until(lambda: one.status().state == "connected", "the first agent")
        async with make_client(server.port, "bb", spool_dir=str(tmp_path / "2")) as two:
            await until(lambda: server.nodes()[0].conflict == ("aa",), "the conflict")
            assert server.nodes()[0].boot == "bb"
            await one.put(sample_batch(1, boot="aa"))
            await two.put(sample_batch(1, boot="bb"))
            await until(lambda: ledger.facts == 6, "both batches")
        await until(lambda: server.nodes()[0].conflict == (), "the conflict to end")
        assert (server.nodes()[0].boot, server.nodes()[0].connected) == ("aa", True)
    assert caplog.text.count("2 agents claim the node name node-1") == 1


async def test_a_restarted_agent_is_no_conflict(make_server: Any, make_client: Any, until: Any) -> None:
    async with make_server(Ledger()) as server:
        for boot in ("aa", "bb", "cc"):
            async with make_client(server.port, boot) as client:
                await until(lambda: client.status().state == "connected", "the agent")
                assert server.nodes()[0].boot == boot
                assert server.nodes()[0].conflict == ()
        await until(lambda: server.counts().connected == 0, "the last to leave")


async def test_silent_nodes_are_forgotten_above_a_bound(make_server: Any, make_client: Any, until: Any) -> None:
    async with make_server(Ledger(), link_max_agents=1) as server:
        for number in range(5):
            async with make_client(server.port, node=f"n{number}") as client:
                await until(lambda: client.status().state == "connected", "the agent")
            await until(lambda: server.counts().connected == 0, "it to leave")
        assert [node.node for node in server.nodes()] == ["n3", "n4"]


# -- the doubles and the bus


async def test_the_hub_in_memory_answers_like_the_link() -> None:
    hub = MemoryHub()
    checked: Hub = hub
    agent = ScriptedAgent(EVENTS[:4])
    hub.attach(AgentHello("n1", "aa", "1", ("tcp",)), agent, now_ns=5)
    assert [(node.node, node.connected, node.connected_ns) for node in checked.nodes()] == [("n1", True, 5)]
    assert len((await checked.ask("n1", EventsQuestion(limit=1))).events) == 4
    answers = await checked.ask_all(EventsQuestion(limit=9), expected=["n2"])
    assert answers.missing == {"n1": "limit must be from 1 to 5", "n2": "not connected"}
    agent.answer_delay_s = 30
    with pytest.raises(NodeUnavailable, match="no answer within"):
        await checked.ask("n1", StatusQuestion(), timeout_s=0.01)
    async with checked.subscribe(EventFilter(kind="tcp")) as live:
        assert sum(len(chunk.events) for chunk in await gather(live, 2)) == 2
        hub.attach(AgentHello("n2", "bb", "1"), ScriptedAgent(EVENTS[:2]))
        assert {chunk.node for chunk in await gather(live, 1)} == {"n2"}
        hub.detach("n1")
    with pytest.raises(NodeUnavailable, match="not connected"):
        await checked.ask("n1", StatusQuestion())
    await hub.close()
    assert agent.streams == 0


async def test_the_bus_is_bounded_and_counts_what_a_reader_missed() -> None:
    bus = MemoryBus()
    slow, other = bus.subscribe("a", 5), bus.subscribe("b", 5)
    for number in range(4):
        bus.publish("a", bytes([number]), weight=2)
    assert slow.take_dropped() == 4
    assert slow.take_dropped() == 0
    assert [await anext(slow), await anext(slow)] == [b"\x00", b"\x01"]
    bus.publish("a", b"heavy", weight=100)  # alone it passes
    assert await anext(slow) == b"heavy"
    waiting = asyncio.create_task(anext(slow, None))
    await asyncio.sleep(0)
    slow.close()
    assert await waiting is None
    bus.publish("a", b"nobody reads")
    other.close()
    assert bus._readers == {}
