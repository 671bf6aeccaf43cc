"""Generated seccomp profiles hold what workloads called and no more, and real workloads run under them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from bundle import Bundle, Container
from recorded import FATHOM
from recording import STRACE, row

from fathom.events.syscalls import NUMBERS
from fathom.policy.seccomp import BASE, DANGEROUS, TOKENS

if TYPE_CHECKING:
    from bundle import Runtime
    from recorded import Recorded

pytestmark = [pytest.mark.root, pytest.mark.slow]

NAMES = ("shell", "python", "postgresql", "nginx", "go")
SET_UP = {"mount", "unshare", "pivot_root", "keyctl", "bpf", "ptrace", "setns", "umount2", "sethostname"}
NUMBER = NUMBERS[platform.machine()]
EPERM, ENOSYS = -1, -38
#: Numbers of mount, ptrace and getpid in the 32-bit table of x86 (arch/x86/entry/syscalls/syscall_32.tbl).
MOUNT_32, PTRACE_32, GETPID_32 = 21, 26, 20


def allowed(profile: dict[str, Any]) -> set[str]:
    """Names that the profile allows."""
    assert [rule["action"] for rule in profile["syscalls"]] == ["SCMP_ACT_ALLOW"]
    return set(profile["syscalls"][0]["names"])


def answers(output: str) -> dict[int, int]:
    """What the probe printed: number to answer."""
    return {int(number): int(answer) for number, answer in (line.split() for line in output.splitlines())}


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_holds_what_was_called_and_the_base_and_nothing_else(name: str, recorded: Recorded) -> None:
    profile, calls = recorded.profile(name), recorded.calls(name)
    held = allowed(profile)
    print(f"{name}: {len(calls)} calls of its own, {len(held)} in the profile")
    assert held == calls | BASE
    assert not held & (SET_UP | DANGEROUS)
    assert {"execve", "exit_group"} <= calls
    assert len(calls) > 20
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["architectures"] == list(TOKENS[platform.machine()])


@pytest.mark.parametrize("no_new_privileges", [True, False], ids=["no_new_privs", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_a_workload_does_all_its_work_under_its_profile_and_nothing_else_can_be_done(
    name: str, no_new_privileges: bool, runtime: Runtime, recorded: Recorded, probe: Path
) -> None:
    """Every call of the kernel that the profile does not hold is tried in the running container."""
    workload, profile = recorded.workloads[name], recorded.profile(name)
    folder = recorded.folder(workload)
    shutil.copy2(probe, folder / "probe")
    held = allowed(profile)
    outside = {call: number for call, number in NUMBER.items() if call not in held}
    numbers = [str(number) for number in (*outside.values(), NUMBER["getpid"])]
    probes = [["/work/probe", *numbers], ["/work/probe", "-32", *map(str, (MOUNT_32, PTRACE_32, GETPID_32))]]
    told = recorded.run(runtime, workload, folder, seccomp=profile, no_new_privileges=no_new_privileges, probes=probes)
    if workload.ends is None:
        return  # it is over before anything could be tried
    assert [status for status, _ in told] == [0, 0], told
    found, old = answers(told[0][1]), answers(told[1][1])
    assert found.pop(NUMBER["getpid"]) > 0
    # runc answers ENOSYS to what is newer than all that the profile knows, so that programs fall back.
    newest = max(NUMBER[call] for call in held)
    refused = {number: EPERM if number < newest or runtime.program != "runc" else ENOSYS for number in found}
    assert found == refused
    assert len(found) > 200
    assert (old[MOUNT_32], old[PTRACE_32]) == (EPERM, EPERM)
    assert old[GETPID_32] > 0


def test_without_a_profile_the_same_calls_are_answered_by_the_kernel(
    runtime: Runtime, container_root: Path, place: Path, probe: Path
) -> None:
    """So that EPERM above is the profile's word: these have wrong arguments, and need no privilege."""
    wanted = {
        "sysinfo": -14, "inotify_init1": -22, "timerfd_create": -22, "keyctl": -95, "ptrace": -3, "unshare": -22,
        "epoll_create1": -22, "getitimer": -22, "memfd_create": -22,
    }  # fmt: skip
    folder = place / f"probe-{runtime.program}"
    folder.mkdir()
    shutil.copy2(probe, folder / "probe")
    numbers = [str(NUMBER[call]) for call in wanted]
    bundle = Bundle(container_root, ["/work/probe", *numbers], [(folder, "/work")])
    with Container(runtime, bundle, place) as container:
        assert container.wait() == 0
        found = answers(container.output())
    assert {call: found[NUMBER[call]] for call in wanted} == wanted


def test_a_shell_under_its_profile_cannot_do_more(runtime: Runtime, recorded: Recorded, probe: Path) -> None:
    """The workload itself is another program: the probe, in place of the shell's script."""
    profile = recorded.profile("shell")
    found = run_probe(runtime, recorded, probe, profile, "mount", "unshare", "keyctl", "getpid")
    assert [found[NUMBER[call]] for call in ("mount", "unshare", "keyctl")] == [EPERM] * 3
    assert found[NUMBER["getpid"]] > 0


def test_the_default_action_is_what_happens(runtime: Runtime, recorded: Recorded, probe: Path) -> None:
    """``log`` lets through, ``kill`` ends the process by SIGSYS."""
    logged = run_probe(runtime, recorded, probe, recorded.profile("shell", "--default", "log"), "keyctl")
    assert logged == {NUMBER["keyctl"]: -95}
    killed = run_probe(runtime, recorded, probe, recorded.profile("shell", "--default", "kill"), "keyctl", status=159)
    assert killed == {}


def run_probe(
    runtime: Runtime, recorded: Recorded, probe: Path, profile: dict[str, Any], *calls: str, status: int = 0
) -> dict[int, int]:
    """What the probe is answered as the first process of a container under ``profile``."""
    folder = recorded.folder(recorded.workloads["shell"])
    shutil.copy2(probe, folder / "probe")
    arguments = ["/work/probe", *(str(NUMBER[call]) for call in calls)]
    bundle = Bundle(recorded.root, arguments, [(folder, "/work")], profile)
    with Container(runtime, bundle, recorded.place) as container:
        assert container.wait() == status, container.output()
        return answers(container.output())


def test_what_is_recorded_twice_is_in_the_profile_once(recorded: Recorded) -> None:
    """Both recordings are in it, whichever comes first; an executable or image alone gives the same here."""
    first, second = (json.loads(file.read_text()) for file in recorded.files("python"))
    assert (first["container"], second["container"]) == ("runc", "crun")
    held = allowed(recorded.profile("python"))
    assert held == {*first["calls"], *second["calls"], *BASE}
    for by in ("image", "executable"):
        assert recorded.profile("python", "--by", by) == recorded.profile("python")


def test_profiles_are_compared_with_the_runtimes_own_and_with_one_another(recorded: Recorded, tmp_path: Path) -> None:
    """None of these workloads needs what the runtimes refuse, but for clone3, which they make programs do without. What
    they allow for some arguments only is allowed for all here, and so it is told."""
    for name in NAMES:
        (tmp_path / f"{name}.json").write_text(json.dumps(recorded.profile(name)))
        command = [FATHOM, "seccomp", "compare", str(tmp_path / f"{name}.json"), "-o", "json"]
        found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        calls = allowed(recorded.profile(name))
        assert set(found["added"]) == calls & {"clone3", "clone", "socket", "personality"}
        assert set(found["widened"]) == calls & {"clone", "socket", "personality"}
        assert len(found["removed"]) > 150
        assert {"ptrace", "chroot", "personality"} <= set(found["removed"])
    command = [FATHOM, "seccomp", "diff", str(tmp_path / "shell.json"), str(tmp_path / "nginx.json"), "-o", "json"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    found, shell, nginx = json.loads(done.stdout), recorded.calls("shell") | BASE, recorded.calls("nginx") | BASE
    assert (set(found["added"]), set(found["removed"])) == (nginx - shell, shell - nginx)
    assert "epoll_wait" in found["added"]


_SLEEPER = """
import os, select, time
started = time.monotonic()
open('/work/started', 'w').close()
select.poll().poll(1500)
print('slept' if time.monotonic() - started > 1.4 else 'woken')
"""


class Sleep(NamedTuple):
    """What the sleeper printed, and the folder that it had."""

    output: str
    folder: Path


def sleep(runtime: Runtime, recorded: Recorded, how: str, seccomp: dict[str, Any] | None, *before: str) -> Sleep:
    """What the sleeper prints when it is left alone, or stopped for a moment by ``signal`` or by ``pause``."""
    folder = recorded.folder(recorded.workloads["shell"])
    arguments = [*before, "/usr/bin/python3", "-c", _SLEEPER]
    with Container(
        runtime, Bundle(recorded.root, arguments, [(folder, "/work")], seccomp), recorded.place
    ) as container:
        container.until("it sleeps", (folder / "started").exists)
        if how == "pause":
            runtime.call("pause", container.identity)
            runtime.call("resume", container.identity)
        elif how == "signal":
            os.kill(container.pid(), signal.SIGSTOP)
            time.sleep(0.1)
            os.kill(container.pid(), signal.SIGCONT)
        container.wait()
        return Sleep(container.output(), folder)


def test_a_container_that_is_paused_goes_on(runtime: Runtime, recorded: Recorded, tmp_path: Path) -> None:
    """The kernel goes on with a call that was interrupted by restart_syscall, which no recording need hold."""
    slept = sleep(runtime, recorded, "", None, *STRACE)
    assert slept.output == "slept\n"
    file = tmp_path / "sleeper.jsonl"
    file.write_text(row(slept.folder, "sleeper", "", "python3"))
    assert "restart_syscall" not in json.loads(file.read_text())["calls"]
    done = subprocess.run([FATHOM, "seccomp", "generate", str(file)], capture_output=True, check=True)
    profile = json.loads(done.stdout)
    for how in ("pause", "signal"):
        assert sleep(runtime, recorded, how, profile).output == "slept\n"
    profile["syscalls"][0]["names"].remove("restart_syscall")
    assert "PermissionError" in sleep(runtime, recorded, "signal", profile).output
