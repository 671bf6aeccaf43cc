"""The probes on other kernels: their exact trigger tests, in QEMU guests whose root is this machine's file system."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.root]

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ("5.10", "6.1", "6.12", "newest")
#: Enough for a guest on an emulated CPU on a busy machine; two to four minutes where nothing else runs.
LIMIT_S = 900
TESTS = tuple(f"tests/kernel/{name}" for name in ("test_tcp_events.py", "test_flow_*.py"))


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FATHOM_VM_CACHE") or Path(home) / "fathom-vm")


def _files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in TESTS for path in ROOT.glob(pattern))


def _run(kernel: str) -> subprocess.CompletedProcess[str]:
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", "--maxfail=5")
    return subprocess.run(
        [ROOT / "tools/vm/run.sh", kernel, "--", ROOT / ".venv/bin/python", "-m", "pytest", *options, *_files()],
        cwd=ROOT,
        env={**os.environ, "VM_TIMEOUT": str(LIMIT_S), "FATHOM_REQUIRE": "root", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 60,
        check=False,
    )


@pytest.fixture(scope="module")
def guests() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """What each kernel that is here has to say; as many guests at a time as there are CPUs, each has one."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {kernel: pool.submit(_run, kernel) for kernel in KERNELS if _missing(kernel) is None}


def _missing(kernel: str) -> str | None:
    if not shutil.which("qemu-system-x86_64"):
        return "QEMU is not installed (tools/setup.sh --packages tools/packages-guests.txt)"
    if not (_cache() / "kernels" / kernel / "release").exists():
        return f"kernel {kernel} was not fetched (tools/vm/fetch-kernels.sh {kernel})"
    return None


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_probes_are_exact_there_too(
    kernel: str,
    guests: dict[str, Future[subprocess.CompletedProcess[str]]],
    require: Callable[[str, str], None],
) -> None:
    if missing := _missing(kernel):
        require("vm", missing)
    assert len(_files()) > len(TESTS)
    done = guests[kernel].result()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
