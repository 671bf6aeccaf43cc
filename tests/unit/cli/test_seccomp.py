"""``fathom seccomp``, from files to files, through the command line's own entry."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fathom.cli.main import main
from fathom.cli.seccomp import _name
from fathom.policy.seccomp import BASE

SAME = {
    "changed": [],
    "architectures": [],
    "unnamed": [],
    "default": [],
    "looser": False,
    "flags": [],
    "widened": [],
    "narrowed": [],
}


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    rows = [
        {"workload": "shop/web", "image": "web:1", "calls": ["socket", "bind"]},
        {"workload": "shop/web", "image": "web:1", "calls": ["listen"]},
        {"workload": "shop/Db", "image": "db:1", "calls": [41, "ptrace"]},
    ]
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(capsys: Any, *arguments: object) -> SimpleNamespace:
    status = main([str(item) for item in ("seccomp", *arguments)])
    out, err = capsys.readouterr()
    return SimpleNamespace(status=status, out=out, err=err)


def test_an_oci_profile_of_one_workload_merged_over_its_sets(capsys: Any, calls: Path) -> None:
    got = run(capsys, "generate", calls, "--subject", "shop/web")
    assert got.status == 0
    profile = json.loads(got.out)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert set(profile["syscalls"][0]["names"]) == BASE | {"socket", "bind", "listen"}


@pytest.mark.parametrize(("word", "action"), [("log", "SCMP_ACT_LOG"), ("kill", "SCMP_ACT_KILL_PROCESS")])
def test_the_default_action_is_chosen(capsys: Any, calls: Path, word: str, action: str) -> None:
    got = run(capsys, "generate", calls, "--by", "image", "--subject", "web:1", "--default", word)
    assert json.loads(got.out)["defaultAction"] == action


def test_objects_of_the_operator_are_one_stream(capsys: Any, calls: Path) -> None:
    got = run(capsys, "generate", calls, "--format", "spo", "--namespace", "shop")
    found = list(yaml.safe_load_all(got.out))
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [
        ("SeccompProfile", "shop-db"),
        ("SeccompProfile", "shop-web"),
    ]
    assert {item["metadata"]["namespace"] for item in found} == {"shop"}
    assert "shop/Db itself called: ptrace" in got.err


def test_an_annotation_for_crio(capsys: Any, calls: Path) -> None:
    asked = ("generate", calls, "--subject", "shop/web", "--format", "crio-annotation")
    got = run(capsys, *asked, "--artifact", "registry.example/web:1", "--container", "web")
    assert yaml.safe_load(got.out) == {"seccomp-profile.kubernetes.cri-o.io/web": "registry.example/web:1"}
    assert run(capsys, *asked).status == 2


def test_several_profiles_go_into_a_directory(capsys: Any, calls: Path, tmp_path: Path) -> None:
    assert run(capsys, "generate", calls).status == 2
    got = run(capsys, "generate", calls, "--directory", tmp_path / "made")
    assert got.status == 0
    assert got.out == ""
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == ["shop-db.json", "shop-web.json"]
    (tmp_path / "file").write_text("")
    assert run(capsys, "generate", calls, "--directory", tmp_path / "file" / "x").status == 1


def test_names_that_would_be_one_are_refused(capsys: Any, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    file.write_text('{"workload": "a/b", "calls": []}\n{"workload": "a-b", "calls": []}\n')
    got = run(capsys, "generate", file, "--directory", tmp_path / "made")
    assert got.status == 2
    assert "a-b" in got.err
    assert not (tmp_path / "made").exists()


SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@given(st.lists(st.text(st.sampled_from("aZ0.-/_:é ")), min_size=1, max_size=5) | st.lists(st.text(), min_size=1))
@example(["/usr/lib/.hidden/app"])
@example(["a..b/.c"])
@example(["a" * 199 + "/.b"])
def test_names_are_what_the_api_server_takes(subjects: list[str]) -> None:
    """k8s.io/apimachinery, IsDNS1123Subdomain."""
    for subject in subjects:
        name = _name(subject)
        assert SUBDOMAIN.fullmatch(name)
        assert len(name) <= 253


def test_calls_from_standard_input(capsys: Any, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(calls.read_bytes())))
    got = run(capsys, "generate", "-", "--subject", "shop/web")
    assert "listen" in json.loads(got.out)["syscalls"][0]["names"]


def test_diff_says_what_changes_and_its_status_says_whether(capsys: Any, calls: Path, tmp_path: Path) -> None:
    run(capsys, "generate", calls, "--directory", tmp_path)
    run(capsys, "generate", calls, "--directory", tmp_path / "spo", "--format", "spo")
    web, db = tmp_path / "shop-web.json", tmp_path / "spo" / "shop-db.yaml"
    got = run(capsys, "diff", web, db)
    assert got.status == 1
    assert got.out == "newly allowed (1): ptrace\nno longer allowed (2): bind listen\n"
    as_json = json.loads(run(capsys, "diff", db, web, "-o", "json").out)
    assert as_json == {"added": ["bind", "listen"], "removed": ["ptrace"], **SAME}
    same = run(capsys, "diff", web, tmp_path / "spo" / "shop-web.yaml")
    assert same.status == 0
    log = tmp_path / "log.json"
    log.write_text(web.read_text().replace("SCMP_ACT_ERRNO", "SCMP_ACT_LOG"))
    assert run(capsys, "diff", web, log).out.endswith("default action: SCMP_ACT_ERRNO 1 -> SCMP_ACT_LOG (milder)\n")
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({**json.loads(web.read_text()), "flags": ["SECCOMP_FILTER_FLAG_LOG"]}))
    got = run(capsys, "diff", web, flags)
    assert (got.status, got.out.splitlines()[-1]) == (1, "flags: none -> SECCOMP_FILTER_FLAG_LOG")


def test_compare_with_the_runtimes_default(capsys: Any, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["read", "mount"], "action": "SCMP_ACT_ALLOW"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
    found = json.loads(run(capsys, "compare", profile, "-o", "json").out)
    assert found["added"] == ["mount"]
    assert "socket" in found["removed"]
    assert "read" not in found["removed"]
    rule["names"] += ["clone", "socket"]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
    lines = run(capsys, "compare", profile).out.splitlines()
    assert lines[0] == "newly allowed (3): clone mount socket"
    assert lines[2] == "newly allowed whatever the arguments, before for some only (2): clone socket"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "a: b\n---\nc: d", "{", '{"defaultAction": 7}', "a: &a [*a, *a]", "\x00"]
)
def test_what_is_no_profile_is_refused_with_its_place(capsys: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong"
    file.write_text(text)
    got = run(capsys, "compare", file)
    assert got.status == 2
    assert got.out == ""
    assert "wrong" in got.err


@pytest.mark.parametrize("text", ["{", '{"workload": "w", "calls": ["no_such_call"]}', "", '{"calls": ["read"]}'])
def test_what_are_no_calls_is_refused(capsys: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "wrong"
    file.write_text(text)
    assert run(capsys, "generate", file).status == 2


def test_files_that_cannot_be_read_are_refused(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(capsys, "generate", tmp_path / "absent").status == 2
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert run(capsys, "compare", tmp_path / "binary").status == 2
    monkeypatch.setattr("fathom.cli.files.MOST_BYTES", 10)
    (tmp_path / "large").write_text(" " * 11)
    assert "larger" in run(capsys, "compare", tmp_path / "large").err
    assert run(capsys, "generate", tmp_path / "large", "--subject", "nobody").status == 2
