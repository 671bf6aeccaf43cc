"""Bad input of each kind: a clear message on standard error, nothing on standard output, and the status of an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fathom.cli import files
from fathom.cli.policy import problems

from .conftest import ALL, SEEN, Run

BAD_POLICY = """
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: bad, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}]}
"""
ODD_POLICY = """
kind: CiliumNetworkPolicy
apiVersion: cilium.io/v2
metadata: {name: odd, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{}], surprise: 1}]}
"""
pytestmark = pytest.mark.usefixtures("example")


def refused(run: Run, *arguments: object, input: str = "") -> str:
    """What is said when the arguments are refused."""
    got = run(*arguments, input=input)
    assert (got.status, got.out) == (2, ""), got
    said: str = got.err
    return said


@pytest.mark.parametrize("command", ["evaluate", "replay", "exposure", "graph"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policies", "absent", *SEEN), "cannot read absent: No such file or directory"),
        (("--policies", "policies", "--manifests", "absent"), "cannot read absent: No such file or directory"),
        (("--policies", "policies", "--manifests", "manifests", "--flows", "absent"), "cannot read absent"),
        (("--policies", "policies", "--manifests", "manifests", "--flows", "manifests"), "Is a directory"),
        (("--policies", "policies", "--flows", "flows.jsonl"), "no inventory"),
        (("--policies", "flows.jsonl", *SEEN), "flows.jsonl, document 0: refused: not YAML"),
        (("--policies", "policies", "--manifests", "policies"), "no pod or workload in policies"),
        ((*ALL, "--since", "5m"), "--since is about a server or a recording, and other files were named"),
        ((*ALL, "--cluster", "a"), "--cluster is about a server or a recording, and other files were named"),
        (("--policies", "-", "--manifests", "manifests", "--flows", "-"), "standard input (-) is named 2 times"),
        ((*ALL, "--server", "http://127.0.0.1:1"), "--server is about a server, and files were named"),
        ((*ALL, "--limit", "0"), "--limit|No such option"),
        ((*ALL, "-o", "nonsense"), "nonsense"),
        ((*ALL, "--icmp", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_used_is_refused(run: Run, command: str, arguments: tuple[str, ...], message: str) -> None:
    assert any(word in refused(run, command, *arguments) for word in message.split("|"))


@pytest.mark.parametrize("command", ["evaluate", "replay"])
def test_commands_about_traffic_want_flows_and_policies(run: Run, command: str) -> None:
    assert "no flows" in refused(run, command, "--policies", "policies", "--manifests", "manifests")
    assert "no policies" in refused(run, command, *SEEN)
    assert "no policy in manifests" in refused(run, command, "--policies", "manifests", *SEEN)


@pytest.mark.parametrize("command", ["generate", "coverage"])
def test_commands_without_policies_want_flows(run: Run, command: str) -> None:
    assert "no flows" in refused(run, command, "--manifests", "manifests")


@pytest.mark.parametrize(("command", "status"), [("replay", 2), ("evaluate", 1), ("exposure", 1), ("graph", 1)])
def test_without_files_the_server_is_asked(run: Run, command: str, status: int) -> None:
    got = run(command, "--policies", "policies")
    assert (got.status, got.out) == (status, "")
    assert "no server answers at http://127.0.0.1:1" in got.err


def test_diff_wants_both_sets(run: Run) -> None:
    assert "name files or directories by --old" in refused(run, "diff", "--new", "policies", *SEEN)
    assert "name files or directories by --new" in refused(run, "diff", "--old", "policies", *SEEN)


@pytest.mark.parametrize("command", ["evaluate", "replay", "exposure", "graph"])
def test_a_refused_policy_ends_the_command_with_its_place(run: Run, example: Path, command: str) -> None:
    (example / "policies/bad.yaml").write_text(BAD_POLICY)
    said = refused(run, command, *ALL)
    assert "policies/bad.yaml, document 0, spec.ingress[0].ports[0].endPort: refused:" in said
    assert "1 document was refused\n  affected: nothing was answered" in said


def test_refused_documents_on_either_side_of_a_diff(run: Run, example: Path) -> None:
    (example / "bad.yaml").write_text(BAD_POLICY + "---" + BAD_POLICY.replace("name: bad", "name: worse"))
    assert "2 documents were refused" in refused(run, "diff", "--old", "bad.yaml", "--new", "policies", *SEEN)
    assert "2 documents were refused" in refused(run, "diff", "--old", "policies", "--new", "bad.yaml", *SEEN)


@pytest.mark.parametrize(
    "text", ["{", "a: [1\n", "\t- x", "a: *b", "a: 1\na: 2", "!!python/object:os.system {}", "&a [*a]", "- - -\n\tx"]
)
def test_what_is_not_yaml_is_refused(run: Run, example: Path, text: str) -> None:
    (example / "policies/zz.yaml").write_text(text)
    assert "policies/zz.yaml, document 0" in refused(run, "replay", *ALL)
    (example / "policies/zz.yaml").unlink()
    (example / "manifests/zz.yaml").write_text(text)
    assert "manifests/zz.yaml, document 0" in refused(run, "replay", *ALL)


def test_what_is_no_text_is_refused(run: Run, example: Path) -> None:
    (example / "policies/zz.yaml").write_bytes(b"\xff\xfe\x00")
    assert "policies/zz.yaml is not UTF-8 text" in refused(run, "replay", *ALL)


def test_a_huge_file_is_refused_without_reading_it(run: Run, example: Path) -> None:
    with (example / "policies/zz.yaml").open("wb") as stream:
        stream.truncate(100 << 20)
    assert "policies/zz.yaml is larger than 64 MiB" in refused(run, "replay", *ALL)
    with (example / "huge.jsonl").open("wb") as stream:
        stream.truncate(600 << 20)
    asked = ("replay", "--policies", "policies/shop.yaml", "--manifests", "manifests")
    assert "huge.jsonl is larger than 512 MiB" in refused(run, *asked, "--flows", "huge.jsonl")


def test_too_many_files_and_too_much_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_TOGETHER", 100)
    assert "together are larger" in refused(run, "exposure", *ALL)
    monkeypatch.setattr(files, "MOST_FILES", 0)
    assert "more than 0 files below" in refused(run, "exposure", *ALL)


def test_what_is_no_file_in_a_directory_is_not_waited_for(run: Run, example: Path) -> None:
    os.mkfifo(example / "policies" / "pipe.yaml")
    assert "pipe.yaml is no file" in refused(run, "replay", *ALL)


def test_hidden_files_and_other_kinds_of_files_of_a_directory_are_left_alone(run: Run, example: Path) -> None:
    (example / "policies/.git").mkdir()
    (example / "policies/.git/x.yaml").write_text("{")
    (example / "policies/.hidden.yaml").write_text("{")
    (example / "policies/README.md").write_text("{")
    assert run("replay", *ALL).status == 1
    assert "policies/README.md, document 0" in refused(run, "replay", *ALL, "--policies", "policies/README.md")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "flows.jsonl, document 1: refused: not JSON"),
        ('{"src": "a/b"}', "flows.jsonl, document 1"),
        ('{"src": "a/b", "dst": "c/d", "port": 0}', "flows.jsonl, document 1, port: refused"),
        ('{"src": "a/b", "dst": "c/d", "port": 1, "extra": 1}', "flows.jsonl, document 1, extra: refused"),
    ],
)
def test_a_refused_flow_ends_the_command_with_its_line(run: Run, example: Path, line: str, message: str) -> None:
    good = (example / "flows.jsonl").read_text().splitlines()[0]
    (example / "flows.jsonl").write_text(f"{good}\n{line}\n")
    assert message in refused(run, "replay", *ALL)


def test_what_is_not_understood_is_said_and_makes_verdicts_unknown(run: Run, example: Path) -> None:
    (example / "policies/odd.yaml").write_text(ODD_POLICY)
    got = run("replay", *ALL)
    assert got.status == 1
    assert "policies/odd.yaml, document 0, spec.ingress[0].surprise: not-understood" in got.err
    assert "unknown" in got.out
    assert "1 part of the policies not understood" in got.out


def test_many_problems_are_cut(run: Run, example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "MOST", 2)
    parts = [BAD_POLICY.replace("name: bad", f"name: bad{n}") for n in range(5)]
    (example / "policies/bad.yaml").write_text("---".join(parts))
    said = refused(run, "replay", *ALL)
    assert said.count(": refused:") == 2
    assert "fathom: and 3 more\n" in said


def test_names_of_files_cannot_steer_a_terminal(run: Run, example: Path) -> None:
    (example / "policies/\x1b[31m.yaml").write_text("{")
    assert "\x1b" not in refused(run, "replay", *ALL)


def test_where_files_cannot_be_written(run: Run, example: Path) -> None:
    (example / "file").write_text("")
    got = run("generate", *SEEN, "--output-dir", "file/x")
    assert (got.status, got.out) == (1, "")
    assert "cannot write file/x/kube-system/deployment-coredns.yaml: Not a directory" in got.err
    assert run("generate", *SEEN, "--evidence", "file/x").status == 1


def process(*arguments: str, shell: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell, its command line as ``$0 "$@"``."""
    program = "import sys; from fathom.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        ["bash", "-c", shell, sys.executable, "-c", program, "policy", *arguments],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_reader_that_leaves_hides_no_denial() -> None:
    for command, status in (("replay", 1), ("evaluate", 0)):
        done = process(command, *ALL, shell='"$0" "$@" | true; exit ${PIPESTATUS[0]}')
        assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize(("command", "status"), [("replay", 2), ("evaluate", 1)])
def test_output_that_cannot_be_written_is_an_error(command: str, status: int) -> None:
    done = process(command, *ALL, shell='"$0" "$@" > /dev/full')
    assert done.returncode == status
    assert done.stderr.startswith("fathom: cannot write the output: No space left on device")


def test_a_failure_of_replay_is_no_answer(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    from fathom.errors import ServerUnavailable
    from fathom.policy import questions

    def fails(*_: object, **__: object) -> None:
        raise ServerUnavailable("gone")

    for name in ("replay", "diff", "exposure"):
        monkeypatch.setattr(questions, name, fails)
    assert run("replay", *ALL).status == 2
    assert run("diff", "--old", "policies", "--new", "policies", *SEEN).status == 2
    assert run("exposure", *ALL).status == 1
