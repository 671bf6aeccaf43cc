"""Edges, one edge, series and workloads over REST, on the real store."""

from __future__ import annotations

from typing import Any

import pytest

from fathom.events.batches import Loss
from fathom.events.latency import BOUNDS_NS


async def test_an_edge_has_exactly_the_promised_fields(world: Any) -> None:
    edge = world.edge()
    world.write(
        (
            edge,
            20,
            {
                "connections": 3, "failures": 1, "bytes_sent": 100, "bytes_received": 2_000, "packets_sent": 5,
                "packets_received": 6, "retransmits": 2, "latency_count": 2, "latency_sum": 3_000_000,
                "latency_min": 1_000_000, "latency_max": 2_000_000,
                f"latency_b{BOUNDS_NS.index(1_000_000)}": 1, f"latency_b{BOUNDS_NS.index(2_500_000)}": 1,
            },
        )
    )  # fmt: skip
    answer = await world.get("/edges")
    (item,) = answer["items"]
    latency = item.pop("latency")
    assert item == {
        "id": str(edge.id),
        "workload": "unit/nginx",
        "identity": {
            "kind": "unit", "name": "nginx", "namespace": "", "pod": "", "container": "", "node": "n1", "cluster": "",
        },
        "direction": "egress",
        "peer": "10.0.0.7",
        "peer_address": "10.0.0.7",
        "protocol": "TCP",
        "port": 5432,
        "verdict": "forwarded",
        "reason": "",
        "connections": 3,
        "failures": 1,
        "bytes_sent": 100,
        "bytes_received": 2000,
        "packets_sent": 5,
        "packets_received": 6,
        "retransmits": 2,
        "first_seen": "2026-01-31T11:59:40Z",
        "last_seen": "2026-01-31T11:59:40Z",
    }  # fmt: skip
    assert (latency["count"], latency["sum"]) == (2, 0.003)
    assert 0.001 <= latency["p50"] <= latency["p90"] <= latency["p99"] <= 0.002


async def test_an_edge_without_latency_has_none(world: Any) -> None:
    world.write((world.edge(), 20, {"connections": 1}))
    answer = await world.get("/edges")
    assert answer["items"][0]["latency"] == {"count": 0, "sum": 0.0, "p50": None, "p90": None, "p99": None}


async def test_ids_are_text_because_javascript_has_no_63_bit_numbers(world: Any) -> None:
    edges = [world.edge(peer=f"10.0.1.{i}") for i in range(20)]
    world.write(*((edge, 20, {"connections": 1}) for edge in edges))
    answer = await world.get("/edges", limit=20)
    assert {item["id"] for item in answer["items"]} == {str(edge.id) for edge in edges}
    assert any(edge.id > 1 << 53 for edge in edges)


async def test_every_answer_tells_window_coverage_gaps_and_loss(world: Any) -> None:
    loss = Loss(world.now - 20, "kernel", "tcp", "ring_full", 7, 3, 100, 200)
    world.write((world.edge(), 20, {"connections": 1}), losses=(loss,))
    answer = await world.get("/edges", since="20m", until="now")
    window = answer["window"]
    assert (window["since"], window["until"]) == ("2026-01-31T11:40:00Z", "2026-01-31T12:00:00Z")
    assert window["coverage"]["share"] == 1.0  # a node counts from its first observation on
    assert answer["loss"] == [
        {
            "hop": "kernel", "probe": "tcp", "reason": "ring_full", "node": "n1", "count": 7, "packets": 3,
            "bytes_sent": 100, "bytes_received": 200,
        }
    ]  # fmt: skip
    assert (await world.get("/edges", since="10s"))["loss"] == []


async def test_a_gap_is_named_to_the_second_but_not_while_a_report_may_come(world: Any) -> None:
    world.write((world.edge(), 300, {"connections": 1}))
    world.now_ns[0] += 20 * 1_000_000_000
    answer = await world.get("/edges", since="60s")
    assert answer["window"]["coverage"]["gaps"] == []
    world.now_ns[0] += 20 * 1_000_000_000
    answer = await world.get("/edges", since="60s")
    gap = {"node": "n1", "since": "2026-01-31T12:00:00Z", "until": "2026-01-31T12:00:40Z"}
    assert answer["window"]["coverage"]["gaps"] == [gap]
    assert answer["window"]["coverage"]["share"] == pytest.approx(20 / 60)


async def test_a_past_window_gets_no_grace_for_reports_that_are_due(world: Any) -> None:
    world.write((world.edge(), 300, {"connections": 1}))
    world.now_ns[0] += 600 * 1_000_000_000
    answer = await world.get("/edges", since="620s", until="590s")
    assert answer["window"]["coverage"]["gaps"][0]["until"] == "2026-01-31T12:00:10Z"


@pytest.mark.parametrize(
    ("filters", "peers"),
    [
        ({}, {"10.0.0.1", "10.0.0.2", "2001:db8::1", "10.9.0.1"}),
        ({"workload": "curl"}, {"10.9.0.1"}),
        ({"workload": "unit/ngin*"}, {"10.0.0.1", "10.0.0.2", "2001:db8::1"}),
        ({"peer": "10.0.0.2"}, {"10.0.0.2"}),
        ({"peer": "10.0.0.0/24"}, {"10.0.0.1", "10.0.0.2"}),
        ({"peer": "2001:db8::/32"}, {"2001:db8::1"}),
        ({"protocol": "udp"}, {"10.0.0.2"}),
        ({"port": 80}, {"10.0.0.1"}),
        ({"direction": "ingress"}, {"2001:db8::1"}),
        ({"verdict": "failed"}, {"10.9.0.1"}),
        ({"node": "n1", "port": "53"}, {"10.0.0.2"}),
        ({"node": "elsewhere"}, set()),
    ],
)
async def test_filters_select(world: Any, filters: dict[str, Any], peers: set[str]) -> None:
    world.write(
        (world.edge(peer="10.0.0.1", port=80), 20, {"connections": 1}),
        (world.edge(peer="10.0.0.2", port=53, protocol="UDP"), 20, {"packets_sent": 1}),
        (world.edge(peer="2001:db8::1", direction="ingress"), 20, {"connections": 1}),
        (world.edge("curl", "10.9.0.1", verdict="failed", reason="refused"), 20, {"failures": 1}),
    )
    answer = await world.get("/edges", **filters)
    assert {item["peer"] for item in answer["items"]} == peers


async def test_pages_hold_every_edge_once_and_keep_the_window_of_the_first(world: Any) -> None:
    edges = [world.edge(peer=f"10.0.2.{i}") for i in range(25)]
    world.write(*((edge, 20, {"connections": 1, "bytes_sent": i}) for i, edge in enumerate(edges)))
    found, cursor, windows = [], "", set()
    while True:
        answer = await world.get("/edges", limit=10, cursor=cursor)
        found += [item["id"] for item in answer["items"]]
        windows.add((answer["window"]["since"], answer["window"]["until"]))
        world.now_ns[0] += 1_000_000_000
        if not (cursor := answer["next_cursor"]):
            break
    assert sorted(found) == sorted(str(edge.id) for edge in edges)
    assert len(windows) == 1


async def test_the_busiest_come_first_unless_told_otherwise(world: Any) -> None:
    edges = [world.edge(peer=f"10.0.3.{i}") for i in range(5)]
    world.write(*((edge, 20, {"bytes_sent": 10 * i}) for i, edge in enumerate(edges)))
    assert [i["bytes_sent"] for i in (await world.get("/edges"))["items"]] == [40, 30, 20, 10, 0]
    by_id = [int(i["id"]) for i in (await world.get("/edges", order="id"))["items"]]
    assert by_id == sorted(by_id)


async def test_one_edge_is_found_among_its_like(world: Any) -> None:
    wanted = world.edge("nginx", "10.0.0.7")
    like = [world.edge(f"other{i}", "10.0.0.7") for i in range(3)]
    world.write((wanted, 20, {"connections": 5}), *((edge, 20, {"connections": 1}) for edge in like))
    answer = await world.get(f"/edges/{wanted.id}")
    assert [(item["id"], item["connections"]) for item in answer["items"]] == [(str(wanted.id), 5)]


async def test_one_edge_that_was_silent_in_the_window_shows_zeros(world: Any) -> None:
    edge = world.edge()
    world.write((edge, 400, {"connections": 5}))
    (item,) = (await world.get(f"/edges/{edge.id}", since="1m"))["items"]
    assert (item["connections"], item["first_seen"], item["last_seen"]) == (0, None, None)
    assert item["workload"] == "unit/nginx"


@pytest.mark.parametrize("number", ["1", "9223372036854775808", "9999999999999999999"])
async def test_an_unknown_edge_is_a_404(world: Any, number: str) -> None:
    for path in (f"/edges/{number}", f"/edges/{number}/series"):
        problem = await world.get(path, status=404)
        assert problem["what"] == "there is no edge with this id"


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "12345678901234567890", "%2e%2e"])
async def test_what_is_no_id_is_refused(world: Any, number: str) -> None:
    assert (await world.get(f"/edges/{number}", status=422))["do"]


@pytest.mark.parametrize("path", ["/edges", "/workloads"])
@pytest.mark.parametrize(
    "asked",
    [{"peer": text} for text in ("10.0.0.0/33", "10.0.0/8", "unit/nginx", "/", "::/129", "10.0.0.0/8/9")]
    + [{"protocol": text} for text in ("tpc", "256", "-1", "1000", "6.0", "\u0666", " tcp", "*")],
)
async def test_a_peer_or_protocol_that_cannot_be_is_refused(world: Any, path: str, asked: dict[str, str]) -> None:
    (name,) = asked
    problem = await world.get(path, status=422, **asked)
    assert problem["what"].startswith(f"{name} is ")
    assert problem["do"]


@pytest.mark.parametrize(
    ("protocol", "texts"),
    [("TCP", ("tcp", "TCP", "6", "006")), ("ICMPv6", ("icmpV6", "58")), ("132", ("SCTP", "sctp", "132")),
     ("136", ("UDPLite", "136")), ("33", ("dccp", "33")), ("255", ("255",))],
)  # fmt: skip
async def test_a_protocol_is_found_by_its_name_and_its_number(
    world: Any, protocol: str, texts: tuple[str, ...]
) -> None:
    edge = world.edge(peer="10.0.0.7", protocol=protocol)
    world.write((edge, 20, {"packets_sent": 1}), (world.edge(protocol="UDP"), 20, {"packets_sent": 1}))
    for text in texts:
        answer = await world.get("/edges", protocol=text, peer="10.0.0.9/24")
        assert [item["id"] for item in answer["items"]] == [str(edge.id)]


async def test_a_series_has_a_point_for_each_step_in_which_something_was_counted(world: Any) -> None:
    edge = world.edge()
    world.write((edge, 60, {"connections": 1}), (edge, 50, {"connections": 2}), (edge, 10, {"connections": 4}))
    answer = await world.get(f"/edges/{edge.id}/series", since="2m", step="10s")
    assert [(p["time"], p["connections"]) for p in answer["items"]] == [
        ("2026-01-31T11:59:00Z", 1),
        ("2026-01-31T11:59:10Z", 2),
        ("2026-01-31T11:59:50Z", 4),
    ]
    assert answer["step"] == 10
    answer = await world.get(f"/edges/{edge.id}/series", since="2m", step="1m")
    assert [p["connections"] for p in answer["items"]] == [7]


@pytest.mark.parametrize(
    ("since", "step"), [("10m", 10), ("30m", 30), ("1h", 60), ("5h", 300), ("1d", 3600), ("7d", 10_800)]
)
async def test_a_series_chooses_a_step_of_about_sixty_points(world: Any, since: str, step: int) -> None:
    edge = world.edge()
    world.write((edge, 60, {"connections": 1}))
    assert (await world.get(f"/edges/{edge.id}/series", since=since))["step"] == step


@pytest.mark.parametrize("step", ["0s", "500ms", "1500ms", "x", "-1s"])
async def test_a_step_that_is_no_whole_number_of_seconds_is_refused(world: Any, step: str) -> None:
    edge = world.edge()
    world.write((edge, 60, {"connections": 1}))
    await world.get(f"/edges/{edge.id}/series", status=422, step=step)


async def test_a_series_of_too_many_points_is_refused(world: Any) -> None:
    edge = world.edge()
    world.write((edge, 60, {"connections": 1}))
    problem = await world.get(f"/edges/{edge.id}/series", status=422, since="7d", step="1s")
    assert "10000 steps" in problem["what"]


async def test_workloads_sum_their_edges(world: Any) -> None:
    world.write(
        (world.edge(peer="10.0.0.1"), 20, {"connections": 1, "bytes_sent": 5}),
        (world.edge(peer="10.0.0.2"), 30, {"connections": 2, "bytes_sent": 6}),
        (world.edge("curl"), 20, {"connections": 9}),
    )
    items = {item["workload"]: item for item in (await world.get("/workloads"))["items"]}
    nginx = items["unit/nginx"]
    assert (nginx["connections"], nginx["bytes_sent"], nginx["peers"], nginx["edges"]) == (3, 11, 2, 2)
    assert (nginx["first_seen"], nginx["last_seen"]) == ("2026-01-31T11:59:30Z", "2026-01-31T11:59:40Z")
    assert items["unit/curl"]["connections"] == 9
    assert nginx["identity"]["node"] == "n1"


async def test_a_page_of_ten_thousand_edges_is_whole(world: Any) -> None:
    edges = [world.edge(peer=f"10.{i >> 8}.{i & 255}.1") for i in range(10_500)]
    world.write(*((edge, 20, {"connections": 1}) for edge in edges[:6_000]))
    world.write(*((edge, 20, {"connections": 1}) for edge in edges[6_000:]))
    answer = await world.get("/edges", limit=10_000)
    assert len(answer["items"]) == 10_000
    rest = await world.get("/edges", limit=10_000, cursor=answer["next_cursor"])
    assert len({item["id"] for item in answer["items"] + rest["items"]}) == 10_500
