"""Recordings made of recordings, and of plain files: nothing is lost, nothing is counted twice, or it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fathom.store.opening import open_store

from ..policy.shop_store import BEGIN, END, shop_store
from .conftest import EXAMPLES, Run

pytestmark = pytest.mark.usefixtures("example")
PLAIN = ("--manifests", "manifests", "--flows", "flows.jsonl")
CALLS = {
    "workload": "shop/Deployment/web",
    "container": "web",
    "image": "web:1",
    "executable": "/web",
    "architecture": "x86_64",
    "calls": ["read", "write"],
    "first_seen": BEGIN,
    "last_seen": END,
}


def told(run: Run, name: str) -> dict[str, Any]:
    got = run("record", "info", name, "-o", "json")
    assert got.status == 0, got.err
    found: dict[str, Any] = json.loads(got.out)
    return found


def verdicts(run: Run, *source: str) -> list[dict[str, Any]]:
    """Each flow with its verdict and who decided, in one order."""
    got = run("policy", "evaluate", "--policies", "policies", *source)
    assert got.status == 0, got.err
    return sorted((json.loads(line) for line in got.out.splitlines()), key=lambda item: json.dumps(item["flow"]))


def replay(run: Run, *source: str) -> dict[str, Any]:
    """The answer of replay; the number of the example, which is a flow's place in the input, as that flow."""
    got = run("policy", "replay", "--policies", "policies", *source, "-o", "json")
    assert got.status in (0, 1), got.err
    found: dict[str, Any] = json.loads(got.out)
    flows = run("policy", "evaluate", "--policies", "policies", *source).out.splitlines()

    def named(item: Any) -> Any:
        if isinstance(item, dict):
            return {
                key: json.loads(flows[value])["flow"] if key == "example" else named(value)
                for key, value in item.items()
            }
        return [named(each) for each in item] if isinstance(item, list) else item

    made: dict[str, Any] = named(found)
    return made


def test_plain_files_mean_the_same_as_a_recording(run: Run) -> None:
    got = run("record", "import", "plain.fathom", *PLAIN)
    assert (got.status, got.err) == (0, "")
    assert "8 of 5 workloads" in got.out
    assert "window 6d23h · coverage ? · lost ?" in got.out
    assert verdicts(run, "--recording", "plain.fathom") == verdicts(run, *PLAIN)
    assert replay(run, "--recording", "plain.fathom") == replay(run, *PLAIN)
    for command in (("exposure", "--policies", "policies"), ("coverage",)):
        one, other = (run("policy", *command, *source) for source in (("--recording", "plain.fathom"), PLAIN))
        assert (one.status, one.out) == (other.status, other.out)


FLOWS = [
    {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "port": 9090},
    {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "port": 9090, "verdict": "failed", "count": 3},
    {"src": "shop/web-1", "dst": "shop/StatefulSet/db", "port": 5432, "first_seen": BEGIN, "last_seen": END},
    {"src": "Node/node-1", "dst": "shop/Deployment/api", "port": 9100, "node": "node-1"},
    {"src": "Node/node-1", "dst": "shop/Deployment/api", "port": 9101},
    {"src": "Node/node-1/0123", "dst": "shop/Deployment/api", "port": 9102},
    {"src": "10.0.0.1", "src_address": "10.0.0.1", "dst": "shop/Deployment/api", "port": 9100},
    {"src": "shop/Deployment/web", "dst": "10.1.1.1", "dst_address": "10.1.1.1", "protocol": "UDP", "port": 53},
    {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "dst_address": "10.1.1.2", "port": 80},
    {"src": "shop/Deployment/web", "src_address": "10.1.1.3", "dst": "shop/Deployment/api", "port": 81},
    {"src": "shop/Deployment/web", "dst": "198.51.100.20", "name": "api.example.com", "port": 443},
    {"src": "shop/Deployment/web", "dst": "api.example.com", "port": 443},
    {"src": "shop/Deployment/web", "dst": "kube-system/Service/kube-dns", "protocol": "UDP", "port": 53},
    {"src": "shop/Deployment/web", "dst": "10.0.0.9", "protocol": "ICMP", "port": 0},
    {"src": "shop/Deployment/web", "dst": "10.0.0.9", "protocol": "89"},
    {"src": "shop/Deployment/web", "dst": "2001:db8::1", "protocol": "132", "port": 1},
    {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "port": 1, "oriented": False},
    {"src": "203.0.113.1", "dst": "203.0.113.2", "port": 1, "count": 1 << 53, "verdict": "dropped"},
    {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "port": 82, "name": "api.example"},
    {"src": "x", "dst": "a/unit/b", "port": 1},
    {"src": "unit/a", "dst": "container/b", "port": 1},
]


def test_flows_of_every_form_mean_the_same(run: Run) -> None:
    Path("forms.jsonl").write_text("".join(json.dumps(flow) + "\n" for flow in FLOWS))
    plain = ("--manifests", "manifests", "--flows", "forms.jsonl")
    got = run("record", "import", "forms.fathom", *plain)
    assert (got.status, got.err) == (0, "")

    def texts(source: tuple[str, ...]) -> list[dict[str, Any]]:
        """An address that is what its end is written as says nothing more."""
        found = verdicts(run, *source)
        for item in found:
            for end in ("src", "dst"):
                if item["flow"].get(f"{end}_address") == item["flow"][end]:
                    del item["flow"][f"{end}_address"]
        return sorted(found, key=lambda item: json.dumps(item["flow"], sort_keys=True))

    assert texts(("--recording", "forms.fathom")) == texts(plain)


def test_flows_over_the_beginning_of_a_pod_mean_the_same(run: Run) -> None:
    """A sum is not cut at a change in its midst: the store's own flows are, by their intervals."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "late",
            "namespace": "shop",
            "labels": {"app": "db"},
            "creationTimestamp": "2026-01-25T00:30:00Z",
        },
        "spec": {"containers": []},
        "status": {"podIP": "10.9.9.9"},
    }
    Path("pod.json").write_text(json.dumps(pod))
    times = {"first_seen": "2026-01-24T00:00:00Z", "last_seen": "2026-01-26T00:00:00Z"}
    flow = {"src": "shop/Deployment/web", "dst": "10.9.9.9", "port": 1, "count": 7, **times}
    Path("f.jsonl").write_text(json.dumps(flow))
    plain = ("--manifests", "manifests", "--manifests", "pod.json", "--flows", "f.jsonl")
    assert run("record", "import", "a.fathom", *plain).status == 0
    assert verdicts(run, "--recording", "a.fathom") == verdicts(run, *plain)


def test_equal_flows_become_one(run: Run) -> None:
    flow = {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "port": 9090}
    rows = [{**flow, "count": n, "first_seen": BEGIN + n, "last_seen": BEGIN + 10 * n} for n in (1, 2, 3)]
    Path("f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("record", "import", "a.fathom", "--manifests", "manifests", "--flows", "f.jsonl").status == 0
    (found,) = verdicts(run, "--recording", "a.fathom")
    assert (found["flow"]["count"], found["flow"]["first_seen"], found["flow"]["last_seen"]) == (
        6,
        BEGIN + 1,
        BEGIN + 30,
    )


LONG = {"src": "shop/Deployment/web", "dst": "shop/StatefulSet/db", "port": 5432, "count": 1000}


@pytest.mark.parametrize(
    ("part", "count"),
    [
        ((), 1000),
        (("--since", "2026-01-03T00:00:00Z"), 1000),
        (("--since", "3d"), 1000),
        (("--until", "2026-01-03T00:00:00Z"), 1000),
        (("--since", "2026-01-03T00:00:00Z", "--until", "2026-01-03T00:10:00Z"), 1000),
        (("--until", "2026-01-01T00:00:00Z"), 0),
        (("--since", "2026-01-07T00:00:01Z"), 0),
    ],
)
def test_a_flow_counts_whole_in_every_part_of_its_time(run: Run, part: tuple[str, ...], count: int) -> None:
    """It is not known how its count is spread over its time."""
    other = {**LONG, "port": 5433, "first_seen": "2026-01-07T00:00:01Z", "last_seen": "2026-01-08T00:00:00Z"}
    early = {**LONG, "port": 5434, "first_seen": "2025-12-31T00:00:00Z", "last_seen": "2025-12-31T23:59:59Z"}
    flow = {**LONG, "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-07T00:00:00Z"}
    Path("span.jsonl").write_text("".join(json.dumps(item) + "\n" for item in (early, flow, other)))
    assert run("record", "import", "span.fathom", "--manifests", "manifests", "--flows", "span.jsonl").status == 0
    got = run("policy", "evaluate", "--policies", "policies", "--recording", "span.fathom", *part)
    found = {(item := json.loads(line))["flow"]["port"]: item for line in got.out.splitlines()}
    assert (found[5432]["flow"]["count"] if 5432 in found else 0) == count
    if count:
        assert found[5432]["verdict"] == "denied-ingress"
        times = found[5432]["flow"]["first_seen"], found[5432]["flow"]["last_seen"]
        assert times == (1767225600, 1767744000)
    assert ("count whole" in got.err) == bool(part and count)


def test_a_flow_that_reaches_into_a_part_is_judged_over_all_of_its_time(run: Run) -> None:
    """Its address was a pod's that ended before the part begins."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "done", "namespace": "shop", "labels": {"app": "db"}},
        "spec": {"containers": []},
        "status": {
            "podIP": "10.9.9.9",
            "phase": "Succeeded",
            "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-01-24T12:00:00Z"}}}],
        },
    }
    Path("pod.json").write_text(json.dumps(pod))
    times = {"first_seen": "2026-01-24T00:00:00Z", "last_seen": "2026-01-26T00:00:00Z"}
    Path("f.jsonl").write_text(json.dumps({**LONG, "dst": "10.9.9.9", **times}))
    plain = ("--manifests", "manifests", "--manifests", "pod.json", "--flows", "f.jsonl")
    assert run("record", "import", "a.fathom", *plain).status == 0
    assert verdicts(run, "--recording", "a.fathom", "--since", "1h") == verdicts(run, *plain)
    assert verdicts(run, *plain)[0]["verdict"] == "denied-ingress"


def test_a_flow_without_times_is_of_every_part(run: Run) -> None:
    seen = {**LONG, "port": 5433, "first_seen": "2026-01-06T00:00:00Z", "last_seen": "2026-01-06T00:00:00Z"}
    Path("span.jsonl").write_text("".join(json.dumps(item) + "\n" for item in (LONG, seen)))
    assert run("record", "import", "span.fathom", "--manifests", "manifests", "--flows", "span.jsonl").status == 0
    (untimed, _) = verdicts(run, "--recording", "span.fathom", "--since", "2026-01-05T00:00:00Z")
    assert (untimed["flow"]["port"], untimed["flow"]["count"], untimed["verdict"]) == (5432, 1000, "denied-ingress")


def test_a_part_that_begins_within_an_hour_holds_the_sums_of_that_hour(run: Run, url: str) -> None:
    assert run("record", "export", "all.fathom", "--store", url).status == 0
    assert told(run, "all.fathom")["sums"]
    assert told(run, "all.fathom")["facts"] == 0
    whole, part = (verdicts(run, "--recording", "all.fathom", *more) for more in ((), ("--since", "30m")))
    assert whole == part
    assert "count whole" in run("policy", "coverage", "--recording", "all.fathom", "--since", "30m").err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"count": 0}, "its count is 0"),
        ({"src_address": "10.0.0.1", "dst_address": "10.0.0.2"}, "its src_address cannot be held"),
        ({"dst": "10.0.0.1", "dst_address": "10.0.0.2"}, "its name cannot be held"),
        ({"first_seen": "9999-01-01T00:00:00Z"}, "its times are none that a recording can hold"),
    ],
)
def test_a_flow_that_an_edge_cannot_hold_is_refused(run: Run, more: dict[str, Any], words: str) -> None:
    flow = {"src": "shop/Deployment/web", "dst": "shop/Deployment/api", "port": 9090}
    Path("f.jsonl").write_text(json.dumps(flow) + "\n" + json.dumps({**flow, "port": 1, **more}))
    got = run("record", "import", "a.fathom", "--manifests", "manifests", "--flows", "f.jsonl")
    assert (got.status, got.out) == (2, "")
    assert f"f.jsonl: flow 2: {words}" in got.err
    assert not Path("a.fathom").exists()


def test_system_calls_come_with_it_and_make_profiles(run: Run) -> None:
    Path("calls.jsonl").write_text(json.dumps(CALLS) + "\n")
    assert run("record", "import", "calls.fathom", "--syscalls", "calls.jsonl").status == 0
    assert told(run, "calls.fathom")["syscall_sets"] == 1
    one = run("seccomp", "generate", "--recording", "calls.fathom")
    assert (one.status, one.out) == (0, run("seccomp", "generate", "calls.jsonl").out)
    assert run("record", "import", "plain.fathom", *PLAIN).status == 0
    got = run("seccomp", "generate", "--recording", "plain.fathom")
    assert (got.status, got.out) == (2, "")
    assert "plain.fathom holds no system calls" in got.err
    assert run("seccomp", "generate").status == 2


# Recordings of recordings.


@pytest.fixture
def parts(run: Run, url: str, example: Path) -> dict[str, str]:  # noqa: ARG001 - the folder
    """Recordings of parts of the hour, all of it, and all of it at once, by name."""
    asked = {
        "early": ("--until", "2026-01-24T00:30:00Z"),
        "late": ("--since", "2026-01-24T00:30:00Z"),
        "middle": ("--since", "2026-01-24T00:20:00Z", "--until", "2026-01-24T00:50:20Z"),
        "all": (),
        "again": (),
    }
    for name, window in asked.items():
        assert run("record", "export", f"{name}.fathom", "--store", url, *window).status == 0
    return {name: f"{name}.fathom" for name in asked}


@pytest.mark.parametrize(
    "names",
    [
        ("early", "late"),
        ("late", "early"),
        ("early", "middle", "late"),
        ("all", "early"),
        ("all", "again"),
        ("middle", "all"),
        ("early", "early2", "late"),
    ],
)
def test_recordings_of_one_store_count_nothing_twice(run: Run, parts: dict[str, str], names: tuple[str, ...]) -> None:
    shutil.copy(parts["early"], "early2.fathom")
    got = run("record", "import", "new.fathom", *(f"{name}.fathom" for name in names))
    assert (got.status, got.err) == (0, "")
    new, whole = told(run, "new.fathom"), told(run, "all.fathom")
    for field in (
        "since",
        "until",
        "edges",
        "workloads",
        "endpoints",
        "nodes",
        "source",
        "asked",
        "interval_s",
        "loss",
    ):
        assert new[field] == whole[field], field
    assert new["coverage"] == whole["coverage"]
    assert verdicts(run, "--recording", "new.fathom") == verdicts(run, "--recording", "all.fathom")
    assert replay(run, "--recording", "new.fathom") == replay(run, "--recording", "all.fathom")


def test_a_merged_recording_can_be_merged_again(run: Run, parts: dict[str, str]) -> None:
    assert run("record", "import", "both.fathom", parts["early"], parts["late"]).status == 0
    assert run("record", "import", "more.fathom", "both.fathom", parts["middle"]).status == 0
    assert verdicts(run, "--recording", "more.fathom") == verdicts(run, "--recording", "all.fathom")


def test_what_lies_between_two_windows_was_not_observed(run: Run, url: str) -> None:
    for name, since, until in (("a", "00:00", "00:10"), ("b", "00:50", "01:00")):
        window = ("--since", f"2026-01-24T{since}:00Z", "--until", f"2026-01-24T{until}:00Z")
        assert run("record", "export", f"{name}.fathom", "--store", url, *window).status == 0
    assert run("record", "import", "new.fathom", "a.fathom", "b.fathom").status == 0
    coverage = told(run, "new.fathom")["coverage"]
    assert [(gap["since"][11:16], gap["until"][11:16]) for gap in coverage["gaps"]] == [("00:10", "00:50")]
    # The part between is added later, although the windows of the first already lie around it.
    window = ("--since", "2026-01-24T00:10:00Z", "--until", "2026-01-24T00:50:00Z")
    assert run("record", "export", "c.fathom", "--store", url, *window).status == 0
    assert run("record", "import", "full.fathom", "new.fathom", "c.fathom").status == 0
    assert run("record", "export", "all.fathom", "--store", url).status == 0
    assert verdicts(run, "--recording", "full.fathom") == verdicts(run, "--recording", "all.fathom")
    assert told(run, "full.fathom")["coverage"] == told(run, "all.fathom")["coverage"]


def test_another_store_of_the_same_node_and_time_is_refused(run: Run, parts: dict[str, str], tmp_path: Path) -> None:
    shop_store(EXAMPLES, tmp_path / "other").close()
    assert run("record", "export", "other.fathom", "--store", f"sqlite://{tmp_path}/other").status == 0
    got = run("record", "import", "new.fathom", parts["all"], "other.fathom")
    assert (got.status, got.out) == (2, "")
    assert "node node-1 was observed at the same time in both" in got.err
    assert not Path("new.fathom").exists()


def test_flows_beside_recordings_are_refused_and_objects_are_added(run: Run, parts: dict[str, str]) -> None:
    got = run("record", "import", "new.fathom", parts["all"], "--flows", "flows.jsonl")
    assert got.status == 2
    assert "counted twice" in got.err
    Path("more.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: added, labels: {a: b}}}")
    got = run("record", "import", "new.fathom", parts["all"], "--manifests", "manifests", "--manifests", "more.yaml")
    assert got.status == 0, got.err
    assert told(run, "new.fathom")["endpoints"] == told(run, "all.fathom")["endpoints"] + 1


def test_objects_that_a_recording_holds_otherwise_are_told_and_stay_as_they_were(run: Run) -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "w-1", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"containers": []},
    }
    Path("pod.json").write_text(json.dumps(pod))
    assert run("record", "import", "old.fathom", "--manifests", "pod.json", "--manifests", "manifests").status == 0
    again = run("record", "import", "same.fathom", "old.fathom", "--manifests", "pod.json", "--manifests", "manifests")
    assert (again.status, again.err) == (0, "")
    pod["metadata"]["labels"]["app"] = "other"
    Path("pod.json").write_text(json.dumps(pod))
    got = run("record", "import", "new.fathom", "old.fathom", "--manifests", "pod.json")
    assert got.status == 0
    assert got.err == (
        "fathom: the recordings say something else of what is in the manifests, and what they say is kept:"
        " Pod shop/w-1\n"
    )
    assert told(run, "new.fathom")["endpoints"] == told(run, "old.fathom")["endpoints"]


def test_two_of_plain_files_of_the_same_time_are_refused(run: Run) -> None:
    assert run("record", "import", "a.fathom", *PLAIN).status == 0
    Path("b.jsonl").write_text(Path("flows.jsonl").read_text())
    got = run("record", "import", "b.fathom", "--manifests", "manifests", "--flows", "b.jsonl")
    assert got.status == 0
    got = run("record", "import", "new.fathom", "a.fathom", "b.fathom")
    assert got.status == 2
    assert "one of them does not say who saw it" in got.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to import"),
        (("--flows", "/dev/null"), "nothing in what was named"),
        (("--syscalls", "/dev/null"), "nothing in what was named"),
        (("all.fathom", "./all.fathom"), "is named twice"),
        (("new.fathom",), "there is no store or recording"),
        (("--flows", "-", "--syscalls", "-"), "standard input (-) is named 2 times"),
        (("--flows", "absent"), "cannot read absent"),
        (("--manifests", "flows.jsonl"), "flows.jsonl"),
    ],
)
@pytest.mark.usefixtures("parts")
def test_what_cannot_be_imported(run: Run, arguments: tuple[str, ...], words: str) -> None:
    got = run("record", "import", "new.fathom", *arguments)
    assert got.status in (1, 2)
    assert words in got.err
    assert not Path("new.fathom").exists()


def test_an_input_is_not_overwritten(run: Run, parts: dict[str, str]) -> None:
    before = Path(parts["all"]).read_bytes()
    got = run("record", "import", parts["all"], parts["early"], parts["all"], "--force")
    assert got.status == 2
    assert "is named twice" in got.err
    assert Path(parts["all"]).read_bytes() == before


def test_a_store_of_a_recording_that_nobody_made_is_refused(run: Run, tmp_path: Path) -> None:
    open_store(f"sqlite://{tmp_path}/empty").close()
    shutil.copy(tmp_path / "empty/meta.db", "hand.fathom")
    got = run("record", "import", "new.fathom", "hand.fathom")
    assert got.status == 1
    assert "hand.fathom" in got.err
