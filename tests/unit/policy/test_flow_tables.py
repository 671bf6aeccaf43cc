"""Flows from JSON lines and from the store's edges, to arrays and back."""

from __future__ import annotations

import pytest

from fathom.events.edges import Edge, Workload
from fathom.policy import flows
from fathom.policy.flows import Seen, from_dicts, from_edges, read_lines
from fathom.policy.index import EXTERNAL, NODE, POD
from fathom.policy.labelling import Labels
from fathom.policy.manifests import read_texts
from fathom.policy.resolve import resolve


def test_json_lines_are_read_back_as_they_were() -> None:
    text = "\n".join(
        (
            '{"src":"a/x","dst":"b/Deployment/y","protocol":"UDP","port":53,"count":3,"first_seen":10,"last_seen":20}',
            '{"src":"10.0.0.1","dst":"api.example.com","protocol":"TCP","port":443,"count":1}',
            "",
            '{"src":"a/x","dst":"a/y","protocol":"ICMP","port":0,"count":1,"oriented":false,"verdict":"dropped"}',
        )
    )
    found, problems = read_lines(text)
    assert not problems
    again = "\n".join(flows.lines(found))
    assert [line for line in text.splitlines() if line] == again.splitlines()


def test_times_may_be_written_out_and_a_port_may_be_missing_where_there_is_none() -> None:
    row = from_dicts([{"src": "a", "dst": "b", "port": 1, "first_seen": "1970-01-01T00:01:00Z"}]).rows[0]
    assert (row["first"], row["last"], row["protocol"]) == (60, 60, 6)
    assert from_dicts([{"src": "a", "dst": "b", "protocol": "47"}]).rows[0]["protocol"] == 47


#: Ends that somebody may write, and that are none.
WRONG = (
    "", " 8.8.8.8", "8.8.8.8:443", "8.8.8.009", "10.0.0.1/32", "a/", "/", "/a", "a//b", "a/b/c/d", "Node/", "a b",
    "https://api.example.com/x", "a..b",
)  # fmt: skip


@pytest.mark.parametrize(
    "end",
    ["a/b", "a/Deployment/b", "a/Service/b", "Node/n1.example.com", "Node/n1/5f3e", "8.8.8.8", "2001:db8::1", "db",
     "api.example.com", "API.example.com.", "_x.example.com"],
)  # fmt: skip
def test_ends_of_flows(end: str) -> None:
    found = from_dicts([{"src": end, "dst": end, "port": 1}])
    assert found.strings[found.rows[0]["src"]] == found.strings[found.rows[0]["dst"]] == end


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"src": "a"}', "port"),
        ('{"src": "a", "dst": "b", "port": 70000}', "between"),
        ('{"src": "a", "dst": "b", "port": 1, "protocol": "X"}', "not an IP protocol"),
        ('{"src": "a", "dst": "b", "port": 1, "size": 1}', "unknown field"),
        ('{"src": "a", "dst": "b", "port": 1, "dst_address": "c"}', "not an address"),
        ('{"src": "a", "dst": "b", "port": 1, "first_seen": "soon"}', "not a time"),
        *((f'{{"src": "a", "dst": "{end}", "port": 1}}', "is not ns/pod") for end in WRONG),
        ('{"src": "a", "dst": "b", "port": 1, "count": 9007199254740993}', "count: refused: must be between 0 and"),
        ("[1]", "object"),
        ("{", "not JSON"),
    ],
)
def test_malformed_lines_are_refused_with_their_number(line: str, words: str) -> None:
    found, problems = read_lines('{"src":"a","dst":"b","port":1}\n' + line, "flows.jsonl")
    assert len(found) == 1
    assert problems[0].place.document == 1
    assert words in str(problems[0])


def edge(direction: str, peer: str, address: str, **more: object) -> Edge:
    kind, pod = str(more.pop("kind", "Deployment")), str(more.pop("pod", ""))
    who = Workload(node="n1", namespace="shop", kind=kind, name="web", pod=pod)
    return Edge(who, direction, peer, address, "TCP", more.pop("port", 80), **more)  # type: ignore[arg-type]


def test_edges_become_flows_from_the_side_that_opened() -> None:
    items = [
        edge("egress", "10.0.0.9", "10.0.0.9", pod="web-1"),
        edge("ingress", "shop/Deployment/api", "10.0.0.8"),
        edge("egress", "api.example.com", "93.184.216.34"),
        edge("unknown", "10.0.0.9", "10.0.0.9", port=0),
        edge("egress", "10.0.0.9", "10.0.0.9", kind="unit", verdict="failed", reason="refused"),
        edge("egress", "unit/nginx.service", "192.168.0.7"),
    ]
    found = from_edges(Seen(item, 2, 10, 20) for item in items)
    told = [found.to_dict(n) for n in range(len(found))]
    assert [(t["src"], t["dst"]) for t in told] == [
        ("shop/web-1", "10.0.0.9"),
        ("shop/Deployment/api", "shop/Deployment/web"),
        ("shop/Deployment/web", "93.184.216.34"),
        ("shop/Deployment/web", "10.0.0.9"),
        ("Node/n1", "10.0.0.9"),
        ("shop/Deployment/web", "192.168.0.7"),
    ]
    assert told[1]["src_address"] == "10.0.0.8"
    assert told[2]["name"] == "api.example.com"
    assert told[3]["oriented"] is False
    assert told[4]["verdict"] == "failed"
    assert found.rows["edge"].tolist() == [item.id for item in items]


def test_what_runs_in_a_container_is_the_pod_that_has_it_and_else_its_node() -> None:
    """A pod's containers are known by the ids of its status; a container that no pod has is a process of the node."""
    status = "{podIP: 10.0.0.1, containerStatuses: [{containerID: 'containerd://aa'}], initContainerStatuses: [{}]}"
    pod = f"{{apiVersion: v1, kind: Pod, metadata: {{name: web-1, namespace: shop}}, status: {status}}}"
    node = "{apiVersion: v1, kind: Node, metadata: {name: n1}}"
    who = read_texts([("f", f"{pod}\n---\n{node}")])
    assert who.records.pods[0].containers == ("aa",)
    items = [
        Edge(
            Workload(node="n1", kind="container", name=name, container=name), direction, "8.8.8.8", "8.8.8.8", "TCP", 80
        )
        for name, direction in (("aa", "egress"), ("aa", "ingress"), ("bb", "egress"))
    ]
    found = from_edges(Seen(item, 1, 10, 20) for item in items)
    assert [found.to_dict(n)["src"] for n in range(3)] == ["Node/n1/aa", "8.8.8.8", "Node/n1/bb"]
    again, problems = read_lines("\n".join(flows.lines(found)))
    assert not problems
    for given in (found, again):
        rows = resolve(given, who).rows
        assert list(zip(rows["src_kind"], rows["src_pod"], strict=True)) == [(POD, 0), (EXTERNAL, -1), (NODE, -1)]
        assert list(zip(rows["dst_kind"], rows["dst_pod"], strict=True))[1] == (POD, 0)
        labels = Labels(given, resolve(given, who))
        assert [labels.texts[n] for n in labels.src] == ["shop/Pod/web-1", "8.8.8.8", "Node/n1"]


def test_lines_end_at_line_feeds_alone_and_may_begin_with_a_byte_order_mark() -> None:
    text = '\ufeff{"src":"a/x","dst":"a\u2028.example","port":1}\r\n{"src":"a/x","dst":"b.example","port":2}\n'
    found, problems = read_lines(text)
    assert [flow["dst"] for flow in map(found.to_dict, range(len(found)))][-1] == "b.example"
    assert len(found) + len(problems) == 2
    assert not any("not JSON" in problem.reason for problem in problems)
