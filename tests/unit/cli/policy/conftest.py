"""The example of the documentation, and the command line's own entry."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathom.cli.main import main

EXAMPLES = Path(__file__).parents[4] / "docs/examples/policy"
Run = Callable[..., SimpleNamespace]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, which is the working directory."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("replay", …, input="text")``: the status and what was printed."""

    monkeypatch.setenv("FATHOM_SERVER", "http://127.0.0.1:1")  # nobody is there
    monkeypatch.setenv("FATHOM_TOKEN", "key")

    def go(*arguments: object, input: str = "") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
        status = main(["policy", *(str(item) for item in arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return go


#: The whole example, and its policies.
SEEN = ("--manifests", "manifests", "--flows", "flows.jsonl")
ALL = ("--policies", "policies", *SEEN)
