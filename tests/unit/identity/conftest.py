"""A false ``/proc`` and a false cgroup tree: plain directories, whose inode numbers are their ids."""

from __future__ import annotations

from pathlib import Path

import pytest


class ProcDouble:
    """Processes that tests start, rename and end."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(
        self,
        pid: int,
        comm: str = "prog",
        *,
        exe: str | None = None,
        parent: int = 1,
        start_s: float = 1.0,
        flags: int = 0,
        cgroup: str = "0::/",
    ) -> None:
        """A process; ``exe`` None makes it one without an executable."""
        base = self.root / str(pid)
        base.mkdir(parents=True, exist_ok=True)
        rest = ["S", str(parent), "1", "1", "0", "-1", str(flags), *["0"] * 12, str(int(start_s * 100)), *["0"] * 30]
        (base / "stat").write_text(f"{pid} ({comm}) {' '.join(rest)}\n")
        (base / "cgroup").write_text(cgroup + "\n")
        (base / "exe").unlink(missing_ok=True)
        if exe is not None:
            (base / "exe").symlink_to(exe)

    def end(self, pid: int) -> None:
        """It exits."""
        base = self.root / str(pid)
        for name in ("stat", "cgroup", "exe"):
            (base / name).unlink(missing_ok=True)
        base.rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> ProcDouble:
    """A ``/proc`` without processes."""
    (tmp_path / "proc").mkdir()
    return ProcDouble(tmp_path / "proc")


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    """The mount point of an empty cgroup tree."""
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"
