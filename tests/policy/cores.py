"""Long properties shared out over the machine's cores, part by part, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
#: The seed of the first part; another one in the environment tries other cases.
FIRST = int(os.environ.get("FATHOM_POLICY_SEED", "1"))


def shared(work: Callable[[int, int], T], total: int, parts: int) -> Iterator[T]:
    """What ``work(size, seed)`` returns for each of ``parts`` parts of ``total``; what a part raises is raised here.

    ``work`` must be in a module, not in a test.
    """
    sizes = [total // parts + (number < total % parts) for number in range(parts)]
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=start, max_tasks_per_child=4) as pool:
        yield from pool.map(work, sizes, range(FIRST, FIRST + parts))
