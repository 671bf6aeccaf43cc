"""Material: all that a question about policy stands on besides the policies, as one value.

Whoever asks (command line, REST, Python) makes it once, from a store, a recording, or manifests and JSON lines; every
question takes it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fathom.errors import UsageError
from fathom.policy.coverage import Gap, Loss
from fathom.policy.flows import Flows
from fathom.policy.inventory import Inventory
from fathom.policy.labelling import Labels, naming
from fathom.policy.resolve import resolve


@dataclass(frozen=True)
class Material:
    """Who existed (``inventory``), what was seen (``flows``), and how far that can be trusted.

    ``window``: the flows are a record of [since, until), epoch seconds; (0, 0) where it is not known. ``nodes``: those
    that should have been seen in it; ``gaps``: when they were not; ``share``: of their time in it, each counted from
    when it was first known, what was seen (None: as nodes and gaps say); ``losses``: what was counted but not kept.
    ``as_of``: when a live cluster was read for the inventory, epoch seconds: what ended or had other labels before is
    not in it; 0 where it is no such state. ``beyond``: flows of which it is not known how much of their count was in
    ``window``: they are whole.
    """

    inventory: Inventory
    flows: Flows
    window: tuple[int, int] = (0, 0)
    nodes: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = field(default=())
    share: float | None = None
    losses: tuple[Loss, ...] = field(default=())
    as_of: int = 0
    beyond: int = 0


def about(material: Material, workload: str) -> Material:
    """The same with the flows of one workload only, at either end, or behind a service at one.

    ``workload`` is ``name``, ``kind/name`` or ``namespace/kind/name``; ``*`` stands for any text in it. Raises
    UsageError if no flow has such an end.
    """
    resolved = resolve(material.flows, material.inventory)
    labels, named = Labels(material.flows, resolved), naming(workload)
    meant = np.array([named(text) for text in labels.texts], bool)
    mine = np.zeros(len(material.flows), bool)
    mine[resolved.rows["flow"][meant[labels.src_rows] | meant[labels.dst_rows]]] = True
    chosen = np.flatnonzero(mine | meant[labels.dst])
    if not len(chosen):
        raise UsageError(f"no flow of a workload {workload!r}", do="write name, kind/name or namespace/kind/name")
    return replace(material, flows=material.flows.select(chosen))
