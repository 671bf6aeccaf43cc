"""The edge cases of policy evaluation by number, and the mistakes of other evaluators: each has a named test.

``clauses`` are what the reference counts apart; in the long comparison each occurs at least 1,000 times.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EdgeCase:
    """What a test named ``test_case_NN_…`` is about."""

    about: str
    parts: tuple[str, ...] = ()

    def clauses(self, number: int) -> list[str]:
        """The names under which its parts are counted."""
        return [f"{number} {part}" for part in self.parts]


OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
CASES: dict[int, EdgeCase] = {
    1: EdgeCase("policyTypes missing", ("both", "ingress only")),
    2: EdgeCase("ingress rules without the type Ingress"),
    3: EdgeCase("no rules, and one empty rule", ("missing", "null", "empty list", "empty rule")),
    4: EdgeCase("an empty podSelector, and no namespace", ("all pods", "no namespace")),
    5: EdgeCase("several policies for one pod; one name in two namespaces"),
    6: EdgeCase("peers", ("podSelector", "namespaceSelector", "podSelector and namespaceSelector")),
    7: EdgeCase("a selector that is null, and one that is empty", ("null", "empty")),
    8: EdgeCase("matchExpressions", (*OPERATORS, *(f"{word} absent" for word in OPERATORS))),
    9: EdgeCase("malformed peers are refused"),
    10: EdgeCase("the label kubernetes.io/metadata.name"),
    11: EdgeCase(
        "ipBlock",
        ("host bits", "except", "several excepts", "IPv6", "mapped", "another family", "dual stack"),
    ),
    12: EdgeCase("a block against a pod's address", ("match", "never", "all", "external")),
    13: EdgeCase("a pod that is not known", ("pod", "address", "at another time")),
    14: EdgeCase("ports without protocol or number", ("no protocol", "no port")),
    15: EdgeCase("numbers and ranges", ("number", "range")),
    16: EdgeCase("named ports", ("of a pod", "outside")),
    17: EdgeCase("SCTP and ICMP", ("SCTP", "ICMP")),
    18: EdgeCase("one number on TCP and UDP"),
    19: EdgeCase("pods on the host's network", ("node", "pod", "unknown")),
    20: EdgeCase("own node, own pod", ("own pod", "own node", "another node", "some node")),
    21: EdgeCase("replies and lost orientation"),
    22: EdgeCase("services before and after translation", ("after", "before")),
    23: EdgeCase("translation on a node hides the source, or does not", ("hostPort",)),
    24: EdgeCase("a proxy hides the client"),
    25: EdgeCase("reuse and change over time", ("reused", "changed", "at that time")),
    26: EdgeCase("connections from before", ("allowed", "evaluate")),
    27: EdgeCase("the node-local DNS cache"),
    28: EdgeCase("the API server"),
    29: EdgeCase("one policy alone, and the union; which rules matched"),
    30: EdgeCase("verdicts", ("allowed", "denied-ingress", "denied-egress", "denied-both", "unknown")),
    31: EdgeCase("first and last seen of what would be denied"),
    32: EdgeCase("differences on flows and static", ("same", "newly-denied", "newly-allowed")),
}

#: Mistake found in another evaluator → the test that keeps it out.
MISTAKES: dict[str, str] = {
    "an empty list of rules that is not nil allows": "an_empty_list_of_rules_that_is_present_denies",
    "a nil protocol is dereferenced": "a_missing_protocol_is_tcp_and_breaks_nothing",
    "a selector in error, or a bad block, accepts": "a_selector_or_block_in_error_is_refused",
    "a nil port is looked at before the protocol": "a_protocol_without_a_port_is_that_protocol_only",
    "a block never matches a pod": "a_block_matches_the_address_of_a_pod",
    "missing types, empty peers and bad ranges panic": "missing_types_empty_peers_and_bad_ranges_do_not_crash",
    "one policy is judged alone": "a_policy_is_judged_together_with_those_that_exist",
    "a selector that lost its labels selects everything": "a_selector_that_selects_everything_is_told_apart",
}
