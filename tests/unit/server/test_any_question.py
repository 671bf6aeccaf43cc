"""Whatever is asked, the answer is an answer or a problem, and never a defect."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.server.app import documented

SPEC = documented()
PROBLEM = {"$ref": "#/components/schemas/Problem", "components": SPEC["components"]}
OPERATIONS = [
    (method, path, operation)
    for path, methods in SPEC["paths"].items()
    if path.startswith("/api/v1") and not path.endswith("/stream")
    for method, operation in methods.items()
]
NAMES = sorted({p["name"] for _, _, operation in OPERATIONS for p in operation.get("parameters", ())} | {"x"})
ASKING = [(method, path) for method, path, _ in OPERATIONS if method != "post"]
TAKING = {
    path: operation["requestBody"]["content"]["application/json"]["example"]
    for method, path, operation in OPERATIONS
    if method == "post"
}
LIKELY = st.sampled_from(
    ["", "*", "5m", "0s", "7d", "now", "2026-01-31T12:00:00Z", "1", "0", "-1", "65535", "10000", "tcp", "egress",
     "failed", "10.0.0.0/8", "::/0", "a/b/c", "unit/nginx", "%", "_", "'", '"', "\\", "\x00", "\u202e", "9" * 40,
     "1e9", "nan", "null"]
)  # fmt: skip
VALUES = st.one_of(LIKELY, st.text(max_size=40))


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), VALUES)
ANYTHING = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALUES, inner, max_size=3), max_leaves=6
)


def problem_or(response: Any, *also: int) -> None:
    """Fails if the answer is neither one of ``also`` nor a whole problem that is no defect."""
    assert response.status_code in (*also, 404, 413, 414, 422), response.text
    if response.status_code not in also:
        jsonschema.validate(response.json(), PROBLEM)
        assert response.json()["do"]


@pytest.mark.parametrize(("method", "path"), ASKING)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=VALUES, query=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
async def test_every_question_is_answered_or_refused(
    world: Any, method: str, path: str, number: str, query: dict[str, str]
) -> None:
    if not world.sequence:
        world.write((world.edge(), 20, {"connections": 1}))
        world.hub.connect(world.state(), world.answering())
    pairs = "&".join(f"{quote(name)}={quote(value, safe='', errors='surrogatepass')}" for name, value in query.items())
    given = quote(number, safe="", errors="surrogatepass")
    asked = path.replace("{id}", given).replace("{name}", given)
    # a name that is empty, or dots, makes it another path, which may not take this method
    response = await world.http.request(method, f"{asked}?{pairs}")
    problem_or(response, 200, *((405,) if "{name}" in path and response.status_code == 405 else ()))


class Body:
    """The example of a route with some of its values changed, or something else altogether."""

    def __init__(self, example: dict[str, Any]) -> None:
        self._example = example

    def strategy(self) -> st.SearchStrategy[bytes]:
        changed = st.dictionaries(st.sampled_from([*self._example, "more"]), ANYTHING, max_size=2)
        made = changed.map(
            lambda change: json.dumps({**self._example, **change}, allow_nan=True).encode("utf-8", "ignore")
        )
        cut = st.tuples(made, st.integers(0, 400)).map(lambda pair: pair[0][: pair[1]])
        text = st.text(alphabet="abk: -[]{}&*!|>#'\"\n\t/", max_size=60)
        policies = text.map(lambda words: json.dumps(self._with(words)).encode())
        return st.one_of(made, cut, policies, st.binary(max_size=30), ANYTHING.map(lambda x: json.dumps(x).encode()))

    def _with(self, words: str) -> dict[str, Any]:
        """The example with ``words`` where its documents are."""
        changed = dict(self._example)
        for name in {"documents", "policies", "new"} & changed.keys():
            changed[name] = words if name == "documents" else [{"file": "x", "text": words}]
        return changed


@pytest.mark.parametrize("path", TAKING)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_every_body_is_answered_or_refused(world: Any, path: str, data: st.DataObject) -> None:
    if not world.sequence:
        world.write((world.edge(), 20, {"connections": 1}))
    body = data.draw(Body(TAKING[path]).strategy())
    problem_or(await world.http.post(path, content=body), 200)
