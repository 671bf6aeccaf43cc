"""How much a recording holds, in numbers, for a person who is given one."""

from __future__ import annotations

import msgspec


class Tally(msgspec.Struct, frozen=True):
    """Rows of each kind. ``facts`` are of one interval each, ``sums`` of an hour; ``workloads`` as the store tells them
    apart; ``endpoints`` are versions of objects; ``syscall_sets`` as ``Store.syscalls`` gives them; ``orphans`` are
    edges of which only the counts are known."""

    edges: int
    facts: int
    sums: int
    workloads: int
    endpoints: int
    nodes: int
    syscall_sets: int
    orphans: int


#: The numbers of a tally, in its order; each is asked by itself.
QUESTIONS = (
    "SELECT COUNT(*) FROM edges",
    "SELECT COUNT(*) FROM facts",
    "SELECT COUNT(*) FROM hourly",
    "SELECT COUNT(*) FROM (SELECT DISTINCT cluster, CASE WHEN namespace = '' THEN node ELSE '' END, namespace, kind,"
    " name FROM edges)",
    "SELECT COUNT(*) FROM endpoints",
    "SELECT COUNT(*) FROM nodes",
    "SELECT COUNT(*) FROM (SELECT DISTINCT namespace, kind, name, container, image, executable, architecture"
    " FROM syscalls)",
    "SELECT COUNT(*) FROM orphans",
)
#: The clusters of which something is held, at most so many.
MOST_CLUSTERS = 1_000
CLUSTERS = (
    "SELECT cluster FROM edges WHERE cluster <> '' UNION SELECT cluster FROM endpoints WHERE cluster <> ''"
    f" ORDER BY 1 LIMIT {MOST_CLUSTERS}"
)
