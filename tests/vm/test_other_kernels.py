"""The probes on other kernels: their exact trigger tests, in QEMU guests whose root is this machine's file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.root]

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ("5.10", "6.1", "6.12", "newest")
#: Enough for a guest on an emulated CPU on a busy machine; some 60 s where nothing else runs.
LIMIT_S = 400
TESTS = tuple(f"tests/kernel/{name}" for name in ("test_tcp_events.py", "test_flow_*.py"))


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FATHOM_VM_CACHE") or Path(home) / "fathom-vm")


def _files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in TESTS for path in ROOT.glob(pattern))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_probes_are_exact_there_too(kernel: str, require: Callable[[str, str], None]) -> None:
    if not shutil.which("qemu-system-x86_64"):
        require("vm", "QEMU is not installed (tools/setup.sh --packages tools/packages-guests.txt)")
    if not (_cache() / "kernels" / kernel / "release").exists():
        require("vm", f"kernel {kernel} was not fetched (tools/vm/fetch-kernels.sh {kernel})")
    files = _files()
    assert len(files) > len(TESTS)
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", "--maxfail=5")
    done = subprocess.run(
        [ROOT / "tools/vm/run.sh", kernel, "--", ROOT / ".venv/bin/python", "-m", "pytest", *options, *files],
        cwd=ROOT,
        env={**os.environ, "VM_TIMEOUT": str(LIMIT_S), "FATHOM_REQUIRE": "root", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
