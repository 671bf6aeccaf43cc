"""The judge over real stores: every batch once, against the sets that were there when it came."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audited_shop import (
    BOTH,
    DB,
    NOW,
    OPS,
    OPS_TO_DB,
    OUTSIDE,
    UNCLEAR,
    WEB,
    WEB_TO_DB,
    Node,
    edge,
    inventories,
    records,
)

from fathom.errors import StoreBusy
from fathom.events.edges import EdgeColumns
from fathom.policy.findings import Count
from fathom.policy.inventory import Inventory, Pod
from fathom.policy.options import REASONS
from fathom.server import judging
from fathom.server.inventories import FixedInventories
from fathom.server.judging import Judge, Turn
from fathom.store.audits import AuditTotals
from fathom.store.interface import Store
from fathom.store.memory import MemoryStore
from fathom.store.opening import open_store

ONE = {"connections": 1}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    clock: Callable[[], float] = lambda: float(NOW)  # noqa: E731
    opened = (
        MemoryStore(clock=clock) if request.param == "memory" else open_store(f"sqlite://{tmp_path}/s", clock=clock)
    )
    yield opened
    opened.close()


@pytest.fixture
def node() -> Node:
    return Node()


def judge_all(judge: Judge) -> list[Turn]:
    turns = []
    while (turn := judge.turn()) is not None:
        turns.append(turn)
    return turns


def counts(store: Store, name: str = "web") -> dict[tuple[str, str, bool], tuple[int, int]]:
    state = store.audit.state(name)
    assert state is not None
    return {(c.policy, c.verdict, c.new): (c.flows, c.connections) for c in state.counts}


def test_nothing_waits_and_nothing_is_done(store: Store) -> None:
    judge = Judge(store, inventories())
    first = judge.turn()
    assert (first.policies, first.totals.batches) == ({}, 0)
    assert judge.turn() is None


def test_every_batch_is_counted_once_by_policy_and_verdict(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", BOTH, enforced=False)
    first = node.batch((edge(WEB, DB), 30, {"connections": 3}), (edge(OPS, DB), 20, ONE), (edge(WEB, OPS), 20, ONE))
    for batch in (first, first, node.batch((edge(WEB, DB), 10, {"connections": 2}), (edge(OPS, DB, 22), 10, ONE))):
        store.write(batch)
    judge_all(judge)
    store.write(first)
    assert judge.turn() is None
    assert counts(store) == {
        ("", "allowed", False): (5, 8),
        ("NetworkPolicy shop/db", "allowed", False): (2, 5),
        ("NetworkPolicy shop/db", "denied-ingress", True): (2, 2),
        ("NetworkPolicy shop/ops", "allowed", False): (2, 2),
        ("NetworkPolicy shop/ops", "denied-ingress", True): (2, 5),
    }
    assert store.audit.state("web").totals == AuditTotals(2, 5, 0, 0, 0, NOW)
    assert store.audit.backlog() == 0


def test_denials_are_kept_and_told_with_what_decided(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    for ago in (30, 10):
        store.write(node.batch((edge(OPS, DB), ago, {"connections": 4})))
        (turn,) = [turn for turn in judge_all(judge) if turn.totals.batches]
        (told, alone) = turn.told["web"]
        assert (told.policies, told.flows, told.connections, told.verdict) == (
            ("NetworkPolicy shop/db",), 1, 4, "denied-ingress",
        )  # fmt: skip
        assert alone.policy == "NetworkPolicy shop/db"
    (kept, _) = store.audit.offenders("web")
    assert (kept.src, kept.dst, kept.protocol, kept.port) == ("shop/Deployment/ops", "shop/Deployment/db", "TCP", 5432)
    assert (kept.flows, kept.connections, kept.first_seen, kept.last_seen) == (2, 8, NOW - 30, NOW - 1)


def test_a_new_process_goes_on_where_the_old_one_stopped(store: Store, node: Node) -> None:
    store.audit.put("web", WEB_TO_DB, enforced=False)
    for judged in (True, False):
        store.write(node.batch((edge(OPS, DB), 30, ONE)))
        if judged:
            judge_all(Judge(store, inventories()))
    (turn,) = [turn for turn in judge_all(Judge(store, inventories())) if turn.totals.batches]
    assert counts(store)["", "denied-ingress", True] == (2, 2)
    assert turn.told["web"][0].policies == ("NetworkPolicy shop/db",)
    assert turn.told["web"][0].flows == 1


def test_sets_judge_only_what_came_after_them(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("early", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB), 30, ONE), (edge(WEB, DB), 30, ONE)))
    store.audit.put("late", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB), 20, ONE)))
    store.audit.put("latest", WEB_TO_DB, enforced=False)
    judge_all(judge)
    assert counts(store, "early")["", "denied-ingress", True] == (2, 2)
    assert counts(store, "late") == {
        ("", "denied-ingress", True): (1, 1),
        ("NetworkPolicy shop/db", "denied-ingress", True): (1, 1),
    }
    assert counts(store, "latest") == {}
    assert store.audit.state("late").totals.facts == 1


def test_what_is_enforced_is_judged_along_and_not_held_against_the_set(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("base", OPS_TO_DB, enforced=True)
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(WEB, DB), 30, ONE), (edge(OPS, DB), 30, ONE)))
    judge_all(judge)
    assert {key: value for key, value in counts(store).items() if not key[0]} == {("", "allowed", False): (2, 2)}
    store.audit.drop("base")
    store.write(node.batch((edge(WEB, DB), 20, ONE), (edge(OPS, DB), 20, ONE)))
    judge_all(judge)
    assert counts(store)["", "denied-ingress", True] == (1, 1)


def test_both_ends_of_a_connection_are_two_flows(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB), 30, ONE), (edge(OPS, DB, direction="ingress"), 30, ONE)))
    judge_all(judge)
    assert counts(store)["", "denied-ingress", True] == (2, 2)
    assert [o.flows for o in store.audit.offenders("web") if not o.policy] == [2]


def test_udp_is_counted_in_packets_of_the_side_that_opened(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    packets = {"packets_sent": 7, "packets_received": 5}
    store.write(
        node.batch(
            (edge(OPS, DB, 53, protocol="UDP"), 30, packets),
            (edge(OPS, DB, 54, protocol="UDP", direction="ingress"), 30, packets),
        )
    )
    judge_all(judge)
    assert [(o.port, o.connections) for o in store.audit.offenders("web") if not o.policy] == [(53, 7), (54, 5)]


def test_failed_traffic_is_counted_and_not_held_against_the_set(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB, verdict="failed", reason="refused"), 30, {"failures": 3})))
    judge_all(judge)
    assert counts(store)["", "denied-ingress", False] == (1, 3)
    assert store.audit.offenders("web") == []


def test_who_is_not_known_is_unknown_with_its_reason(store: Store, node: Node) -> None:
    judge = Judge(store, inventories(absent=("ops",)))
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB), 30, ONE), (edge(WEB, DB), 30, ONE)))
    judge_all(judge)
    assert counts(store)["", "unknown", True] == (1, 1)
    state = store.audit.state("web")
    assert [(r.policy, r.reason, r.flows) for r in state.reasons] == [
        ("", REASONS[1], 1),
        ("NetworkPolicy shop/db", REASONS[1], 1),
    ]
    assert [(o.kind, o.reasons) for o in store.audit.offenders("web")] == [("unknown", (REASONS[1],))]


def test_what_is_not_understood_is_unknown(store: Store, node: Node) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", UNCLEAR, enforced=False)
    store.write(node.batch((edge(OPS, DB), 30, ONE)))
    judge_all(judge)
    assert counts(store)["", "unknown", True] == (1, 1)


def test_an_interval_is_judged_by_who_was_there_in_it(store: Store, node: Node) -> None:
    """The address of ops was that of web until 15 seconds ago."""
    given = records(absent=("ops",))
    change = NOW - 15
    given.pods += [
        Pod("shop", "web-2", {"app": "web"}, (OPS,), "n1", workload=("Deployment", "web"), until=change),
        Pod("shop", "ops-1", {"app": "ops"}, (OPS,), "n1", workload=("Deployment", "ops"), since=change),
    ]
    judge = Judge(store, FixedInventories(given))
    store.audit.put("web", WEB_TO_DB, enforced=False)
    seen = edge(OPS, DB, direction="ingress")
    store.write(node.batch((seen, 40, ONE), (seen, 30, ONE), (seen, 20, ONE), (seen, 10, ONE)))
    judge_all(judge)
    assert {key[1:]: value for key, value in counts(store).items() if not key[0]} == {
        ("allowed", False): (2, 2),
        ("unknown", True): (1, 1),
        ("denied-ingress", True): (1, 1),
    }


class Broken(FixedInventories):
    """Fails as long as it is told to."""

    error: Exception | None = None

    def at(self, cluster: str, since_s: int) -> Inventory:
        if self.error:
            raise self.error
        return super().at(cluster, since_s)


def test_what_cannot_be_judged_now_waits(store: Store, node: Node) -> None:
    given = Broken(records())
    judge = Judge(store, given)
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB), 30, ONE)))
    given.error = StoreBusy("full")
    with pytest.raises(StoreBusy):
        judge.turn()
    assert counts(store) == {}
    given.error = None
    assert judge.turn().totals.batches == 1
    assert counts(store)["", "denied-ingress", True] == (1, 1)


def test_a_set_that_cannot_be_read_any_more_is_missed_and_the_others_go_on(
    store: Store, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer Fathom may refuse what an earlier one took: here, a port range that ends before it begins."""
    judge = Judge(store, inventories())
    broken = WEB_TO_DB.replace("]}]\n", "], ports: [{port: 9, endPort: 1}]}]\n")
    store.audit.put("bad", f"{OPS_TO_DB}---\n{broken}", enforced=False)
    store.audit.put("web", WEB_TO_DB, enforced=False)
    with caplog.at_level(logging.ERROR):
        store.write(node.batch((edge(OPS, DB), 30, ONE)))
        turns = judge_all(judge)
    assert [turn.failed for turn in turns] == [{"bad"}]
    assert "bad could not be judged" in caplog.text
    assert store.audit.state("bad").totals == AuditTotals(0, 0, 1, 1, 0, 0)
    assert store.audit.state("bad").counts == ()
    assert counts(store)["", "denied-ingress", True] == (1, 1)


def test_what_fell_off_the_bound_is_missed(node: Node) -> None:
    store = MemoryStore(clock=lambda: float(NOW), most_waiting=2)
    store.audit.put("web", WEB_TO_DB, enforced=False)
    for _ in range(3):
        store.write(node.batch((edge(OPS, DB), 30, ONE), (edge(WEB, DB), 30, ONE)))
    judge_all(Judge(store, inventories()))
    assert store.audit.state("web").totals == AuditTotals(1, 2, 2, 4, 0, NOW - 20)
    assert counts(store)["", "denied-ingress", True] == (1, 1)


def test_a_set_is_compiled_once_for_an_inventory(store: Store, node: Node) -> None:
    given = inventories()
    judge = Judge(store, given)
    store.audit.put("web", WEB_TO_DB, enforced=False)
    compiled = []
    for n in range(4):
        store.write(node.batch((edge(OPS, DB, 1_000 + n), 30, ONE), (edge(WEB, OUTSIDE, n + 1), 30, ONE)))
        if n == 2:
            given.renew()
        compiled += [turn.compiled for turn in judge_all(judge)]
    assert compiled == [2, 0, 2, 0]  # what is enforced, and the set


def test_an_index_that_has_grown_is_made_anew(store: Store, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MOST_ADDRESSES", 3)
    given = inventories()
    judge = Judge(store, given)
    store.audit.put("web", WEB_TO_DB, enforced=False)
    seen = []
    for n in range(3):
        facts = [(edge(WEB, f"198.51.{n}.{i}"), 30, ONE) for i in range(3)]
        store.write(node.batch(*facts))
        judge_all(judge)
        seen.append(id(given.at("", 0)))
    assert seen[0] != seen[2]
    assert counts(store)["", "allowed", False] == (9, 9)


def test_clusters_are_judged_apart(store: Store, node: Node) -> None:
    made = {"a": Inventory(records()), "b": Inventory(records(absent=("ops",)))}

    class PerCluster:
        def at(self, cluster: str, since_s: int) -> Inventory:
            assert since_s == NOW - 30
            return made[cluster]

        def renew(self) -> None: ...

    judge = Judge(store, PerCluster())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch(*((edge(OPS, DB, cluster=name), 30, ONE) for name in ("a", "b"))))
    judge_all(judge)
    union = {key[1]: value for key, value in counts(store).items() if not key[0]}
    assert union == {"denied-ingress": (1, 1), "unknown": (1, 1)}


def test_evidence_beyond_the_bound_is_counted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MOST_OFFENDERS", 2)
    store = MemoryStore(clock=lambda: float(NOW), most_offenders=2)
    judge = Judge(store, inventories())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch(*((edge(OPS, DB, port), 30, ONE) for port in (1, 2, 3, 4))))
    (turn,) = judge_all(judge)
    assert len([o for o in store.audit.offenders("web") if not o.policy]) == 2
    assert store.audit.state("web").totals.left_out == 4  # two of the set, two of its policy alone
    assert turn.left_out == {"web": 4}
    assert counts(store)["", "denied-ingress", True] == (4, 4)


def test_a_lost_edge_is_unknown(store: Store, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(store, inventories())
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(OPS, DB), 30, {"connections": 6})))
    with monkeypatch.context() as patched:
        patched.setattr(store, "identities", lambda _: EdgeColumns())
        judge.turn()
    assert counts(store) == {("", "unknown", True): (1, 6)}
    assert store.audit.state("web").reasons[0].reason == judging.WHO_IS_LOST


def test_findings_say_what_counts_are(store: Store, node: Node) -> None:
    store.audit.put("web", WEB_TO_DB, enforced=False)
    store.write(node.batch((edge(WEB, DB), 30, ONE)))
    (turn,) = judge_all(Judge(store, inventories()))
    assert turn.found["web"].counts[0] == Count("", "allowed", False, 1, 1)
    assert turn.policies == {"web": ("NetworkPolicy shop/db",)}
    assert turn.waiting == 0
