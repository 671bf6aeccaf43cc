"""Threads for work that takes long and that nobody can stop: a bounded number, which hold up no end of the process.

A pool of the standard library would be waited for when the process ends, however long its work still takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_Job = tuple[Future[object], Callable[[], object]]


class Workers:
    """At most ``count`` threads, made when they are needed, called ``name``."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """What ``work`` will give. Raises RuntimeError after ``close``."""
        if self._closed:
            raise RuntimeError("the workers are closed")
        future: Future[T] = Future()
        self._jobs.put((future, work))  # type: ignore[arg-type]  # it gives what its own future takes
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self, patience_s: float) -> None:
        """Begin nothing more, and wait so long for what is under way."""
        self._closed = True
        while not self._jobs.empty():
            if job := self._jobs.get():
                job[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # told to whoever asked
                future.set_exception(error)
            else:
                future.set_result(result)
            del job, future, work
