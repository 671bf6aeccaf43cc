"""The probe comes and goes without a trace: closed, or killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fathom.errors import FathomError
from fathom.kernel import _libbpf
from fathom.probes.flow import FlowProbe
from fathom.probes.settings import ProbeSettings

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

KINDS = {"prog_id": 0, "map_id": 1, "link_id": 2}
Ids = set[tuple[str, int]]


def _held(pid: int) -> Ids:
    """Programs, maps and links that a process has descriptors of."""
    held: Ids = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            for kind, number in re.findall(r"^(prog_id|map_id|link_id):\t(\d+)$", path.read_text(), re.MULTILINE):
                held.add((kind, int(number)))
    return held


def _alive(ids: Ids) -> Ids:
    return {(kind, number) for kind, number in ids if number in _libbpf.ids(KINDS[kind])}


def _gone(ids: Ids) -> bool:
    for _ in range(200):
        if not _alive(ids):
            return True
        time.sleep(0.05)
    return False


def test_closing_leaves_nothing() -> None:
    before = _held(os.getpid())
    with FlowProbe.open(ProbeSettings()):
        made = _held(os.getpid()) - before
        assert {kind for kind, _ in made} == set(KINDS)
        assert _alive(made) == made
    assert _held(os.getpid()) == before
    assert _gone(made)


def test_a_kill_leaves_nothing() -> None:
    script = (
        "import sys, time\n"
        "from fathom.probes.flow import FlowProbe\n"
        "from fathom.probes.settings import ProbeSettings\n"
        "probe = FlowProbe.open(ProbeSettings())\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"open\n"
        made = _held(child.pid)
        assert {kind for kind, _ in made} == set(KINDS)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert _gone(made)


def test_a_probe_that_cannot_be_attached_leaves_nothing(tmp_path: Path) -> None:
    """A directory that is no cgroup: the kernel refuses the first hook, when all is loaded."""
    before = _held(os.getpid())
    with pytest.raises(FathomError):
        FlowProbe(ProbeSettings(), tmp_path)
    assert _held(os.getpid()) == before
