"""Several loops that live and die together: the first to end ends all, and its error is the error of all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_first_ends(*loops: Coroutine[Any, Any, None]) -> None:
    """Run ``loops`` at once until one returns or raises; the others are then cancelled and awaited.

    Raises what the first one raised.
    """
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
