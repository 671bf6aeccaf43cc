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
    start, cores = multiprocessing.get_context("spawn"), os.cpu_count() or 1
    # New processes for some parts at a time, whose memory is then given back. (max_tasks_per_child of Python 3.11 may
    # wait for ever: python/cpython#115634.)
    for first in range(0, parts, 4 * cores):
        seeds = range(first, min(first + 4 * cores, parts))
        with ProcessPoolExecutor(cores, mp_context=start) as pool:
            yield from pool.map(work, (sizes[number] for number in seeds), (FIRST + number for number in seeds))
