"""OpenAPI is whole and true: real answers match it, every route has an example and its errors, the page is current."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from fathom.agent.questions import ProbeStatus
from fathom.events.batches import Loss
from fathom.server import answers, audit_examples, examples, policy_examples
from fathom.server.app import documented
from fathom.server.reference import html, markdown

ROOT = Path(__file__).parents[3]
SPEC = documented()
V1 = [(path, method) for path, methods in SPEC["paths"].items() if path.startswith("/api/v1") for method in methods]
#: Routes about one thing, which may not be there.
ONE = ("{id}", "{name}")


def schema(name: str) -> dict[str, Any]:
    """A type of the document, as a schema that a validator takes."""
    return {"$ref": f"#/components/schemas/{name}", "components": SPEC["components"]}


def test_the_routes_are_these() -> None:
    assert sorted(SPEC["paths"]) == [
        "/api/v1/edges",
        "/api/v1/edges/{id}",
        "/api/v1/edges/{id}/series",
        "/api/v1/events",
        "/api/v1/policy/audit",
        "/api/v1/policy/audit/stream",
        "/api/v1/policy/audit/{name}",
        "/api/v1/policy/audit/{name}/documents",
        "/api/v1/policy/audit/{name}/offenders",
        "/api/v1/policy/coverage",
        "/api/v1/policy/diff",
        "/api/v1/policy/evaluate",
        "/api/v1/policy/explain/flow",
        "/api/v1/policy/explain/rule",
        "/api/v1/policy/exposure",
        "/api/v1/policy/generate",
        "/api/v1/policy/graph",
        "/api/v1/policy/replay",
        "/api/v1/recording",
        "/api/v1/status",
        "/api/v1/stream",
        "/api/v1/workloads",
        "/healthz",
        "/metrics",
        "/readyz",
    ]
    assert SPEC["openapi"].startswith("3.1")


@pytest.mark.parametrize(("path", "method"), V1)
def test_every_route_documents_its_answer_its_errors_and_its_parameters(path: str, method: str) -> None:
    operation = SPEC["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    if method == "delete":
        assert "content" not in operation["responses"]["204"]
    else:
        ((media, content),) = operation["responses"]["200"]["content"].items()
        assert content["example"]
        if media == "application/json":
            kind = content["schema"]["$ref"].rpartition("/")[2]
            jsonschema.validate(content["example"], schema(kind))
    assert ("requestBody" in operation) == ("413" in operation["responses"]) == (method == "post")
    if method == "post":
        body = operation["requestBody"]["content"]["application/json"]
        jsonschema.validate(body["example"], schema(body["schema"]["$ref"].rpartition("/")[2]))
    for status in ("401", "414", "421", "422", "429", "500", "503", "504"):
        problem = operation["responses"][status]["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
        jsonschema.validate(problem["example"], schema("Problem"))
        assert problem["example"]["status"] == int(status)
    assert ("404" in operation["responses"]) == any(one in path for one in ONE)
    for parameter in operation.get("parameters", ()):
        assert parameter.get("description") or parameter["schema"].get("description"), parameter["name"]


def test_only_health_is_open() -> None:
    assert SPEC["security"] == [{"key": []}]
    assert SPEC["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    every = [(path, operation) for path, methods in SPEC["paths"].items() for operation in methods.values()]
    open_paths = [path for path, operation in every if operation.get("security") == []]
    assert sorted(open_paths) == ["/healthz", "/metrics", "/readyz"]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (
            "/api/v1/edges",
            "since until workload peer protocol port direction verdict node order limit cursor",
        ),
        ("/api/v1/events", "since until kind workload pid comm address port node limit cursor"),
        ("/api/v1/stream", "kind workload pid comm address port node Last-Event-ID"),
        ("/api/v1/edges/{id}/series", "id since until step"),
        ("/api/v1/recording", "since until"),
        ("/api/v1/policy/audit/stream", "audit scope"),
        ("/api/v1/policy/audit/{name}", "name need"),
        ("/api/v1/policy/audit/{name}/offenders", "name scope limit"),
    ],
)
def test_the_parameters_are_these(path: str, names: str) -> None:
    assert {p["name"] for p in SPEC["paths"][path]["get"]["parameters"]} == set(names.split())


async def test_real_answers_match_the_document(world: Any) -> None:
    edge = world.edge()
    loss = Loss(world.now - 20, "kernel", "tcp", "ring_full", 7)
    world.write((edge, 20, {"connections": 1, "latency_count": 1, "latency_sum": 5, "latency_b0": 1}), losses=(loss,))
    world.write((world.edge("quiet"), 400, {"connections": 1}))
    probes = [ProbeStatus("tcp", True, "", 0.5, 1, {"ring_full": 7})]
    events = [{"time": "2026-01-31T11:59:59.5Z", "kind": "tcp"}]
    world.hub.connect(world.state(), world.answering(events, probes=probes))
    world.hub.connect(world.state("n2"), world.answering())
    world.hub.silent.add("n2")
    for path, kind in (
        ("/edges", "Edges"),
        (f"/edges/{edge.id}", "EdgeAnswer"),
        (f"/edges/{world.edge('quiet').id}", "EdgeAnswer"),
        (f"/edges/{edge.id}/series", "Series"),
        ("/workloads", "Workloads"),
        ("/events", "Events"),
        ("/status", "Status"),
    ):
        answer = await world.get(path)
        assert answer["items"], path
        jsonschema.validate(answer, schema(kind))
        msgspec.convert(answer, getattr(answers, kind))
    jsonschema.validate(await world.get("/edges", status=422, since="x"), schema("Problem"))


async def test_the_document_is_served_as_it_is(world: Any) -> None:
    assert (await world.http.get("/openapi.json")).json() == SPEC
    page = await world.http.get("/docs")
    assert page.text == html(SPEC)
    assert "<script" not in page.text
    assert not re.search(r"(src|href)=", page.text)


def test_the_reference_page_is_current() -> None:
    page = ROOT / "docs/reference/rest.md"
    assert page.read_text() == markdown(SPEC), (
        "make it again: python -m fathom.server.reference > docs/reference/rest.md"
    )


def test_the_page_for_people_escapes_what_it_shows() -> None:
    spec = msgspec.json.decode(msgspec.json.encode(SPEC))
    spec["paths"]["/api/v1/edges"]["get"]["description"] = "<script>x</script>"
    assert "<script>" not in html(spec)


def test_examples_survive_the_wire() -> None:
    every = {**vars(examples), **vars(audit_examples), **vars(policy_examples)}
    found = {name: value for name, value in every.items() if name.isupper() and not name.startswith("_")}
    assert len(found) >= 27
    for example in found.values():
        if isinstance(example, str):
            continue
        assert msgspec.json.decode(msgspec.json.encode(example), type=type(example)) == example
