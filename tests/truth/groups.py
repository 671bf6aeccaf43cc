"""Cgroups for tests, under the root of cgroup2, always taken away."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fathom.kernel.cgroups import cgroup2_mount


@contextmanager
def cgroups(*names: str) -> Iterator[dict[str, Path]]:
    """Directories of new cgroups by name. Processes that are still in them at the end are moved out."""
    root, mark = cgroup2_mount(), secrets.token_hex(3)
    made = {name: root / f"truth-{os.getpid()}-{mark}-{name}" for name in names}
    try:
        for path in made.values():
            path.mkdir()
        yield made
    finally:
        for path in made.values():
            if path.exists():
                for pid in (path / "cgroup.procs").read_text().split():
                    (root / "cgroup.procs").write_text(pid)
                path.rmdir()
