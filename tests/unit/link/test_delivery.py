"""Every batch reaches the store once, whatever the server does meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from fathom.errors import StoreBusy, StoreDamaged, WireError
from fathom.events.batches import BatchId
from fathom.link.doubles import Ledger, sample_batch


def ids(count: int, boot: str = "aa") -> list[BatchId]:
    return [BatchId("node-1", boot, sequence) for sequence in range(1, count + 1)]


async def test_a_batch_is_acknowledged_after_the_store_has_it(
    make_server: Any, make_client: Any, until: Any, tmp_path: Path
) -> None:
    ledger = Ledger()
    ledger.error = StoreBusy("locked")
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await until(lambda: client.status().sent > 1, "a second try")
        assert (client.state().queued, client.state().acknowledged) == (1, 0)
        assert len(list((tmp_path / "spool").glob("*.batch"))) == 1
        ledger.error = None
        await until(lambda: client.state().acknowledged == 1, "the acknowledgement")
        assert list((tmp_path / "spool").glob("*.batch")) == []
    assert ledger.order == ids(1)


async def test_a_thousand_batches_arrive_in_order_and_their_edges_once(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await until(lambda: client.state().acknowledged == 1, "the first batch")
        for sequence in range(2, 1001):
            await client.put(sample_batch(sequence))
        await until(lambda: client.state().acknowledged == 1000, "all batches")
        assert server.counts().facts == 3000
        assert [node.batches for node in server.nodes()] == [1000]
    assert ledger.order == ids(1000)
    assert ledger.repeats == []
    assert ledger.edges_sent == 3
    assert ledger.most_busy == 1


async def test_a_server_that_restarts_all_the_time_gets_each_batch_once(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    server = make_server(ledger)
    port = await server.start()
    async with make_client(port) as client:
        for sequence in range(1, 201):
            await client.put(sample_batch(sequence))
            if sequence % 20 == 0:
                await server.stop(0)
                server = make_server(ledger, port)
                await server.start()
        await until(lambda: client.state().queued == 0, "an empty spool")
    await server.stop()
    assert sorted(ledger.written) == ids(200)
    assert ledger.facts == 600


async def test_what_the_server_had_written_but_not_acknowledged_is_written_once(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    ledger.delay_s = 0.05
    server = make_server(ledger)
    port = await server.start()
    async with make_client(port) as client:
        await client.put(sample_batch(1))
        await until(lambda: ledger.busy == 1, "a write that has begun")
        await server.stop(0)  # the stream is gone, the write goes on
        assert ledger.order == ids(1)
        assert client.state().acknowledged == 0
        async with make_server(ledger, port):
            await until(lambda: client.state().acknowledged == 1, "the acknowledgement")
    assert (ledger.order, ledger.repeats) == (ids(1), ids(1))


async def test_an_outage_longer_than_memory_is_drained_from_disk_in_order(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    server = make_server(ledger)
    port = await server.start()
    await server.stop()
    async with make_client(port, link_memory_bytes=1500) as client:
        for sequence in range(1, 101):
            await client.put(sample_batch(sequence))
        assert client.outbox.memory_bytes <= 1500
        assert client.state().queued == 100
        async with make_server(ledger, port):
            await until(lambda: client.state().queued == 0, "an empty spool")
    assert ledger.order == ids(100)
    assert ledger.facts == 300


async def test_a_new_agent_drains_what_an_earlier_one_left_before_its_own(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    server = make_server(ledger)
    port = await server.start()
    await server.stop()
    for boot in ("cc", "bb"):
        async with make_client(port, boot) as client:
            for sequence in (1, 2, 3):
                await client.put(sample_batch(sequence, boot=boot))
    async with make_client(port, "aa") as client:
        await client.put(sample_batch(1))
        async with make_server(ledger, port):
            await until(lambda: client.state().queued == 0, "an empty spool")
    assert ledger.order == [*ids(3, "cc"), *ids(3, "bb"), *ids(1)]


async def test_while_the_store_is_busy_nothing_overtakes(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        for sequence in range(1, 61):
            ledger.error = StoreDamaged("day file") if sequence % 6 < 3 else None
            await client.put(sample_batch(sequence))
            await asyncio.sleep(0.002)
        ledger.error = None
        await until(lambda: client.state().queued == 0, "an empty spool")
        assert client.status().sent > 60
    assert ledger.order == ids(60)


async def test_a_slow_store_holds_the_agent_to_the_window(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    ledger.delay_s = 0.02
    async with make_server(ledger, link_window=3) as server, make_client(server.port) as client:
        for sequence in range(1, 31):
            await client.put(sample_batch(sequence))
            status = client.status()
            assert status.sent - status.acknowledged <= 3
        assert client.state().queued > 10
        ledger.delay_s = 0.0
        await until(lambda: client.state().queued == 0, "an empty spool")
    assert ledger.order == ids(30)


async def test_a_batch_that_the_store_calls_senseless_becomes_a_loss(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    refuse = BatchId("node-1", "aa", 2)

    async def write(batch: Any) -> None:
        if batch.id == refuse and len(batch.facts):
            raise WireError("facts of the year 9000")
        await Ledger.write(ledger, batch)

    ledger.write = write  # type: ignore[method-assign]
    async with make_server(ledger) as server, make_client(server.port) as client:
        for sequence in (1, 2, 3):
            await client.put(sample_batch(sequence))
        await until(lambda: client.state().queued == 0, "an empty spool")
        assert server.counts().rejected == 1
        assert server.nodes()[0].rejected == 1
        assert [(loss.hop, loss.reason, loss.count) for loss in client.state().losses] == [("server", "invalid", 3)]
    assert sorted(ledger.written) == ids(3)
    assert (ledger.facts, ledger.lost("server", "invalid")) == (6, 3)


async def test_a_server_that_fails_in_an_unknown_way_keeps_the_batch_for_a_while(
    make_server: Any, make_client: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger()
    ledger.error = KeyError("a bug")
    async with make_server(ledger, link_retry_s=0) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await until(lambda: client.status().sent >= 5, "five tries")
        assert client.state().queued == 1
        ledger.error = None
        await until(lambda: client.state().queued == 0, "an empty spool")
    assert ledger.facts == 3
    assert "a bug" in caplog.text


async def test_after_twenty_failures_a_batch_is_given_up_and_counted(
    make_server: Any, make_client: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger()
    caplog.set_level(logging.CRITICAL)

    async def write(batch: Any) -> None:
        if batch.id.sequence == 1 and len(batch.facts):
            raise KeyError("a bug")
        await Ledger.write(ledger, batch)

    ledger.write = write  # type: ignore[method-assign]
    async with make_server(ledger, link_retry_s=0) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await client.put(sample_batch(2))
        await until(lambda: client.state().queued == 0, "an empty spool")
    assert sorted(ledger.written) == ids(2)
    assert (ledger.facts, ledger.lost("server", "server_failed")) == (3, 3)


async def test_a_batch_beyond_the_servers_bound_becomes_a_loss(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    async with make_server(ledger, link_max_message_bytes=64 * 1024) as server, make_client(server.port) as client:
        await client.put(sample_batch(1, edges=3000))
        await client.put(sample_batch(2))
        await until(lambda: client.state().queued == 0, "an empty spool")
    assert (ledger.facts, ledger.lost("server", "too_large")) == (3, 3000)


# -- edges


async def test_another_store_gets_all_edges_again(make_server: Any, make_client: Any, until: Any) -> None:
    first, second = Ledger("store-1"), Ledger("store-2")
    server = make_server(first)
    port = await server.start()
    async with make_client(port) as client:
        for sequence in (1, 2):
            await client.put(sample_batch(sequence))
            await until(lambda: client.state().queued == 0, "an empty spool")
        assert first.edges_sent == 3
        await server.stop()
        async with make_server(second, port):
            await client.put(sample_batch(3))
            await until(lambda: client.state().queued == 0, "an empty spool")
    assert second.edges == first.edges


async def test_a_store_that_changes_while_the_server_runs_gets_all_edges_again(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await until(lambda: client.state().queued == 0, "an empty spool")
        ledger.store_id, ledger.edges = "store-2", set()
        await client.put(sample_batch(2))
        await until(lambda: client.state().queued == 0, "an empty spool")
    assert ledger.order == ids(2)
    assert len(ledger.edges) == 3


async def test_edges_are_not_taken_as_known_when_the_store_changed_during_the_write(
    make_server: Any, make_client: Any, until: Any
) -> None:
    ledger = Ledger()

    async def write(batch: Any) -> None:
        await Ledger.write(ledger, batch)
        if batch.id.sequence == 1:
            ledger.store_id, ledger.edges = "store-2", set()

    ledger.write = write  # type: ignore[method-assign]
    async with make_server(ledger) as server, make_client(server.port) as client:
        for sequence in (1, 2):
            await client.put(sample_batch(sequence))
            await until(lambda: client.state().queued == 0, "an empty spool")
        assert ledger.edges_sent == 6
    assert ledger.facts == 6


async def test_a_store_that_forgot_its_edges_is_told_again(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(sample_batch(1))
        await until(lambda: client.state().queued == 0, "an empty spool")
        ledger.edges = set()
        await client.put(sample_batch(2))
        await until(lambda: client.state().queued == 0, "an empty spool")
        assert client.state().losses == ()
    assert ledger.facts == 6


async def test_only_new_edges_go_along(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        for sequence, edges in ((1, 3), (2, 5), (3, 4)):
            await client.put(sample_batch(sequence, edges=edges))
            await until(lambda: client.state().queued == 0, "an empty spool")
    assert ledger.edges_sent == 5
    assert ledger.facts == 12


async def test_a_batch_whose_edges_nobody_knows_becomes_a_loss(make_server: Any, make_client: Any, until: Any) -> None:
    ledger = Ledger()
    async with make_server(ledger) as server, make_client(server.port) as client:
        await client.put(dataclasses.replace(sample_batch(1), edges=()))
        await until(lambda: client.state().queued == 0, "an empty spool")
    assert (ledger.facts, ledger.lost("server", "edge_missing")) == (0, 3)
