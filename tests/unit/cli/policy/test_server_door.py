"""``fathom policy`` without files: the question and the policies, as texts, go to a server; it is shown alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fathom.cli.policy import door
from fathom.store.interface import EdgeQuery, Store
from fathom.store.making import Making
from fathom.store.material import material

from .conftest import Run
from .shop_store import BEGIN, WINDOW, serving, shop_store

pytestmark = pytest.mark.usefixtures("example")
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


@pytest.fixture
def store(example: Path) -> Iterator[Store]:
    found = shop_store(example, example / "store")
    yield found
    found.close()


@pytest.fixture
def url(store: Store, example: Path) -> Iterator[str]:
    (example / "none").mkdir()
    (example / "none/nothing.yaml").write_text("kind: ConfigMap\n")
    with serving(store) as found:
        yield found


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_is_shown_as_files_are(
    run: Run, store: Store, url: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = run(*command, "--server", url, "--since", "1h")
    monkeypatch.setattr(door, "read_material", lambda _: material(store, WINDOW))
    mine = run(*command, "--recording", "x")
    assert (theirs.status, theirs.out) == (mine.status, mine.out)
    assert theirs.out


def test_what_is_asked_about_travels(run: Run, url: str) -> None:
    asked = ("evaluate", "--policies", "policies", "--server", url)
    flows = [json.loads(line)["flow"] for line in run(*asked).out.splitlines()]
    assert sorted(item["count"] for item in flows) == [10, 10, 10]
    short = run(*asked, "--since", "20m", "--workload", "web", "--node", "node-1").out.splitlines()
    assert [json.loads(line)["flow"]["count"] for line in short] == [5]
    assert run(*asked, "--node", "node-2").out == ""
    icmp = ("explain", "flow", "shop/Deployment/web", "shop/Deployment/api", "ICMP", "--policies", "policies")
    assert run(*icmp, "--server", url, "--icmp", "unknown").out.splitlines()[0].endswith(": unknown")
    open_ = run("exposure", "--server", url, "--limit", "4", "--policies", "none").out
    assert "and 1 more workload (--limit)" in open_


def test_policies_for_a_part_are_for_workloads_never_for_a_node(run: Run, store: Store, url: str) -> None:
    """Of the recording, of the server, and by REST alike."""
    store.record(EdgeQuery(WINDOW), Path("hour.fathom"), Making("interval"))
    for source in (("--server", url), ("--recording", "hour.fathom")):
        found = list(yaml.safe_load_all(run("generate", *source, "--workload", "api").out))
        assert [item["metadata"]["name"] for item in found] == ["deployment-api"]
        assert {way: len(found[0]["spec"][way]) for way in ("ingress", "egress")} == {"ingress": 2, "egress": 1}
        got = run("generate", *source, "--node", "node-1")
        assert (got.status, got.out) == (2, "")
        assert "what node node-1 saw makes no whole policy" in got.err


def test_without_policies_those_are_meant_that_are_registered_as_enforced(run: Run, store: Store, url: str) -> None:
    got = run("replay", "--server", url)
    assert (got.status, got.out) == (2, "")
    assert "none are registered as enforced" in got.err
    store.audit.put("shop", Path("policies/shop.yaml").read_text(), enforced=True)
    assert run("replay", "--server", url).out == run("replay", "--server", url, "--policies", "policies").out


def test_documents_that_are_refused_are_not_sent(run: Run, url: str, example: Path) -> None:
    (example / "policies/bad.yaml").write_text("kind: NetworkPolicy\n")
    got = run("replay", "--policies", "policies", "--server", url)
    assert (got.status, got.out) == (2, "")
    assert "policies/bad.yaml, document 0" in got.err


def test_evidence_of_a_server_has_the_ids_of_edges_in_the_place_of_flows(run: Run, url: str, example: Path) -> None:
    assert run("generate", "--server", url, "--evidence", "evidence.jsonl").status == 0
    first = json.loads((example / "evidence.jsonl").read_text().splitlines()[0])
    assert "flows" not in first
    assert first["edges"]
    assert first["first"] == BEGIN + 60


def test_a_diff_wants_its_new_policies_even_from_a_server(run: Run, url: str) -> None:
    assert run("diff", "--server", url).status == 2


def test_a_server_that_does_not_know_the_question(run: Run, url: str) -> None:
    got = run("replay", "--policies", "policies", "--server", url + "/elsewhere")
    assert (got.status, got.out) == (2, "")
