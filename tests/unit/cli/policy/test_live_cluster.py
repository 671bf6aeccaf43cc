"""A live cluster as the source of policies and of the inventory, behind a program in the place of kubectl."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fathom.cli.policy import kubectl, livecluster

from .conftest import ALL, SEEN, Run
from .live_shop import PLAIN, POLICIES, documents, install, serve, shop, tell

LIVE = ("--manifests", "kube:", "--flows", "flows.jsonl")


@pytest.fixture
def server(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:  # noqa: ARG001
    """``server(told)``: from now on kubectl answers so; the file of its calls."""
    folder = tmp_path / "kubectl"
    folder.mkdir()
    install(folder)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return partial(tell, folder)


def without_state(text: str) -> str:
    """An answer without the line that says that it is about a live cluster."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("inventory: the live cluster as of"))


@pytest.mark.parametrize("command", ["replay", "exposure", "explain rule"])
def test_a_live_cluster_answers_as_its_files_do(run: Run, server: Callable[..., Path], command: str) -> None:
    server(shop())
    files, live = run(*command.split(), *ALL), run(*command.split(), "--policies", "kube:", *LIVE)
    assert files.status == live.status
    assert without_state(
        live.out.replace("kube:prod/networking.k8s.io/v1/networkpolicies", "policies/shop.yaml")
    ) == files.out.rstrip("\n")
    if command != "exposure":
        assert live.out != files.out
        assert "fathom: 4 policies of kube:prod (https://prod:6443) as of 2" in live.err


def test_what_the_server_does_not_have_is_said(run: Run, server: Callable[..., Path]) -> None:
    server(shop("CiliumNetworkPolicy", "CiliumEndpoint"))
    said = run("replay", "--policies", "kube:", *SEEN).err
    assert "; its API server has no CiliumClusterwideNetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy" in said
    assert " CiliumNetworkPolicy" not in said


def test_the_time_of_reading_is_in_the_answer(run: Run, server: Callable[..., Path]) -> None:
    server(shop())
    basis = json.loads(run("replay", *ALL[:2], *LIVE, "-o", "json").out)["basis"]
    assert basis["as_of"] > 1_700_000_000
    assert json.loads(run("replay", *ALL, "-o", "json").out)["basis"]["as_of"] == 0


def test_lists_are_read_in_parts(run: Run, server: Callable[..., Path]) -> None:
    whole = run("evaluate", *ALL)
    calls = server(shop() | {"most": 2})
    live = run("evaluate", "--policies", "kube:", *LIVE)
    lists = [line for line in calls.read_text().splitlines() if POLICIES + "?" in line]
    assert len(lists) == 2
    assert all("limit=500" in line for line in lists)
    verdicts = [[json.loads(line)["verdict"] for line in got.out.splitlines()] for got in (whole, live)]
    assert verdicts[0] == verdicts[1]
    assert len(verdicts[0]) == 8


def test_a_list_that_grew_too_old_is_begun_again_and_at_last_given_up(run: Run, server: Callable[..., Path]) -> None:
    server(shop() | {"most": 2, "expires": 2})
    assert run("replay", "--policies", "kube:", *SEEN).status == 1
    server(shop() | {"most": 2, "expires": 99})
    got = run("replay", "--policies", "kube:", *SEEN)
    assert (got.status, got.out) == (2, "")
    assert "too old" in got.err


def test_kinds_that_are_not_evaluated_are_read_all_the_same(run: Run, server: Callable[..., Path]) -> None:
    others = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "deny-all"}, "spec": {}}
        for version, kind in (
            ("crd.projectcalico.org/v1", "GlobalNetworkPolicy"),
            ("networking.gke.io/v1alpha1", "FQDNNetworkPolicy"),
        )
    ]
    kinds = [*PLAIN, "GlobalNetworkPolicy", "IPPool", "FQDNNetworkPolicy", "FrontendConfig"]
    told = serve(kinds, [*documents("manifests"), *documents("policies"), *others])
    calls = server(told)
    got = run("replay", "--policies", "kube:", *SEEN, "-o", "json")
    assert "GlobalNetworkPolicy of crd.projectcalico.org is not evaluated" in got.err
    assert "FQDNNetworkPolicy of networking.gke.io is not evaluated" in got.err
    assert set(json.loads(got.out)["flows"]) >= {"unknown"}
    assert json.loads(got.out)["flows"]["allowed"] == 0
    assert "ippools" not in calls.read_text()
    assert "frontendconfigs" not in calls.read_text()


def beside(told: dict[str, Any], kind: str, plural: str, items: list[dict[str, Any]]) -> None:
    """``told`` has a kind of Calico's too."""
    path = "/apis/crd.projectcalico.org/v1"
    groups = told["answers"]["/apis"]["groups"]
    if path not in told["answers"]:
        groups.append({"name": "crd.projectcalico.org", "versions": [{"groupVersion": "crd.projectcalico.org/v1"}]})
        told["answers"][path] = {"resources": []}
    told["answers"][path]["resources"].append({"name": plural, "kind": kind, "verbs": ["get", "list"]})
    told["objects"][f"{path}/{plural}"] = items
    told["kinds"][f"{path}/{plural}"] = (kind, "crd.projectcalico.org/v1")


def test_lists_of_one_name_in_two_groups_are_both_read(run: Run, server: Callable[..., Path]) -> None:
    """Calico has a kind NetworkPolicy too; that none of those is there says nothing of the others."""
    told = shop()
    server(told)
    plain = run("replay", "--policies", "kube:", *SEEN).out
    beside(told, "Tier", "tiers", [{"metadata": {"name": "default"}, "spec": {}}])
    beside(told, "NetworkPolicy", "networkpolicies", [])
    server(told)
    got = run("replay", "--policies", "kube:", *SEEN)
    assert got.out == plain
    assert "fathom: 4 policies of kube:prod" in got.err
    same = {"metadata": {"name": "default-deny", "namespace": "shop"}, "spec": {"selector": "all()"}}
    told["objects"]["/apis/crd.projectcalico.org/v1/networkpolicies"].append(same)
    server(told)
    got = run("replay", "--policies", "kube:", *SEEN, "-o", "json")
    assert "5 policies of kube:prod" in got.err
    assert json.loads(got.out)["flows"]["allowed"] == 0, "what is not understood may deny anything"


def test_what_kubectl_has_started_is_not_waited_for(
    run: Run, server: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl, "PROCESS_S", 20)
    server(shop() | {"leaves": [POLICIES]})
    begun = time.monotonic()
    assert run("replay", "--policies", "kube:", *SEEN).status == 1
    assert time.monotonic() - begun < 20


def test_the_version_that_is_read_is_asked_for() -> None:
    paths = [f"/apis/policy.networking.k8s.io/{version}/clusternetworkpolicies" for version in ("v2", "v1alpha2")]
    assert livecluster._best("ClusterNetworkPolicy", paths) == paths[1]
    assert livecluster._best("ClusterNetworkPolicy", paths[:1]) == paths[0]


def test_context_and_kubeconfig_go_to_kubectl(run: Run, server: Callable[..., Path]) -> None:
    calls = server(shop())
    got = run("diff", "--old", "kube:old", "--new", "kube:", "--kubeconfig", "conf", "--context", "prod", *SEEN)
    assert (got.status, len(got.err.splitlines())) == (0, 2)
    assert "4 policies of kube:old as of" in got.err
    lines = calls.read_text().splitlines()
    assert all("--kubeconfig=conf" in line for line in lines)
    assert {line.rpartition("--context=")[2] for line in lines} == {"old", "prod"}
    assert all(line.split()[:2] in (["get", "--raw"], ["config", "view"]) for line in lines)


FORBIDDEN = 'Error from server (Forbidden): nodes is forbidden: User "u" cannot list resource "nodes" in API group ""'


@pytest.mark.parametrize(
    ("path", "said", "words"),
    [
        (POLICIES, FORBIDDEN, ["a read that is needed"]),
        ("/apis/networking.k8s.io/v1", FORBIDDEN, ["a read that is needed"]),
        (
            "/api/v1/nodes",
            FORBIDDEN,
            ["a read that is needed", 'cannot list resource "nodes"', "ask for the permission"],
        ),
        ("/apis", "error: You must be logged in to the server (Unauthorized)", ["logged in", "log in again"]),
        (
            "/apis",
            "Unable to connect to the server: dial tcp: i/o timeout",
            ["Unable to connect", "kubectl get namespaces"],
        ),
        ("/apis", "error: something else\nhint", ["error: something else", "get-contexts"]),
        (POLICIES, "", ["it did not say why"]),
        (POLICIES, "error: \x1b[31mred", ["\\x1b[31mred"]),
    ],
)
def test_a_read_that_fails_ends_the_command(
    run: Run, server: Callable[..., Path], path: str, said: str, words: list[str]
) -> None:
    server(shop() | {"fails": {path: said or 3}})
    got = run("replay", "--policies", "kube:", *LIVE)
    assert (got.status, got.out) == (2, "")
    assert [word for word in words if word not in got.err] == [], got.err
    assert "affected: nothing was answered" in got.err


def test_no_kubectl_and_no_context_are_said(
    run: Run, server: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server(shop())
    got = run("replay", "--policies", "kube:absent", *SEEN)
    assert (got.status, "no context 'absent'" in got.err, "name one of: old, prod" in got.err) == (2, True, True)
    monkeypatch.setenv("PATH", "/nowhere")
    got = run("replay", "--policies", "kube:", *SEEN)
    assert (got.status, "kubectl cannot be started: No such file" in got.err) == (2, True)


def test_time_and_size_are_bounded(run: Run, server: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    server(shop() | {"sleeps": [POLICIES]})
    monkeypatch.setattr(kubectl, "PROCESS_S", 8)
    got = run("replay", "--policies", "kube:", *SEEN)
    assert got.status == 2
    assert "has not ended after 8 s; it said: To sign in, open a browser" in got.err
    server(shop())
    monkeypatch.setattr(kubectl, "PROCESS_S", 60)
    monkeypatch.setattr(livecluster, "MOST_TOGETHER", 100)
    assert "are larger than 0 MiB" in run("replay", "--policies", "kube:", *SEEN).err
    monkeypatch.setattr(kubectl, "MOST_BYTES", 1_000)
    assert "answered more than 0 MiB" in run("replay", "--policies", "kube:", *SEEN).err


def test_what_is_no_answer_of_an_api_server_is_refused(run: Run, server: Callable[..., Path]) -> None:
    told = shop()
    told["answers"]["/apis"] = ["odd"]
    server(told)
    assert "the API server at /apis answered something else" in run("replay", "--policies", "kube:", *SEEN).err
