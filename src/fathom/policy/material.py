"""Material: all that a question about policy stands on besides the policies, as one value.

Whoever asks (command line, REST, Python) makes it once, from a store, a recording, or manifests and JSON lines; every
question takes it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fathom.policy.coverage import Gap, Loss
from fathom.policy.flows import Flows
from fathom.policy.inventory import Inventory


@dataclass(frozen=True)
class Material:
    """Who existed (``inventory``), what was seen (``flows``), and how far that can be trusted.

    ``window``: the flows are a record of [since, until), epoch seconds; (0, 0) where it is not known. ``nodes``: those
    that should have been seen in it; ``gaps``: when they were not; ``losses``: what was counted but not kept.
    """

    inventory: Inventory
    flows: Flows
    window: tuple[int, int] = (0, 0)
    nodes: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = field(default=())
    losses: tuple[Loss, ...] = field(default=())
