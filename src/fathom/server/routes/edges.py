"""Edges, one edge, one edge over time; and workloads, which are edges summed by who they belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from fathom.events.edges import Edge
from fathom.server import answers, examples, rows
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import encode, returns
from fathom.server.filters import Asked, EdgesAsked, SeriesAsked
from fathom.server.problems import ProblemError
from fathom.store.interface import MAX_LIMIT, EdgeQuery, EdgeRow, Page, Window

Row = TypeVar("Row")
Item = TypeVar("Item")
router = APIRouter(prefix="/api/v1", tags=["traffic"])
EdgeId = Annotated[
    str, Path(pattern=r"^[0-9]{1,19}$", description="An edge's id.", examples=["4611686018427387904"], alias="id")
]


@router.get(
    "/edges",
    summary="Who talks to whom",
    response_class=Response,
    responses=returns(answers.Edges, "A page of edges.", examples.EDGES),
)
async def edges(asked: Annotated[EdgesAsked, Query()], desk: AtDesk) -> Response:
    """Edges on which something was counted inside the window, with what was counted there."""
    query = asked.query(desk.now_ns(), desk.settings)
    page, items = await desk.ask(_page, desk.store.edges, rows.edge, query)
    window, loss = await desk.trust(page.window)
    return encode(answers.Edges(items=items, next_cursor=page.next_cursor, window=window, loss=loss))


@router.get(
    "/workloads",
    summary="What each workload did",
    response_class=Response,
    responses=returns(answers.Workloads, "A page of workloads.", examples.WORKLOADS),
)
async def workloads(asked: Annotated[EdgesAsked, Query()], desk: AtDesk) -> Response:
    """Workloads of the edges that the filters select, with what was counted on those edges."""
    query = asked.query(desk.now_ns(), desk.settings)
    page, items = await desk.ask(_page, desk.store.workloads, rows.workload, query)
    window, loss = await desk.trust(page.window)
    return encode(answers.Workloads(items=items, next_cursor=page.next_cursor, window=window, loss=loss))


@router.get(
    "/edges/{id}",
    summary="One edge",
    response_class=Response,
    responses=returns(answers.EdgeAnswer, "The edge.", examples.EDGE, 404),
)
async def edge(number: EdgeId, asked: Annotated[Asked, Query()], desk: AtDesk) -> Response:
    """One edge with what was counted on it inside the window."""
    window = asked.window(desk.now_ns(), desk.settings)
    known = await _known(desk, int(number))
    row = await desk.ask(_row, desk, int(number), known, window)
    item = rows.edge(row) if row else rows.edge_of(int(number), known, rows.NOTHING, None, None)
    trusted, loss = await desk.trust(window)
    return encode(answers.EdgeAnswer(items=[item], window=trusted, loss=loss))


@router.get(
    "/edges/{id}/series",
    summary="One edge over time",
    response_class=Response,
    responses=returns(answers.Series, "The points, oldest first.", examples.SERIES, 404),
)
async def series(number: EdgeId, asked: Annotated[SeriesAsked, Query()], desk: AtDesk) -> Response:
    """What was counted on one edge in each step of the window; steps in which nothing was counted are left out."""
    window = asked.window(desk.now_ns(), desk.settings)
    step_s = asked.step_s(window)
    await _known(desk, int(number))
    points = await desk.ask(lambda: [rows.point(p) for p in desk.store.series(int(number), window, step_s)])
    trusted, loss = await desk.trust(window)
    return encode(answers.Series(items=points, window=trusted, loss=loss, step=step_s))


def _page(
    ask: Callable[[EdgeQuery], Page[Row]], item: Callable[[Row], Item], query: EdgeQuery
) -> tuple[Page[Row], list[Item]]:
    """A page and what is answered of it, made where it holds up nobody: in the thread that asks the store."""
    page = ask(query)
    return page, [item(row) for row in page.items]


async def _known(desk: Desk, number: int) -> Edge:
    """The edge of id ``number``. Raises ProblemError if there is none."""
    known = await desk.ask(desk.store.edge, number) if number < 1 << 63 else None
    if known is None:
        raise ProblemError(404, "there is no edge with this id", do="take an id from /api/v1/edges")
    return known


def _row(desk: Desk, number: int, known: Edge, window: Window) -> EdgeRow | None:
    """What was counted on the edge ``known``: found among its like, which differ in workload, peer's name or reason."""
    cursor = ""
    while True:
        page = desk.store.edges(
            EdgeQuery(
                window,
                peer=known.peer_address,
                protocol=known.protocol,
                port=known.port,
                direction=known.direction,
                verdict=known.verdict,
                node=known.workload.node,
                limit=MAX_LIMIT,
                cursor=cursor,
            )
        )
        for row in page.items:
            if row.id == number:
                return row
        if not (cursor := page.next_cursor):
            return None
