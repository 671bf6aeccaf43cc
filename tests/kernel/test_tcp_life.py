"""Nothing of the probe is left in the kernel, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from fathom.errors import FathomError, PrivilegeError, UsageError
from fathom.kernel import _libbpf
from fathom.kernel.objects import Spec
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import PROGRAMS, TcpProbe

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

KINDS = (0, 1, 2)  # programs, maps, links
HOLDER = """
import sys, time
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import TcpProbe
with TcpProbe.open(ProbeSettings()) as probe:
    from fathom.kernel import _libbpf
    print("attached", flush=True)
    while True:
        probe.drain()
        time.sleep(0.01)
"""


def _ids() -> list[set[int]]:
    return [set(_libbpf.ids(kind)) for kind in KINDS]


def _left(before: list[set[int]], made: list[set[int]], seconds: float = 5.0) -> list[set[int]]:
    """Which of ``made`` are there still; the kernel frees maps and programs a little later."""
    end = time.monotonic() + seconds
    while True:
        left = [(now & new) - old for now, new, old in zip(_ids(), made, before, strict=True)]
        if not any(left) or time.monotonic() > end:
            return left
        time.sleep(0.05)


def test_close_leaves_nothing() -> None:
    before = _ids()
    with TcpProbe.open(ProbeSettings()):
        made = [now - old for now, old in zip(_ids(), before, strict=True)]
        assert len(made[0]) >= len(PROGRAMS) + 1
        assert len(made[2]) >= len(PROGRAMS) + 1
    assert _left(before, made) == [set(), set(), set()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_leave_nothing(number: signal.Signals) -> None:
    before = _ids()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "attached\n"
        made = [now - old for now, old in zip(_ids(), before, strict=True)]
        assert all(made)
        os.kill(holder.pid, number)
    assert _left(before, made) == [set(), set(), set()]


def test_failure_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The iterator's object cannot be had: what was attached before it is detached again."""
    whole = Spec.of

    def without_rows(stem: str) -> Spec:
        if stem == "sockets":
            raise UsageError("not there")
        return whole(stem)

    before = _ids()
    monkeypatch.setattr(Spec, "of", without_rows)
    with pytest.raises(UsageError, match="not there"):
        TcpProbe.open(ProbeSettings())
    made = [now - old for now, old in zip(_ids(), before, strict=True)]
    assert _left(before, made) == [set(), set(), set()]


def test_without_privilege_it_says_what_to_do() -> None:
    """Loaded as root, refused as nobody."""
    program = (
        "import os\n"
        "from fathom.errors import PrivilegeError\n"
        "from fathom.probes.settings import ProbeSettings\n"
        "from fathom.probes.tcp import TcpProbe\n"
        "from fathom.kernel.objects import Spec\n"
        "specs = {stem: Spec.of(stem) for stem in ('tcp', 'sockets')}\n"
        "os.chdir(str(specs['tcp'].path.parent))\n"
        "keep = 1 << 2 | 1 << 1\n"  # CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE: this tree may be root's alone
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "head = (ctypes.c_uint32 * 2)(0x20080522, 0)\n"
        "data = (ctypes.c_uint32 * 6)(keep, keep, 0, 0, 0, 0)\n"
        "assert libc.capset(head, data) == 0\n"
        "try:\n    TcpProbe.open(ProbeSettings())\nexcept PrivilegeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "run it as root" in done.stdout
    assert "CAP_BPF" in done.stdout


def test_two_probes_see_the_same() -> None:
    """One does not take from the other."""
    import socket

    with TcpProbe.open(ProbeSettings()) as first, TcpProbe.open(ProbeSettings()) as second:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port)).close()
        for probe in (first, second):
            records = probe.drain()
            assert ((records["remote_port"] == port) & (records["kind"] == 1)).sum() == 1


def test_errors_are_of_the_tree() -> None:
    assert issubclass(PrivilegeError, FathomError)
    with pytest.raises(FathomError):
        TcpProbe.open(ProbeSettings(tcp_sockets=1 << 31))
