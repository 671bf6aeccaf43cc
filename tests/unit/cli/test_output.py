from __future__ import annotations

import io
import json

import pytest
import yaml

from fathom.cli.output import Column, coloured, document, line, table

COLUMNS = [
    Column[dict]("NAME", lambda r: r["name"]),
    Column[dict]("BYTES", lambda r: str(r["bytes"]), number=True),
    Column[dict]("NODE", lambda r: r["node"], wide=True),
]
ROWS = [{"name": "unit/ssh.service", "bytes": 12, "node": "a"}, {"name": "x", "bytes": 12345, "node": "b"}]


def test_columns_align_and_numbers_stand_right() -> None:
    assert table(ROWS, COLUMNS) == "NAME               BYTES\nunit/ssh.service      12\nx                  12345"


def test_wide_shows_more_and_no_headers_shows_less() -> None:
    assert table(ROWS, COLUMNS, wide=True).splitlines()[0].split() == ["NAME", "BYTES", "NODE"]
    assert table(ROWS, COLUMNS, headers=False).splitlines()[0].split() == ["unit/ssh.service", "12"]


def test_a_long_name_is_cut_unless_wide() -> None:
    columns = [Column[str]("NAME", lambda name: name, name=True), Column[str]("TEXT", lambda name: name)]
    fits, long = "f" * 48, "x" * 47 + "yz"
    assert table([fits, long], columns, headers=False).splitlines() == [f"{fits}   {fits}", f"{'x' * 47}…   {long}"]
    assert table([long], columns, wide=True, headers=False) == f"{long}   {long}"


def test_no_rows_give_nothing() -> None:
    assert table([], COLUMNS) == ""


def test_a_name_cannot_steer_the_terminal() -> None:
    text = table([{"name": "\x1b[2Jevil\n", "bytes": 0, "node": ""}], COLUMNS, headers=False)
    assert "\x1b" not in text
    assert text.startswith("\\x1b[2Jevil\\n")


def test_documents_are_what_programs_read() -> None:
    value = {"items": [{"workload": "ü", "latency": 0.0032}], "next_cursor": None}
    assert json.loads(document(value, "json")) == value
    assert yaml.safe_load(document(value, "yaml")) == value
    assert list(yaml.safe_load_all(line(value, "yaml") + "\n" + line(value, "yaml"))) == [value, value]
    assert "\n" not in line(value, "json")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_whose_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured(Terminal())
    assert not coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())
