"""Exposure: workloads whose pods no policy isolates, and who could reach them.

What a policy does not select is open: this is the list to work through before anything can be called closed.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.compile import Compiled
from fathom.policy.connectivity import Connectivity, connectivity
from fathom.policy.ends import Ends, ends_of, latest, ports_of
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD
from fathom.policy.labelling import workload_of
from fathom.policy.model import DIRECTIONS, Direction

#: Names of sources that are told with one workload.
MOST_SOURCES = 20


class Exposed(msgspec.Struct, frozen=True):
    """A workload with pods that no policy isolates.

    ``open`` are the directions, ``pods`` how many of ``of`` pods are open in any of them. Where ``ingress`` is open:
    ``reached_by`` counts the other workloads from which some port may be reached, ``sources`` names the first of them,
    ``nodes`` and ``outside`` say whether (other) nodes and addresses outside of the cluster may reach it too.
    """

    workload: str
    open: tuple[Direction, ...]
    pods: int
    of: int
    reached_by: int
    sources: tuple[str, ...]
    nodes: bool
    outside: bool


def exposed(compiled: Compiled, *, time: int | None = None, sources: int = MOST_SOURCES) -> list[Exposed]:
    """Workloads that are not isolated in some direction at ``time`` (default: the newest), by name.

    Pods on the host's network are left out: see ``on_host``.
    """
    compiled = compiled.current()
    moment = latest(compiled.index) if time is None else time
    ends = ends_of((compiled,), moment)
    whole = connectivity(compiled, ends, ports_of((compiled,)))
    parts: dict[str, list[int]] = {}
    for number, members in enumerate(ends.workloads):
        for workload in members:
            parts.setdefault(workload, []).append(number)
    reach = _reach(whole)
    return [
        found
        for workload, mine in sorted(parts.items())
        if (found := _exposed(whole, reach, workload, mine, sources)) is not None
    ]


def _reach(whole: Connectivity) -> dict[int, NDArray[np.bool_]]:
    """End that is open for ingress → whether each end may reach some port of it."""
    open_ends = np.flatnonzero((whole.ends.kind == POD) & ~whole.isolated["ingress"])
    found = np.zeros((len(open_ends), len(whole.ends)), bool)
    for src in range(len(whole.ends)):
        allowed, _ = whole.from_end(src)
        found[:, src] = allowed[open_ends].any(axis=1)
    return dict(zip(open_ends.tolist(), found, strict=True))


def _exposed(
    whole: Connectivity, reach: dict[int, NDArray[np.bool_]], workload: str, mine: list[int], most: int
) -> Exposed | None:
    ends = whole.ends
    open_in: dict[Direction, list[int]] = {d: [n for n in mine if not whole.isolated[d][n]] for d in DIRECTIONS}
    directions = tuple(direction for direction in DIRECTIONS if open_in[direction])
    if not directions:
        return None
    sources = np.zeros(len(ends), bool)
    for number in open_in["ingress"]:
        sources |= reach[number]
    names = {name for n in np.flatnonzero(sources).tolist() for name in ends.workloads[n]} - {workload}
    concerned = {n for direction in directions for n in open_in[direction]}
    return Exposed(
        workload,
        directions,
        sum(ends.workloads[n][workload] for n in concerned),
        sum(ends.workloads[n][workload] for n in mine),
        len(names),
        tuple(sorted(names)[:most]),
        bool(np.any(sources & (ends.kind == NODE))),
        _from_outside(ends, sources),
    )


def _from_outside(ends: Ends, sources: NDArray[np.bool_]) -> bool:
    return bool(np.any(sources & (ends.kind == EXTERNAL)))


def on_host(compiled: Compiled, *, time: int | None = None) -> tuple[str, ...]:
    """Workloads with pods on the host's network at ``time``: policies of pods do not select them."""
    index = compiled.index
    moment = latest(index) if time is None else time
    table = index.presences
    living = (table["since"] <= moment) & (table["until"] > moment) & (table["kind"] == HOST_POD)
    pods = {int(number) for number in table["pod"][living].tolist()}
    return tuple(sorted({workload_of(index.records.pods[number]) for number in pods}))
