"""What root gives up, and what of it identity cannot do without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fathom.agent import privilege

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def bits(*names: str) -> int:
    return sum(1 << privilege._NUMBERS[name] for name in names)


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_only_what_is_needed_is_left_and_nothing_comes_back() -> None:
    program = """
import os
from fathom.agent import privilege
privilege.drop()
print(open("/proc/self/status").read(), flush=True)
os.execv("/bin/cat", ["cat", "/proc/self/status"])
"""
    result = run(program)
    assert result.returncode == 0, result.stderr
    kept, after = [
        {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith(("Cap", "NoNewPrivs"))}
        for text in result.stdout.split("Name:")[1:]
    ]
    needed = bits(*privilege.NEEDED, *privilege.USEFUL)
    assert [int(kept[name], 16) for name in SETS] == [0, needed, needed, needed, 0]
    assert kept["NoNewPrivs"] == "1"
    assert [int(after[name], 16) for name in SETS] == [0, 0, 0, needed, 0]


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_the_executables_of_others_need_ptrace() -> None:
    """Why CAP_SYS_PTRACE is kept: without it not even root may see what another process of root runs."""
    program = """
import os, subprocess, sys
from fathom.agent import privilege
child = subprocess.Popen(["sleep", "60"])
privilege.drop([*privilege.NEEDED, *(privilege.USEFUL if {keep} else ())])
try:
    print(os.readlink(f"/proc/{{child.pid}}/exe").rsplit("/", 1)[-1])
except PermissionError:
    print("denied")
finally:
    child.kill()
"""
    seen, denied = (run(program.format(keep=keep)) for keep in (True, False))
    assert (seen.stdout.strip(), denied.stdout.strip()) in (("sleep", "denied"), ("coreutils", "denied"))


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_too_few_capabilities_are_named() -> None:
    program = """
from fathom.agent import privilege
from fathom.errors import PrivilegeError
privilege.drop(["CAP_NET_ADMIN"])
print(privilege.missing())
try:
    privilege.drop()
except PrivilegeError as error:
    print(error)
"""
    result = run(program)
    assert "('CAP_BPF', 'CAP_PERFMON')" in result.stdout
    assert "CAP_BPF (load programs and maps)" in result.stdout
    assert "start it as root" in result.stdout
    assert "CAP_NET_ADMIN" not in result.stdout.splitlines()[1]


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_without_ptrace_it_goes_on_and_says_what_is_missing() -> None:
    program = """
from fathom.agent import privilege
privilege.drop(tuple(privilege.NEEDED))
print(privilege.missing(), privilege.without(), privilege.drop() == tuple(privilege.NEEDED))
"""
    result = run(program)
    said = "without CAP_SYS_PTRACE the names of other users' executables are not known"
    assert result.stdout.strip() == f'() ["{said}"] True', result.stderr


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_admin_stands_in_for_what_was_made_of_it_and_is_kept_only_then() -> None:
    program = """
from fathom.agent import privilege
privilege.drop(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"])
print(privilege.missing(), privilege.drop(), sorted(privilege.permitted()))
"""
    result = run(program)
    assert result.stdout.strip() == "() ('CAP_BPF', 'CAP_PERFMON', 'CAP_NET_ADMIN') [12, 21]", result.stderr
