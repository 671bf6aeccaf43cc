"""Choices where the API text leaves room and network plugins differ, and the words for what a verdict rests on.

Each choice that a verdict rests on is named in its result (``ASSUMPTIONS``), and each cause of ``unknown``
(``REASONS``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Options:
    """How to read what the API leaves open.

    ``block_pods``: whether an ipBlock matches pods by their addresses. ``host_network``: whether pods on the host's
    network are their node (selectors do not see them), pods like others, or unknown. ``icmp``: rules without ports
    decide, or it is always allowed, or unknown. ``dnat``: whether egress rules see a service's backend (``after``) or
    its own address (``before``). ``established``: flows that opened no connection in the window are evaluated like
    others, since they will be opened again (after the next restart), or allowed, since a policy need not cut them.
    """

    block_pods: Literal["match", "never"] = "match"
    host_network: Literal["node", "pod", "unknown"] = "node"
    icmp: Literal["rules", "allowed", "unknown"] = "rules"
    dnat: Literal["after", "before"] = "after"
    established: Literal["evaluate", "allowed"] = "evaluate"


DEFAULTS = Options()

#: Bits of a result's ``assumptions``: what the verdict rests on beyond the API's text.
ASSUMPTIONS = {
    1: "ipBlock against a pod's address (option block_pods)",
    2: "a pod on the host's network is its node (option host_network)",
    4: "ICMP is outside the API (option icmp)",
    8: "the backend of a service is inferred (option dnat)",
    16: "a pod's own node may always reach it",
    32: "a pod may always reach itself",
    64: "no connection was opened in the window (option established)",
}
BLOCK_PODS, HOST_NETWORK, ICMP, DNAT, OWN_NODE, OWN_POD, ESTABLISHED = ASSUMPTIONS

#: Bits of a result's ``reasons``: why a verdict is unknown.
REASONS = {
    1: "an endpoint is not in the inventory at that time",
    2: "the address that a rule asks for is not known",
    4: "a part of a policy is not understood",
    8: "the backends of the service differ",
    16: "labels, addresses or owners changed during the flow",
    32: "policies of equal priority disagree",
    64: "it is not known who opened the connection",
    128: "the source is hidden by address translation",
    256: "it is not known whether the node is the pod's own",
    512: "no DNS name is known for the address",
    1024: "the service has no known endpoints",
    2048: "ICMP: the network plugin decides",
    4096: "a pod on the host's network: the network plugin decides",
    8192: "the pods of the workload differ",
}
(
    ABSENT,
    NO_ADDRESS,
    NOT_UNDERSTOOD,
    BACKENDS,
    CHANGED,
    TIE,
    NOT_ORIENTED,
    HIDDEN,
    WHICH_NODE,
    NO_NAME,
    NO_BACKENDS,
    ICMP_PLUGIN,
    HOST_PLUGIN,
    REPLICAS,
) = REASONS
