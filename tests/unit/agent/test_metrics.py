"""``/metrics`` read back by a strict parser: numbers, labels, bounds, and a page that names every family."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.agent import families
from fathom.agent.exposition import escape, label_text
from fathom.agent.fake import observation
from fathom.agent.sink import SinkState
from fathom.events.batches import Loss
from fathom.events.latency import BOUNDS_NS

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (-?(?:[0-9.]+(?:e[+-]?\d+)?|Inf)|NaN)")
_REAL = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def labels_of(text: str) -> tuple[tuple[str, str], ...]:
    found, at = [], 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match, f"labels make no sense at {text[at:]!r}"
        found.append((match[1], re.sub(r'\\[\\"n]', lambda m: _REAL[m[0]], match[2])))
        at = match.end()
        if at < len(text):
            assert text[at] == ","
            at += 1
    return tuple(sorted(found))


def parse(text: str) -> Series:
    """The Prometheus text format 0.0.4, refusing all that a scraper would refuse, and what it would only frown at."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    series: Series = {}
    current = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in kinds, f"{current} is told twice"
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current
            assert kind in ("counter", "gauge", "histogram")
            kinds[name] = kind
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, f"no sample: {line!r}"
        name = match[1]
        family = re.sub(r"_(bucket|sum|count)$", "", name) if kinds.get(current) == "histogram" else name
        assert family == current, f"{name} stands under {current}"
        labels = labels_of(match[2] or "")
        assert len(dict(labels)) == len(labels)
        assert (name, labels) not in series, f"{line!r} is there twice"
        series[name, labels] = float(match[3])
        assert not math.isnan(series[name, labels])
    for name, kind in kinds.items():
        if kind == "counter":
            assert name.endswith("_total")
        if kind == "histogram":
            check_histogram(name, series)
    return series


def check_histogram(name: str, series: Series) -> None:
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for (sample, labels), value in series.items():
        if sample == f"{name}_bucket":
            rest = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(rest, []).append((float(dict(labels)["le"].replace("+Inf", "inf")), value))
    for labels, buckets in groups.items():
        counts = [value for _, value in sorted(buckets)]
        assert counts == sorted(counts)
        assert max(bound for bound, _ in buckets) == math.inf
        assert counts[-1] == series[f"{name}_count", labels]
        assert (f"{name}_sum", labels) in series


def scraped(world: Any) -> Series:
    return parse(world.agent.metrics())


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, tuple(sorted(labels.items()))]


APP = {"workload": "app", "workload_kind": "process", "direction": "egress"}


async def test_what_workloads_did(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(
        np.concatenate(
            [
                observation(3, comm="app", pid=5, bytes_sent=10, bytes_received=20, retransmits=1, latency=600_000),
                observation(1, comm="app", pid=5, latency=6 * 10**9),
                observation(2, comm="app", pid=5, connections=0, failures=1, verdict=2, reason=1),
                observation(1, comm="app", pid=5, direction=2, local_port=80),
            ]
        )
    )
    w.flow.show(observation(4, comm="app", pid=5, protocol=17, connections=0, packets_sent=2, packets_received=3))
    await w.pass_time(10)
    series = scraped(w)
    assert value(series, "fathom_tcp_connections_total", **APP) == 4
    assert value(series, "fathom_tcp_connections_total", **{**APP, "direction": "ingress"}) == 1
    assert value(series, "fathom_tcp_retransmits_total", **APP) == 3
    assert value(series, "fathom_tcp_connection_failures_total", **APP, reason="refused") == 2
    assert value(series, "fathom_sent_bytes_total", **APP, protocol="TCP") == 30
    assert value(series, "fathom_received_bytes_total", **APP, protocol="TCP") == 60
    assert value(series, "fathom_sent_packets_total", **APP, protocol="UDP") == 8
    assert value(series, "fathom_received_packets_total", **APP, protocol="UDP") == 12
    buckets = {
        le: value(series, "fathom_tcp_handshake_seconds_bucket", **APP, le=le) for le in ("0.0005", "0.001", "5")
    }
    assert buckets == {"0.0005": 0, "0.001": 3, "5": 3}
    assert value(series, "fathom_tcp_handshake_seconds_count", **APP) == 4
    assert value(series, "fathom_tcp_handshake_seconds_sum", **APP) == pytest.approx(6.0018)


async def test_a_scrape_sees_the_open_interval_and_counters_only_grow(world: Callable[..., Any]) -> None:
    w = world()
    last, shown = 0.0, 0
    for tick in range(1, 46):
        w.tcp.show(observation(tick, comm="app", pid=5, time=w.now(), latency=1000))
        await w.pass_time(1)
        shown += tick
        series = scraped(w)
        now = value(series, "fathom_tcp_connections_total", **APP)
        assert last <= now == shown
        assert value(series, "fathom_tcp_handshake_seconds_count", **APP) == shown
        last = now


async def test_what_the_agent_says_about_itself(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.lose("ring_full", 3, 4, 50, 60)
    w.tcp.show(np.concatenate([observation(2, pid=1, bytes_sent=7), observation(1, pid=9)]))
    w.tcp.full = 0.125
    await w.pass_time(10)
    series = scraped(w)
    assert value(series, "fathom_lost_events_total", hop="kernel", probe="tcp", reason="ring_full") == 3
    assert value(series, "fathom_lost_packets_total", hop="kernel", probe="tcp", reason="ring_full") == 4
    assert value(series, "fathom_lost_bytes_total", hop="kernel", probe="tcp", reason="ring_full") == 110
    assert value(series, "fathom_own_traffic_excluded_total") == 2
    assert value(series, "fathom_own_traffic_excluded_bytes_total") == 14
    assert value(series, "fathom_probe_up", probe="tcp") == 1
    assert value(series, "fathom_probe_fill_ratio", probe="tcp") == 0.125
    assert value(series, "fathom_probe_records_total", probe="tcp") == 3
    assert value(series, "fathom_batches_total") == 1
    assert value(series, "fathom_facts_total") == 1
    assert value(series, "fathom_build_info", version=w.agent.version) == 1
    assert value(series, "fathom_process_resident_memory_bytes") > 1 << 20
    assert value(series, "fathom_process_start_time_seconds") == 1_700_000_000
    assert {name for (name, _) in series} >= {
        family.name for family in families.FAMILIES if not family.labels and family.kind != "histogram"
    }


async def test_losses_of_the_spool_are_told(world: Callable[..., Any]) -> None:
    w = world()
    w.sink.state = lambda: SinkState(ok=False, detail="away", queued=7, losses=(Loss(0, "spool", "", "spool_full", 9),))
    series = scraped(w)
    assert value(series, "fathom_lost_events_total", hop="spool", probe="", reason="spool_full") == 9
    assert value(series, "fathom_link_up") == 0
    assert value(series, "fathom_link_queued_batches") == 7


async def test_no_address_and_no_port_is_a_label(world: Callable[..., Any]) -> None:
    w = world()
    w.tcp.show(
        observation(50, pid=5, comm="app", remote="10.9.8.7", remote_port=np.arange(50) + 5000, local_port=61_000)
    )
    w.turn()
    text = w.agent.metrics()
    assert "app" in text
    assert "10.9.8.7" not in text
    assert {dict(labels).get("port") for _, labels in parse(text)} == {None}
    assert not {f for f in families.FAMILIES if {"port", "address", "peer", "pid"} & set(f.labels)}


async def test_series_are_bounded_and_nothing_is_lost(world: Callable[..., Any]) -> None:
    w = world(max_series=300)
    for start in (0, 100):
        rows = observation(100, pid=np.arange(100) + 1000 + start, bytes_sent=3)
        rows["comm"] = [f"p{i + start}".encode() for i in range(100)]
        w.tcp.show(rows)
        await w.pass_time(10)
    series = scraped(w)
    traffic = {key: number for key, number in series.items() if dict(key[1]).get("workload")}
    assert len(traffic) <= 300 + 25
    for name, expected in (("fathom_tcp_connections_total", 200), ("fathom_sent_bytes_total", 600)):
        assert sum(number for (found, _), number in series.items() if found == name) == expected
    assert (
        value(series, "fathom_tcp_connections_total", workload="other", workload_kind="other", direction="egress") > 0
    )
    assert value(series, "fathom_merged_observations_total", into="series") > 0


async def test_dead_series_make_room(world: Callable[..., Any]) -> None:
    w = world(max_series=100)
    for name in ("a", "b", "c", "d", "e", "f"):
        w.tcp.show(observation(1, comm=name, pid=50))
        await w.pass_time(10)
    assert ("fathom_tcp_connections_total", tuple(sorted({**APP, "workload": "f"}.items()))) not in scraped(w)
    await w.pass_time(1000)
    for _ in range(2):
        w.tcp.show(observation(1, comm="f", pid=50, time=w.now()))
        await w.pass_time(10)
    series = scraped(w)
    assert value(series, "fathom_tcp_connections_total", **{**APP, "workload": "f"}) >= 1
    assert ("fathom_tcp_connections_total", tuple(sorted({**APP, "workload": "a"}.items()))) not in series


async def test_hostile_names(world: Callable[..., Any]) -> None:
    w = world()
    names = [b'q"uote', b"back\\slash", b"new\nline", b"nul\x01a", b"nul\x02a", b"%d%s%%", b"\xff\xfe", b"}{,=", b"a b"]
    rows = observation(len(names), pid=np.arange(len(names)) + 60)
    rows["comm"] = names
    w.tcp.show(rows)
    await w.pass_time(10)
    series = scraped(w)
    shown = {dict(labels)["workload"] for (name, labels) in series if name == "fathom_tcp_connections_total"}
    assert shown == {'q"uote', "back\\slash", "new\nline", "nul?a", "%d%s%%", "��", "}{,=", "a b"}
    assert value(series, "fathom_tcp_connections_total", **{**APP, "workload": "nul?a"}) == 2
    assert sum(number for (name, _), number in series.items() if name == "fathom_tcp_connections_total") == len(names)


@given(st.text(max_size=30))
def test_any_text_can_be_a_label(text: str) -> None:
    shown = label_text(("a",), (text,))
    assert "\n" not in shown
    (pair,) = labels_of(shown[1:-1])
    assert len(pair[1]) == len(text)
    shown.encode()


def test_escape_leaves_readable_text_alone() -> None:
    assert escape("nginx.service") == "nginx.service"
    assert escape("größe") == "größe"


def test_latency_bounds_are_some_of_the_facts() -> None:
    assert set(families.LATENCY_BOUNDS_NS) <= set(BOUNDS_NS)
    assert [BOUNDS_NS[cut - 1] for cut in families.LATENCY_CUTS] == list(families.LATENCY_BOUNDS_NS)


def test_names_and_words_of_families() -> None:
    names = [family.name for family in families.FAMILIES]
    assert len(set(names)) == len(names) > 30
    for family in families.FAMILIES:
        assert re.fullmatch(r"fathom_[a-z][a-z_]*[a-z]", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.text.endswith(".")
        assert "\n" not in family.text


def test_the_page_is_made_from_the_families() -> None:
    page = Path(__file__).parents[3] / "docs/reference/metrics.md"
    assert page.read_text() == families.page(), "the page is old: write families.page() into it"


async def test_every_family_is_documented_and_every_series_has_a_family(world: Callable[..., Any]) -> None:
    known = {family.name for family in families.FAMILIES}
    for name, _ in scraped(world()):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in known or name in known
