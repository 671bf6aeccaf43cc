"""Where the nodes of a graph stand in a picture: in layers from left to right, so that links cross little. Pure.

Sugiyama's method in its simplest form: links that close a cycle count backwards, a node stands right of all that
reach it, a link over several layers gets a place in each of them, and each layer is ordered by the middle of its
neighbours. No chance is involved: equal graphs, equal places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 8
Pair = tuple[str, str]
#: A name, or the place of a link (a pair from left to right) in a layer (its number).
Place = str | tuple[str, str, int]


@dataclass(frozen=True)
class Layout:
    """``layers`` from left to right, each from top to bottom; ``depth`` is the layer of each name."""

    layers: list[list[Place]]
    depth: dict[str, int]

    def way(self, src: str, dst: str) -> list[Place]:
        """The places of the link between two names, from ``src`` on, the ends left out."""
        left, right = (src, dst) if self.depth[src] < self.depth[dst] else (dst, src)
        found: list[Place] = [(left, right, n) for n in range(self.depth[left] + 1, self.depth[right])]
        return found if left == src else found[::-1]


def layout(names: Sequence[str], links: Sequence[Pair]) -> Layout:
    """Every name has a place. ``links`` are pairs of names; those of other names, and to itself, are passed over."""
    known = sorted(set(names))
    pairs = sorted({pair for pair in links if pair[0] != pair[1] and set(pair) <= set(known)})
    forward = sorted(set(_acyclic(known, pairs)))
    depth = _depths(known, forward)
    found: list[list[Place]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in known:
        found[depth[name]].append(name)
    near: dict[Place, list[Place]] = defaultdict(list)
    for left, right in forward:
        chain: list[Place] = [left, *((left, right, n) for n in range(depth[left] + 1, depth[right])), right]
        for place in chain[1:-1]:
            found[int(place[2])].append(place)
        for one, other in pairwise(chain):
            near[one].append(other)
            near[other].append(one)
    _order(found, near)
    return Layout(found, depth)


def _acyclic(names: Sequence[str], pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs, those turned round that would close a cycle in a walk in order of names."""
    after: dict[str, list[str]] = defaultdict(list)
    for src, dst in pairs:
        after[src].append(dst)
    found: list[Pair] = []
    state: dict[str, int] = {}  # 1: on the walk's path, 2: done
    for start in names:
        if start in state:
            continue
        walk = [(start, iter(after[start]))]
        state[start] = 1
        while walk:
            name, rest = walk[-1]
            following = next(rest, None)
            if following is None:
                state[name] = 2
                walk.pop()
                continue
            found.append((following, name) if state.get(following) == 1 else (name, following))
            if following not in state:
                state[following] = 1
                walk.append((following, iter(after[following])))
    return found


def _depths(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, int]:
    """The longest way to each name; ``pairs`` have no cycle."""
    after: dict[str, list[str]] = defaultdict(list)
    waiting = dict.fromkeys(names, 0)
    for src, dst in pairs:
        after[src].append(dst)
        waiting[dst] += 1
    depth = dict.fromkeys(names, 0)
    ready = [name for name in names if not waiting[name]]
    while ready:
        name = ready.pop()
        for following in after[name]:
            depth[following] = max(depth[following], depth[name] + 1)
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
    return depth


def _order(layers: list[list[Place]], near: dict[Place, list[Place]]) -> None:
    """Each layer by the mean place of its neighbours, swept forth and back."""
    at = {place: (n + 0.5) / len(layer) for layer in layers for n, place in enumerate(layer)}
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            middle = {place: _mean([at[other] for other in near[place]], at[place]) for place in layer}
            layer.sort(key=lambda place: (middle[place], str(place)))
            at |= {place: (n + 0.5) / len(layer) for n, place in enumerate(layer)}


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
