"""Generated documents and mistakes before the real API server, and the offline check that must agree with it."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
import yaml
from admission import Admission
from generated_clusters import SPACES, make
from generated_schemas import not_read, wrong
from kube_cluster import Cluster, Doc
from mutations import MISTAKES, everywhere, made_in
from strategies import SPACES as OTHER_SPACES
from strategies import Tape, malformed_policy, network_policy

from fathom.policy.generate import Choices, generate, to_yaml

SEEDS = range(30)
ANYWHERE, RANDOM = 600, 500
FORMS: tuple[Any, ...] = ("networkpolicy", "cilium")
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"widen": True, "merge_ports": 2},
    {"directions": ("egress",), "spread": 1},
    {"directions": ("ingress",), "merge_ports": 3},
    {"spread": 16},
)
#: Mistakes that the server takes. Generated documents never have an empty selector, which would choose every pod. That
#: a port of Cilium's is one, and that a range has ports, its agents check and its definitions do not.
TAKEN = {
    "NetworkPolicy": {"no selector"},
    "CiliumNetworkPolicy": {"port 65536", "a range that ends below its begin"},
}
#: What documents are made of, of each form: all of it must have been before the server.
PARTS = {
    "NetworkPolicy": "podSelector namespaceSelector ipBlock matchExpressions endPort 53".split(),
    "CiliumNetworkPolicy": [
        *"toEndpoints fromEndpoints toCIDR fromCIDR toEntities fromEntities".split(),
        *"toFQDNs dns matchExpressions endPort".split(),
    ],
}


@pytest.fixture(scope="module")
def admission(cluster: Cluster) -> Admission:
    return Admission(cluster, (*SPACES[:2], *OTHER_SPACES))


@pytest.fixture(scope="module", params=FORMS)
def documents(request: pytest.FixtureRequest) -> list[Doc]:
    """Documents of every shape of one form, each spec once, as they come back from YAML."""
    found: dict[str, Doc] = {}
    for seed, shape in itertools.product(SEEDS, SHAPES):
        made = make(seed)
        text = to_yaml(generate(made.flows, made.inventory, Choices(request.param, **shape)).documents)
        for document in yaml.load_all(text, yaml.CSafeLoader):
            found.setdefault(document["metadata"]["annotations"]["fathom.dev/digest"], document)
    return list(found.values())


def test_each_generated_document_is_accepted(admission: Admission, documents: list[Doc]) -> None:
    assert not [reason for document in documents for reason in wrong(document)]
    answers = admission.ask_all(documents)
    refused = [(answer.reason, doc) for answer, doc in zip(answers, documents, strict=True) if not answer.accepted]
    assert not refused, refused[:3]
    assert not [answer.warnings for answer in answers if answer.warnings]
    kind = documents[0]["kind"]
    parts = Counter(part for document in documents for part in parts_of(document["spec"]))
    wanted = PARTS[kind]
    print(f"{kind}: {len(documents)} documents with { ({part: parts[part] for part in wanted}) }")
    assert all(parts[part] >= 5 for part in wanted), parts


def test_the_reader_refuses_what_the_server_refuses(admission: Admission) -> None:
    """Policies of the strategies, a fifth of them malformed: not those that Fathom writes, but those that people do."""
    tape = Tape(random.Random(2).randbytes(1 << 16))
    made = [malformed_policy(tape) if number % 5 == 0 else network_policy(tape, number) for number in range(RANDOM)]
    refused = [not answer.accepted for answer in admission.ask_all(made)]
    assert refused == [bool(not_read(doc)) for doc in made]
    print(f"{len(made)} random policies, {sum(refused)} refused by both")


def parts_of(value: Any) -> set[str]:
    """Every key and every number in a document."""
    if isinstance(value, dict):
        return set(value).union(*(parts_of(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(parts_of(item) for item in value))
    return {str(value)}


def test_a_mistake_is_refused_by_both(admission: Admission, documents: list[Doc]) -> None:
    """By the server and the offline check.

    The reader of policies alone takes wrong annotations, and a Cilium policy without rules, which mean nothing.
    """
    kind = documents[0]["kind"]
    mistakes = {name: made_in(documents, mistake) for name, mistake in MISTAKES[kind].items()}
    answers = admission.ask_all(list(mistakes.values()))
    assert {name for name, answer in zip(mistakes, answers, strict=True) if answer.accepted} == TAKEN[kind]
    assert not [name for name, document in mistakes.items() if not wrong(document)]
    print(f"{kind}: {len(mistakes)} mistakes by name")
    taken = {name for name, document in mistakes.items() if not not_read(document)}
    assert taken - TAKEN[kind] == {name for name in mistakes if name.startswith(("an annotation", "no direction"))}


def test_what_the_server_refuses_is_refused_offline(admission: Admission, documents: list[Doc]) -> None:
    """The same few mistakes at every place. The offline check refuses more: it knows only what is generated."""
    kind = documents[0]["kind"]
    small = sorted(documents, key=lambda doc: len(str(doc)))
    chosen = [next(doc for doc in small if part in parts_of(doc["spec"])) for part in PARTS[kind]]
    made = [(what, changed) for document in chosen for what, changed in everywhere(document) if changed != document]
    made = random.Random(1).sample(made, ANYWHERE)
    answers = admission.ask_all([changed for _, changed in made])
    counts: Counter[tuple[bool, bool]] = Counter()
    missed: list[str] = []
    for (what, changed), answer in zip(made, answers, strict=True):
        offline = wrong(changed)
        counts[answer.accepted, not offline] += 1
        if not answer.accepted and not offline:
            missed.append(f"{what}: {answer.reason}")
    print(f"{kind}: {len(made)} mistakes, (server takes, offline check takes): {dict(counts)}")
    assert not missed, "\n".join(missed[:40])
