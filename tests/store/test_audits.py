"""What every engine promises the audit of policies: sets, batches that wait, results that count once."""

from __future__ import annotations

import pytest

from fathom.errors import StoreError
from fathom.policy.findings import Count, Offender, Reason
from fathom.store.audits import (
    AuditResult,
    AuditSets,
    AuditTotals,
    ends_of,
)
from fathom.store.interface import EdgeQuery, Window

DAY = 1_700_006_400
HOUR = DAY + 10 * 3_600
NOON = DAY + 43_200
MANY = 1_000_000


def found(name: str, revision: int, *offenders: Offender, flows: int = 1) -> AuditResult:
    """A result with one of each."""
    return AuditResult(
        name,
        revision,
        AuditTotals(1, flows, 0, 0, 0, HOUR),
        (
            Count("", "denied-ingress", True, flows, 2 * flows),
            Count("NetworkPolicy a/b", "allowed", False, 3, 4),
        ),
        (Reason("", "an endpoint is not in the inventory at that time", 5, 6),),
        offenders,
    )


def offender(number: int = 0, *, policy: str = "", verdict: str = "denied-ingress", **more: object) -> Offender:
    fields = {"flows": 1, "connections": 2, "first_seen": HOUR, "last_seen": HOUR + 9, **more}
    return Offender(policy, f"a/Pod/x{number}", "a/Pod/y", "TCP", 80, verdict, **fields)


def items(store, most: int = MANY):
    return store.audit.work(most)


def test_sets_are_kept_by_name_and_each_change_is_a_revision(store, world):
    assert store.audit.sets() == AuditSets(0)
    first = store.audit.put("web", "kind: x", enforced=False)
    assert (first.name, first.documents, first.enforced, first.added, first.since) == (
        "web",
        "kind: x",
        False,
        NOON,
        NOON,
    )
    world.now += 5
    second = store.audit.put("db", "kind: y", enforced=False)
    assert store.audit.sets() == AuditSets(second.revision, (second, first))
    assert second.revision > first.revision
    assert store.audit.put("web", "kind: x", enforced=False) == first
    assert store.audit.sets().revision == second.revision
    assert store.audit.drop("db") is True
    assert store.audit.drop("db") is False
    assert store.audit.sets().sets == (first,)
    assert store.audit.sets().revision > second.revision
    assert store.audit.state("db") is None


def test_batches_wait_only_while_a_set_is_audited(store, world):
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    store.audit.put("base", "x", enforced=True)
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    assert items(store) == []
    mine = store.audit.put("web", "x", enforced=False)
    batch = world.batch(
        (world.edge(), HOUR, {"connections": 2, "failures": 1, "packets_sent": 9, "packets_received": 8})
    )
    store.write(batch)
    store.write(world.batch())  # nothing to judge
    (item,) = items(store)
    assert (item.id, item.day, item.revision, item.facts, item.missed) == (
        batch.id,
        DAY // 86_400,
        mine.revision,
        1,
        False,
    )
    assert item.rows.tolist() == [[world.edge().id, HOUR, 3, 9, 8]]


def test_a_batch_that_comes_again_waits_once_and_never_after_it_was_done(store, world):
    mine = store.audit.put("web", "x", enforced=False)
    batch = world.batch((world.edge(), HOUR, {"connections": 1}))
    for _ in range(3):
        store.write(batch)
    (item,) = items(store)
    store.audit.keep([item], [found("web", mine.revision)])
    store.write(batch)
    assert items(store) == []
    assert store.audit.state("web").totals == AuditTotals(1, 1, 0, 0, 0, HOUR)


def test_a_batch_over_midnight_waits_in_both_days(store, world):
    store.audit.put("web", "x", enforced=False)
    world.now = DAY + 86_400 + 60
    edges = world.edge(), world.edge("b.service")
    store.write(world.batch((edges[0], DAY + 86_390, {"connections": 1}), (edges[1], DAY + 86_400, {"failures": 1})))
    assert [(item.day, item.rows[:, 1:3].tolist()) for item in items(store)] == [
        (DAY // 86_400, [[DAY + 86_390, 1]]),
        (DAY // 86_400 + 1, [[DAY + 86_400, 1]]),
    ]


def test_intervals_end_where_the_next_begins_and_the_last_with_what_was_observed(store, world):
    store.audit.put("web", "x", enforced=False)
    rows = [(world.edge(), HOUR + at, {"connections": 1}) for at in (0, 10, 20)]
    store.write(world.batch(*rows, observed=((HOUR, HOUR + 29.5),)))
    store.write(world.batch(rows[0], wall_s=HOUR + 12.0))
    store.write(world.batch(rows[0]))  # its clock is two hours later: no interval is that long
    assert [(ends_of(item) - HOUR).tolist() for item in items(store)] == [[9, 19, 29], [11], [3_599]]


def test_work_is_given_oldest_first_and_within_a_bound(store, world):
    store.audit.put("web", "x", enforced=False)
    edges = [world.edge(f"w{n}") for n in range(4)]
    batches = [world.batch(*((edge, HOUR, {"connections": 1}) for edge in edges)) for _ in range(5)]
    for batch in batches:
        store.write(batch)
    assert [item.id for item in items(store)] == [batch.id for batch in batches]
    assert store.audit.backlog() == 20
    assert len(items(store, 1)) == 1
    assert len(items(store, 8)) == 2
    store.audit.keep(items(store, 8), [])
    assert [item.id for item in items(store)] == [batch.id for batch in batches[2:]]
    assert store.audit.backlog() == 12


def test_what_does_not_fit_is_kept_in_the_store_and_known_to_be_missed(open_engine, world):
    store = open_engine(most_waiting=5)
    store.audit.put("web", "x", enforced=False)
    edges = [world.edge(f"w{n}") for n in range(3)]
    for _ in range(3):
        store.write(world.batch(*((edge, HOUR, {"connections": 1}) for edge in edges)))
    assert [(item.facts, len(item.rows), item.missed) for item in items(store)] == [
        (3, 3, False),
        (3, 0, True),
        (3, 0, True),
    ]
    store.audit.keep(items(store), [])
    store.write(world.batch((edges[0], HOUR, {"connections": 1})))
    assert [item.missed for item in items(store)] == [False]
    store.close()


def test_results_add_up(store, world):
    mine = store.audit.put("web", "x", enforced=False)
    for n in range(2):
        store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
        seen = offender(first_seen=HOUR - n, last_seen=HOUR + n, policies=("NetworkPolicy a/b",), rules=("r",))
        store.audit.keep(items(store), [found("web", mine.revision, seen)])
    state = store.audit.state("web")
    assert state.set == mine
    assert state.totals == AuditTotals(2, 2, 0, 0, 0, HOUR)
    assert state.counts == (
        Count("", "denied-ingress", True, 2, 4),
        Count("NetworkPolicy a/b", "allowed", False, 6, 8),
    )
    assert state.reasons == (Reason("", "an endpoint is not in the inventory at that time", 10, 12),)
    assert store.audit.offenders("web") == [
        Offender(
            *("", "a/Pod/x0", "a/Pod/y", "TCP", 80, "denied-ingress", 2, 4, HOUR - 1, HOUR + 1),
            policies=("NetworkPolicy a/b",),
            rules=("r",),
        )
    ]


def test_evidence_is_bounded_by_kind_and_what_is_left_out_is_counted(open_engine):
    store = open_engine(most_offenders=2)
    mine = store.audit.put("web", "x", enforced=False)
    many = [offender(n, flows=n + 1) for n in range(4)]
    alone = [offender(n, policy="NetworkPolicy a/b") for n in range(3)]
    unknown = [offender(9, verdict="unknown", reasons=("why",))]
    store.audit.keep([], [found("web", mine.revision, *many, *alone, *unknown)])
    assert store.audit.state("web").totals.left_out == 3 + 4 + 1
    store.audit.keep([], [found("web", mine.revision, many[0], many[3])])
    assert [(o.policy, o.src, o.verdict, o.flows) for o in store.audit.offenders("web")] == [
        ("", "a/Pod/x0", "denied-ingress", 2),
        ("", "a/Pod/x1", "denied-ingress", 2),
        ("", "a/Pod/x9", "unknown", 1),
        ("NetworkPolicy a/b", "a/Pod/x0", "denied-ingress", 1),
        ("NetworkPolicy a/b", "a/Pod/x1", "denied-ingress", 1),
    ]
    assert store.audit.state("web").totals.left_out == 12
    store.close()


def test_results_of_a_set_that_was_replaced_or_dropped_meanwhile_are_not_added(store):
    old = store.audit.put("web", "x", enforced=False)
    new = store.audit.put("web", "y", enforced=False)
    store.audit.keep([], [found("web", old.revision), found("gone", old.revision)])
    assert store.audit.state("web").totals == AuditTotals()
    store.audit.keep([], [found("web", new.revision)])
    assert store.audit.state("web").totals.batches == 1


def test_a_replaced_set_begins_anew_and_the_others_go_on(store, world):
    sets = [store.audit.put(name, "x", enforced=False) for name in ("a", "b")]
    store.audit.keep([], [found(item.name, item.revision, offender()) for item in sets])
    world.now += 60
    again = store.audit.put("a", "y", enforced=False)
    assert (again.added, again.since) == (NOON + 60, NOON + 60)
    assert (store.audit.state("a").counts, store.audit.offenders("a")) == ((), [])
    assert store.audit.state("b").set == sets[1]
    assert store.audit.state("b").totals.batches == 1
    assert len(store.audit.offenders("b")) == 1


@pytest.mark.parametrize("change", ["put", "replace", "drop", "no longer"])
def test_a_change_of_what_is_enforced_lets_every_audited_set_begin_anew(store, world, change):
    if change != "put":
        store.audit.put("base", "x", enforced=True)
    mine = store.audit.put("web", "x", enforced=False)
    store.audit.keep([], [found("web", mine.revision, offender())])
    world.now += 60
    if change == "drop":
        store.audit.drop("base")
    else:
        store.audit.put("base", "y", enforced=change != "no longer")
    state = store.audit.state("web")
    assert (state.set.added, state.set.since, state.totals, state.counts) == (NOON, NOON + 60, AuditTotals(), ())
    assert state.set.revision == store.audit.sets().revision
    assert store.audit.offenders("web") == []


def test_a_batch_says_which_sets_were_there_when_it_came(store, world):
    first = store.audit.put("a", "x", enforced=False)
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    second = store.audit.put("b", "x", enforced=False)
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    assert [item.revision for item in items(store)] == [first.revision, second.revision]


def test_days_that_are_dropped_take_their_waiting_batches_along(store, world):
    store.audit.put("web", "x", enforced=False)
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    world.now += 3 * 86_400
    store.write(world.batch((world.edge(), int(world.now), {"connections": 1})))
    store.drop_before(DAY + 86_400)
    assert [item.day for item in items(store)] == [DAY // 86_400 + 3]


def test_all_is_there_after_a_restart(open_sqlite, world):
    store = open_sqlite()
    mine = store.audit.put("web", "x", enforced=False)
    for _ in range(2):
        store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    store.audit.keep(items(store, 1), [found("web", mine.revision, offender())])
    before = store.audit.sets(), store.audit.state("web"), store.audit.offenders("web")
    (left,) = items(store)
    store.close()
    store = open_sqlite()
    assert (store.audit.sets(), store.audit.state("web"), store.audit.offenders("web")) == before
    (again,) = items(store)
    assert (again.id, again.rows.tolist()) == (left.id, left.rows.tolist())
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    assert len(items(store)) == 2
    store.close()


def test_a_kill_between_the_results_and_the_end_of_waiting_counts_once(open_sqlite, world, folder):
    """The results are kept, and the batch still waits in its day's file: the next process must see both."""
    store = open_sqlite()
    mine = store.audit.put("web", "x", enforced=False)
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    store.close()
    (day_file,) = folder.glob("facts-*.db")
    before = day_file.read_bytes()
    store = open_sqlite()
    done = items(store)
    store.audit.keep(done, [found("web", mine.revision)])
    store.close()
    day_file.write_bytes(before)
    store = open_sqlite()
    assert items(store) == []
    store.audit.keep(done, [found("web", mine.revision)])  # the same again, as after an error
    assert store.audit.state("web").totals.batches == 1
    store.write(world.batch((world.edge(), HOUR, {"connections": 1})))
    assert len(items(store)) == 1
    store.audit.keep(items(store), [found("web", mine.revision)])
    assert store.audit.state("web").totals.batches == 2
    store.close()
    store = open_sqlite()
    assert items(store) == []
    store.close()


def test_readers_see_the_sets_and_cannot_change_them(open_sqlite):
    store = open_sqlite()
    mine = store.audit.put("web", "x", enforced=False)
    reader = open_sqlite(read_only=True)
    assert reader.audit.sets().sets == (mine,)
    with pytest.raises(StoreError, match="reading only"):
        reader.audit.put("a", "x", enforced=False)
    with pytest.raises(StoreError, match="reading only"):
        reader.audit.work(1)
    reader.close()
    store.close()


def test_sets_outlive_a_damaged_meta_file_and_begin_anew(open_sqlite, world, folder):
    store = open_sqlite()
    store.audit.put("base", "x", enforced=True)
    mine = store.audit.put("web", "x" * 10_000, enforced=False)
    edges = [world.edge(f"w{n}") for n in range(400)]
    store.write(world.batch(*((edge, HOUR, {"connections": 1}) for edge in edges)))
    store.audit.keep(items(store), [found("web", mine.revision, offender())])
    store.close()
    with (folder / "meta.db").open("r+b") as file:
        file.seek(file.read().index(b"w200") // 4_096 * 4_096)
        file.write(b"\xa5" * 4_096)
    world.now += 60
    store = open_sqlite()
    store.edges(EdgeQuery(Window(HOUR, HOUR + 60)))
    (note,) = store.health().notes[:1]
    assert "meta.db was damaged" in note
    assert note.endswith("2 audited policy sets begin anew")
    sets = store.audit.sets()
    assert [(s.name, s.documents, s.enforced) for s in sets.sets] == [("base", "x", True), ("web", "x" * 10_000, False)]
    assert sets.revision > mine.revision
    state = store.audit.state("web")
    assert (state.totals, state.set.since) == (AuditTotals(), NOON + 60)
    store.close()
