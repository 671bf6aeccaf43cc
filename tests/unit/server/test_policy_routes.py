"""Questions about policy over REST: the same answers as the functions give, within bounds, and while the loop turns."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from audited_shop import BOTH, DB, NOW, OPS, OPS_TO_DB, UNCLEAR, WEB, WEB_TO_DB, Node, edge, records
from test_rest_documentation import schema

from fathom.client.policies import PolicyClient
from fathom.errors import ServerUnavailable, UsageError
from fathom.policy import answers, asked, policysets, questions
from fathom.policy.asked import Text
from fathom.policy.explain import FlowVerdict
from fathom.policy.material import Material
from fathom.policy.model import PolicySet
from fathom.policy.questions import RulesAsked
from fathom.server.policy_work import Left, PolicyWork
from fathom.store.interface import Window
from fathom.store.material import material

PATH = "/policy"
TEXTS = [Text("db.yaml", WEB_TO_DB)]
HOUR = Window(NOW - 3_600, NOW)


@pytest.fixture
def shop(world: Any) -> Any:
    """The server, over a store that knows the shop, and that three connections were made."""
    world.store.keep_inventory(records())
    world.node = Node()
    facts = [(edge(WEB, DB), 600, 3), (edge(OPS, DB), 300, 2), (edge(WEB, OPS, 22), 60, 1)]
    assert world.store.write(world.node.batch(*((of, ago, {"connections": n}) for of, ago, n in facts)))
    return world


@pytest.fixture
def client(shop: Any) -> PolicyClient:
    return PolicyClient("http://127.0.0.1:8600", shop.key, transport=httpx.ASGITransport(shop.app))


def seen(shop: Any) -> Material:
    return material(shop.store, HOUR)


def policies(*texts: str) -> PolicySet:
    return policysets.read_texts([(f"{n}.yaml", text) for n, text in enumerate(texts)])


async def test_every_question_is_answered_as_its_function_answers(shop: Any, client: PolicyClient) -> None:
    about = {"since": "1h"}
    mine, at = policysets.read_texts([("db.yaml", WEB_TO_DB)]), seen(shop)
    one = {"src": "shop/ops-1", "dst": "shop/db-1", "port": 5432}
    both = asked.PoliciesAsked(policies=TEXTS, **about)
    assert await client.policy_replay(both) == questions.replay(at, mine)
    assert await client.policy_exposure(both) == questions.exposure(at, mine)
    assert await client.policy_diff(asked.DiffAsked(old=[], new=TEXTS, **about)) == questions.diff(
        at, PolicySet(), mine
    )
    flow = asked.FlowAsked(policies=TEXTS, flow=one, **about)
    assert await client.policy_explain_flow(flow) == questions.explain_flow(at, mine, one)
    rules = RulesAsked(policy="shop/db")
    rule = asked.RuleAsked(policies=TEXTS, rules=rules, **about)
    assert await client.policy_explain_rule(rule) == questions.explain_rule(at, mine, rules)
    assert await client.policy_coverage(asked.CoverageAsked(**about)) == questions.coverage(at)
    for kind in ("recorded", "static"):
        graph = asked.GraphAsked(policies=TEXTS, kind=kind, **about)
        assert await client.policy_graph(graph) == questions.graph(at, mine, kind=kind)
    generation = await client.policy_generate(asked.GenerateAsked(**about))
    assert generation == questions.generate(at)
    assert generation.used == 3
    verdicts = [item async for item in client.policy_evaluate(both)]
    assert verdicts == list(questions.evaluate(at, mine))
    assert sorted(item.verdict for item in verdicts) == ["allowed", "allowed", "denied-ingress"]


async def test_answers_match_the_document(shop: Any) -> None:
    body = {"since": "1h", "policies": [{"file": "odd.yaml", "text": UNCLEAR}]}
    for path, more, kind in (
        ("replay", {}, "Replayed"),
        ("exposure", {}, "Exposure"),
        ("graph", {}, "Graph"),
        ("explain/rule", {}, "RuleUses"),
        ("explain/flow", {"flow": {"src": "shop/web-1", "dst": "shop/db-1", "port": 80}}, "Explained"),
    ):
        answer = await shop.ask("POST", f"{PATH}/{path}", json={**body, **more})
        jsonschema.validate(answer, schema(kind))
        msgspec.convert(answer, getattr(answers, kind))
    for path, kind in (("coverage", "Covered"), ("generate", "Generation")):
        jsonschema.validate(await shop.ask("POST", f"{PATH}/{path}", json={"since": "1h"}), schema(kind))
    differences = await shop.ask("POST", f"{PATH}/diff", json={"since": "1h", "old": [], "new": body["policies"]})
    jsonschema.validate(differences, schema("Differences"))
    assert differences["basis"]["problems"] == 1
    lines = (await shop.http.post(f"/api/v1{PATH}/evaluate", json=body)).text.splitlines()
    assert len(lines) == 3
    for line in lines:
        jsonschema.validate(msgspec.json.decode(line), schema("FlowVerdict"))


async def test_without_policies_those_that_are_enforced_are_meant(shop: Any, client: PolicyClient) -> None:
    with pytest.raises(UsageError, match="none are registered as enforced"):
        await client.policy_replay(asked.PoliciesAsked(since="1h"))
    shop.store.audit.put("not-yet", WEB_TO_DB, enforced=False)
    assert len((await client.policy_exposure(asked.PoliciesAsked(since="1h"))).exposed) == 3
    shop.store.audit.put("base", OPS_TO_DB, enforced=True)
    found = await client.policy_replay(asked.PoliciesAsked(since="1h"))
    assert [(group.src, group.verdict) for group in found.groups] == [("shop/Deployment/web", "denied-ingress")]
    changed = await client.policy_diff(asked.DiffAsked(new=TEXTS, since="1h"))
    assert changed.recorded.flows == {
        "newly-denied": 1, "newly-allowed": 1, "now-unknown": 0, "no-longer-unknown": 0,
    }  # fmt: skip


async def test_the_traffic_that_is_asked_about_can_be_chosen(client: PolicyClient) -> None:
    for about, flows in (
        ({"since": "1h"}, 3),
        ({"since": "200s"}, 1),
        ({"since": "1h", "until": "400s"}, 1),
        ({"since": "1h", "workload": "shop/Deployment/ops"}, 2),
        ({"since": "1h", "workload": "db"}, 2),
        ({"since": "1h", "node": "n2"}, 0),
    ):
        assert (await client.policy_coverage(asked.CoverageAsked(**about))).basis.flows == flows
    with pytest.raises(UsageError, match="no flow of a workload 'db-1'"):
        await client.policy_coverage(asked.CoverageAsked(since="1h", workload="db-1"))


async def test_lists_are_cut_and_say_so(client: PolicyClient) -> None:
    found = await client.policy_exposure(asked.PoliciesAsked(policies=TEXTS, since="1h", limit=1))
    assert (len(found.exposed), found.left_out) == (1, 2)


@pytest.mark.parametrize(
    ("path", "body", "what"),
    [
        ("replay", {"policies": [{"file": "x", "text": "a: ["}]}, "not YAML"),
        ("replay", {"policies": [{"file": "x", "text": "a: b"}]}, "kind: refused: must be a string"),
        ("replay", {"policies": [{"file": "x", "text": ""}]}, "hold no policy"),
        ("replay", {"policies": []}, "hold no policy"),
        ("replay", {"policies": "x"}, "makes no sense"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "since": "soon"}, "no time"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "since": "x" * 5_000}, "makes no sense"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "since": "1m", "until": "2m"}, "window is empty"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "since": "400d"}, "longer than"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "limit": 0}, "makes no sense"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "limit": 1 << 40}, "makes no sense"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "more": 1}, "makes no sense"),
        ("replay", {"policies": [{"file": "x", "text": WEB_TO_DB}], "options": {"icmp": "maybe"}}, "makes no sense"),
        ("diff", {"old": []}, "makes no sense"),
        ("explain/flow", {"policies": [{"file": "x", "text": WEB_TO_DB}], "flow": {}}, "no flow"),
        ("explain/flow", {"policies": [{"file": "x", "text": WEB_TO_DB}], "flow": {"src": 1, "dst": []}}, "no flow"),
        ("explain/rule", {"policies": [{"file": "x", "text": WEB_TO_DB}], "rules": {"policy": "y"}}, "no policy 'y'"),
        ("explain/rule", {"policies": [{"file": "x", "text": WEB_TO_DB}], "rules": {"path": "y"}}, "no rule at 'y'"),
        ("graph", {"kind": "moving"}, "makes no sense"),
        ("generate", {"node": "n1"}, "what node n1 saw makes no whole policy"),
        ("generate", {"workload": "y"}, "no policy can be made for 'y'"),
        ("evaluate", {"policies": [{"file": "x", "text": "a: b"}]}, "kind: refused: must be a string"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_words(shop: Any, path: str, body: Any, what: str) -> None:
    response = await shop.http.post(f"/api/v1{PATH}/{path}", json={"since": "1h", **body})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert what in response.json()["detail"] or any(what in one for one in response.json()["errors"])


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"null", b"[" * 10_000, b'{"policies": ' + b"[" * 10_000])
async def test_bodies_that_are_no_question_are_refused(shop: Any, raw: bytes) -> None:
    for path in ("replay", "evaluate", "generate"):
        response = await shop.http.post(f"/api/v1{PATH}/{path}", content=raw)
        assert (response.status_code, response.json()["title"]) == (422, "Unprocessable Entity")


@pytest.mark.parametrize(
    "settings",
    [{"max_policies": 1, "max_policy_flows": 2, "max_answer_bytes": 2_000, "max_policy_bytes": 4_000}],
    indirect=True,
)
async def test_policies_flows_answers_and_bodies_are_bounded(shop: Any) -> None:
    async def refused(status: int, **body: Any) -> str:
        return (await shop.ask("POST", f"{PATH}/replay", status, json={"since": "1h", **body}))["what"]

    one = [{"file": "x", "text": WEB_TO_DB}]
    assert "2 policies, more than 1" in await refused(422, policies=[{"file": "x", "text": BOTH}])
    assert "3 flows in this window, more than 2" in await refused(422, policies=one)
    assert "larger than 4000 bytes" in await refused(413, policies=[{"file": "x", "text": "#" * 4_000}])
    answer = await shop.ask("POST", f"{PATH}/generate", 422, json={"since": "200s"})
    assert "more than 2000" in answer["what"]


class Slow:
    """A store whose ``spans`` waits until it is let go; says how often it began."""

    def __init__(self, store: Any) -> None:
        self.begun, self.go, self.threads = 0, threading.Event(), set[str]()
        self._spans: Callable[..., Any] = store.spans
        store.instead["spans"] = self.spans

    def spans(self, *args: Any, **kwargs: Any) -> Any:
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(10)
        return self._spans(*args, **kwargs)

    async def until(self, begun: int) -> None:
        async with asyncio.timeout(10):
            while self.begun < begun:
                await asyncio.sleep(0.005)


BODY = {"since": "1h", "policies": [{"file": "x", "text": WEB_TO_DB}]}


@pytest.mark.parametrize("settings", [{"policy_threads": 1, "max_policy_requests": 2}], indirect=True)
async def test_questions_wait_for_a_thread_and_too_many_are_told_to_come_back(shop: Any) -> None:
    slow = Slow(shop.store)
    asking = [asyncio.create_task(shop.ask("POST", f"{PATH}/replay", json=BODY)) for _ in range(2)]
    await slow.until(1)
    assert "too many questions" in (await shop.ask("POST", f"{PATH}/replay", 503, json=BODY))["what"]
    assert "too many questions" in (await shop.ask("POST", f"{PATH}/evaluate", 503, json=BODY))["what"]
    begin = time.monotonic()
    assert (await shop.http.get("/healthz")).status_code == 200  # the loop turns
    await shop.get("/edges")
    assert time.monotonic() - begin < 5
    assert slow.begun == 1
    slow.go.set()
    assert [len(answer["groups"]) for answer in await asyncio.gather(*asking)] == [1, 1]
    assert slow.threads == {"policy_0"}


@pytest.mark.parametrize(
    "settings", [{"policy_timeout_s": 1.0, "policy_threads": 1, "max_policy_requests": 1}], indirect=True
)
async def test_an_answer_that_takes_too_long_is_given_up_and_its_place_is_taken_until_it_ends(shop: Any) -> None:
    slow = Slow(shop.store)
    asking = asyncio.create_task(shop.ask("POST", f"{PATH}/replay", 504, json=BODY))
    await slow.until(1)
    assert (await asking)["what"] == "the answer took too long"
    await shop.ask("POST", f"{PATH}/replay", 503, json=BODY)
    slow.go.set()
    async with asyncio.timeout(10):
        while shop.app.state.desk._under_way:
            await asyncio.sleep(0.005)


async def test_work_that_nobody_waits_for_ends_where_it_can(shop: Any) -> None:
    slow = Slow(shop.store)
    left = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append("asked")
            return {"type": "http.request", "body": msgspec.json.encode(BODY), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("status"))

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": f"/api/v1{PATH}/replay", "scheme": "http",
        "raw_path": b"", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {shop.key}".encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8600),
    }  # fmt: skip
    asking = asyncio.create_task(shop.app(scope, receive, send))
    await slow.until(1)
    left.set()
    async with asyncio.timeout(10):
        await asking
    assert 200 not in sent
    slow.go.set()
    async with asyncio.timeout(10):
        while shop.app.state.desk._under_way:
            await asyncio.sleep(0.005)


async def test_verdicts_are_sent_as_they_are_made_and_cut_off_where_they_fail(
    shop: Any, client: PolicyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        yield from list(questions_evaluate(seen(shop), policies(WEB_TO_DB)))[:2]
        raise ZeroDivisionError

    questions_evaluate = questions.evaluate
    monkeypatch.setattr("fathom.server.policy_work._TOGETHER", 1)
    monkeypatch.setattr("fathom.server.routes.policy.questions.evaluate", failing)
    found: list[FlowVerdict] = []

    async def read() -> None:
        async for item in client.policy_evaluate(asked.PoliciesAsked(policies=TEXTS, since="1h")):
            found.append(item)

    with pytest.raises((ServerUnavailable, ZeroDivisionError)):
        await read()
    assert len(found) <= 2
    assert shop.app.state.desk._under_way == 0


async def test_a_question_needs_a_key_and_takes_only_post(shop: Any) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://127.0.0.1:8600") as stranger:
        assert (await stranger.post(f"/api/v1{PATH}/replay", json=BODY)).status_code == 401
    assert (await shop.http.get(f"/api/v1{PATH}/replay")).status_code == 405


def test_progress_ends_the_work_of_who_has_left(shop: Any) -> None:
    work = PolicyWork(shop.store, shop.settings, shop.now_ns[0])
    work.progress(0.5)
    work.leave()
    with pytest.raises(Left):
        work.progress(0.5)
