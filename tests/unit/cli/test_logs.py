from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from fathom.cli.logs import Log


def test_two_files_of_bounded_size_keep_the_newest_lines(tmp_path: Path) -> None:
    log = Log(tmp_path / "agent.log", nullcontext, limit=1000)
    for number in range(500):
        log.append(f"line {number}\n".encode())
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["agent.log", "agent.log.1"]
    assert all(p.stat().st_size <= 1000 for p in tmp_path.iterdir())
    kept = (tmp_path / "agent.log.1").read_text() + (tmp_path / "agent.log").read_text()
    assert kept.splitlines() == [f"line {n}" for n in range(500)][-len(kept.splitlines()) :]


def test_a_later_life_goes_on_where_the_file_ended(tmp_path: Path) -> None:
    for word in (b"one", b"two"):
        log = Log(tmp_path / "a.log", nullcontext)
        log.append(word)
        log.close()
    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"


def test_only_the_user_reads_it(tmp_path: Path) -> None:
    Log(tmp_path / "a.log", nullcontext).close()
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a.log").symlink_to("victim")
    with pytest.raises(OSError, match="symbolic"):
        Log(tmp_path / "a.log", nullcontext)
    assert (tmp_path / "victim").read_text() == "precious"


def test_the_complaint_is_the_last_message_for_a_person(tmp_path: Path) -> None:
    log = Log(tmp_path / "a.log", nullcontext)
    assert log.complaint() == "it said nothing"
    log.append(b"Segmentation fault")
    assert log.complaint() == "Segmentation fault"
    for text in (b"fathom: old", b"noise", b"fathom: no BTF", b"  affected: all", b"  to do: another kernel"):
        log.append(text)
    assert log.complaint() == "no BTF\n  affected: all\n  to do: another kernel"
    log.forget()
    assert log.complaint() == "it said nothing"
    log.close()
