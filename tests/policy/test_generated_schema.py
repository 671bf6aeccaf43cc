"""Generated documents against strict schemas, offline; and the schemas against mistakes, so that they can fail."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from generated_clusters import make
from generated_schemas import wrong

from fathom.policy.generate import Choices, generate, to_yaml
from fathom.policy.policysets import read_texts


def documents(form: Any) -> list[Any]:
    found: list[Any] = []
    for seed in range(12):
        made = make(seed)
        for choices in (Choices(form), Choices(form, widen=True, merge_ports=2), Choices(form, ("egress",))):
            found += yaml.safe_load_all(to_yaml(generate(made.flows, made.inventory, choices).documents))
    return found


@pytest.mark.parametrize("form", ["networkpolicy", "cilium"])
def test_every_document_has_the_form_that_the_api_asks_for(form: Any) -> None:
    made = documents(form)
    assert len(made) > 100
    for document in made:
        assert not wrong(document)


@pytest.mark.parametrize("form", ["networkpolicy", "cilium"])
def test_what_is_generated_is_understood_in_full(form: Any) -> None:
    for seed in range(12):
        made = make(seed)
        found = read_texts([("generated.yaml", to_yaml(generate(made.flows, made.inventory, Choices(form)).documents))])
        assert not [problem for problem in found.problems if problem.severity != "warning"]
        assert not any(rule.narrowed or rule.widened for policy in found.policies for rule in policy.rules)


def _no_peer(rule: Any) -> None:
    rule["to"][0] = {}


def _both(rule: Any) -> None:
    rule["to"][0] = {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}


def _text(rule: Any) -> None:
    rule["ports"][0]["port"] = "80"


def _unknown(rule: Any) -> None:
    rule["http"] = []


@pytest.mark.parametrize("mistake", [_no_peer, _both, _text, _unknown])
def test_the_schema_refuses_mistakes(mistake: Any) -> None:
    document = next(d for d in documents("networkpolicy") if d["spec"].get("egress"))
    assert not wrong(document)
    changed = copy.deepcopy(document)
    mistake(changed["spec"]["egress"][0])
    assert wrong(changed)
