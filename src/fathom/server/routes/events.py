"""Recent raw events, which stay on the nodes: they are asked when somebody asks, and who does not answer is named.

A page's cursor is a moment: the microsecond of its last event, and how many events of that microsecond were given.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from fathom.agent.questions import MAX_EVENTS, EventsAnswer, EventsQuestion
from fathom.errors import NodeUnavailable, UsageError
from fathom.link.hub import Answers
from fathom.server import answers, examples
from fathom.server.answers import EventsOfNode, Missing
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import encode, returns
from fathom.server.filters import EventsAsked
from fathom.server.times import NS, moment_ns, text_ns
from fathom.store.interface import Window

#: What an event's time is cut to (``fathom.events.render``): a node may hold several events of one such moment.
_MOMENT_NS = 1_000
router = APIRouter(prefix="/api/v1", tags=["events"])


class Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page begins: in the window ``[since_ns, until_ns)``, after ``given`` events."""

    since_ns: int
    until_ns: int
    given: int


@router.get(
    "/events",
    summary="Recent raw events",
    response_class=Response,
    responses=returns(answers.Events, "A page of events, newest first.", examples.EVENTS),
)
async def events(asked: Annotated[EventsAsked, Query()], desk: AtDesk) -> Response:
    """Raw events that the nodes still hold, newest first. `missing` names nodes that did not answer; `nodes` says from
    when on the others hold everything."""
    place = _unseal(asked.cursor) if asked.cursor else Place(*asked.window_ns(desk.now_ns(), desk.settings), 0)
    wanted = place.given + asked.limit
    question = EventsQuestion(asked.filter(), place.since_ns, place.until_ns, min(wanted + 1, MAX_EVENTS))
    stretch = Window(place.since_ns // NS, -(-place.until_ns // NS))
    said = await _ask(desk, question, asked.node, stretch)
    merged, parts, more = _merge(said)
    page = merged[place.given : wanted]
    more = more or len(merged) > wanted
    window, loss = await desk.trust(stretch)
    return encode(
        answers.Events(
            items=[event for _, event in page],
            next_cursor=_seal(place, merged[:wanted]) if more and page else "",
            window=window,
            loss=loss,
            nodes=parts,
            missing=[Missing(node, why) for node, why in sorted(said.missing.items())],
        )
    )


async def _ask(desk: Desk, question: EventsQuestion, node: str, stretch: Window) -> Answers:
    """What the nodes that were observed inside the window say, or the one that was asked for."""
    patience = desk.settings.node_timeout_s
    if node:
        try:
            return Answers({node: await desk.hub.ask(node, question, patience)}, {})
        except NodeUnavailable as error:
            return Answers({}, {node: error.why})
    known = await desk.ask(desk.store.nodes)
    expected = [row.node for row in known if row.last_seen >= stretch.since_s and row.first_seen < stretch.until_s]
    return await desk.hub.ask_all(question, patience, expected)


def _merge(said: Answers) -> tuple[list[tuple[int, dict[str, Any]]], list[EventsOfNode], bool]:
    """All events with their times, newest first; each node's part; whether nodes hold more."""
    merged: list[tuple[int, dict[str, Any]]] = []
    parts: list[EventsOfNode] = []
    more = False
    for node, answer in sorted(said.answers.items()):
        if not isinstance(answer, EventsAnswer):
            continue
        merged += [(_time_ns(event), {**event, "node": node}) for event in answer.events]
        oldest = text_ns(answer.oldest_ns) if answer.oldest_ns else None
        parts.append(EventsOfNode(node, len(answer.events), oldest, answer.overwritten))
        more = more or answer.truncated
    merged.sort(key=lambda timed: -timed[0])
    return merged, parts, more


def _time_ns(event: dict[str, Any]) -> int:
    """Epoch nanoseconds of the moment of an event; 0, which comes last, if it has no time."""
    try:
        return moment_ns(str(event.get("time", "")), 0) // _MOMENT_NS * _MOMENT_NS
    except UsageError:
        return 0


def _seal(place: Place, given: list[tuple[int, dict[str, Any]]]) -> str:
    last = given[-1][0]
    next_place = Place(place.since_ns, last + _MOMENT_NS, sum(time == last for time, _ in given))
    return base64.urlsafe_b64encode(msgspec.json.encode(next_place)).decode().rstrip("=")


def _unseal(cursor: str) -> Place:
    """Raises UsageError if ``cursor`` is none of these."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(raw, type=Place)
    except (binascii.Error, ValueError) as error:
        raise UsageError("this is no cursor of events", do="use next_cursor as it was given, or none") from error
    if not 0 <= place.since_ns < place.until_ns < 1 << 63 or not 0 <= place.given < MAX_EVENTS:
        raise UsageError("this is no cursor of events", do="use next_cursor as it was given, or none")
    return place
