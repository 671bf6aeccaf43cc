"""Which processes are Fathom's own: the tree below one process, asked of ``/proc`` when a new process is seen."""

from __future__ import annotations

import os
from pathlib import Path

from fathom.identity import processes

_DEPTH = 32


class OwnProcesses:
    """The tree whose root is ``root`` (default: this process). A supervisor gives its own pid to its parts."""

    def __init__(self, root: int = 0, proc: Path = Path("/proc")) -> None:
        self.root = root or os.getpid()
        self._proc = proc
        self._verdicts: dict[int, bool] = {}

    def fresh(self) -> None:
        """Forget what was found out about ancestors; they may have changed."""
        self._verdicts.clear()

    def __contains__(self, pid: int) -> bool:
        """Whether ``pid`` is the root or below it. A process that is gone is not.

        Ancestors are remembered until ``fresh`` is called, since new processes have few parents among them.
        """
        chain: list[int] = []
        verdict = False
        while len(chain) < _DEPTH and pid > 0:
            if pid == self.root or self._verdicts.get(pid, False):
                verdict = True
                break
            if pid == 1 or pid in self._verdicts:
                break
            chain.append(pid)
            pid = processes.parent(pid, self._proc)
        for seen in chain[1:]:
            self._verdicts[seen] = verdict
        return verdict
