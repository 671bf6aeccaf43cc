"""Each form of an answer: SARIF by its schema, Markdown within a comment's bounds, DOT and SVG well-formed."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as SarifLog

from fathom.cli.policy import dot, markdown, sarif, svg, tables, words
from fathom.policy.answers import (
    Basis,
    Covered,
    Differences,
    Exposure,
    Graph,
    GraphLink,
    GraphNode,
    RecordedDifference,
    Replayed,
)
from fathom.policy.connectivity import StaticChange, StaticDifference
from fathom.policy.coverage import WorkloadCoverage
from fathom.policy.decide import Hit
from fathom.policy.exposure import Exposed
from fathom.policy.lines import Lines
from fathom.policy.model import PolicySet
from fathom.policy.policysets import read_texts
from fathom.policy.problems import Place, Problem
from fathom.policy.replay import Group

TEXT = """\
# the shop
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from: [{podSelector: {}}]
"""
NASTY = "a|b`c<script>@everyone\x1b[31m\n*x*_y_"
BASIS = Basis(1_700_000_000, 1_700_086_400, 12, 3, 0.99, 7, (), 0)
UNSURE = Basis(0, 0, 0, 0, None, 0, (Problem(Place("p.yaml", 0, "spec.ingress[0]"), "odd", "not-understood"),), 1)


def group(verdict: str, **more: Any) -> Group:
    given = {"src": "shop/a", "dst": "shop/b", "protocol": "TCP", "port": 80, "flows": 1, "connections": 2_000}
    return Group(**{**given, "verdict": verdict, "first": 1_700_000_000, "last": 1_700_000_060, **more})


def replayed(*groups: Group, left_out: int = 0, basis: Basis = BASIS, **more: Any) -> Replayed:
    flows = {"allowed": 3, "denied-ingress": sum(item.flows for item in groups)}
    given = {"stopped": (), "stopped_left_out": 0, "suggestions": (), **more}
    return Replayed(groups, left_out, flows=flows, connections=flows, basis=basis, **given)


def change(kind: str = "newly-allowed", **more: Any) -> StaticChange:
    given = {"src": "shop/a", "protocol": "TCP", "ports": ((80, 80), (8000, 8010)), "targets": ("shop/b",)}
    example = ("shop/a-1", "shop/b-1", "TCP", 80)
    return StaticChange(change=kind, **{**given, "sources": 1, "destinations": 2, "example": example, **more})


def differences(groups: tuple[Group, ...] = (), changes: tuple[StaticChange, ...] = ()) -> Differences:
    static = StaticDifference(changes, {"newly-denied": 0, "newly-allowed": len(changes)}, 5, 0)
    return Differences(RecordedDifference(groups, 0, {"newly-denied": len(groups)}), static, BASIS)


def exposed(workload: str = "shop/a") -> Exposed:
    return Exposed(workload, ("ingress", "egress"), 1, 2, 3, ("shop/b", "shop/c", "shop/d"), True, False)


THIN = WorkloadCoverage("shop/a", 2, 1, 3, 0, 0, ("3 flows, fewer than 10",))
FULL = WorkloadCoverage("shop/b", 2, 2, 30, 1_700_000_000, 1_700_086_400)
COVERED = Covered(4, 3, (THIN, FULL), 5, 6, BASIS)


def sources(text: str = TEXT, file: str = "policies/p q.yaml") -> sarif.Sources:
    return sarif.Sources(read_texts([(file, text)]), Lines({file: text}))


def log(text: str) -> Any:
    """The log, valid by the published schema."""
    found = json.loads(text)
    SarifLog.model_validate(found)
    (run,) = found["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    return run


# -- SARIF


def test_a_denial_points_at_the_policy_that_isolates() -> None:
    told = group("denied-ingress", policies=("NetworkPolicy shop/web",), absent=("NetworkPolicy shop/x",))
    (result,) = log(sarif.replayed(replayed(told), sources()))["results"]
    assert result["level"] == "error"
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "policies/p%20q.yaml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 2},
    }
    assert [item["fullyQualifiedName"] for item in location["logicalLocations"]] == ["shop/a", "shop/b"]
    assert "no rule of NetworkPolicy shop/web matches" in result["message"]["text"]
    assert "Absent: NetworkPolicy shop/x." in result["message"]["text"]


def test_a_rule_that_decided_is_at_its_line_and_others_are_related() -> None:
    file = "policies/p q.yaml"
    hits = tuple(
        Hit("NetworkPolicy shop/web", Place(file, 0, path), "deny", True) for path in ("spec.ingress[0]", "spec")
    )
    (result,) = log(sarif.replayed(replayed(group("denied-both", rules=hits)), sources()))["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 8}
    assert result["relatedLocations"][0]["physicalLocation"]["region"] == {"startLine": 5}


def test_what_no_policy_decided_points_at_one_of_the_namespace_or_at_the_first() -> None:
    text = TEXT.replace("shop", "other") + "---\n" + TEXT
    for src, dst, line in (("shop/a", "shop/b", TEXT.count("\n") + 3), ("x/a", "x/b", 2)):
        told = group("unknown", src=src, dst=dst, reasons=("it is not known who opened the connection",))
        (result,) = log(sarif.replayed(replayed(told), sources(text)))["results"]
        assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": line}


def test_policies_that_choose_no_pod_are_told() -> None:
    basis = msgspec.structs.replace(BASIS, idle=("NetworkPolicy shop/web",), idle_policies=7)
    assert "7 policies choose no pod of the inventory" in " ".join(words.footer(basis))
    run = log(sarif.replayed(msgspec.structs.replace(replayed(), basis=basis), sources()))
    (note,) = [
        n for n in run["invocations"][0]["toolExecutionNotifications"] if "chooses no pod" in n["message"]["text"]
    ]
    assert note["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}


@pytest.mark.parametrize(
    ("file", "uri"),
    [("./a/../p.yaml", "p.yaml"), ("/abs/p.yaml", "file:///abs/p.yaml"), ("../p.yaml", "../p.yaml"), ("-", None)],
)
def test_where_a_file_is(file: str, uri: str | None) -> None:
    told = group("unknown", policies=("NetworkPolicy shop/web",), reasons=("odd",))
    (result,) = log(sarif.replayed(replayed(told), sources(file=file)))["results"]
    physical = result["locations"][0].get("physicalLocation")
    assert (physical and physical["artifactLocation"]["uri"]) == uri


def test_fingerprints_tell_results_apart_and_outlive_lines() -> None:
    def prints(*groups: Group, text: str = TEXT) -> list[str]:
        run = log(sarif.replayed(replayed(*groups), sources(text)))
        return [result["partialFingerprints"]["fathom/v1"] for result in run["results"]]

    one = group("denied-ingress", policies=("NetworkPolicy shop/web",))
    assert prints(one) == prints(one, text="\n\n" + TEXT)
    others = group("denied-ingress", port=81), group("denied-egress"), group("denied-ingress", src="shop/c")
    assert len(set(prints(one, *others))) == 4


def test_a_diff_has_recorded_and_static_results() -> None:
    run = log(sarif.differences(differences((group("newly-denied"),), (change(), change("newly-denied"))), sources()))
    assert [(item["ruleId"], item["level"]) for item in run["results"]] == [
        ("newly-denied", "error"),
        ("static-newly-allowed", "warning"),
        ("static-newly-denied", "note"),
    ]
    assert "Counter-example: shop/a-1 > shop/b-1 TCP/80." in run["results"][1]["message"]["text"]


def test_exposure_and_coverage_as_results() -> None:
    (result,) = log(sarif.exposure(Exposure((exposed(),), 0, 3, (), BASIS), sources()))["results"]
    assert result["message"]["text"] == (
        "No policy covers 1 of 2 pods of shop/a for ingress and egress. Reached by: 3 workloads, nodes."
    )
    run = log(sarif.covered(COVERED, sources()))
    assert [item["message"]["text"] for item in run["results"]] == ["shop/a: 3 flows, fewer than 10."]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("5 more results are left out")


def test_what_is_not_understood_and_what_is_left_out_are_notifications() -> None:
    run = log(sarif.replayed(replayed(basis=UNSURE, left_out=3), sarif.Sources(PolicySet(), Lines({"p.yaml": TEXT}))))
    first, second = run["invocations"][0]["toolExecutionNotifications"]
    assert first["locations"][0]["physicalLocation"]["region"] == {"startLine": 8}
    assert second["message"]["text"] == "3 more results are left out (--limit)."


# -- Markdown


def test_a_table_row_cannot_be_broken_out_of() -> None:
    text = markdown.replayed(replayed(group("denied-ingress", src=NASTY, policies=(NASTY,))))
    (row,) = [line for line in text.splitlines() if line.startswith("| denied")]
    assert "\x1b" not in text
    assert row.replace("\\|", "").count("|") == 8
    assert "`a\\|b'c<script>@everyone\\x1b[31m\\n*x*_y_`" in row


def test_a_comment_is_bounded() -> None:
    many = tuple(
        group("denied-ingress", src="shop/" + "x" * 190 + str(n), policies=("P " + "y" * 250,)) for n in range(900)
    )
    suggestions = tuple({"kind": "NetworkPolicy", "text": "z" * 900} for _ in range(100))
    text = markdown.replayed(replayed(*many, left_out=7, suggestions=suggestions))
    assert len(text) <= 65_536
    assert text.count("| denied-ingress |") == 50
    assert "… and 857 more rows" in text
    assert "100 absent rules (the first 21)" in text
    assert text.endswith("<sub>12 flows · window 1d · coverage 99.0 % · lost 7</sub>")
    wide = tuple(change(targets=("shop/" + "t" * 300,), src="s" * 300) for _ in range(50))
    long = markdown.differences(differences(many[:50], wide))
    assert len(long) <= 65_536


def test_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "MOST", 600)
    text = markdown.replayed(replayed(*(group("denied-ingress", port=n) for n in range(1, 40))))
    assert len(text) <= 600
    assert "too long for a comment" in text


def test_titles_of_comments() -> None:
    assert markdown.replayed(replayed()).startswith("### Policy replay: every recorded flow is allowed\n")
    assert markdown.replayed(replayed(group("unknown"))).startswith(
        "### Policy replay: 1 recorded flow would be denied or is unknown\n"
    )
    assert markdown.differences(differences()).startswith("### Policy diff: no difference\n")
    assert "no recorded flow changes" in markdown.differences(differences((), (change(),)))
    assert markdown.differences(differences((group("newly-denied"),))).startswith("### Policy diff: newly-denied 1\n")
    assert markdown.covered(COVERED).startswith("### Coverage: 6 workloads with too little history\n")
    assert "… and 5 more rows" in markdown.covered(COVERED)
    assert markdown.exposure(Exposure((exposed(),), 1, 9, ("kube-system/DaemonSet/cni",), BASIS)).splitlines()[:3] == [
        "### Exposure: 2 workloads open",
        "",
        "2 of 9 workloads open",
    ]


# -- tables


def test_tables_say_what_is_left_out_and_what_is_not_understood() -> None:
    text = tables.replayed(replayed(group("unknown", reasons=("the sky",)), left_out=2, basis=UNSURE))
    assert text.splitlines()[1].split("   ")[-2].strip() == "the sky"
    assert "and 2 more rows (--limit)" in text
    assert "0 flows · window ? · coverage ? · lost ?" in text
    assert "1 part of the policies not understood" in text
    assert "shop/c         TCP/80,8000-8010" in tables.differences(differences((), (change(targets=("shop/c",)),)))
    assert "on the host's network" in tables.exposure(Exposure((), 0, 1, ("x",), BASIS))
    assert "Every workload is covered." in tables.exposure(Exposure((), 0, 1, (), BASIS))
    assert "6 workloads with too little history" in tables.covered(COVERED)


@pytest.mark.parametrize(
    ("ports", "protocol", "text"),
    [(((1, 65535),), "TCP", "TCP"), (((0, 0),), "ICMP", "ICMP"), (((53, 53),), "UDP", "UDP/53")],
)
def test_spans_of_ports(ports: tuple[tuple[int, int], ...], protocol: str, text: str) -> None:
    assert words.spans(change(ports=ports, protocol=protocol)) == text


# -- graphs


NODES = (
    GraphNode("203.0.113.7", "outside"),
    GraphNode("Node/n1", "node"),
    GraphNode(NASTY, "unknown"),
    GraphNode("shop/a", "workload", "shop", True, False),
    GraphNode("shop/b", "workload", "shop", False, False),
)
LINKS = (
    GraphLink("203.0.113.7", "shop/a", "allowed", ("TCP/80",), 0, 1, 1_000),
    GraphLink("shop/a", "shop/b", "denied-both", tuple(f"TCP/{n}" for n in range(20)), 5, 1, 1),
    GraphLink("shop/b", "shop/a", "unknown", ("UDP/53",)),
    GraphLink("shop/b", "shop/b", "may-be-allowed", ("all",)),
    GraphLink("203.0.113.7", NASTY, "denied-ingress", ("TCP",)),
    GraphLink("203.0.113.7", "shop/b", "denied-egress", ("TCP",)),
)
GRAPH = Graph("recorded", NODES, LINKS, 3, BASIS)


def test_dot_quotes_all_names() -> None:
    text = dot.dot(GRAPH)
    assert text.count("{") == text.count("}") == 2
    assert '    "shop/a" [label="a", shape=box, style=bold];' in text
    assert 'label="TCP/0, TCP/1, TCP/2, TCP/3 and 21 more\\ndenied-both"' in text
    assert '"3 more links" [shape=note];' in text
    assert dot.dot(Graph("recorded", (GraphNode('a"b\\', "outside"),), (), 0, BASIS)).splitlines()[4] == (
        '  "a\\"b\\\\" [label="a\\"b\\\\", shape=ellipse, style=solid];'
    )


def test_svg_is_well_formed_and_holds_every_node_and_link() -> None:
    text = svg.svg(GRAPH)
    root = ElementTree.fromstring(text)
    titles = [item.text for item in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "Recorded traffic"
    assert "shop/a > shop/b: denied-both, " + ", ".join(f"TCP/{n}" for n in range(20)) in titles
    assert "shop/a: isolated for ingress" in titles
    assert "shop/b: no policy isolates it" in titles
    assert len(titles) == 1 + len(NODES) + len(LINKS)
    assert "and 3 more links (--limit)" in text
    assert svg.svg(GRAPH) == text
    assert ElementTree.fromstring(svg.svg(Graph("static", (), (), 0, BASIS))).tag.endswith("svg")


def test_boxes_do_not_overlap_and_stand_inside() -> None:
    names = [f"n{number}" for number in range(30)]
    nodes = tuple(GraphNode(name, "workload", "n", True, True) for name in names)
    links = tuple(GraphLink(names[n % 30], names[n * 7 % 30], "allowed", ("TCP/1",)) for n in range(60))
    root = ElementTree.fromstring(svg.svg(Graph("static", nodes, links, 0, BASIS)))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    spans = [
        tuple(float(item.attrib[name]) for name in ("x", "y", "width", "height"))
        for item in root.iter("{http://www.w3.org/2000/svg}rect")
        if "x" in item.attrib
    ]
    assert len(spans) == 30
    for number, (x, y, w, h) in enumerate(spans):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for ox, oy, ow, oh in spans[:number]:
            assert x + w <= ox or ox + ow <= x or y + h <= oy or oy + oh <= y
