"""What the tests with real containers share: programs, the containers' root, and profiles of recorded workloads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "policy"), str(HERE.parent / "e2e")]
for name in ("bundle", "cluster", "closed_loop", "covered", "installation", "recorded", "workloads"):
    pytest.register_assert_rewrite(name)

if TYPE_CHECKING:
    from bundle import Runtime
    from recorded import Recorded


@pytest.fixture(scope="session")
def programs(require: Callable[[str, str], None]) -> None:
    """Root, and what these tests run on this machine."""
    if os.geteuid() != 0:
        require("root", "this test starts containers and needs root")
    absent = [name for name in ("runc", "crun", "strace", "go", "gcc", "nsenter") if not shutil.which(name)]
    if absent:
        require("containers", f"{', '.join(absent)} not found (make test-all installs tools/packages-containers.txt)")


@pytest.fixture(scope="session")
def container_root(programs: None, require: Callable[[str, str], None]) -> Path:
    """The root file system of the containers."""
    del programs
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("FATHOM_CONTAINER_CACHE") or home / "fathom-containers")
    if not (cache / "stamp").exists():
        require("containers", f"there is no root file system in {cache} (tools/containers/root.sh makes it)")
    return cache / "root"


@pytest.fixture(scope="session")
def place(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that every user may pass through. At the end, no container and no cgroup of one is left."""
    from bundle import sweep

    del programs
    folder = tmp_path_factory.mktemp("containers")
    for path in (folder, *folder.parents[:2]):
        path.chmod(path.stat().st_mode | 0o011)
    yield folder
    assert sweep() == []
    assert [str(path) for path in folder.glob("state-*/*")] == []


@pytest.fixture(scope="session", params=("runc", "crun"))
def runtime(request: pytest.FixtureRequest, place: Path) -> Runtime:
    """Each container runtime."""
    from bundle import Runtime

    return Runtime(request.param, place / f"state-{request.param}")


@pytest.fixture(scope="session")
def probe(place: Path) -> Path:
    """The compiled probe.c."""
    flags = ["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"]
    subprocess.run(["gcc", *flags, "-o", str(place / "probe"), str(HERE / "probe.c")], check=True)
    return place / "probe"


@pytest.fixture(scope="session")
def recorded(container_root: Path, place: Path) -> Recorded:
    """The workloads, recorded and with profiles when they are first asked for."""
    from recorded import Recorded

    return Recorded(container_root, place)
