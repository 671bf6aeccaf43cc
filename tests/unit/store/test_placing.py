"""A file that is written beside its place and put there when it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.store.placing import Part


def write(target: Path, data: bytes, *, force: bool = False) -> None:
    with Part(target, force=force) as part:
        os.write(part.descriptor, data)
        part.place()


def test_it_is_in_its_place_and_nothing_else_is_left(tmp_path: Path) -> None:
    write(tmp_path / "x", b"one")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"one"}
    with pytest.raises(UsageError, match="is there already"):
        write(tmp_path / "x", b"two")
    write(tmp_path / "x", b"two", force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"two"}


@pytest.mark.parametrize("force", [False, True])
def test_one_that_was_killed_once_it_had_placed_its_file_costs_nothing(tmp_path: Path, force: bool) -> None:
    """Between the link and the end of the other name both are one file."""
    write(tmp_path / "x", b"good")
    os.link(tmp_path / "x", tmp_path / "x.part")
    (tmp_path / "x").rename(tmp_path / "archive")
    write(tmp_path / "x", b"new", force=force)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"archive": b"good", "x": b"new"}
