"""The auditor beside the loop: woken, never ended by a failure, and no slower reader holds up another."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fathom.errors import StoreBusy
from fathom.policy.findings import Count, Findings, Offender
from fathom.server import auditor as module
from fathom.server.audit_meters import AuditMeters
from fathom.server.auditor import Auditor, Told
from fathom.server.judging import Turn
from fathom.store.audits import AuditTotals


def offender(number: int = 0, policy: str = "") -> Offender:
    return Offender(policy, f"a/Pod/x{number}", "a/Pod/y", "TCP", 80, "denied-ingress", 1, 2, 3, 4)


def turn(*told: Offender, **given: Any) -> Turn:
    found = {"web": Findings((Count("", "denied-ingress", True, 1, 2),))}
    return Turn(AuditTotals(1, 5), 0.25, found, {"web": list(told)}, **given)


class Script:
    """A judge that does what it is told, one item a turn; nothing waits after that."""

    def __init__(self, *turns: Turn | Exception | Callable[[], Turn]) -> None:
        self.turns = list(turns)
        self.asked = 0

    def turn(self) -> Turn | None:
        self.asked += 1
        if not self.turns:
            return None
        now = self.turns.pop(0)
        if isinstance(now, Exception):
            raise now
        return now() if callable(now) else now


@pytest.fixture
def meters() -> AuditMeters:
    return AuditMeters()


@pytest.fixture
async def start(meters: AuditMeters) -> AsyncIterator[Callable[[Any], Auditor]]:
    """``start(judge)``: an auditor over it, not running."""
    made: list[Auditor] = []

    def begin(judge: Any) -> Auditor:
        made.append(Auditor(judge, meters, lambda: 7.0))
        return made[-1]

    yield begin
    for auditor in made:
        await auditor.close()


async def test_a_turn_is_counted(start: Callable[[Any], Auditor], meters: AuditMeters) -> None:
    done = turn(
        policies={"web": ("NetworkPolicy a/b",)}, waiting=9, compiled=2, failed={"bad"}, left_out=Counter(web=3)
    )
    assert await start(Script(done)).turn() == 0.0
    assert (meters.batches, meters.facts, meters.waiting, meters.compiled, meters.failures) == (1, 5, 9, 2, 1)
    assert (meters.flows["web", "denied-ingress"], meters.denied["web"], meters.left_out["web"]) == (1, 1, 3)
    assert meters.policy_flows["web", "NetworkPolicy a/b", "allowed"] == 0
    assert meters.turn.sum == 0.25


async def test_a_turn_that_fails_is_counted_and_tried_again(
    start: Callable[[Any], Auditor], meters: AuditMeters
) -> None:
    auditor = start(Script(StoreBusy("full"), ZeroDivisionError(), turn()))
    assert [await auditor.turn() for _ in range(4)] == [1.0, 1.0, 0.0, None]
    assert (meters.failures, meters.batches) == (2, 1)


async def test_it_rests_for_some_of_the_time_that_an_inventory_took(start: Callable[[Any], Auditor]) -> None:
    auditor = start(Script(turn(loading_s=2.0), turn(loading_s=100.0)))
    assert [await auditor.turn(), await auditor.turn()] == [8.0, 60.0]


async def test_it_runs_when_it_is_woken_and_looks_by_itself_now_and_then(
    start: Callable[[Any], Auditor], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Script()
    auditor = start(judge)
    running = asyncio.create_task(auditor.run())
    async with asyncio.timeout(10):
        while judge.asked < 1:
            await asyncio.sleep(0.001)
        judge.turns += [turn(), turn()]
        auditor.wake()
        while judge.asked < 4:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(module, "LOOK_S", 0.01)
        auditor.wake()
        while judge.asked < 8:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_loop_turns_while_it_judges(start: Callable[[Any], Auditor]) -> None:
    go = threading.Event()

    def slow() -> Turn:
        assert go.wait(10)
        return turn()

    judging = asyncio.create_task(start(Script(slow)).turn())
    await asyncio.sleep(0.01)
    assert not judging.done()
    go.set()
    assert await judging == 0.0


async def test_every_listener_is_told_from_when_it_listens(start: Callable[[Any], Auditor]) -> None:
    auditor = start(Script(turn(offender(1)), turn(offender(2)), turn(offender(3))))
    async with auditor.listen() as early:
        await auditor.turn()
        async with auditor.listen() as late:
            await auditor.turn()
            assert await early.take() == ([Told("web", 7.0, offender(n)) for n in (1, 2)], 0)
            assert await late.take() == ([Told("web", 7.0, offender(2))], 0)
        await auditor.turn()
        assert await early.take() == ([Told("web", 7.0, offender(3))], 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await early.take()


async def test_a_slow_listener_is_told_how_much_it_missed(
    start: Callable[[Any], Auditor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    auditor = start(Script(turn(*map(offender, range(5))), turn(offender(9))))
    async with auditor.listen() as slow:
        await auditor.turn()
        taken, dropped = await slow.take()
        assert ([told.what.src for told in taken], dropped) == (["a/Pod/x0", "a/Pod/x1"], 3)
        await auditor.turn()
        assert await slow.take() == ([Told("web", 7.0, offender(9))], 0)
