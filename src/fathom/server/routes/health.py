"""Health, metrics and documentation: open to all, and silent about what was recorded."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from fathom.server import meters
from fathom.server.desk import AtDesk
from fathom.server.documented import describe, open_to_all
from fathom.server.exposition import CONTENT_TYPE
from fathom.server.reference import html

router = APIRouter(tags=["health"])
_OPEN: dict[str, Any] = {"security": []}


class Readiness(msgspec.Struct, frozen=True):
    """Whether the server can do its work, and why not."""

    ready: bool
    problems: list[str]


@router.get(
    "/healthz",
    summary="Does the server turn?",
    response_class=PlainTextResponse,
    responses=open_to_all("It does.", "text/plain", "ok\n"),
    openapi_extra=_OPEN,
)
async def healthz() -> Response:
    """Says `ok` as long as the process answers; load never makes it fail."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    summary="Can the server do its work?",
    response_class=Response,
    responses=open_to_all(
        "It can; 503 with the same body if not.", "application/json", {"ready": True, "problems": []}
    ),
    openapi_extra=_OPEN,
)
async def readyz(desk: AtDesk) -> Response:
    """Whether the store can be written and the server is not about to end."""
    health = await desk.ask(desk.store.health)
    problems = [] if health.writable else ["the store cannot be written"]
    if desk.closing.is_set():
        problems.append("the server is about to end")
    body = msgspec.json.encode(Readiness(not problems, problems))
    return Response(body, 503 if problems else 200, media_type="application/json")


@router.get(
    "/metrics",
    summary="The server's own metrics",
    response_class=PlainTextResponse,
    responses=open_to_all("Prometheus text.", "text/plain", "fathom_server_streams 0\n"),
    openapi_extra=_OPEN,
)
async def metrics(desk: AtDesk) -> Response:
    """Requests, ingest, losses and the store, as counters; names no workload and no node."""
    health = await desk.ask(desk.store.health)
    reading = meters.Reading(
        nodes_connected=sum(node.connected for node in desk.hub.nodes()),
        store_writable=health.writable,
        store_edges=health.edges,
        store_bytes=health.bytes,
        started_s=desk.started_s,
    )
    return Response(meters.render(desk.meters, reading), media_type=CONTENT_TYPE)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(msgspec.json.encode(describe(request.app)), media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The same for people, without a script and without anything from elsewhere."""
    return HTMLResponse(html(describe(request.app)))
