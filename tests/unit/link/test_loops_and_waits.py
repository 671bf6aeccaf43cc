"""The small parts: loops that end together, waits that grow with jitter, settings."""

from __future__ import annotations

import asyncio
import random

import pytest

from fathom.link.backoff import Backoff
from fathom.link.settings import LinkClientSettings, LinkServerSettings
from fathom.link.together import until_first_ends
from fathom.settings import load


async def test_the_first_loop_to_end_ends_all() -> None:
    ended: list[str] = []

    async def for_ever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def soon() -> None:
        await asyncio.sleep(0)

    await until_first_ends(for_ever("a"), soon(), for_ever("b"))
    assert ended == ["a", "b"]


async def test_the_first_error_is_the_error_of_all() -> None:
    async def fail() -> None:
        raise ValueError("first")

    async def for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="first"):
        await until_first_ends(for_ever(), fail())


async def test_cancelling_all_cancels_each() -> None:
    ended: list[int] = []

    async def for_ever(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    task = asyncio.create_task(until_first_ends(for_ever(1), for_ever(2)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1, 2]


def test_waits_double_up_to_their_bound_and_are_spread_from_zero() -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a in (0, 0.5)
            return b

    backoff = Backoff(30.0, source=Highest())
    assert [backoff.next() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    backoff.attempts = 5000
    assert backoff.next() == 30
    backoff.reset()
    assert backoff.next() == 0.5
    assert backoff.around(60) == 90
    spread = Backoff(30.0, source=random.Random(1))
    spread.attempts = 10
    waits = [spread.next() for _ in range(200)]
    assert min(waits) < 3
    assert 27 < max(waits) <= 30


def test_defaults_are_loopback_and_bounded() -> None:
    client, server = load(LinkClientSettings, env={}), load(LinkServerSettings, env={})
    assert client == LinkClientSettings(
        link_server="127.0.0.1:8601",
        link_token_file="",
        link_tls=False,
        link_ca_file="",
        link_allow_plaintext=False,
        link_memory_bytes=4 << 20,
        link_heartbeat_s=10.0,
        link_connect_timeout_s=15.0,
        link_backoff_max_s=30.0,
        link_refused_retry_s=60.0,
        spool_dir="/var/lib/fathom/spool",
        spool_bytes=256 << 20,
        spool_fsync=False,
    )
    assert server == LinkServerSettings(
        link_listen="127.0.0.1:8601",
        link_tokens_file="",
        link_cert_file="",
        link_key_file="",
        link_allow_plaintext=False,
        link_window=8,
        link_max_message_bytes=16 << 20,
        link_max_agents=5000,
        link_hello_timeout_s=10.0,
        link_retry_s=2.0,
        link_interval_s=0,
        link_live_events=10_000,
    )
