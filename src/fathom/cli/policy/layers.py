"""Where the nodes of a graph stand in a picture: in layers from left to right, so that links cross little. Pure.

Sugiyama's method in its simplest form: links that close a cycle count backwards, a node stands right of all that
reach it, and each layer is ordered by the middle of its neighbours. No chance is involved: equal graphs, equal places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

_SWEEPS = 8


def layers(names: Sequence[str], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Layers of names, in order; every name is in one of them. ``links`` are pairs of names, others are passed over."""
    known = set(names)
    pairs = sorted({(src, dst) for src, dst in links if src != dst and src in known and dst in known})
    forward = _acyclic(sorted(known), pairs)
    depth = _depths(sorted(known), forward)
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in sorted(known):
        found[depth[name]].append(name)
    return _ordered(found, pairs)


def _acyclic(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs, those turned round that would close a cycle in a walk in order of names."""
    after: dict[str, list[str]] = defaultdict(list)
    for src, dst in pairs:
        after[src].append(dst)
    found: list[tuple[str, str]] = []
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


def _depths(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
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


def _ordered(found: list[list[str]], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Each layer by the mean place of its neighbours, swept forth and back."""
    near: dict[str, list[str]] = defaultdict(list)
    for src, dst in pairs:
        near[src].append(dst)
        near[dst].append(src)
    for sweep in range(_SWEEPS):
        place = {name: (n + 0.5) / len(layer) for layer in found for n, name in enumerate(layer)}
        for layer in found if sweep % 2 == 0 else reversed(found):
            middle = {name: _mean([place[other] for other in near[name]], place[name]) for name in layer}
            layer.sort(key=lambda name: (middle[name], name))
            place |= {name: (n + 0.5) / len(layer) for n, name in enumerate(layer)}
    return found


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
