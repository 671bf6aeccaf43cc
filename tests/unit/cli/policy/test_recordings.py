"""``--recording``: a store's file in the place of manifests and flows."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from fathom.store.interface import EdgeQuery
from fathom.store.making import Making

from .conftest import Run
from .shop_store import WINDOW, shop_store

pytestmark = pytest.mark.usefixtures("example")


@pytest.fixture
def recording(example: Path) -> Path:
    """The store as one file."""
    file = example / "week.fathom"
    with contextlib.closing(shop_store(example, example / "store")) as store:
        store.record(EdgeQuery(WINDOW), file, Making("interval"))
    return file


def test_replay_of_a_recording(run: Run, recording: Path) -> None:
    got = run("replay", "--policies", "policies", "--recording", recording)
    assert got.status == 1, got.err
    assert got.out.splitlines()[1].split()[:5] == [
        "denied-ingress", "monitoring/Deployment/prometheus", "shop/Deployment/api", "TCP/9100", "10",
    ]  # fmt: skip
    assert "3 flows · window 1h · coverage 83.3 % · lost 0" in got.out


def test_part_of_a_recording(run: Run, recording: Path) -> None:
    def flows(*options: str) -> dict[str, int]:
        got = run("evaluate", "--policies", "policies", "--recording", recording, *options)
        assert got.status == 0, got.err
        found = [json.loads(line)["flow"] for line in got.out.splitlines()]
        return {item["dst"]: item["count"] for item in found}

    every = ("shop/Deployment/api", "shop/StatefulSet/db")
    assert set(flows()) == set(every)
    assert flows("--since", "20m")["shop/StatefulSet/db"] == 5  # before the end of the recording
    assert flows("--until", "2026-01-24T00:30:00Z")["shop/StatefulSet/db"] == 5
    assert set(flows("--workload", "web")) == {"shop/Deployment/api"}
    assert set(flows("--workload", "StatefulSet/db")) == {"shop/StatefulSet/db"}  # it told of nothing itself
    assert set(flows("--workload", "api")) == set(every)
    assert set(flows("--node", "node-1")) == set(every)


def test_a_recording_and_other_files(run: Run, recording: Path, example: Path) -> None:
    got = run("evaluate", "--policies", "policies", "--recording", recording, "--flows", "flows.jsonl")
    assert got.out.count("\n") == 8
    (example / "more.yaml").write_text(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: new, namespace: shop},"
        " spec: {selector: {matchLabels: {app: new}}, template: {metadata: {labels: {app: new}}, spec: {}}}}"
    )
    open_ = run(
        "exposure", "--policies", "policies", "--recording", recording, "--manifests", "more.yaml", "-o", "json"
    )
    assert "shop/Deployment/new" in {item["workload"] for item in json.loads(open_.out)["exposed"]}


def test_generate_and_coverage_from_a_recording(run: Run, recording: Path) -> None:
    got = run("generate", "--recording", recording, "--output-dir", "made")
    assert got.status == 0, got.err
    assert 'fathom.dev/coverage: "0.8333"' in Path("made/shop/statefulset-db.yaml").read_text()
    assert run("replay", "--policies", "made", "--recording", recording).status == 0
    assert "coverage 83.3 %" in run("coverage", "--recording", recording).out


@pytest.mark.parametrize("content", [None, b"", b"not a recording", b"SQLite format 3\0" + bytes(100)])
def test_what_is_no_recording_is_an_error(run: Run, example: Path, content: bytes | None) -> None:
    if content is not None:
        (example / "bad.fathom").write_bytes(content)
    for command, status in (("replay", 2), ("evaluate", 1)):
        got = run(command, "--policies", "policies", "--recording", "bad.fathom")
        assert (got.status, got.out) == (status, "")
        assert "bad.fathom" in got.err


def test_a_window_outside_of_the_recording_and_an_unknown_workload(run: Run, recording: Path) -> None:
    asked = ("replay", "--policies", "policies", "--recording", recording)
    assert run(*asked, "--since", "2026-01-25T00:00:00Z", "--until", "2026-01-24T00:00:00Z").status == 2
    assert "no flow of a workload 'nobody'" in run(*asked, "--workload", "nobody").err
    assert "about a server" in run(*asked, "--server", "http://127.0.0.1:1").err
