"""Whatever is asked, the answer is an answer or a problem, and never a defect."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.server.app import documented

SPEC = documented()
PROBLEM = {"$ref": "#/components/schemas/Problem", "components": SPEC["components"]}
NAMES = sorted({p["name"] for path in SPEC["paths"].values() for p in path["get"].get("parameters", ())} | {"x"})
PATHS = [path for path in SPEC["paths"] if path.startswith("/api/v1") and not path.endswith("/stream")]
LIKELY = st.sampled_from(
    ["", "*", "5m", "0s", "7d", "now", "2026-01-31T12:00:00Z", "1", "0", "-1", "65535", "10000", "tcp", "egress",
     "failed", "10.0.0.0/8", "::/0", "a/b/c", "unit/nginx", "%", "_", "'", '"', "\\", "\x00", "\u202e", "9" * 40,
     "1e9", "nan", "null"]
)  # fmt: skip
VALUES = st.one_of(LIKELY, st.text(max_size=40))


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=VALUES, query=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
async def test_every_question_is_answered_or_refused(world: Any, path: str, number: str, query: dict[str, str]) -> None:
    if not world.sequence:
        world.write((world.edge(), 20, {"connections": 1}))
        world.hub.connect(world.state(), world.answering())
    pairs = "&".join(f"{quote(name)}={quote(value, safe='', errors='surrogatepass')}" for name, value in query.items())
    asked = path.replace("{id}", quote(number, safe="", errors="surrogatepass"))
    response = await world.http.get(f"{asked}?{pairs}")
    assert response.status_code in (200, 404, 414, 422), response.text
    if response.status_code != 200:
        jsonschema.validate(response.json(), PROBLEM)
        assert response.json()["do"]
