"""Audited policies over REST: registered, judged, told, forgotten; and bodies that make no sense."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from audited_shop import BOTH, DB, OPS, OPS_TO_DB, UNCLEAR, WEB, WEB_TO_DB, Node, edge, records
from test_rest_documentation import schema

from fathom.server import audit_answers

ONE = {"connections": 1}
PATH = "/policy/audit"


@pytest.fixture
def shop(world: Any) -> Any:
    """The server, over the shop's inventory."""
    world.inventories.set(records())
    world.node = Node()
    return world


async def register(shop: Any, name: str = "web", documents: str = WEB_TO_DB, status: int = 200, **more: Any) -> Any:
    return await shop.ask("POST", PATH, status, json={"name": name, "documents": documents, **more})


async def see(shop: Any, *facts: Any) -> None:
    assert shop.store.write(shop.node.batch(*facts))
    await shop.judge()


async def test_a_set_is_registered_judged_told_and_forgotten(shop: Any) -> None:
    made = await register(shop)
    assert (made["audit"]["name"], made["audit"]["policies"]) == ("web", ["NetworkPolicy shop/db"])
    assert made["verdicts"] == []
    await see(shop, (edge(WEB, DB), 30, {"connections": 3}), (edge(OPS, DB), 20, {"connections": 2}))
    found = await shop.get(f"{PATH}/web")
    assert found["verdicts"] == [
        {"verdict": "allowed", "new": False, "flows": 1, "connections": 3},
        {"verdict": "denied-ingress", "new": True, "flows": 1, "connections": 2},
    ]
    assert found["items"] == [
        {
            "policy": "NetworkPolicy shop/db",
            "verdicts": found["verdicts"],
            "reasons": [],
        }
    ]
    assert (found["audit"]["denied"], found["audit"]["flows"], found["audit"]["facts"]) == (1, 2, 2)
    evidence = await shop.get(f"{PATH}/web/offenders")
    (row,) = evidence["items"]
    assert (row["src"], row["dst"], row["port"]) == ("shop/Deployment/ops", "shop/Deployment/db", 5432)
    assert (row["first_seen"], row["last_seen"]) == ("2026-01-31T11:59:40Z", "2026-01-31T11:59:49Z")
    assert row["policies"] == ["NetworkPolicy shop/db"]
    assert (await shop.get(f"{PATH}/web/documents")) == {"name": "web", "documents": WEB_TO_DB}
    assert [item["name"] for item in (await shop.get(PATH))["items"]] == ["web"]
    await shop.ask("DELETE", f"{PATH}/web", 204)
    assert (await shop.get(PATH))["items"] == []
    for rest in ("", "/offenders", "/documents"):
        await shop.get(f"{PATH}/web{rest}", status=404)
    await shop.ask("DELETE", f"{PATH}/web", 404)


async def test_answers_match_the_document(shop: Any) -> None:
    await register(shop, "base", OPS_TO_DB, enforced=True)
    await register(shop, "web", UNCLEAR)
    await see(shop, (edge(WEB, DB), 30, ONE), (edge(OPS, DB), 20, ONE))
    for path, kind in (
        (PATH, "Audits"),
        (f"{PATH}/web", "AuditAnswer"),
        (f"{PATH}/base", "AuditAnswer"),
        (f"{PATH}/web/offenders", "AuditOffenders"),
        (f"{PATH}/web/documents", "AuditDocuments"),
    ):
        answer = await shop.get(path)
        jsonschema.validate(answer, schema(kind))
        msgspec.convert(answer, getattr(audit_answers, kind))
    jsonschema.validate(await shop.get(f"{PATH}/gone", status=404), schema("Problem"))


async def test_what_is_not_understood_is_said_and_unknown(shop: Any) -> None:
    made = await register(shop, "web", UNCLEAR)
    (place,) = made["audit"]["not_understood"]
    assert place.startswith("web, document 0, spec.ingress[0].from[0].sneakySelector: not-understood")
    await see(shop, (edge(OPS, DB), 30, ONE))
    found = await shop.get(f"{PATH}/web")
    assert found["audit"]["unknown"] == 1
    assert [row["flows"] for row in found["reasons"]] == [1]
    assert "1 flows that pass today could not be judged" in found["objections"]


async def test_the_same_again_changes_nothing_and_another_begins_anew(shop: Any) -> None:
    await register(shop)
    await see(shop, (edge(OPS, DB), 30, ONE))
    assert (await register(shop))["audit"]["denied"] == 1
    again = await register(shop, "web", BOTH)
    assert (again["audit"]["denied"], again["verdicts"]) == (0, [])
    await register(shop, "base", OPS_TO_DB, enforced=True)
    await see(shop, (edge(OPS, DB), 20, ONE))
    assert (await shop.get(f"{PATH}/web"))["audit"]["flows"] == 1


async def test_offenders_of_single_policies_and_limits(shop: Any) -> None:
    await register(shop, "web", BOTH)
    await see(shop, *((edge(WEB, DB, port), 30, ONE) for port in (1, 2, 3)))
    assert (await shop.get(f"{PATH}/web/offenders"))["items"] == []
    alone = await shop.get(f"{PATH}/web/offenders", scope="alone", limit=2)
    assert [row["policy"] for row in alone["items"]] == ["NetworkPolicy shop/ops"] * 2
    assert alone["omitted"] == 1
    assert len((await shop.get(f"{PATH}/web/offenders", scope="all"))["items"]) == 3


async def test_objections_say_what_stands_against_a_set(shop: Any) -> None:
    await register(shop, "web", BOTH)
    await see(shop, (edge(WEB, DB), 30, ONE))
    (short, unseen) = (await shop.get(f"{PATH}/web"))["objections"]
    assert short == "it was audited for 0.0 h, less than 24.0 h"
    assert unseen.endswith("of the nodes' time was seen, less than 95.0%")
    shop.now_ns[0] += 7_200 * 10**9
    objections = (await shop.get(f"{PATH}/web", need="1h"))["objections"]
    assert not any("audited for" in one for one in objections)
    await shop.get(f"{PATH}/web", status=422, need="soon")
    await register(shop, "base", OPS_TO_DB, enforced=True)
    assert (await shop.get(f"{PATH}/base"))["objections"] == []


async def test_metrics_count_by_set_policy_and_verdict(shop: Any) -> None:
    await register(shop)
    await see(shop, (edge(OPS, DB), 30, {"connections": 5}))
    text = (await shop.http.get("/metrics")).text
    policy = 'audit="web",policy="NetworkPolicy shop/db"'
    for line in (
        'fathom_policy_audit_flows_total{audit="web",verdict="denied-ingress"} 1',
        'fathom_policy_audit_connections_total{audit="web",verdict="denied-ingress"} 5',
        'fathom_policy_audit_denied_flows_total{audit="web"} 1',
        f'fathom_policy_audit_policy_connections_total{{{policy},verdict="denied-ingress"}} 5',
        "fathom_policy_audit_batches_total 1",
        "fathom_policy_audit_waiting_facts 0",
    ):
        assert line in text.splitlines()
    for name in ("Deployment", "ops-1", OPS, "n1"):
        assert name not in text


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "makes no sense"),
        (b"[]", "makes no sense"),
        (b'{"name": "web"}', "documents"),
        (b'{"name": "web", "documents": 1}', "documents"),
        (b'{"name": "", "documents": "x"}', "name"),
        (b'{"name": "../x", "documents": "x"}', "name"),
        (b'{"name": "x' + b"y" * 70 + b'", "documents": "x"}', "name"),
        (b'{"name": "web", "documents": "", "enforced": true}', "documents"),
        (b'{"name": "web", "documents": "x", "enforced": "yes"}', "enforced"),
        (b'{"name": "web", "documents": "x", "enforce": true}', "enforce"),
        (b'{"name": "stream", "documents": "x"}', "no name for a set"),
        (b'{"name": "web", "documents": "x"}', "not a Kubernetes object"),
        (b'{"name": "web", "documents": "a: [\\n"}', "not YAML"),
        (b'{"name": "web", "documents": "kind: Namespace\\napiVersion: v1\\nmetadata: {name: x}"}', "hold no policy"),
        (b'{"name": "web", "documents": "a: &a [*a]"}', "refused"),
    ],
)
async def test_bodies_that_make_no_sense_are_refused_in_words(shop: Any, body: bytes, what: str) -> None:
    answer = await shop.ask("POST", PATH, 422, content=body)
    assert what in answer["what"]
    assert (await shop.get(PATH))["items"] == []


async def test_every_document_that_is_refused_is_named(shop: Any) -> None:
    broken = WEB_TO_DB.replace("]}]\n", "], ports: [{port: 9, endPort: 1}]}]\n")
    texts = [WEB_TO_DB, *(broken.replace("name: db", f"name: db{n}") for n in range(60))]
    answer = await register(shop, "web", "---\n".join(texts), 422)
    assert answer["what"].startswith("60 documents are refused: web, document 1, spec.ingress[0].ports[0]")
    assert len(answer["errors"]) == 51
    assert answer["errors"][-1] == "and 10 more"


async def test_a_bomb_of_aliases_is_refused_soon(shop: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    async with asyncio.timeout(20):
        answer = await register(shop, "web", "\n".join(lines), 422)
    assert "aliases followed" in answer["what"]


@pytest.mark.parametrize("settings", [{"audit_sets": 2, "max_policies": 3, "max_policy_bytes": 20_000}], indirect=True)
async def test_sets_policies_and_bodies_are_bounded(shop: Any) -> None:
    for name in ("a", "b"):
        await register(shop, name)
    assert "2 sets are registered already" in (await register(shop, "c", status=422))["what"]
    await register(shop, "b", BOTH)  # not one more
    many = "---\n".join(WEB_TO_DB.replace("name: db", f"name: db{n}") for n in range(4))
    assert "4 policies, more than 3" in (await register(shop, "b", many, 422))["what"]
    await register(shop, "b", "#" * 20_000, 413)


@pytest.mark.parametrize("settings", [{"max_policy_requests": 1}], indirect=True)
async def test_too_many_at_once_are_told_to_come_back(shop: Any) -> None:
    import threading

    go = threading.Event()
    busy = asyncio.create_task(shop.app.state.desk.work(go.wait, 10))
    await asyncio.sleep(0)
    answer = await register(shop, status=503)
    assert "too many questions about policy" in answer["what"]
    go.set()
    await busy
    await asyncio.sleep(0.01)
    await register(shop)


class Reader:
    """Reads a stream of the application as it comes: httpx's transport would wait for its end."""

    def __init__(self, app: Any, query: str, key: str) -> None:
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = asyncio.Event()
        self.status = 0
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": f"/api/v1{PATH}/stream", "scheme": "http",
            "raw_path": f"/api/v1{PATH}/stream".encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {key}".encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8600),
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            await self.parts.put(message.get("body", b""))

    async def next(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.parts.get()

    async def leave(self) -> None:
        self.left.set()
        await self.task


def denials(text: bytes) -> list[dict[str, Any]]:
    """The messages in a part of a stream."""
    lines = [line.removeprefix(b"data: ") for line in text.split(b"\n") if line.startswith(b"data: ")]
    return [msgspec.json.decode(line) for line in lines]


async def test_denials_are_streamed_as_they_are_found(shop: Any) -> None:
    await register(shop, "web", BOTH)
    await register(shop, "strict", WEB_TO_DB)
    readers = {
        query: Reader(shop.app, query, shop.key) for query in ("", "audit=web", "scope=alone&audit=web", "scope=all")
    }
    for reader in readers.values():
        assert await reader.next() == b"retry: 3000\n\n"
        assert reader.status == 200
    await see(shop, (edge(OPS, DB), 30, {"connections": 2}))
    (message,) = denials(await readers[""].next())
    jsonschema.validate(message, schema("AuditDenial"))
    assert (message["audit"], message["time"]) == ("strict", "2026-01-31T12:00:00Z")
    assert (message["offender"]["src"], message["offender"]["connections"]) == ("shop/Deployment/ops", 2)
    assert await readers["audit=web"].next() == b": alive\n\n"
    assert [m["offender"]["policy"] for m in denials(await readers["scope=alone&audit=web"].next())] == [
        "NetworkPolicy shop/db"
    ]
    assert len(denials(await readers["scope=all"].next())) == 3
    for reader in readers.values():
        await reader.leave()
    assert shop.meters.streams == 0


@pytest.mark.parametrize("settings", [{"max_streams": 1, "heartbeat_s": 0.05}], indirect=True)
async def test_streams_are_bounded_and_show_signs_of_life(shop: Any) -> None:
    reader = Reader(shop.app, "", shop.key)
    await reader.next()
    await shop.get(f"{PATH}/stream", status=503)
    assert await reader.next() == b": alive\n\n"
    shop.app.state.desk.closing.set()
    async with asyncio.timeout(10):
        await reader.task
    await shop.get(f"{PATH}/stream", status=503)


async def test_nothing_is_told_without_a_key(shop: Any) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://127.0.0.1:8600") as stranger:
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/stream"),
            ("DELETE", "/web"),
            ("GET", "/web/documents"),
        ):
            assert (await stranger.request(method, f"/api/v1{PATH}{path}")).status_code == 401


async def test_other_methods_and_parameters_are_refused(shop: Any) -> None:
    await shop.ask("PUT", PATH, 405)
    await shop.get(f"{PATH}/web/offenders", status=422, limit=0)
    await shop.get(f"{PATH}/stream", status=422, scope="some")
