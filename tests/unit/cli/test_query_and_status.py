"""``query`` and ``status`` against a stand-in server that answers with the examples of the OpenAPI document."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import yaml

from fathom.cli.main import main
from fathom.server import examples
from fathom.server.answers import EventsOfNode, Problem

ANSWERS = {
    "/api/v1/edges": examples.EDGES,
    "/api/v1/workloads": examples.WORKLOADS,
    "/api/v1/events": examples.EVENTS,
    "/api/v1/status": examples.STATUS,
}


class Stand(BaseHTTPRequestHandler):
    """Answers with examples, and remembers what was asked."""

    asked: ClassVar[list[tuple[str, dict[str, str], str]]] = []
    refuse: ClassVar[int] = 0

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.asked.append((parts.path, query, self.headers.get("Authorization", "")))
        if self.refuse:
            problem = Problem("about:blank", "no", self.refuse, what="the key was refused", do="give the right one")
            self._send(self.refuse, msgspec.json.encode(problem))
        else:
            self._send(200, msgspec.json.encode(ANSWERS[parts.path]))

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server, and the environment that names it."""
    Stand.asked, Stand.refuse = [], 0
    stand = ThreadingHTTPServer(("127.0.0.1", 0), Stand)
    thread = threading.Thread(target=stand.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("FATHOM_SERVER", f"http://127.0.0.1:{stand.server_address[1]}")
    monkeypatch.setenv("FATHOM_TOKEN", "the-key")
    yield
    stand.shutdown()
    thread.join()
    stand.server_close()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a command that must succeed and complain about nothing."""
    status = main(arguments)
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def test_edges_as_a_table_with_units_and_the_line_of_trust(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "query", "edges").splitlines()
    header, row = lines[0].split(), lines[1]
    assert header[:8] == ["WORKLOAD", "DIRECTION", "PEER", "PROTOCOL", "PORT", "CONNS", "OUT", "IN"]
    assert row.startswith("unit/nginx.service")
    assert "410µs" in row
    assert lines[3].startswith("window 5m · coverage 9")
    assert lines[3].endswith("lost 12")
    assert any("lost 12 at kernel tcp ring_full on web-1" in line for line in lines)


def test_wide_shows_more_columns_and_no_headers_rows_only(capsys: pytest.CaptureFixture[str]) -> None:
    wide = run(capsys, "query", "edges", "-o", "wide")
    assert "RETRANS" in wide
    assert examples.EDGES.items[0].id in wide
    rows = run(capsys, "query", "edges", "--no-headers").splitlines()
    assert len(rows) == len(examples.EDGES.items)


@pytest.mark.parametrize("what", ["edges", "workloads", "events"])
def test_json_and_yaml_are_what_rest_says(capsys: pytest.CaptureFixture[str], what: str) -> None:
    expected = msgspec.to_builtins(ANSWERS[f"/api/v1/{what}"])
    assert json.loads(run(capsys, "query", what, "-o", "json")) == expected
    assert yaml.safe_load(run(capsys, "query", what, "-o", "yaml")) == expected


def test_events_that_are_no_longer_kept_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        EventsOfNode("cut", 1, "2026-01-31T12:04:35.5Z", 840_907),
        EventsOfNode("cut-before", 1, "2026-01-31T11:20:00Z", 5),
        EventsOfNode("whole", 0, None, 0),
    ]
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setitem(ANSWERS, "/api/v1/events", msgspec.structs.replace(examples.EVENTS, nodes=nodes))
    lines = run(capsys, "query", "events").splitlines()
    said = [line for line in lines if "overwritten" in line]
    assert said == ["  cut: only events since 12:04:35 are kept; 840,907 older ones were overwritten"]


def test_status_in_all_formats(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "status")
    assert "web-1" in text
    assert "sqlite" in text
    assert json.loads(run(capsys, "status", "-o", "json")) == msgspec.to_builtins(examples.STATUS)
    assert yaml.safe_load(run(capsys, "status", "-o", "yaml")) == msgspec.to_builtins(examples.STATUS)


def test_every_filter_reaches_the_server_under_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {
        "since": "1h", "until": "2026-01-31T12:00:00Z", "workload": "unit/*", "peer": "10.0.0.0/8", "protocol": "tcp",
        "port": "443", "direction": "egress", "verdict": "failed", "limit": "7", "cursor": "abc",
    }  # fmt: skip
    run(capsys, "query", "edges", *(word for name, value in wanted.items() for word in (f"--{name}", value)))
    assert Stand.asked == [("/api/v1/edges", wanted, "Bearer the-key")]
    live = {"kind": "tcp", "pid": "7", "comm": "curl", "address": "::1", "port": "53", "node": "n", "workload": "x"}
    run(capsys, "query", "events", *(word for name, value in live.items() for word in (f"--{name}", value)))
    assert Stand.asked[-1][1] == {**live, "limit": "100"}


def test_a_key_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "k").write_text("other\n")
    run(capsys, "status", "--token-file", str(tmp_path / "k"))
    assert Stand.asked[-1][2] == "Bearer other"


def test_a_refused_key_is_an_error_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    Stand.refuse = 401
    assert main(["status"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "fathom: the key was refused\n  to do: give the right one\n"


def test_no_server_is_an_error_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "edges", "--server", "http://127.0.0.1:1"]) == 1
    assert "no server answers at http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "edges", "--since", "yesterday"), ("query", "edges", "--port", "70000"),
        ("query", "edges", "-o", "xml"), ("query", "edges", "--server", "ftp://x"), ("query", "nodes"),
        ("query", "events", "-f", "--since", "5m"), ("status", "--token-file", "/absent"), ("query", "edges", "extra"),
    ],
)  # fmt: skip
def test_wrong_usage_asks_nobody(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err
    assert Stand.asked == []
