"""The node agent: turns the loop, hands batches to the sink, answers questions.

It never waits for the network: what cannot be sent waits elsewhere, what cannot be kept is counted. It starts no
listener of its own; ``fathom.agent.local_api`` does.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fathom import __version__
from fathom.agent.bell import Bell
from fathom.agent.clock import NodeClock, SystemClock
from fathom.agent.events import Events, Renderer
from fathom.agent.limits import MemoryBudget
from fathom.agent.live import Live
from fathom.agent.metrics import metrics_text
from fathom.agent.questions import Answer, EventFilter, EventsQuestion, Question, SeriesQuestion, check
from fathom.agent.sending import Sender
from fathom.agent.settings import AgentSettings
from fathom.agent.sink import Sink
from fathom.agent.status import problems, status
from fathom.agent.turns import Turns
from fathom.agent.watched import Watched
from fathom.errors import UsageError
from fathom.identity.identities import Identities

if TYPE_CHECKING:
    from fathom.probes.probe import Probe

_NS = 1_000_000_000
_BUDGET_EVERY_S = 10
#: From one turn to the next, and for others after a turn that took its whole time.
_SHORTEST_S = 0.001
#: How long the end waits for the sink to take the last batch.
_FAREWELL_S = 5.0
#: A loop that did not turn for this long is not alive.
_STALLED_S = 30.0


class Agent:
    """The loop over ``probes``. ``refused`` says which probes could not be opened, and why.

    The agent does not close probes or sink: who opened them does.
    """

    def __init__(
        self,
        settings: AgentSettings,
        probes: Sequence[Probe],
        identities: Identities,
        sink: Sink,
        clock: NodeClock | None = None,
        *,
        refused: Mapping[str, str] | None = None,
        render: Renderer | None = None,
        boot: str = "",
    ) -> None:
        self.settings = settings
        self.identities = identities
        self.sink = sink
        self.clock = clock or SystemClock()
        self.refused = dict(refused or {})
        #: Made once per agent process; names its batches.
        self.boot = boot or secrets.token_hex(8)
        self.started = self.clock.now()
        self.watched = [Watched(probe, settings.recent_bytes) for probe in probes]
        self.live = Live(settings.max_subscribers, settings.subscriber_queue)
        self.events = Events([w.recent for w in self.watched], identities, self.live, render or _render)
        self.events.own_traffic = settings.own_traffic
        self.sender = Sender(identities.node, self.boot, sink, self.clock)
        self.turns = Turns(settings, self.watched, identities, sink, self.events, self.started)
        self.budget = MemoryBudget(settings.memory_budget_mib << 20)
        self.requests: dict[int, int] = {}
        self._stopping = asyncio.Event()
        self._turned_ns = self.started.monotonic_ns
        self._running = False

    @property
    def node(self) -> str:
        """This node's name."""
        return self.identities.node

    @property
    def alive(self) -> bool:
        """Whether the loop turns. Load makes it slow, never dead."""
        stalled_ns = self.clock.now().monotonic_ns - self._turned_ns
        return self._running and stalled_ns < _STALLED_S * _NS

    def stop(self) -> None:
        """Ask for the end, which comes within a tick: the open interval is closed and handed over first."""
        self._stopping.set()

    async def run(self) -> None:
        """Turn until ``stop``; then hand over what is left."""
        self._running = True
        giving = asyncio.create_task(self.sender.run(), name="sender")
        try:
            with Bell(fd for w in self.watched if (fd := w.probe.wakeup_fd) is not None) as bell:
                await self._turn_until_stopped(giving, bell)
            draft = self.turns.turn(self.clock.now(), last=True)
            if draft:
                self.sender.offer(draft)
            handed = asyncio.create_task(self.sender.drained())
            await asyncio.wait((handed, giving), timeout=_FAREWELL_S, return_when=asyncio.FIRST_COMPLETED)
            handed.cancel()
        finally:
            self._running = False
            giving.cancel()
            (result,) = await asyncio.gather(giving, return_exceptions=True)
        if isinstance(result, Exception):
            raise result

    async def _turn_until_stopped(self, giving: asyncio.Task[None], bell: Bell) -> None:
        """A turn each tick, and whenever a ring gets half full."""
        tick = self.settings.tick_ms / 1000
        checked_ns = self.started.monotonic_ns
        while not self._stopping.is_set() and not giving.done():
            now = self.clock.now()
            draft = self.turns.turn(now)
            self._turned_ns = now.monotonic_ns
            if draft:
                self.sender.offer(draft)
            if now.monotonic_ns - checked_ns >= _BUDGET_EVERY_S * _NS:
                checked_ns = now.monotonic_ns
                self.budget.check([w.recent for w in self.watched])
            spent = (self.clock.now().monotonic_ns - now.monotonic_ns) / _NS
            await self.clock.pause(max(tick - spent, _SHORTEST_S), bell)

    async def answer(self, question: Question) -> Answer:
        """Answer a question. Raises UsageError if it makes no sense."""
        if isinstance(question, EventsQuestion):
            if wrong := check(question):
                raise UsageError(wrong)
            return self.events.answer(question, self.clock.now())
        if isinstance(question, SeriesQuestion):
            if question.top < 1:
                raise UsageError("top must be at least 1")
            return self.turns.series.answer(question.top)
        return status(self)

    async def subscribe(self, wanted: EventFilter) -> AsyncGenerator[dict[str, Any], None]:
        """Events from now on that match, until the iterator is closed. Missed ones are told as ``kind: lost``.

        Raises UsageError if there are too many subscribers or the filter makes no sense.
        """
        subscriber = self.events.subscribe(wanted)
        try:
            async for event in subscriber:
                yield event
        finally:
            self.events.unsubscribe(subscriber)

    def problems(self) -> list[str]:
        """What is missing or wrong now, each for a person; empty when all is well."""
        return problems(self)

    def metrics(self) -> str:
        """Everything in the Prometheus text format."""
        return metrics_text(self)

    @property
    def version(self) -> str:
        """Of Fathom."""
        return __version__


def _render(records: Any, kind: str, clock: Any) -> list[dict[str, Any]]:
    """Imported late: rendering is needed only when somebody asks."""
    from fathom.events import render

    return render.to_dicts(records, kind, clock)
