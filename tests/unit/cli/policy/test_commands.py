"""``fathom policy`` on the example of the documentation: answers, forms and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ALL, SEEN, Run

pytestmark = pytest.mark.usefixtures("example")
PROMETHEUS, API = "monitoring/Deployment/prometheus", "shop/Deployment/api"


def test_evaluate_prints_one_object_a_line(run: Run, example: Path) -> None:
    got = run("evaluate", *ALL)
    assert (got.status, got.err) == (0, "")
    found = [json.loads(line) for line in got.out.splitlines()]
    assert len(found) == len((example / "flows.jsonl").read_text().splitlines())
    assert [item["verdict"] for item in found] == ["allowed"] * 6 + ["denied-ingress"] * 2
    assert found[6]["ingress"]["policies"] == ["NetworkPolicy shop/api", "NetworkPolicy shop/default-deny"]
    assert found[0]["ingress"]["rules"][0]["place"]["path"] == "spec.ingress[0]"
    table = run("evaluate", *ALL, "-o", "wide").out.splitlines()
    assert len(table) == 9
    assert table[7].split()[:5] == [PROMETHEUS, API, "TCP", "9100", "denied-ingress"]


def test_evaluate_of_thousands_of_flows_is_streamed(run: Run) -> None:
    line = json.dumps({"src": API, "dst": "shop/Deployment/web", "port": 8080}) + "\n"
    got = run("evaluate", "--policies", "policies", "--manifests", "manifests", "--flows", "-", input=line * 1_001)
    assert got.out.count("\n") == 1_001


def test_replay_says_what_would_be_denied_and_what_is_missing(run: Run) -> None:
    got = run("replay", *ALL)
    assert (got.status, got.err) == (1, "")
    first = got.out.splitlines()[1]
    assert first.split()[:5] == ["denied-ingress", PROMETHEUS, API, "TCP/9100", "40,320"]
    assert "not let through then, nor allowed: 1 flow" in got.out
    assert "5432" not in first
    found = json.loads(run("replay", *ALL, "-o", "json").out)
    assert [group["absent"] for group in found["groups"]] == [["NetworkPolicy shop/deployment-api-ingress-tcp-9100"]]


def test_the_suggestion_makes_the_replay_pass(run: Run, example: Path) -> None:
    got = run("replay", *ALL, "--suggest")
    assert got.status == 1
    (document,) = yaml.safe_load_all(got.out)
    assert document["metadata"] == {"name": "deployment-api-ingress-tcp-9100", "namespace": "shop"}
    (example / "policies/more.yaml").write_text(got.out)
    assert run("replay", *ALL).status == 0
    assert run("replay", *ALL, "--suggest").out == ""
    one = run("replay", "--policies", "policies/shop.yaml", "--policies", "-", *SEEN, input=got.out)
    assert one.status == 0
    assert one.out.startswith("Everything is allowed.")


def test_suggest_says_where_no_rule_would_do(run: Run) -> None:
    line = '{"src": "shop/gone", "dst": "shop/Deployment/db2", "port": 5}\n'
    got = run("replay", "--policies", "policies", "--manifests", "manifests", "--flows", "-", "--suggest", input=line)
    assert (got.status, got.out) == (1, "")
    assert got.err == (
        "fathom: no rule is suggested for 1 group of flows:\n"
        "  shop/gone > shop/Deployment/db2 TCP/5: it is not known whether it would be denied\n"
    )


def test_diff_has_two_parts_and_the_status_of_diff(run: Run, example: Path) -> None:
    assert run("diff", "--old", "policies", "--new", "policies", *SEEN).status == 0
    text = (example / "policies/shop.yaml").read_text()
    (example / "new.yaml").write_text(text.replace("{app: web}}}]", "{app: nobody}}}]"))
    got = run("diff", "--old", "policies", "--new", "new.yaml", *SEEN, "-o", "wide")
    assert got.status == 1
    recorded, static = got.out.split("All that could be")
    assert "newly-denied   shop/Deployment/web   shop/Deployment/api   TCP/9090   20,480" in recorded
    assert "shop/Deployment/web > shop/Deployment/api TCP/9090" in static
    found = json.loads(run("diff", "--old", "policies", "--policies", "new.yaml", *SEEN, "-o", "json").out)
    assert found["recorded"]["flows"]["newly-denied"] == 1
    assert found["static"]["pairs"]["newly-denied"] == 1
    alone = run("diff", "--old", "policies", "--new", "new.yaml", "--manifests", "manifests")
    assert alone.status == 1
    assert alone.out.startswith("Recorded traffic\n\nNo difference.\n")


def test_diff_from_no_policy_at_all(run: Run, example: Path) -> None:
    (example / "none").mkdir()
    got = run("diff", "--old", "none", "--new", "policies", *SEEN, "-o", "json")
    assert got.status == 1
    assert json.loads(got.out)["recorded"]["flows"] == {
        "newly-denied": 2, "newly-allowed": 0, "now-unknown": 0, "no-longer-unknown": 0,
    }  # fmt: skip


def test_explain_a_flow(run: Run) -> None:
    got = run("explain", "flow", PROMETHEUS, API, "9100", *ALL)
    assert got.status == 0
    lines = got.out.splitlines()
    assert lines[0] == f"{PROMETHEUS} > {API} TCP/9100: denied-ingress"
    assert "  ingress: denied (tier developer): policies isolate the pod, and none of their rules matches" in lines
    assert any(line.startswith("recorded: 40,320 connections") for line in lines)
    web = run("explain", "flow", "shop/Deployment/web", API, "TCP/9090", *ALL, "-o", "json")
    found = json.loads(web.out)
    assert (found["verdict"]["verdict"], found["recorded"]["connections"]) == ("allowed", 20_480)
    named = run(
        "explain", "flow", API, "198.51.100.20", "443", "--name", "a.example", "--at", "2026-01-25T00:00:00Z", *ALL
    )
    assert named.out.startswith(f"{API} > 198.51.100.20 TCP/443: allowed")


@pytest.mark.parametrize(
    ("port", "shown"), [("80", "TCP/80"), ("UDP/53", "UDP/53"), ("ICMP", "ICMP"), ("47", "TCP/47"), ("47/", "47")]
)
def test_ports_of_an_explained_flow(run: Run, port: str, shown: str) -> None:
    assert run("explain", "flow", API, "shop/Deployment/web", port, *ALL).out.splitlines()[0].split()[3] == shown + ":"


@pytest.mark.parametrize("port", ["", "/", "TCP/", "TCP", "TCP/80/1", "99999", "-1", "http"])
def test_what_is_no_port_is_refused(run: Run, port: str) -> None:
    got = run("explain", "flow", *ALL, "--", API, "shop/Deployment/web", port)
    assert (got.status, got.out) == (2, "")


def test_explain_rules_finds_the_one_that_nothing_used(run: Run) -> None:
    got = run("explain", "rule", *ALL)
    assert got.status == 0
    assert "1 rule decided nothing" in got.out
    unused = json.loads(run("explain", "rule", *ALL, "--unused", "-o", "json").out)["rules"]
    assert [(use["policy"], use["place"]["path"]) for use in unused] == [("NetworkPolicy shop/api", "spec.ingress[1]")]
    (one,) = json.loads(run("explain", "rule", "shop/api", "spec.ingress[0]", *ALL, "-o", "json").out)["rules"]
    assert one["traffic"][0]["src"] == "shop/Deployment/web"
    assert run("explain", "rule", "shop/nobody", *ALL).status == 2


def test_coverage(run: Run) -> None:
    got = run("coverage", *SEEN)
    assert got.status == 0
    assert "0 workloads with too little history" in got.out
    thin = json.loads(run("coverage", *SEEN, "--need-time", "8d", "--need-connections", "2000", "-o", "json").out)
    assert thin["thin"] == 5
    assert thin["workloads"][0]["thin"] == [
        "1,451 connections, fewer than 2,000",
        "604716 s between first and last seen, less than 691200 s",
    ]


def test_exposure(run: Run) -> None:
    got = run("exposure", "--policies", "policies", "--manifests", "manifests", "-o", "json")
    assert got.status == 0
    found = {item["workload"]: item["open"] for item in json.loads(got.out)["exposed"]}
    assert found["kube-system/Deployment/coredns"] == ["ingress", "egress"]
    assert found["shop/StatefulSet/db"] == ["egress"]
    assert "5 of 5 workloads open" in run("exposure", "--policies", "policies", "--manifests", "manifests").out


def test_generated_policies_replayed_deny_nothing(run: Run, example: Path) -> None:
    got = run("generate", *SEEN, "--output-dir", "made", "--evidence", "evidence.jsonl")
    assert (got.status, got.out) == (0, "")
    assert "5 policies from 7 flows" in got.err
    assert "203.0.113.99 > shop/StatefulSet/db TCP/5432: it was dropped, refused or rejected" in got.err
    files = sorted(str(file.relative_to(example)) for file in (example / "made").rglob("*.yaml"))
    assert files == [
        "made/kube-system/deployment-coredns.yaml",
        "made/monitoring/deployment-prometheus.yaml",
        "made/shop/deployment-api.yaml",
        "made/shop/deployment-web.yaml",
        "made/shop/statefulset-db.yaml",
    ]
    assert run("replay", "--policies", "made", *SEEN).status == 0
    evidence = [json.loads(line) for line in (example / "evidence.jsonl").read_text().splitlines()]
    behind = {(item["policy"], item["peer"]): item["flows"] for item in evidence if "policy" in item}
    assert behind["shop/statefulset-db", API][0]["count"] == 20_211
    assert [item["left_out"]["src"] for item in evidence if "left_out" in item] == ["203.0.113.99"]


def test_options_of_generate(run: Run) -> None:
    def made(*options: str) -> list[dict[str, Any]]:
        got = run("generate", *SEEN, *options)
        assert got.status == 0, got.err
        return list(yaml.safe_load_all(got.out))

    assert {item["kind"] for item in made("--form", "cilium")} == {"CiliumNetworkPolicy"}
    assert {tuple(item["spec"]["policyTypes"]) for item in made("--direction", "egress")} == {("Egress",)}
    (one,) = made("--only", API)
    assert one["metadata"]["name"] == "deployment-api"
    api = next(item for item in made("--widen") if item["metadata"]["name"] == "statefulset-db")
    assert api["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]
    few = next(item for item in made("--minimum", "1000", "--only", API))
    assert "198.51.100.20" not in json.dumps(few)
    short = made("--exclude", "2026-01-24T00:10:00Z/2026-01-30T23:41:00Z", "--only", API)
    assert "198.51.100.20" not in json.dumps(short)
    listed = json.loads(run("generate", *SEEN, "-o", "json").out)
    assert (listed["kind"], len(listed["items"])) == ("List", 5)
    assert json.loads(run("generate", *SEEN, "-o", "json", "--only", API).out)["kind"] == "NetworkPolicy"
    for wrong in (
        "2026-01-24/2026",
        "x",
        "2026-01-25T00:00:00Z/2026-01-24T00:00:00Z",
        "2026-01-24T00:00:00/2026-01-25T00:00:00",
    ):
        assert run("generate", *SEEN, "--exclude", wrong).status == 2
    assert run("generate", *SEEN, "--only", "shop/Deployment/nobody").status == 2


def test_ports_are_merged_and_servers_named(run: Run) -> None:
    lines = "".join(
        json.dumps({"src": API, "dst": "shop/Deployment/web", "port": port}) + "\n"
        for port in (7000, 7001, 7002, 40_000)
    )
    asked = ("generate", "--manifests", "manifests", "--flows", "-", "--only", "shop/Deployment/web", "-o", "json")
    got = run(*asked, "--merge-ports", "3", input=lines)
    ports = json.loads(got.out)["spec"]["ingress"][0]["ports"]
    assert ports == [{"protocol": "TCP", "port": 7000, "endPort": 7002}]
    assert "ephemeral range" in got.err
    more = json.loads(run(*asked, "--server-port", "40000", input=lines).out)["spec"]["ingress"][0]["ports"]
    assert [item["port"] for item in more] == [7000, 7001, 7002, 40_000]


def test_nothing_that_could_be_generated_is_a_failure(run: Run) -> None:
    line = '{"src": "shop/gone", "dst": "203.0.113.1", "port": 5}\n'
    got = run("generate", "--manifests", "manifests", "--flows", "-", input=line)
    assert (got.status, got.out) == (1, "")
    assert "no policy could be made" in got.err


def test_graph(run: Run) -> None:
    assert run("graph", *ALL).out.startswith("digraph fathom {")
    assert run("graph", *ALL, "-o", "svg").out.startswith("<svg ")
    found = json.loads(run("graph", *SEEN, "-o", "json").out)
    assert {link["verdict"] for link in found["links"]} == {"allowed"}
    static = json.loads(
        run("graph", "--policies", "policies", "--manifests", "manifests", "--static", "-o", "json").out
    )
    assert (static["kind"], static["links"][0]["connections"]) == ("static", 0)


def test_only_the_flows_of_one_workload(run: Run) -> None:
    for name in ("db", "StatefulSet/db", "shop/StatefulSet/db", "shop/*/d*"):
        assert run("evaluate", *ALL, "--workload", name).out.count("\n") == 2
    got = run("evaluate", *ALL, "--workload", "d")
    assert (got.status, got.out) == (2, "")
    assert "no flow of a workload 'd'" in got.err


def test_policies_for_one_workload_are_those_of_a_run_for_all(run: Run) -> None:
    """Its peers' flows with others are not all that they need: they get no policy."""
    every = {d["metadata"]["name"]: d["spec"] for d in yaml.safe_load_all(run("generate", *SEEN).out)}
    for option in ("--workload", "--only"):
        for name in ("db", "StatefulSet/db", "shop/StatefulSet/db", "shop/*/d*"):
            got = run("generate", *SEEN, option, name)
            assert {d["metadata"]["name"]: d["spec"] for d in yaml.safe_load_all(got.out)} == {
                "statefulset-db": every["statefulset-db"]
            }, got.err
    got = run("generate", *SEEN, "--workload", "nobody")
    assert (got.status, got.out) == (2, "")
    assert "no policy can be made for 'nobody'" in got.err


def test_what_the_api_leaves_open_is_an_option(run: Run) -> None:
    line = '{"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "protocol": "ICMP"}\n'
    asked = ("evaluate", "--policies", "policies", "--manifests", "manifests", "--flows", "-")
    assert json.loads(run(*asked, input=line).out)["verdict"] == "denied-ingress"
    assert json.loads(run(*asked, "--icmp", "allowed", input=line).out)["verdict"] == "allowed"
    assert json.loads(run(*asked, "--icmp", "unknown", input=line).out)["verdict"] == "unknown"


def test_generate_tells_what_an_earlier_run_left_in_its_directory(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert "did not write" not in run("generate", *SEEN, "--output-dir", str(folder)).err
    for number in range(7):
        (folder / "shop" / f"older-{number}.yaml").write_text("{}")
    got = run("generate", *SEEN, "--output-dir", str(folder))
    assert "fathom: 7 files there that this run did not write, which commands read with them:" in got.err
    assert got.err.count("older-") == 5
    assert "and 2 more" in got.err
    assert (folder / "shop" / "older-6.yaml").read_text() == "{}"
