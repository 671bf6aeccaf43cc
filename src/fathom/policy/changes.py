"""When what an end of a flow is changes: at these times a flow is cut, so that each part has one meaning.

A flow that stretches over a change of labels, of an address' holder or of a service's backends would otherwise be
judged by all of them, and be unknown where they disagree. Which of its connections came before the change only the
recording can tell: this module gives the times, and never divides counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from fathom.policy.endpoints import Candidate, Finder
from fathom.policy.flows import Flows
from fathom.policy.inventory import FOREVER, Inventory
from fathom.policy.options import DEFAULTS

Times = NDArray[np.int64]


def changes(flows: Flows, inventory: Inventory, interval_s: int = 1) -> tuple[NDArray[np.int64], Times]:
    """(flow, time) pairs, sorted, each once: flow number n is to be cut at that time (epoch seconds).

    A recording counts by intervals of ``interval_s``; ``first`` and ``last`` are starts of intervals. A cut parts the
    intervals that start before it from the others. The interval in which an end changes is parted from those on either
    side; where an end begins or ceases to be known in it, it stays with those in which it is known, as the evaluation
    takes it. Only times that part a flow are told; flows whose time is not known are never cut.
    """
    rows, nothing = flows.rows, np.zeros(0, np.int64)
    timed = np.flatnonzero(rows["last"] > rows["first"])
    if not len(timed) or steady(inventory):
        return nothing, nothing
    ends = _Ends(flows, inventory, interval_s)
    pairs = np.unique(np.concatenate([ends.sources(timed), ends.destinations(timed)]), axis=0)
    return pairs[:, 0], pairs[:, 1]


def steady(inventory: Inventory) -> bool:
    """Whether nothing ever changes: all records hold for ever."""
    records = inventory.records
    lists = (
        records.namespaces,
        records.pods,
        records.workloads,
        records.services,
        records.slices,
        records.nodes,
        records.answers,
    )
    return all(item.since <= 0 and item.until >= FOREVER for held in lists for item in held)


class _Ends:
    """The times at which each end of the flows changes."""

    def __init__(self, flows: Flows, inventory: Inventory, interval_s: int) -> None:
        self.flows = flows
        self.interval_s = interval_s
        self.records = inventory.records
        self.finder = Finder(inventory.index, DEFAULTS)
        self.slices: dict[tuple[str, str], set[int]] = defaultdict(set)
        for item in self.records.slices:
            self.slices[item.namespace, item.service].update((item.since, item.until))

    def sources(self, timed: NDArray[np.int64]) -> Times:
        """(flow, time) of the flows ``timed``."""
        used, keys = np.unique(self.flows.rows["src"][timed], return_inverse=True)
        return self._pairs(timed, keys.reshape(-1), [self._of_text(number) for number in used.tolist()])

    def destinations(self, timed: NDArray[np.int64]) -> Times:
        """As sources; a service is told apart by protocol and port, since its backends are."""
        rows = self.flows.rows[timed]
        code = rows["dst"].astype(np.int64) << 24 | rows["protocol"].astype(np.int64) << 16 | rows["port"]
        used, keys = np.unique(code, return_inverse=True)
        plain: dict[int, list[int]] = {}
        times: list[list[int]] = []
        for item in used.tolist():
            number = item >> 24
            if number not in plain and not self.finder.leads_on(self.flows.strings[number]):
                plain[number] = self._of_text(number)
            found = plain.get(number)
            times.append(self._of_service(number, item >> 16 & 0xFF, item & 0xFFFF) if found is None else found)
        return self._pairs(timed, keys.reshape(-1), times)

    def _of_text(self, number: int) -> list[int]:
        """The times at which a text becomes something else, or begins or ceases to be known."""
        found = self.finder.find(self.flows.strings[number])
        return self._cuts({time for item in found for time in (item.since, item.until)}, found)

    def _of_service(self, number: int, protocol: int, port: int) -> list[int]:
        """A service's own times, and those of what its slices and its selector lead to."""
        text = self.flows.strings[number]
        found = self.finder.through(text, protocol, port)
        times = {time for item in found for time in (item.since, item.until)}
        for _, place in self.finder.services(text):
            service = self.records.services[place]
            times.update((service.since, service.until), self.slices[service.namespace, service.name])
        return self._cuts(times, found)

    def _cuts(self, times: set[int], candidates: list[Candidate]) -> list[int]:
        """Cuts for changes at ``times``: before the interval that holds one, and after it."""
        cuts = set[int]()
        since, until = sorted(item.since for item in candidates), sorted(item.until for item in candidates)
        for time in times:
            if 0 < time < FOREVER:
                known_before = bisect_left(since, time) > bisect_left(until, time)
                known_after = bisect_right(since, time) > bisect_right(until, time)
                if known_after or not known_before:
                    cuts.add(time - self.interval_s + 1)
                if known_before or not known_after:
                    cuts.add(time)
        return sorted(cuts)

    def _pairs(self, timed: NDArray[np.int64], keys: NDArray[np.int64], times: list[list[int]]) -> Times:
        """(flow, time) for each flow of ``timed``: the times of its key that lie inside of it."""
        start = np.zeros(len(times) + 1, np.int64)
        np.cumsum([len(item) for item in times], out=start[1:])
        flat = np.array([time for item in times for time in item], np.int64)
        count = start[keys + 1] - start[keys]
        position = np.repeat(np.arange(len(keys)), count)
        offset = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
        time, flow = flat[start[keys][position] + offset], timed[position]
        inside = (time > self.flows.rows["first"][flow]) & (time <= self.flows.rows["last"][flow])
        return np.stack([flow[inside], time[inside]], axis=1)
