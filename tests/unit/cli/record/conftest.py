"""The example of the documentation as a store, and the command line's own entry."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathom.cli.main import main
from fathom.store.interface import Store

from ..policy.conftest import EXAMPLES, example
from ..policy.shop_store import serving, shop_store

__all__ = ["example"]
Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("record", "info", …, input="text")``: the status and what was printed."""
    monkeypatch.setenv("FATHOM_SERVER", "http://127.0.0.1:1")  # nobody is there
    monkeypatch.setenv("FATHOM_TOKEN", "key")

    def go(*arguments: object, input: str = "") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
        status = main([str(item) for item in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return go


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An hour of the shop, open for writing."""
    made = shop_store(EXAMPLES, tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def url(tmp_path: Path, store: Store) -> str:  # noqa: ARG001 - it must be there
    """How the command line names the store."""
    return f"sqlite://{tmp_path}/store"


@pytest.fixture
def server(tmp_path: Path, store: Store, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:  # noqa: ARG001 - run sets another
    """A server over the store, which the commands ask."""
    (tmp_path / "data").mkdir()
    with serving(store, tmp_path / "data") as address:
        monkeypatch.setenv("FATHOM_SERVER", address)
        yield address
