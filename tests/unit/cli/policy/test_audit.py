"""``fathom policy audit`` and ``promote`` against a stand-in server: what is asked, what is printed, which status."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
import yaml

from fathom.server import audit_examples as examples
from fathom.server.answers import Coverage, Loss, Problem, Window
from fathom.server.audit_answers import AuditDenial

from .live_shop import install, shop, tell

PATH = "/api/v1/policy/audit"
Run = Callable[..., SimpleNamespace]
PROVED = msgspec.structs.replace(
    examples.AUDIT, objections=[], audit=msgspec.structs.replace(examples.AUDIT.audit, denied=0)
)


class Stand(BaseHTTPRequestHandler):
    """Answers with what stands in ``answers``, and remembers what was asked."""

    asked: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []
    answers: ClassVar[dict[tuple[str, str], Any]] = {}

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), body))
        answer = self.answers.get((self.command, parts.path))
        if answer is None:
            answer = Problem("about:blank", "no", 404, what="there is no policy set of this name", do="see the others")
        status = answer.status if isinstance(answer, Problem) else 204 if answer == b"" else 200
        content = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def stand(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stand]]:
    """A server with one set, ``web``."""
    del run  # which names a server where nobody is
    Stand.asked = []
    Stand.answers = {
        ("GET", PATH): examples.AUDITS,
        ("POST", PATH): examples.AUDIT,
        ("GET", f"{PATH}/web"): examples.AUDIT,
        ("DELETE", f"{PATH}/web"): b"",
        ("GET", f"{PATH}/web/offenders"): examples.AUDIT_OFFENDERS,
        ("GET", f"{PATH}/web/documents"): examples.AUDIT_DOCUMENTS,
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stand)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FATHOM_SERVER", f"http://127.0.0.1:{server.server_address[1]}")
    yield Stand
    server.shutdown()
    server.server_close()


def test_add_sends_all_texts_as_one(run: Run, stand: type[Stand], tmp_path: Path) -> None:
    for name, text in (("a.yaml", "kind: A\n"), ("b.json", '{"kind": "B"}'), ("c.txt", "no")):
        (tmp_path / name).write_text(text)
    done = run("audit", "add", "web", tmp_path, "-", "--enforced", input="kind: C\n")
    assert (done.status, done.out) == (0, "web: 1 policies, judged since 2026-01-30T12:00:00Z\n")
    ((_, _, _, body),) = stand.asked
    sent = json.loads(body)
    assert (sent["name"], sent["enforced"]) == ("web", True)
    assert list(yaml.safe_load_all(sent["documents"])) == [{"kind": "A"}, {"kind": "B"}, {"kind": "C"}]


def test_add_sends_the_policies_of_a_live_cluster(
    run: Run, stand: type[Stand], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    calls = tell(tmp_path, shop())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run("audit", "add", "web", "kube:", "--context", "prod").status == 0
    ((_, _, _, body),) = stand.asked
    sent = list(yaml.safe_load_all(json.loads(body)["documents"]))
    assert [item["kind"] for item in sent] == ["NetworkPolicy"] * 4
    assert all(line.endswith("--context=prod") for line in calls.read_text().splitlines())


def test_add_says_what_is_not_understood(run: Run, stand: type[Stand]) -> None:
    audit = msgspec.structs.replace(examples.AUDIT.audit, enforced=True, not_understood=["web, document 0: \x1b[31m"])
    stand.answers["POST", PATH] = msgspec.structs.replace(examples.AUDIT, audit=audit)
    done = run("audit", "add", "web", "-", input="kind: C\n")
    assert done.out == "web: 1 policies, in force, and judged along\n"
    assert done.err == "fathom: web, document 0: \\x1b[31m\n"


def test_files_that_are_not_there_and_sets_that_are_not_are_told(run: Run, stand: type[Stand]) -> None:
    done = run("audit", "add", "web", "gone.yaml")
    assert (done.status, stand.asked) == (2, [])
    assert "cannot read gone.yaml" in done.err
    for arguments in (("audit", "remove", "no"), ("audit", "status", "no"), ("promote", "no")):
        done = run(*arguments)
        assert (done.status, done.out) == (2, "")
        assert "there is no policy set of this name\n  to do: see the others" in done.err


def test_list_and_remove(run: Run, stand: type[Stand]) -> None:
    done = run("audit", "list")
    assert done.out.splitlines()[1].split()[:3] == ["web", "audited", "1"]
    assert "still to be judged" not in done.out
    stand.answers["GET", PATH] = msgspec.structs.replace(examples.AUDITS, waiting=7)
    assert run("audit", "list").out.endswith("7 facts are still to be judged\n")
    assert json.loads(run("audit", "list", "-o", "json").out)["waiting"] == 7
    assert run("audit", "remove", "web").out == "web: forgotten\n"
    assert stand.asked[-1][:2] == ("DELETE", f"{PATH}/web")


def test_status_shows_the_set_its_policies_and_the_evidence(run: Run, stand: type[Stand]) -> None:
    done = run("audit", "status", "web", "--scope", "all", "--need", "2h")
    assert [asked[2] for asked in stand.asked] == [{"need": "2h"}, {"scope": "all", "limit": "20"}]
    lines = done.out.splitlines()
    assert lines[:3] == [
        "web   audited since 2026-01-30T12:00:00Z",
        "flows   48101 allowed · 12 denied-ingress · newly denied 12, newly unknown 0",
        "! 12 flows (24 connections) that pass today would be denied",
    ]
    assert "NetworkPolicy shop/db      8640       12         0" in done.out
    assert "shop/CronJob/report   shop/StatefulSet/db   TCP/5432   denied-ingress      12      24" in done.out
    assert lines[-1] == "window 1d · coverage 100 % · lost 0"
    assert "RULES" in run("audit", "status", "web", "-o", "wide").out
    found = yaml.safe_load(run("audit", "status", "web", "-o", "yaml").out)
    assert set(found) == {"status", "offenders"}


def test_status_says_what_is_left_out_and_what_is_unknown(run: Run, stand: type[Stand]) -> None:
    from fathom.server.audit_answers import AuditReason

    stand.answers["GET", f"{PATH}/web/offenders"] = msgspec.structs.replace(
        examples.AUDIT_OFFENDERS, omitted=3, left_out=9
    )
    stand.answers["GET", f"{PATH}/web"] = msgspec.structs.replace(
        PROVED, reasons=[AuditReason("nobody knows", 4, 5)], waiting=2
    )
    out = run("audit", "status", "web").out
    assert "unknown   4 flows: nobody knows" in out
    assert "and 3 more rows; 9 flows had no room in the evidence" in out
    assert "waiting   2 facts are still to be judged" in out
    assert "nothing speaks against enforcing it: fathom policy promote web" in out
    bare = run("audit", "status", "web", "--no-headers").out
    assert "audited since" not in bare
    assert "POLICY" not in bare


def test_status_wants_a_name_or_to_follow(run: Run, stand: type[Stand]) -> None:
    done = run("audit", "status")
    assert (done.status, stand.asked) == (2, [])
    assert "Name a set, or follow all with -f." in done.err


def test_following_prints_denials_and_what_was_missed(
    run: Run, stand: type[Stand], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.answers["GET", f"{PATH}/stream"] = f"retry: 3000\n\n{examples.AUDIT_STREAM}".encode()

    async def enough(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fathom.cli.policy.auditing.asyncio.sleep", enough)
    done = run("audit", "status", "-f", "--scope", "all")
    assert done.status == 130
    assert stand.asked[0][2] == {"audit": "", "scope": "all"}
    assert done.out.splitlines()[:2] == [
        "TIME                   SET   DENIED",
        "2026-01-30T23:02:01Z   web   denied-ingress   shop/CronJob/report > shop/StatefulSet/db TCP/5432"
        "   12 flows, 24 connections   by NetworkPolicy shop/db",
    ]
    assert "missed 12 denials (slow_reader)" in done.err
    done = run("audit", "status", "web", "-f", "-o", "json")
    assert msgspec.json.decode(done.out.splitlines()[0], type=AuditDenial).audit == "web"
    assert run("audit", "status", "no", "-f").status == 2


def test_promote_refuses_what_is_not_proved(run: Run, stand: type[Stand]) -> None:
    done = run("promote", "web", "--need", "2h")
    assert (done.status, done.out) == (1, "")
    assert stand.asked[0][2] == {"need": "2h"}
    assert done.err.startswith("fathom: web: 12 flows (24 connections) that pass today would be denied\n")
    assert "web is not proved\n  affected: nothing was printed" in done.err


def test_promote_prints_what_is_proved_with_its_evidence(run: Run, stand: type[Stand]) -> None:
    window = Window("2026-01-30T12:00:00Z", "2026-01-31T12:00:00Z", Coverage(0.98765, 1.0, 1.0, []))
    loss = [Loss("kernel", "tcp", "ring_full", "n1", 3, 0, 0, 0)]
    stand.answers["GET", f"{PATH}/web"] = msgspec.structs.replace(PROVED, window=window, loss=loss)
    done = run("promote", "web")
    assert (done.status, done.err) == (0, "")
    (document,) = yaml.safe_load_all(done.out)
    before = yaml.safe_load(examples.AUDIT_DOCUMENTS.documents)
    assert document["spec"] == before["spec"]
    assert document["metadata"] == {
        "name": "db",
        "namespace": "shop",
        "annotations": {
            "fathom.dev/audit-coverage": "0.9877",
            "fathom.dev/audit-denied": "0",
            "fathom.dev/audit-flows": "48113",
            "fathom.dev/audit-lost": "3",
            "fathom.dev/audit-missed": "0",
            "fathom.dev/audit-since": "2026-01-30T12:00:00Z",
            "fathom.dev/audit-unknown": "0",
            "fathom.dev/audit-until": "2026-01-31T12:00:00Z",
        },
    }


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (msgspec.structs.replace(PROVED, waiting=5), "5 facts are still to be judged"),
        (
            msgspec.structs.replace(PROVED, audit=msgspec.structs.replace(PROVED.audit, enforced=True)),
            "it is registered as enforced already",
        ),
    ],
)
def test_promote_waits_for_what_is_not_judged_and_does_nothing_twice(
    run: Run, stand: type[Stand], answer: Any, sentence: str
) -> None:
    stand.answers["GET", f"{PATH}/web"] = answer
    assert sentence in run("promote", "web").err
    forced = run("promote", "web", "--force")
    assert forced.status == 0
    assert sentence in forced.err
    (document,) = yaml.safe_load_all(forced.out)
    assert document["metadata"]["annotations"]["fathom.dev/audit-forced"] == sentence


def test_what_cannot_be_written_as_yaml_is_json(run: Run, stand: type[Stand]) -> None:
    text = examples.AUDIT_DOCUMENTS.documents + "---\nkind: Odd\napiVersion: x/v1\nmetadata: {name: o}\nweight: 1.5\n"
    stand.answers["GET", f"{PATH}/web/documents"] = msgspec.structs.replace(examples.AUDIT_DOCUMENTS, documents=text)
    stand.answers["GET", f"{PATH}/web"] = PROVED
    first, second = yaml.safe_load_all(run("promote", "web").out)
    assert first["kind"] == "NetworkPolicy"
    assert second == {"kind": "Odd", "apiVersion": "x/v1", "metadata": {"name": "o"}, "weight": 1.5}
