"""From observations to workloads, a whole array at a time; Python looks only at what was not seen before.

The cgroup decides if its path says something (unit, container, session); else the process does, by its executable;
else the name that the kernel had for it. An answer is kept after the death of what it names, so that late rows get
the same name. It never waits for anything, and looks at a bounded number of new processes in a second.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fathom.events.batches import Clock
from fathom.events.edges import Workload
from fathom.events.observations import OBSERVATION
from fathom.events.rows import take
from fathom.identity import processes
from fathom.identity.cgroups import CgroupTree, mounted
from fathom.identity.own import OwnProcesses
from fathom.identity.placement import Placement, placement
from fathom.identity.remembered import Remembered
from fathom.identity.slots import I32, Mixer, Slots, distinct
from fathom.identity.workloads import OTHER, OWN, Workloads

_ASK_PROCESS = 1 << 30  # in the table of cgroups: this one does not say who it is
_SLACK_NS = 20_000_000  # start times come in steps of 10 ms
_SWEEP_S = 30
_OFFSETS = {name: field[1] for name, field in (OBSERVATION.fields or {}).items()}
#: The columns that say who it was, as words.
_WHO = np.dtype(
    {
        "names": ["cgroup", "pid", "comm0", "comm1"],
        "formats": ["<u8", "<u4", "<u8", "<u8"],
        "offsets": [_OFFSETS["cgroup"], _OFFSETS["pid"], _OFFSETS["comm"], _OFFSETS["comm"] + 8],
        "itemsize": OBSERVATION.itemsize,
    }
)


@dataclass(frozen=True)
class Bounds:
    """How much identity may remember and look up: ``workloads`` and ``processes`` at a time, names for ``kept_s``
    seconds after their last use, ``lookups_per_s`` new processes under ``/proc``."""

    workloads: int = 4_096
    processes: int = 16_384
    kept_s: int = 600
    lookups_per_s: int = 500


class Identities:
    """Names the workloads of one node (VM mode)."""

    def __init__(
        self,
        node: str = "",
        cluster: str = "",
        *,
        bounds: Bounds | None = None,
        own: OwnProcesses | None = None,
        cgroups: CgroupTree | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self.bounds = bounds or Bounds()
        self.workloads = Workloads(node or socket.gethostname(), cluster, self.bounds.workloads)
        self.cgroups = CgroupTree(mounted(), kept_s=self.bounds.kept_s) if cgroups is None else cgroups
        #: Processes that were named by what the kernel called them, by reason.
        self.fallbacks = {"gone": 0, "denied": 0, "budget": 0, "reused": 0}
        self.lookups = 0
        self.checks = 0
        #: Whether the last ``resolve`` was final; if not, a later one may know more about the same rows.
        self.sure = True
        self._own = own or OwnProcesses(proc=proc)
        self._own_path: str | None = None
        self._proc = proc
        self._mixer = Mixer(4)
        self._cgroup_mixer = Mixer(1)
        self._cgroup_numbers: dict[int, int] = {}
        self._by_cgroup = Slots()
        self._by_process = Remembered(self.bounds.processes)
        self._allowance = float(self.bounds.lookups_per_s)
        self._allowed_s = 0.0
        self._swept_s = float("-inf")

    @property
    def node(self) -> str:
        """This node's name."""
        return self.workloads.node

    def resolve(
        self, observations: npt.NDArray[np.void], now: Clock | None = None
    ) -> tuple[list[Workload], npt.NDArray[np.int32]]:
        """The table of workloads, and for each row (dtype ``OBSERVATION``) its number there (``int32``).

        Number ``OWN`` is Fathom itself, ``OTHER`` what found no room. A number means the same workload until it was
        unused for ``kept_s``; ``workloads.keys[number]`` means it for ever.
        """
        clock = now or Clock(time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())
        self.keep_fresh(clock)
        self.sure = True
        second = clock.monotonic_ns // 1_000_000_000
        if not observations.size:
            return self.workloads.table, np.zeros(0, np.int32)
        who = observations.view(_WHO)
        numbers = self._by_cgroup.find(self._cgroup_mixer(np.ascontiguousarray(who["cgroup"])))
        ask = np.flatnonzero((numbers < 0) | (numbers == _ASK_PROCESS))
        if ask.size == observations.size:
            numbers = self._ask(observations, clock)
        elif ask.size:
            numbers[ask] = self._ask(take(observations, ask), clock)
        self.workloads.used_s[numbers] = second
        return self.workloads.table, numbers

    def keep_fresh(self, now: Clock) -> None:
        """Check what is remembered, when it is time: then ``checks`` grows, and what was resolved before is old."""
        second = now.monotonic_ns // 1_000_000_000
        if second - self._swept_s >= _SWEEP_S:
            self.checks += 1
            self._sweep(second)

    def _sweep(self, second: int) -> None:
        """Forget what is old, and answers about pids that other processes have now."""
        since = int(max(self._swept_s, 0))
        self._swept_s = second
        old = second - self.bounds.kept_s
        self._by_process.sweep(lambda pid: processes.start_ns(pid, self._proc), since, old)
        self.cgroups.walk(second)
        self._cgroup_numbers = {
            cgroup: number
            for cgroup, number in self._cgroup_numbers.items()
            if cgroup in self.cgroups and number != OTHER
        }
        self._index_cgroups()
        referred = np.zeros(self.workloads.limit, np.bool_)
        referred[self._by_process.numbers()] = True
        referred[[n for n in self._cgroup_numbers.values() if n != _ASK_PROCESS]] = True
        self.workloads.give_up(referred, old)

    def _ask(self, rows: npt.NDArray[np.void], clock: Clock) -> I32:
        who = rows.view(_WHO)
        hashes = self._mixer(
            np.ascontiguousarray(who["cgroup"]),
            who["pid"].astype(np.uint64),
            np.ascontiguousarray(who["comm0"]),
            np.ascontiguousarray(who["comm1"]),
        )
        second = clock.monotonic_ns // 1_000_000_000
        numbers = self._by_process.find(hashes, second)
        new = np.flatnonzero(numbers < 0)
        if new.size:
            self._own.fresh()
            first, inverse = distinct(hashes[new])
            found = np.array(
                [self._identify(int(hashes[row]), rows[row], clock) for row in new[first]],
                np.int32,
            )
            numbers[new] = found[inverse]
        return numbers

    def _identify(self, key: int, row: np.void, clock: Clock) -> int:
        """The number for one row that is new, remembered unless a later look may know more."""
        second = clock.monotonic_ns / 1e9
        cgroup, pid = int(row["cgroup"]), int(row["pid"])
        comm = bytes(row["comm"]).rstrip(b"\0").decode("utf-8", "replace")
        if pid == 0:
            number = self._by_path(cgroup, self.cgroups.path(cgroup, second))
            return self._remember(key, 0, 0, self._host() if number is None else number, second)
        if not self._may_look(second):
            self.fallbacks["budget"] += 1
            self.sure = False
            number = self._by_path(cgroup, self.cgroups.path(cgroup, second))
            return self._by_comm(comm) if number is None else number
        self.lookups += 1
        process = processes.look(pid, self._proc)
        if process is not None and process.start_ns > int(row["time"]) + clock.boot_ns - clock.monotonic_ns + _SLACK_NS:
            self.fallbacks["reused"] += 1
            process = None
        elif process is None:
            self.fallbacks["gone"] += 1
        number = OWN if pid in self._own else self._of(cgroup, process, comm, second)
        return self._remember(key, pid, process.start_ns if process else 0, number, second)

    def _of(self, cgroup: int, process: processes.Process | None, comm: str, second: float) -> int:
        path = self.cgroups.path(cgroup, second, process.cgroups[0] if process else "")
        number = self._by_path(cgroup, path)
        if number is not None:
            return number
        if process is None:
            return self._by_comm(comm)
        for other in process.cgroups[1:] if path in ("", "/") else ():
            if place := placement(other):
                return self._place(place)
        if process.denied:
            self.fallbacks["denied"] += 1
        return self.workloads.number("process", process.executable) if process.executable else self._by_comm(comm)

    def _by_path(self, cgroup: int, path: str) -> int | None:
        """The number that the cgroup's ``path`` says, None if it does not say. Both are remembered, unless Fathom
        itself lives in that cgroup, where each process must be asked."""
        if not path:
            return None
        place = placement(path)
        if place is None or path == self._own_cgroup():
            self._set_cgroup(cgroup, _ASK_PROCESS)
            return None if place is None else self._place(place)
        number = self._place(place)
        self._set_cgroup(cgroup, number)
        return number

    def _own_cgroup(self) -> str:
        if self._own_path is None:
            root = processes.look(self._own.root, self._proc)
            self._own_path = root.cgroups[0] if root else ""
        return self._own_path

    def _set_cgroup(self, cgroup: int, number: int) -> None:
        if self._cgroup_numbers.get(cgroup) != number:
            self._cgroup_numbers[cgroup] = number
            self._index_cgroups()

    def _index_cgroups(self) -> None:
        ids = np.fromiter(self._cgroup_numbers, np.uint64, len(self._cgroup_numbers))
        numbers = np.fromiter(self._cgroup_numbers.values(), np.int32, len(self._cgroup_numbers))
        self._by_cgroup.replace(self._cgroup_mixer(ids), numbers, room=2)

    def _place(self, place: Placement) -> int:
        return self.workloads.number(place.kind, place.name, place.container)

    def _by_comm(self, comm: str) -> int:
        return self.workloads.number("process", comm) if comm else self._host()

    def _host(self) -> int:
        return self.workloads.number("host", self.node)

    def _remember(self, key: int, pid: int, start_ns: int, number: int, second: float) -> int:
        self._by_process.put(key, pid, start_ns, number, int(second))
        return number

    def _may_look(self, second: float) -> bool:
        """Whether the allowance of looks, which fills with time up to one second's worth, has one left."""
        rate = self.bounds.lookups_per_s
        self._allowance = min(self._allowance + (second - self._allowed_s) * rate, float(rate))
        self._allowed_s = second
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
