"""``fathom policy`` without files: the question, and the policies as texts, go to a server; its answer is shown alike.

The server here stands for the real one: it decodes the bodies that REST takes, and answers by the functions that REST
calls, about the example.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fathom.cli.policy.inputs import Files, read_material
from fathom.policy import asked, questions
from fathom.policy.material import Material
from fathom.policy.model import PolicySet
from fathom.policy.policysets import read_texts

from .conftest import ALL, Run

pytestmark = pytest.mark.usefixtures("example")
#: Command line → what stands behind it on files.
COMMANDS = [
    ("evaluate", "--policies", "policies"),
    ("replay", "--policies", "policies", "-o", "json"),
    ("replay", "--policies", "policies", "-o", "sarif"),
    ("replay", "--policies", "policies", "--suggest"),
    ("diff", "--old", "none", "--new", "policies", "-o", "markdown"),
    ("explain", "flow", "shop/Deployment/web", "shop/Deployment/api", "9090", "--policies", "policies"),
    ("explain", "rule", "shop/api", "--unused", "--policies", "policies"),
    ("coverage", "--need-time", "8d"),
    ("exposure", "--policies", "policies"),
    ("graph", "--policies", "policies", "-o", "svg"),
    ("generate", "--form", "cilium", "--minimum", "2", "--exclude", "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z"),
]


def policies(texts: list[asked.Text] | None) -> PolicySet:
    return read_texts((item.file, item.text) for item in texts or [])


def answers(material: Material) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Path → the type of its body, and its answer."""
    m = material
    return {
        "evaluate": (asked.PoliciesAsked, lambda q: list(questions.evaluate(m, policies(q.policies), q.options))),
        "replay": (asked.PoliciesAsked, lambda q: questions.replay(m, policies(q.policies), q.options, limit=q.limit)),
        "diff": (asked.DiffAsked, lambda q: questions.diff(m, policies(q.old), policies(q.new), q.options)),
        "explain/flow": (asked.FlowAsked, lambda q: questions.explain_flow(m, policies(q.policies), q.flow, q.options)),
        "explain/rule": (
            asked.RuleAsked,
            lambda q: questions.explain_rule(m, policies(q.policies), q.rules, q.options),
        ),
        "coverage": (asked.CoverageAsked, lambda q: questions.coverage(m, q.need)),
        "exposure": (asked.PoliciesAsked, lambda q: questions.exposure(m, policies(q.policies), q.options)),
        "graph": (asked.GraphAsked, lambda q: questions.graph(m, policies(q.policies), q.options, kind=q.kind)),
        "generate": (asked.GenerateAsked, lambda q: questions.generate(m, q.choices)),
    }


class Server(ThreadingHTTPServer):
    """Answers about ``material``; keeps the questions."""

    material: Material
    seen: list[Any]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        kind, answer = answers(self.server.material)[self.path.removeprefix("/api/v1/policy/")]
        question = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])), type=kind)
        self.server.seen.append(question)
        found = answer(question)
        lines = found if isinstance(found, list) else [found]
        body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def server(example: Path) -> Iterator[Server]:
    (example / "none").mkdir()
    (example / "none/nothing.yaml").write_text("kind: ConfigMap\n")
    with Server(("127.0.0.1", 0), Handler) as found:
        found.material = read_material(Files(("manifests",), "flows.jsonl"))
        found.seen = []
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_is_shown_as_files_are(run: Run, url: str, command: tuple[str, ...]) -> None:
    mine = run(*command, "--manifests", "manifests", "--flows", "flows.jsonl")
    theirs = run(*command, "--server", url)
    assert (theirs.status, theirs.out) == (mine.status, mine.out)
    assert theirs.out


def test_what_is_asked_about_travels(run: Run, server: Server, url: str) -> None:
    about = ("--since", "7d", "--until", "2026-01-31T00:00:00Z", "--workload", "web", "--node", "n1", "--cluster", "c1")
    assert run("replay", "--server", url, *about, "--icmp", "unknown", "--limit", "7").status == 0
    (question,) = server.seen
    assert question.policies is None  # those that are registered as enforced
    assert (question.since, question.until, question.limit) == ("7d", "2026-01-31T00:00:00Z", 7)
    assert (question.workload, question.node, question.cluster) == ("web", "n1", "c1")
    assert question.options.icmp == "unknown"


def test_documents_that_are_refused_are_not_sent(run: Run, server: Server, url: str, example: Path) -> None:
    (example / "policies/bad.yaml").write_text("kind: NetworkPolicy\n")
    got = run("replay", "--policies", "policies", "--server", url)
    assert (got.status, got.out, server.seen) == (2, "", [])
    assert "policies/bad.yaml, document 0" in got.err


def test_evidence_of_a_server_has_the_ids_of_edges_in_the_place_of_flows(run: Run, url: str, example: Path) -> None:
    assert run("generate", "--server", url, "--evidence", "evidence.jsonl").status == 0
    first = json.loads((example / "evidence.jsonl").read_text().splitlines()[0])
    assert "flows" not in first
    assert first["edges"] == []


def test_a_diff_wants_its_new_policies_even_from_a_server(run: Run, url: str) -> None:
    assert run("diff", "--server", url).status == 2
    assert run("diff", "--new", "policies", "--server", url).status == 1


def test_a_server_that_does_not_know_the_question(run: Run, url: str) -> None:
    got = run("replay", *ALL[:2], "--server", url + "/elsewhere")
    assert (got.status, got.out) == (2, "")
