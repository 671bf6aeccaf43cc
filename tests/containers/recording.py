"""What a workload's own executables called, seen by strace inside of the container, and so by no part of Fathom.

strace runs beside the workload, which stays the first process of its container. What the container runtime did before
the program started is not in it. The calls come as rows of the form that ``fathom seccomp generate`` reads.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from fathom.events.syscalls import NUMBERS

#: In front of the workload's own command line. ``-DD``: the tracer is not its parent; raw: nothing is decoded.
STRACE = ("/usr/bin/strace", "-DD", "-f", "-qq", "-e", "raw=all", "-e", "signal=none", "-o", "/work/calls")
_CALL = re.compile(r"(\d+) +(\w+)\(")


def calls(lines: Iterable[str]) -> set[str]:
    """Names of the calls in the lines of ``strace -f``, from the first execve on: those before are strace's own."""
    found: set[str] = set()
    for line in lines:
        call = _CALL.match(line)
        if call and (found or call[2] == "execve"):
            found.add(call[2])
    unknown = found - NUMBERS[platform.machine()].keys()
    assert not unknown, f"no such calls: {unknown}"
    return found


def row(folder: Path, workload: str, container: str, executable: str) -> str:
    """One JSON line for what was recorded into ``folder``."""
    with (folder / "calls").open() as lines:
        found = sorted(calls(lines))
    return json.dumps(
        {
            "workload": workload,
            "container": container,
            "image": f"{workload}:1",
            "executable": executable,
            "architecture": platform.machine(),
            "calls": found,
        }
    )
