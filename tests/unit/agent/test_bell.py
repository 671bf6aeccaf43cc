"""The bell ends a pause early, once for each time that it is rung, however long what rang stays readable."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from fathom.agent.bell import Bell

#: Longer than any pause that is to be ended, shorter than a person waits.
LONG_S = 30.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_it_ends_a_pause_and_then_is_silent_though_data_is_there(pipe: tuple[int, int]) -> None:
    begin = time.monotonic()
    with Bell([pipe[0]]) as bell:
        asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"x")
        await bell.wait(LONG_S)
        assert time.monotonic() - begin < LONG_S / 2
        again = time.monotonic()
        await bell.wait(0.05)
        assert time.monotonic() - again >= 0.045, "nobody rang, what is there was there before"
        os.write(pipe[1], b"x")
        await bell.wait(LONG_S)
    assert time.monotonic() - begin < LONG_S / 2


async def test_it_rings_for_a_pause_that_begins_later(pipe: tuple[int, int]) -> None:
    begin = time.monotonic()
    with Bell([pipe[0]]) as bell:
        os.write(pipe[1], b"x")
        await bell.wait(LONG_S)
    assert time.monotonic() - begin < LONG_S / 2


async def test_without_anything_to_watch_it_is_a_pause() -> None:
    begin = time.monotonic()
    with Bell([]) as bell:
        await bell.wait(0.02)
    assert time.monotonic() - begin >= 0.015
