"""Every error that leaves the server: one shape (RFC 9457), which says what happened, what it affects, what to do.

A defect of the server is never shown in detail: its ``instance`` names the line of the log that has the trace.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from uuid import uuid4

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from fathom.errors import AuthenticationError, FathomError, NodeUnavailable, StoreBusy, TemporaryError, UsageError
from fathom.server.answers import Problem

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger(__name__)
_SEE_LOG = "look at the server's log"
#: What a status of the framework means to a person: what happened, what to do.
_WORDS: dict[int, tuple[str, str]] = {
    404: ("there is nothing at this path", "see /docs for all routes; those of this version begin with /api/v1"),
    405: ("this path does not take this method", "use a method that the Allow header names"),
}


class ProblemError(Exception):
    """An error with its HTTP ``status``, in words; ``headers`` go along, ``errors`` name each thing that is wrong."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        affects: str = "",
        do: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.status, self.what, self.affects, self.do = status, what, affects, do
        self.headers, self.errors = dict(headers or {}), errors


def problem(
    status: int, what: str, *, affects: str = "", do: str = "", instance: str = "", errors: Sequence[str] = ()
) -> Problem:
    """The body of an error answer."""
    detail = "; ".join(part for part in (what, affects and f"affected: {affects}", do and f"to do: {do}") if part)
    return Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        what=what,
        affects=affects,
        do=do,
        instance=instance,
        errors=list(errors),
    )


def response(body: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as an HTTP answer."""
    return Response(msgspec.json.encode(body), body.status, headers=headers, media_type=MEDIA_TYPE)


def of_error(error: Exception, where: str) -> Response:
    """The answer for any ``error`` that a route let through; what is nobody's fault but ours is logged with a trace."""
    if isinstance(error, ProblemError):
        body = problem(error.status, error.what, affects=error.affects, do=error.do, errors=error.errors)
        return response(body, error.headers)
    if isinstance(error, TimeoutError):
        body = problem(504, "the answer took too long", affects="this answer", do="ask for a shorter window or less")
        return response(body)
    if isinstance(error, FathomError):
        status, headers = _status(error)
        if status >= 500 and not isinstance(error, TemporaryError):
            _LOG.error("%s: %s", where, error)
        do = error.do or ("ask again in a moment" if status == 503 else _SEE_LOG if status == 500 else "see /docs")
        return response(problem(status, error.what, affects=error.affects, do=do), headers)
    instance = f"urn:uuid:{uuid4()}"
    _LOG.error("%s: defect %s", where, instance, exc_info=error)
    return response(
        problem(
            500,
            "the server made a mistake",
            affects="this answer; the server goes on",
            do="report it, with the log entry that holds this instance",
            instance=instance,
        )
    )


def _status(error: FathomError) -> tuple[int, dict[str, str]]:
    if isinstance(error, UsageError):
        return 422, {}
    if isinstance(error, AuthenticationError):
        return 401, {"WWW-Authenticate": 'Bearer realm="fathom"'}
    if isinstance(error, (StoreBusy, NodeUnavailable, TemporaryError)):
        return 503, {"Retry-After": "1"}
    return 500, {}


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error as a problem."""

    async def known(request: Request, error: Exception) -> Response:
        return of_error(error, f"{request.method} {request.url.path}")

    async def http(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, HTTPException)
        what, do = _WORDS.get(error.status_code, (str(error.detail), ""))
        return response(problem(error.status_code, what, do=do), error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, RequestValidationError)
        errors = [_sentence(each) for each in error.errors()[:20]]
        body = problem(422, errors[0], do="see /docs for what each parameter takes", errors=errors)
        return response(body)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in (FathomError, ProblemError, TimeoutError):
        app.add_exception_handler(kind, known)


def _sentence(error: Mapping[str, object]) -> str:
    """One error of pydantic in words, without its input, which may be long."""
    place = error.get("loc")
    name = ".".join(str(part) for part in place[1:]) if isinstance(place, tuple) else ""
    if error.get("type") == "extra_forbidden":
        return f"there is no parameter {name[:64]!r}"
    return f"{name[:64]}: {error.get('msg')}"
