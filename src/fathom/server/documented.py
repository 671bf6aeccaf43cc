"""How a route is documented: its answer's type and example, and every error that it may give.

The schemas come from ``fathom.server.answers``, the same types that are encoded, so the two cannot differ.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from fathom.policy import answers as policy
from fathom.policy import asked
from fathom.policy.explain import FlowVerdict
from fathom.server import answers, audit_answers
from fathom.server.ndjson import MEDIA_TYPE as LINES
from fathom.server.problems import MEDIA_TYPE, problem

Spec = dict[str, Any]
_REF = "#/components/schemas/{name}"
_TYPES = (
    answers.Edges,
    answers.EdgeAnswer,
    answers.Workloads,
    answers.Series,
    answers.Events,
    answers.Status,
    answers.Problem,
    answers.StreamLoss,
    answers.StreamNodes,
    audit_answers.AuditAsked,
    audit_answers.Audits,
    audit_answers.AuditAnswer,
    audit_answers.AuditOffenders,
    audit_answers.AuditDocuments,
    audit_answers.AuditDenial,
)
#: What questions about policy take and give; the one type of a name that is there already gets another.
_POLICY_TYPES = (
    asked.PoliciesAsked,
    asked.DiffAsked,
    asked.FlowAsked,
    asked.RuleAsked,
    asked.CoverageAsked,
    asked.GraphAsked,
    asked.GenerateAsked,
    FlowVerdict,
    policy.Replayed,
    policy.Differences,
    policy.Explained,
    policy.RuleUses,
    policy.Covered,
    policy.Exposure,
    policy.Graph,
    policy.Generation,
)
_ERRORS: dict[int, tuple[str, str, str]] = {
    401: ("No key, or a wrong one.", "a key is needed", "send the header Authorization: Bearer KEY"),
    404: ("There is no such thing.", "there is no edge with this id", "take an id from /api/v1/edges"),
    413: ("The body is too large.", "the body is larger than 8388608 bytes", "send less"),
    414: ("The query is too long.", "the query is longer than 8192 bytes", "ask in fewer words"),
    421: ("The Host header is not a name of this server.", "this server does not answer to that name", "ask localhost"),
    422: ("A parameter makes no sense.", "'5x' is no time", "write a duration before now (5m, 1h30m, 7d)"),
    429: ("Too many wrong keys from this address.", "too many wrong keys from this address", "wait"),
    500: ("A defect of the server; `instance` names its entry in the log.", "the server made a mistake", "report it"),
    503: ("Busy; `Retry-After` says when to ask again.", "too many requests are under way", "ask again in a second"),
    504: ("The answer took too long.", "the answer took too long", "ask for a shorter window"),
}
DESCRIPTION = """\
Who talks to whom, from the kernel. Every answer holds `items`, `next_cursor`, `window` (what it is about, and how much
of that was observed) and `loss` (what was not counted where it belongs, by hop and reason). Base units: seconds, bytes,
counts. Errors are RFC 9457 problems.

Send the key as `Authorization: Bearer KEY`; the server leaves one in `DATA_DIR/admin.token` at its first start.
"""


def encode(answer: msgspec.Struct) -> Response:
    """``answer`` as JSON."""
    return Response(msgspec.json.encode(answer), media_type="application/json")


def returns(kind: type[msgspec.Struct], text: str, example: msgspec.Struct, *also: int) -> dict[int | str, Spec]:
    """The ``responses`` of a route that gives ``kind``; ``also`` are errors besides those that all routes have."""
    content = {"schema": {"$ref": _REF.format(name=kind.__name__)}, "example": msgspec.to_builtins(example)}
    return {200: {"description": text, "content": {"application/json": content}}, **_errors(*also)}


def takes(kind: type[msgspec.Struct], example: msgspec.Struct) -> Spec:
    """The ``openapi_extra`` of a route whose body is a ``kind`` as JSON."""
    content = {"schema": {"$ref": _REF.format(name=kind.__name__)}, "example": msgspec.to_builtins(example)}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def sends_lines(text: str, example: str, *also: int) -> dict[int | str, Spec]:
    """The ``responses`` of a route that gives lines of JSON."""
    content = {"schema": {"type": "string"}, "example": example}
    return {200: {"description": text, "content": {LINES: content}}, **_errors(*also)}


def no_content(text: str, *also: int) -> dict[int | str, Spec]:
    """The ``responses`` of a route that gives nothing."""
    return {204: {"description": text}, **_errors(*also)}


def sends_file(text: str, media_type: str, example: str) -> dict[int | str, Spec]:
    """The ``responses`` of a route that gives a file."""
    content = {"schema": {"type": "string", "format": "binary"}, "example": example}
    return {200: {"description": text, "content": {media_type: content}}, **_errors()}


def streams(text: str, example: str) -> dict[int | str, Spec]:
    """The ``responses`` of the route that gives server-sent events."""
    content = {"schema": {"type": "string"}, "example": example}
    return {200: {"description": text, "content": {"text/event-stream": content}}, **_errors()}


def open_to_all(text: str, media_type: str, example: str | Spec) -> dict[int | str, Spec]:
    """The ``responses`` of a route that needs no key."""
    return {200: {"description": text, "content": {media_type: {"example": example}}}}


def _errors(*also: int) -> dict[int | str, Spec]:
    found: dict[int | str, Spec] = {}
    for status in sorted({401, 414, 421, 422, 429, 500, 503, 504, *also}):
        text, what, do = _ERRORS[status]
        example = msgspec.to_builtins(problem(status, what, do=do))
        content = {"schema": {"$ref": _REF.format(name="Problem")}, "example": example}
        found[status] = {"description": text, "content": {MEDIA_TYPE: content}}
    return found


def _schemas() -> dict[str, Spec]:
    """All types by name."""
    _, own = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    _, others = msgspec.json.schema_components(_POLICY_TYPES, ref_template=_REF)
    text = msgspec.json.encode(others).decode()
    for name in own.keys() & others.keys():
        text = text.replace(f'"{_REF.format(name=name)}"', f'"{_REF.format(name=_other(name))}"')
    renamed = msgspec.json.decode(text)
    return {**own, **{_other(name) if name in own else name: schema for name, schema in renamed.items()}}


def _other(name: str) -> str:
    return f"Policy{name}"


def describe(app: FastAPI) -> Spec:
    """The OpenAPI document of ``app``, made once."""
    if app.openapi_schema is None:
        spec = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        schemas = _schemas()
        components = spec.setdefault("components", {})
        for schema in schemas.values():
            schema["description"] = cleandoc(schema["description"])
        components["schemas"] = schemas
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        spec["security"] = [{"key": []}]
        app.openapi_schema = spec
    return app.openapi_schema
