"""docs/policy.md is true: every command on it runs, in order, and prints what the page says."""

from __future__ import annotations

import contextlib
import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fathom.cli.policy.livecluster import MANIFESTS
from fathom.policy.policysets import VERSIONS

from .live_shop import install, shop, tell
from .shop_store import serving, shop_store

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs/policy.md"
Step = tuple[str, str]


def steps() -> list[Step]:
    """(command, what it prints) of all console blocks."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(text)
    file.chmod(0o755)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the commands print, run one after the other in one shell, in a copy of the documentation, with a server."""
    place = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "docs/examples", place / "work/docs/examples")
    tools, outputs = place / "bin", place / "out"
    tools.mkdir()
    outputs.mkdir()
    run = "import sys; from fathom.cli.main import main; sys.exit(main())"
    program(tools, "fathom", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(run)} "$@"\n')
    install(tools)
    tell(tools, shop())
    lines = [f"{{ {command}\n}} > {outputs}/{number} 2>&1 < /dev/null" for number, (command, _) in enumerate(steps())]
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(place), "LANG": "C.UTF-8"}
    environment |= {"PYTHONPATH": ":".join(sys.path), "FATHOM_TOKEN": "key"}
    (place / "data").mkdir()
    with (
        contextlib.closing(shop_store(ROOT / "docs/examples/policy", place / "store")) as store,
        serving(store, place / "data") as url,
    ):
        environment["FATHOM_SERVER"] = url
        subprocess.run(["bash", "-c", "\n".join(lines)], cwd=place / "work", env=environment, check=True, timeout=300)
    return [(outputs / str(number)).read_text() for number in range(len(lines))]


def test_the_page_has_every_command_of_policy() -> None:
    from fathom.cli.policy import LINES

    text = " ".join(command for command, _ in steps())
    for name in set(LINES) - {"evaluate", "audit", "promote"}:  # on the page as an aside; on a page of their own
        assert f"fathom policy {name}" in text
    assert "fathom policy evaluate" in PAGE.read_text()
    audit = PAGE.with_name("policy-audit.md").read_text()
    assert "fathom policy audit add" in audit
    assert "fathom policy promote" in audit


@pytest.mark.parametrize(("number", "step"), list(enumerate(steps())), ids=[command[:60] for command, _ in steps()])
def test_a_command_prints_what_the_page_says(printed: list[str], number: int, step: Step) -> None:
    command, wanted = step
    same = doctest.OutputChecker().check_output(wanted, printed[number], doctest.ELLIPSIS)
    assert same, f"$ {command}\n{printed[number]}\n-- the page says:\n{wanted}"


def yaml_blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_role_of_a_reader_covers_what_is_read() -> None:
    role = yaml.safe_load(yaml_blocks()[1])
    allowed = {(group, name) for rule in role["rules"] for group in rule["apiGroups"] for name in rule["resources"]}
    read = {
        tuple(path.split("/")[2::2]) if path.startswith("/apis/") else ("", path.split("/")[3]) for path in MANIFESTS
    }
    read |= {(version.partition("/")[0], "*") for versions in VERSIONS.values() for version in versions}
    assert allowed == read
    assert all(rule["verbs"] == ["get", "list"] for rule in role["rules"])


def test_the_workflow_runs_what_was_shown() -> None:
    text, _ = yaml_blocks()
    workflow = yaml.safe_load(text)
    runs = [step["run"] for step in workflow["jobs"]["prove"]["steps"] if "run" in step]
    assert "./prove.sh ../base/policies policies week.fathom" in runs
    shown = [command for command, _ in steps()]
    assert any(command.startswith("./prove.sh policies policies week.fathom") for command in shown)
    assert "fathom record export week.fathom --since 7d" in runs
    assert "fathom record export week.fathom --since 1h" in shown
    written = (ROOT / "docs/examples/policy/prove.sh").read_text()
    for name in ("comment.md", "replay.sarif"):
        assert name in text
        assert f"> {name}" in written


def test_the_page_has_every_command_of_record() -> None:
    from fathom.cli.record import LINES

    for name in LINES:
        assert f"fathom record {name}" in PAGE.read_text()


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target
