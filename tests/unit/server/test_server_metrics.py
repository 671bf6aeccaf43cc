"""The server's own metrics: well-formed Prometheus text that names no workload, no node and no key."""

from __future__ import annotations

import re
from typing import Any

from fathom.server.exposition import Duration
from fathom.server.meters import Meters, Reading, render

READING = Reading(nodes_connected=2, store_writable=True, store_edges=5, store_bytes=1_234_567_890_123, started_s=1.5)
SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+-]+')


def parsed(text: str) -> dict[str, float]:
    """Samples by name and labels; fails on a line that is no sample and no comment, and on a doubled one."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP [a-z_]+ \S.*|TYPE [a-z_]+ (counter|gauge|histogram))", line), line
            continue
        assert SAMPLE.fullmatch(line), line
        name, _, value = line.rpartition(" ")
        assert name not in found, name
        found[name] = float(value)
    return found


def test_an_empty_server_has_every_metric_with_help_and_unit() -> None:
    text = render(Meters(), READING)
    found = parsed(text)
    assert found["fathom_server_nodes_connected"] == 2
    assert found["fathom_server_store_bytes"] == 1_234_567_890_123
    kinds = dict(re.findall(r"# TYPE (\S+) (\S+)", text))
    assert len(kinds) == len(re.findall(r"# HELP", text))
    assert all(name.startswith(("fathom_server_", "fathom_policy_audit_")) for name in kinds)
    assert all(name.endswith("_total") for name, kind in kinds.items() if kind == "counter")
    assert all(name.endswith("_seconds") for name, kind in kinds.items() if kind == "histogram")


def test_histograms_add_up() -> None:
    meters = Meters()
    for seconds in (0.0005, 0.001, 0.0011, 4.0, 100.0):
        meters.answered("GET", "/api/v1/edges", 200, seconds)
    found = parsed(render(meters, READING))
    name = 'fathom_server_request_duration_seconds_bucket{route="/api/v1/edges",le="%s"}'
    buckets = [found[name % le] for le in ("0.001", "0.0025", "2.5", "5.0", "30.0", "+Inf")]
    assert buckets == [2, 3, 3, 4, 4, 5]
    assert found['fathom_server_request_duration_seconds_count{route="/api/v1/edges"}'] == 5
    assert found['fathom_server_request_duration_seconds_sum{route="/api/v1/edges"}'] == 104.0026


def test_words_of_others_are_escaped() -> None:
    meters = Meters()
    meters.lost("ker\nnel", 'a"b', "c\\d", 3)
    assert 'hop="ker\\nnel",probe="a\\"b",reason="c\\\\d"} 3' in render(meters, READING)


def test_a_histogram_without_labels() -> None:
    meters = Meters(write=Duration())
    meters.write.add(0.002)
    found = parsed(render(meters, READING))
    assert found['fathom_server_ingest_write_duration_seconds_bucket{le="0.0025"}'] == 1
    assert found["fathom_server_ingest_write_duration_seconds_count"] == 1


async def test_metrics_name_nobody(world: Any) -> None:
    world.write((world.edge("secret-workload", "10.77.77.77"), 20, {"connections": 1}), node="secret-node")
    world.hub.connect(world.state("secret-node"), world.answering())
    await world.get("/edges", workload="secret-question")
    response = await world.http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parsed(response.text)['fathom_server_requests_total{method="GET",route="/api/v1/edges",status="200"}'] == 1
    assert "secret" not in response.text
    assert "10.77" not in response.text
    assert world.key not in response.text
