"""The progress of a long question: on the terminal of standard error alone, and gone when it is done."""

from __future__ import annotations

import io
import sys

import pytest

from fathom.cli.policy import show


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_bar_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with show.progress("Replaying") as told:
        assert told is None


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(show, "_PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with show.progress("Replaying") as told:
        assert told is not None
        told(0.25)
    assert "Replaying" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is wiped
    assert capsys.readouterr().out == ""


def test_no_bar_for_what_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show.progress("Replaying") as told:
        assert told is not None
        told(0.5)
        told(1.0)
    assert terminal.getvalue() == ""


def test_the_bar_goes_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(show, "_PATIENCE_S", 0.0)

    def fail() -> None:
        with show.progress("Replaying") as told:
            assert told is not None
            told(0.1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert terminal.getvalue().endswith("\x1b[2K")
