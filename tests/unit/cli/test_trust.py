from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fathom.cli.trust import ago, footer
from fathom.server.answers import Coverage, Gap, Loss, Window, Workloads

START, END = "2026-01-31T12:00:00Z", "2026-01-31T12:05:00Z"


def answer(share: float, gaps: int = 0, losses: int = 0, cursor: str = "") -> Workloads:
    """An answer over five minutes."""
    found = [Gap(f"n{i}", START, END) for i in range(gaps)]
    lost = [Loss("kernel", "tcp", "ring_full", "vm", 20, 0, 0, 0) for _ in range(losses)]
    window = Window(START, END, Coverage(share, 300.0, 300.0 * share, found))
    return Workloads(items=[], next_cursor=cursor, window=window, loss=lost)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_nothing_missing_is_one_line() -> None:
    assert footer(answer(1.0)) == ["window 5m · coverage 100 % · lost 0"]


def test_what_is_missing_is_named() -> None:
    lines = footer(answer(0.9, gaps=1, losses=1))
    assert lines[0] == "window 5m · coverage 90.0 % · lost 20"
    assert lines[1] == f"  gap: n0 from {START} to {END}"
    assert lines[2] == "  lost 20 at kernel tcp ring_full on vm"


def test_long_lists_are_shortened_and_counted() -> None:
    lines = footer(answer(0.9, gaps=9, losses=7))
    assert "  and 4 more gaps" in lines
    assert any(line.startswith("  and 2 more losses") for line in lines)


def test_no_node_known_means_that_coverage_is_not_known() -> None:
    window = Window(START, END, Coverage(0.0, 0.0, 0.0, []))
    assert footer(Workloads(items=[], window=window, loss=[])) == ["window 5m · coverage ? · lost 0"]


def test_a_next_page_is_offered() -> None:
    assert footer(answer(1.0, cursor="abc"))[-1] == "more: --cursor abc"


def test_ago() -> None:
    now = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)
    assert ago(START, now) == "5m ago"
    assert ago("2026-01-31T12:06:00Z", now) == "0s ago", "a clock that is ahead is no negative age"
    assert ago(None, now) == "-"
