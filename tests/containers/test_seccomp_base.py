"""The base set: what runc and crun really call in the container after they loaded the filter, and what they need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
from bundle import Bundle, Container

from fathom.policy import seccomp
from fathom.policy.seccomp import BASE, Profile, SyscallSet, generate, to_oci

if TYPE_CHECKING:
    from pathlib import Path

    from bundle import Runtime

pytestmark = [pytest.mark.root, pytest.mark.slow]

PROGRAM = "/bin/busybox"
#: What busybox itself calls to do nothing, or to sleep.
OWN = (
    "arch_prctl brk clock_nanosleep execve exit_group getrandom getuid mprotect nanosleep prctl prlimit64 readlink rseq"
    " set_robust_list set_tid_address setuid uname write"
).split()
#: What the runtimes try, and do as well without.
TRIED = {"close_range", "ioctl"}
_LINE = re.compile(r"(\d+)(?:<([^>]*)>)? +(\w+)\(")
_LOADS = re.compile(r"SECCOMP_SET_MODE_FILTER.*\{len=|PR_SET_SECCOMP, SECCOMP_MODE_FILTER")


def profile(*without: str, default: seccomp.Default = "errno") -> dict[str, Any]:
    """The profile of busybox, less some calls."""
    made = generate([SyscallSet(workload="w", calls=tuple(OWN))], default=default)[0]
    kept = tuple(call for call in made.calls if call not in without)
    return to_oci(Profile(subject="w", calls=kept, architectures=made.architectures, default=made.default))


def after_the_filter(lines: Iterable[str]) -> set[str]:
    """Calls of the process that loaded the filter, between that and the start of the program, in ``strace -f -Y``.

    runc's process has threads, which have its name; crun's has none.
    """
    tail: list[str] = []
    for line in lines:
        tail = [line] if _LOADS.search(line) else [*tail, line] if tail else []
    end = max(n for n, line in enumerate(tail) if f'execve("{PROGRAM}"' in line)
    loader = _LINE.match(tail[0])
    assert loader, tail[0]
    found = set()
    for call in filter(None, map(_LINE.match, tail[1 : end + 1])):
        if call[1] == loader[1] or (call[2] == loader[2] and call[2].startswith("runc:")):
            found.add(call[3])
    return found


@pytest.mark.parametrize("user", [0, 33])
@pytest.mark.parametrize("no_new_privileges", [True, False], ids=["no_new_privs", "plain"])
def test_what_a_runtime_calls_after_the_filter_is_in_the_base(
    runtime: Runtime, no_new_privileges: bool, user: int, container_root: Path, place: Path, tmp_path: Path
) -> None:
    strace = ["strace", "-f", "-Y", "-qq", "-o", str(tmp_path / "start")]
    mild = profile(default="log")
    start = Bundle(container_root, [PROGRAM, "true"], (), mild, user, no_new_privileges)
    with Container(runtime, start, place, strace) as container:
        assert container.wait() == 0, container.output()
    stay = Bundle(container_root, [PROGRAM, "sleep", "60"], (), mild, user, no_new_privileges)
    with Container(runtime, stay, place) as container:
        container.pid()
        strace[-1] = str(tmp_path / "exec")
        assert container.execute(PROGRAM, "true", before=strace) == (0, "")
    for step in ("start", "exec"):
        with (tmp_path / step).open() as lines:
            found = after_the_filter(lines)
        print(f"{runtime.version()}, {step}: {' '.join(sorted(found))}")
        assert "execve" in found
        assert found - TRIED <= BASE


@pytest.mark.parametrize("user", [0, 33])
@pytest.mark.parametrize("no_new_privileges", [True, False], ids=["no_new_privs", "plain"])
def test_the_base_and_the_programs_own_calls_are_enough_to_start_and_to_enter(
    runtime: Runtime, no_new_privileges: bool, user: int, container_root: Path, place: Path
) -> None:
    bundle = Bundle(container_root, [PROGRAM, "sleep", "60"], (), profile(), user, no_new_privileges)
    with Container(runtime, bundle, place) as container:
        container.pid()
        assert container.execute(PROGRAM, "true") == (0, "")


def test_without_statx_crun_does_not_enter_a_container(runtime: Runtime, container_root: Path, place: Path) -> None:
    with Container(runtime, Bundle(container_root, [PROGRAM, "sleep", "60"], (), profile("statx")), place) as container:
        container.pid()
        status, _ = container.execute(PROGRAM, "true")
        assert (status == 0) == (runtime.program != "crun")


def test_without_fchown_runc_leaves_standard_output_to_root(
    runtime: Runtime, container_root: Path, place: Path
) -> None:
    """A program that opens /dev/stdout again, as nginx images do, needs to own it."""
    again = ["/bin/sh", "-c", "echo again > /dev/stdout"]
    own = (*OWN, "dup2", "dup3", "fcntl", "getpid", "getppid", "geteuid", "getgid", "open", "openat", "stat", "lseek")
    made = generate([SyscallSet(workload="w", calls=own)])[0]
    for without, printed in ((), "again\n"), (("fchown",), "Permission denied"):
        kept = tuple(call for call in made.calls if call not in without)
        held = to_oci(Profile(subject="w", calls=kept, architectures=made.architectures))
        bundle = Bundle(container_root, again, (), held, 33, no_new_privileges=False)
        with Container(runtime, bundle, place) as container:
            container.wait()
            if runtime.program == "runc" or not without:
                assert printed in container.output()
