"""From a cgroup id to its path, and the name kept for a time after the cgroup is gone.

A cgroup's id is the inode number of its directory in the cgroup2 file system (kernel: ``kernfs_ino``). An unknown id
is looked for first where the process says that it is (one ``stat``), then in the whole tree, at most once in
``walk_every_s``. It never keeps the tree open and never waits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fathom.errors import FeatureMissing
from fathom.kernel.cgroups import cgroup2_mount


@dataclass(slots=True)
class _Known:
    path: str
    seen_s: float


def mounted() -> Path | None:
    """Where cgroup2 is mounted, or None."""
    try:
        return cgroup2_mount()
    except FeatureMissing:
        return None


class CgroupTree:
    """Paths of cgroups by id. ``mount`` None: no cgroup2 here, every id is unknown. Times are monotonic seconds."""

    def __init__(self, mount: Path | None, *, kept_s: float = 600.0, walk_every_s: float = 1.0) -> None:
        self.mount = mount
        self.walks = 0
        self._kept_s = kept_s
        self._walk_every_s = walk_every_s
        self._walked_s = float("-inf")
        self._known: dict[int, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, cgroup: int) -> bool:
        """Whether the path of ``cgroup`` is known now."""
        return cgroup in self._known

    def path(self, cgroup: int, now_s: float, hint: str = "") -> str:
        """The path of ``cgroup`` below the mount (``/`` for the root), ``""`` if it is not known.

        ``hint`` is the path that a process of it has in ``/proc/PID/cgroup``; it is checked, not believed.
        """
        if known := self._known.get(cgroup):
            known.seen_s = now_s
            return known.path
        if self.mount is None or not cgroup:
            return ""
        if hint and self._inode(hint) == cgroup:
            self._known[cgroup] = _Known(hint, now_s)
            return hint
        if now_s - self._walked_s >= self._walk_every_s:
            self.walk(now_s)
        known = self._known.get(cgroup)
        return known.path if known else ""

    def walk(self, now_s: float) -> None:
        """Read the whole tree; forget what has been gone for ``kept_s``."""
        self._walked_s = now_s
        self.walks += 1
        if self.mount is None:
            return
        self._found(self._inode("/"), "/", now_s)
        pending = [""]
        while pending:
            above = pending.pop()
            for name, inode in _directories(f"{self.mount}{above}"):
                path = f"{above}/{name}"
                self._found(inode, path, now_s)
                pending.append(path)
        for cgroup in [i for i, known in self._known.items() if now_s - known.seen_s > self._kept_s]:
            del self._known[cgroup]

    def _found(self, inode: int, path: str, now_s: float) -> None:
        if inode:
            self._known[inode] = _Known(path, now_s)

    def _inode(self, path: str) -> int:
        """Inode number of the cgroup's directory, 0 if it is gone."""
        try:
            return Path(f"{self.mount}{path}").stat().st_ino
        except OSError:
            return 0


def _directories(path: str) -> list[tuple[str, int]]:
    """Name and inode of each directory in ``path``; none if it has just gone."""
    try:
        with os.scandir(path) as entries:
            return [(entry.name, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
