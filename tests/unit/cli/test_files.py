"""Files are written whole or stay as they were, under names that file systems allow."""

from __future__ import annotations

import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fathom.cli.files import file_name, others, read_texts, write_text
from fathom.errors import FathomError


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can be larger than ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a" / "policy.yaml"
    write_text(file, "good\n")
    with room_for(1_000), pytest.raises(FathomError, match=r"cannot write .*policy\.yaml"):
        write_text(file, "x" * 100_000)
    assert file.read_text() == "good\n"
    assert [item.name for item in file.parent.iterdir()] == ["policy.yaml"]


def test_a_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    file, link = tmp_path / "file.yaml", tmp_path / "link.yaml"
    write_text(file, "one")
    file.chmod(0o640)
    link.symlink_to(file)
    write_text(link, "two")
    assert (file.read_text(), link.is_symlink(), stat.S_IMODE(file.stat().st_mode)) == ("two", True, 0o640)


def test_what_is_no_regular_file_is_written_to() -> None:
    write_text(Path("/dev/null"), "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("length", [250, 251, 253])
def test_the_longest_names_of_objects_are_names_of_files(tmp_path: Path, length: int) -> None:
    names = ["a" * (length - 1) + end for end in "xy"]
    files = [tmp_path / file_name(name, "yaml") for name in names]
    for file in files:
        write_text(file, "{}")
    assert len(set(files)) == 2
    assert {len(file.name) <= 255 for file in files} == {True}
    assert (files[0].name == f"{names[0]}.yaml") == (length == 250)
    assert sorted(read_texts([str(tmp_path)])) == sorted(map(str, files))


def test_files_that_were_not_written_are_told_as_commands_would_read_them(tmp_path: Path) -> None:
    for name in ("a/new.yaml", "a/old.yaml", "b/old.json", "b/.hidden.yaml", ".git/x.yaml", "b/notes.txt"):
        write_text(tmp_path / name, "{}")
    written = {tmp_path / "a/new.yaml"}
    found, whole = others(tmp_path, written)
    assert (found, whole) == ([str(tmp_path / "a/old.yaml"), str(tmp_path / "b/old.json")], True)
    assert sorted((*found, *map(str, written))) == sorted(read_texts([str(tmp_path)]))
