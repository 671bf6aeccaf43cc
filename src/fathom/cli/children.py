"""One child process of ``fathom up``: started in its own session, watched, started again when it dies.

The kernel kills it when its parent dies, however that happens (``PR_SET_PDEATHSIG``), so nothing is left behind.
It refuses to restart a child that never became ready: that is a fault to be told, not to be hidden by a loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fathom.cli.becoming import become
from fathom.cli.caller import Caller
from fathom.cli.logs import Log
from fathom.cli.readiness import Readiness
from fathom.errors import FathomError
from fathom.notify import VARIABLE as NOTIFY

State = Literal["starting", "ready", "waiting", "stopped"]


@dataclass(frozen=True)
class Part:
    """What to run: ``argv``; as ``user`` (None: as this process is); bare of capabilities or not.

    It says by itself when it is ready (``fathom.notify``).
    """

    name: str
    argv: tuple[str, ...]
    user: Caller | None = None
    unprivileged: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """Waiting times in seconds: for readiness, for a polite end, between restarts (doubling), until all is forgiven."""

    ready: float = 30.0
    poll: float = 0.05
    stop: float = 10.0
    restart_first: float = 0.5
    restart_most: float = 30.0
    forgive: float = 60.0


class Child:
    """A ``Part`` at run time. ``state``, ``restarts``, ``last_end`` and ``pid`` are for the screen."""

    def __init__(self, part: Part, log: Log, pace: Pace) -> None:
        self.part = part
        self.log = log
        self.state: State = "starting"
        self.restarts = 0
        self.last_end = ""
        self._pace = pace
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._readiness = Readiness()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and return when it is ready.

        Raises FathomError with its own last words if it ended or was not ready in time.
        """
        await self._spawn()
        deadline = time.monotonic() + self._pace.ready
        while not self._is_ready():
            if self.pid is None:
                await asyncio.wait({self._drained}, timeout=1.0)
                raise FathomError(self.log.complaint(), do="" if "\n" in self.log.complaint() else self._see_log())
            if time.monotonic() > deadline:
                raise FathomError(f"{self.part.name} was not ready after {self._pace.ready:.0f} s", do=self._see_log())
            await asyncio.sleep(self._pace.poll)
        self.state = "ready"

    async def keep(self) -> None:
        """Watch it after ``start`` and start it again whenever it ends, until ``stop`` is called."""
        wait = self._pace.restart_first
        while not self._stopping:
            assert self._process is not None, "start comes before keep"
            born = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            await asyncio.wait({self._drained}, timeout=1.0)
            self.last_end = ended(code)
            if code > 0:
                self.last_end += f" ({self.log.complaint().splitlines()[0]})"
            self.log.append(f"fathom up: {self.part.name} {self.last_end}; starting it again in {wait:g} s".encode())
            self.state = "waiting"
            if time.monotonic() - born > self._pace.forgive:
                wait = self._pace.restart_first
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._pace.restart_most)
            if self._stopping:
                return
            self.restarts += 1
            try:
                await self._spawn()
            except OSError as error:
                self.last_end = f"could not be started: {error}"
                continue
            await self._until_ready_or_ended()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL when ``Pace.stop`` has passed."""
        self._stopping = True
        self.state = "stopped"
        self._readiness.close()
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), self._pace.stop)
            except TimeoutError:
                self.log.append(f"fathom up: {self.part.name} did not end in {self._pace.stop:g} s; killed".encode())
                self._process.kill()
                await self._process.wait()
        await asyncio.wait({self._drained}, timeout=1.0)

    def _is_ready(self) -> bool:
        return self.pid is not None and self._readiness.told_by(self.pid)

    async def _until_ready_or_ended(self) -> None:
        while self.pid is not None and not self._stopping:
            if self._is_ready():
                self.state = "ready"
                return
            await asyncio.sleep(self._pace.poll)

    async def _spawn(self) -> None:
        self.state = "starting"
        self.log.forget()
        parent, part = os.getpid(), self.part
        self._process = await asyncio.create_subprocess_exec(
            *part.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **part.env, NOTIFY: self._readiness.address},
            start_new_session=True,
            preexec_fn=lambda: become(part.user, unprivileged=part.unprivileged, parent=parent),
        )
        assert self._process.stdout is not None
        self._drained = asyncio.ensure_future(self._collect(self._process.stdout))

    async def _collect(self, lines: asyncio.StreamReader) -> None:
        while True:
            try:
                text = await lines.readline()
            except ValueError:  # a line longer than the reader's limit: it was dropped, say so
                text = b"(a line too long for the log)\n"
            if not text:
                return
            self.log.append(text)

    def _see_log(self) -> str:
        return f"see {self.log.path}"


def ended(code: int) -> str:
    """How a process with return ``code`` ended, in words: ``was killed by SIGKILL``, ``ended with status 1``."""
    if code >= 0:
        return f"ended with status {code}"
    return f"was killed by {signal.Signals(-code).name}"
