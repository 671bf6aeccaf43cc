"""Whatever a file holds, a command answers or refuses: it never breaks, and a refused document is never an answer."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.cli.main import main

from .conftest import EXAMPLES

GOOD = {
    "--policies": list(yaml.safe_load_all((EXAMPLES / "policies/shop.yaml").read_text())),
    "--manifests": list(yaml.safe_load_all((EXAMPLES / "manifests/shop.yaml").read_text())),
    "--flows": [json.loads(line) for line in (EXAMPLES / "flows.jsonl").read_text().splitlines()],
}
ODD = (
    st.none()
    | st.booleans()
    | st.integers(-1, 70_000)
    | st.text(max_size=5)
    | st.just([])
    | st.just({})
    | st.just([{}])
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values below ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in places(item, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn, option: str) -> str:
    """The file of ``option`` with up to three values changed, as text; or any text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=80))
    documents = json.loads(json.dumps(GOOD[option]))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([path for path in places(documents) if len(path) > 1]))
        holder = documents
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = json.loads(json.dumps(draw(ODD)))  # a list of its own
        documents = [item for item in documents if item is not None]
    if option == "--flows":
        return "".join(json.dumps(item) + "\n" for item in documents)
    return "---\n".join(yaml.safe_dump(item) for item in documents)


@pytest.mark.parametrize("command", ["evaluate", "replay", "exposure", "graph"])
@settings(max_examples=40, deadline=None)
@given(policies=spoilt("--policies"), manifests=spoilt("--manifests"), flows=spoilt("--flows"))
def test_any_files(command: str, policies: str, manifests: str, flows: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["policy", command]
        for option, text in (("--policies", policies), ("--manifests", manifests), ("--flows", flows)):
            file = Path(folder) / option.strip("-")
            file.write_text(text, errors="replace")
            arguments += [option, str(file)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments)
    assert status in (0, 1, 2), err.getvalue()
    if ": refused: " in err.getvalue():
        assert (status, out.getvalue()) == (2, "")
