"""Audited policies: register a set, see what it would have denied, be told as it happens, forget it.

Registered policies are judged and never enforced: nothing here touches a cluster.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import Send

from fathom.policy.promote import Need
from fathom.server import audit_answers as answers
from fathom.server import audit_examples as examples
from fathom.server import audit_rows as rows
from fathom.server.answers import StreamLoss
from fathom.server.auditor import Listener, Told
from fathom.server.bodies import body_of
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import encode, no_content, returns, streams, takes
from fathom.server.policytexts import accepted, parsed
from fathom.server.problems import ProblemError
from fathom.server.sse import ALIVE, RETRY, Sse, check_room, message, say
from fathom.server.times import NS, duration_ns
from fathom.store.audits import AuditSet, AuditState
from fathom.store.interface import SECONDS_PER_DAY, Window

router = APIRouter(prefix="/api/v1/policy/audit", tags=["policy audit"])
#: The name that the stream's path takes.
_TAKEN = "stream"
Name = Annotated[str, Path(alias="name", max_length=63, description="Name of a registered set.", examples=["web"])]
Scope = Annotated[
    Literal["together", "alone", "all"],
    Field(description="`together`: what the set denies with what is enforced. `alone`: what single policies deny."),
]


@router.get(
    "",
    summary="Registered policy sets",
    response_class=Response,
    responses=returns(answers.Audits, "All sets.", examples.AUDITS),
)
async def audits(desk: AtDesk) -> Response:
    """Every registered set, and how much traffic it would newly deny; the window begins with the first."""
    sets = (await desk.ask(desk.store.audit.sets)).sets
    states = await desk.ask(lambda: [desk.store.audit.state(item.name) for item in sets])
    window, loss = await desk.trust(_since(desk, sets))
    items = await desk.ask(lambda: [rows.audit(state) for state in states if state])
    waiting = await desk.ask(desk.store.audit.backlog)
    return encode(answers.Audits(items=items, window=window, loss=loss, waiting=waiting))


@router.post(
    "",
    summary="Register a policy set",
    response_class=Response,
    responses=returns(answers.AuditAnswer, "The set, as it is now.", examples.AUDIT, 413),
    openapi_extra=takes(answers.AuditAsked, examples.AUDIT_ASKED),
)
async def register(request: Request, desk: AtDesk) -> Response:
    """Judge every batch from now on against these policies. A set of the same name is replaced and begins anew; the
    same again changes nothing. A change of what is enforced lets all audited sets begin anew."""
    asked = await body_of(request, answers.AuditAsked)
    if asked.name == _TAKEN:
        raise ProblemError(422, f"{_TAKEN!r} is no name for a set", do="choose another")
    await desk.work(lambda: accepted(parsed(asked.name, asked.documents), desk.settings.max_policies))
    names = {item.name for item in (await desk.ask(desk.store.audit.sets)).sets}
    if asked.name not in names and len(names) >= desk.settings.audit_sets:
        raise ProblemError(422, f"{len(names)} sets are registered already", do="remove one, or join several into one")
    await desk.ask(desk.store.audit.put, asked.name, asked.documents, enforced=asked.enforced)
    desk.auditor.wake()
    return encode(await _answer(desk, await _state(desk, asked.name), Need()))


class StreamAsked(BaseModel):
    """Which denials."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    audit: Annotated[str, Field(max_length=63, description="Only this set; empty: all.", examples=["web"])] = ""
    scope: Scope = "together"


@router.get(
    "/stream",
    summary="Live would-be denials",
    response_class=Response,
    responses=streams(
        "Server-sent events: messages are AuditDenial; `loss` is what this reader missed; comments are signs of life.",
        examples.AUDIT_STREAM,
    ),
)
async def stream(asked: Annotated[StreamAsked, Query()], desk: AtDesk) -> Response:
    """Traffic that passes and would be denied, or cannot be judged, as its batches are judged, until the reader
    leaves."""
    check_room(desk)
    return DenialStream(desk, asked)


class DenialStream(Sse[Listener]):
    """The answer of one reader."""

    def __init__(self, desk: Desk, asked: StreamAsked) -> None:
        super().__init__(desk, desk.auditor.listen())
        self._asked, self._number = asked, 0

    async def _speak(self, live: Listener, send: Send) -> None:
        text = RETRY
        while True:
            await say(send, text)
            try:
                async with asyncio.timeout(self._desk.settings.heartbeat_s):
                    told, dropped = await live.take()
            except TimeoutError:
                text = ALIVE
                continue
            text = b"".join(self._message(one) for one in told if self._wants(one))
            if dropped:
                self._desk.meters.audit.stream_dropped += dropped
                text += message(StreamLoss("", dropped, "slow_reader"), "loss")
            text = text or ALIVE

    def _wants(self, told: Told) -> bool:
        scope = "alone" if told.what.policy else "together"
        return self._asked.audit in ("", told.audit) and self._asked.scope in (scope, "all")

    def _message(self, told: Told) -> bytes:
        self._number += 1
        return message(rows.denial(told), number=self._number)


class AuditQuestion(BaseModel):
    """What is enough to promote a set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    need: Annotated[
        str, Field(max_length=64, description="How long it must have been audited: a duration.", examples=["24h"])
    ] = "24h"


@router.get(
    "/{name}",
    summary="One policy set",
    response_class=Response,
    responses=returns(answers.AuditAnswer, "The set.", examples.AUDIT, 404),
)
async def audit(name: Name, asked: Annotated[AuditQuestion, Query()], desk: AtDesk) -> Response:
    """What the set would do, together with what is enforced and each policy by itself; and what speaks against
    enforcing it."""
    need = Need(seconds=duration_ns(asked.need) // NS)
    return encode(await _answer(desk, await _state(desk, name), need))


@router.delete(
    "/{name}",
    summary="Forget a policy set",
    status_code=204,
    response_class=Response,
    responses=no_content("It is forgotten, with all that was found.", 404),
)
async def remove(name: Name, desk: AtDesk) -> Response:
    """Judge nothing against this set any more. Nothing changes in a cluster."""
    if not await desk.ask(desk.store.audit.drop, name):
        raise _absent()
    desk.auditor.wake()
    return Response(status_code=204)


class OffendersAsked(BaseModel):
    """Which evidence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Scope = "together"
    limit: Annotated[int, Field(ge=1, le=10_000, description="Rows at most.")] = 100


@router.get(
    "/{name}/offenders",
    summary="The evidence of a policy set",
    response_class=Response,
    responses=returns(answers.AuditOffenders, "The evidence, most flows first.", examples.AUDIT_OFFENDERS, 404),
)
async def offenders(name: Name, asked: Annotated[OffendersAsked, Query()], desk: AtDesk) -> Response:
    """Who would be denied, or could not be judged: both ends, protocol, port, how often and when, and what decided."""
    state = await _state(desk, name)
    found = await desk.ask(desk.store.audit.offenders, name)
    chosen = [one for one in found if asked.scope in ("alone" if one.policy else "together", "all")]
    window, loss = await desk.trust(_since(desk, (state.set,)))
    return encode(
        answers.AuditOffenders(
            items=[rows.offender(one) for one in chosen[: asked.limit]],
            window=window,
            loss=loss,
            omitted=max(0, len(chosen) - asked.limit),
            left_out=state.totals.left_out,
        )
    )


@router.get(
    "/{name}/documents",
    summary="The documents of a policy set",
    response_class=Response,
    responses=returns(answers.AuditDocuments, "The text.", examples.AUDIT_DOCUMENTS, 404),
)
async def documents(name: Name, desk: AtDesk) -> Response:
    """The documents as they were registered."""
    state = await _state(desk, name)
    return encode(answers.AuditDocuments(name, state.set.documents))


async def _state(desk: Desk, name: str) -> AuditState:
    """Raises ProblemError if there is no such set."""
    state = await desk.ask(desk.store.audit.state, name)
    if state is None:
        raise _absent()
    return state


def _absent() -> ProblemError:
    return ProblemError(404, "there is no policy set of this name", do="see /api/v1/policy/audit for those there are")


def _since(desk: Desk, sets: tuple[AuditSet, ...]) -> Window:
    """The time since which the sets are judged, as far back as anything is kept."""
    now_s = desk.now_ns() // NS
    oldest = now_s - desk.settings.hours_retention_days * SECONDS_PER_DAY
    since = max(min((item.since for item in sets), default=now_s), oldest)
    return Window(min(since, now_s), now_s + 1)


async def _answer(desk: Desk, state: AuditState, need: Need) -> answers.AuditAnswer:
    window, loss = await desk.trust(_since(desk, (state.set,)))
    waiting = await desk.ask(desk.store.audit.backlog)
    now_s = desk.now_ns() // NS
    return await desk.ask(rows.answer, state, waiting, window, loss, need, now_s)
