from __future__ import annotations

import json

import pytest
import yaml

from fathom.cli.eventlines import EventLines

CLOSED = {
    "time": "2026-01-31T12:00:00.123456Z", "kind": "tcp", "event": "closed", "direction": "egress", "protocol": "TCP",
    "reason": "", "latency": 0.0032, "duration": 1.5, "bytes_sent": 2048, "bytes_received": 0, "packets_sent": 5,
    "packets_received": 4, "retransmits": 1, "local_address": "10.0.0.1", "local_port": 40000,
    "remote_address": "2001:db8::1", "remote_port": 443, "pid": 7, "comm": "curl", "owner_source": "connect",
    "workload": "curl", "workload_kind": "process", "node": "web-1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def words(event: dict[str, object], output: str = "table") -> list[str]:
    return EventLines(output).line(event).split()


def test_a_connection_reads_from_left_to_right() -> None:
    assert words(CLOSED)[1:] == [
        "closed", "egress", "TCP", "process/curl", "curl/7", "10.0.0.1:40000", "[2001:db8::1]:443", "2.0", "KiB",
        "0", "B", "3.2ms", "1.5s", "-",
    ]  # fmt: skip


def test_columns_of_header_and_line_stand_below_one_another() -> None:
    lines = EventLines("wide")
    header, row = lines.header(), lines.line(CLOSED)
    for name, text in (("NODE", "web-1"), ("EVENT", "closed"), ("REMOTE", "[2001:db8::1]:443"), ("REASON", "-")):
        assert header.index(name) == row.index(text, header.index(name)), name


def test_an_accepted_connection_without_an_owner_is_nobodys() -> None:
    open_now = {
        **CLOSED,
        "owner_source": "listener",
        "pid": 0,
        "comm": "",
        "workload": "web-1",
        "workload_kind": "host",
    }
    assert words(open_now)[4:6] == ["-", "-"]


def test_what_is_missing_is_a_dash_and_what_is_hostile_is_escaped() -> None:
    assert words({"event": "flow", "comm": "x", "pid": 1, "workload": "\x1b[2J"})[0] == "-"
    assert "\x1b" not in EventLines("table").line({**CLOSED, "comm": "\x1b]0;evil\x07"})


def test_json_is_a_line_and_yaml_a_document() -> None:
    assert json.loads(EventLines("json").line(CLOSED)) == CLOSED
    text = "\n".join(EventLines("yaml").line(CLOSED) for _ in range(2))
    assert list(yaml.safe_load_all(text)) == [CLOSED, CLOSED]
    assert not EventLines("json").is_table
