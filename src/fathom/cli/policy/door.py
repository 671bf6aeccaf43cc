"""Where the questions of one command go: to the files that were named, by the functions of ``fathom.policy``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from fathom.cli.policy.inputs import Policies, read_material
from fathom.errors import UsageError
from fathom.policy import questions
from fathom.policy.answers import (
    Covered,
    Differences,
    Explained,
    Exposure,
    Generation,
    Graph,
    GraphKind,
    Replayed,
    RuleUses,
)
from fathom.policy.coverage import Need
from fathom.policy.explain import FlowVerdict
from fathom.policy.flows import Flows
from fathom.policy.generate import Choices
from fathom.policy.material import Material
from fathom.policy.options import Options

_READING = ("block_pods", "host_network", "icmp", "dnat", "established")


@dataclass(frozen=True)
class Local:
    """Asks the functions themselves."""

    material: Material
    options: Options

    @property
    def flows(self) -> Flows:
        """The flows that answers number."""
        return self.material.flows

    def evaluate(self, policies: Policies) -> Iterator[FlowVerdict]:
        """As ``questions.evaluate``."""
        return questions.evaluate(self._seen(), policies.set, self.options)

    def replay(self, policies: Policies, limit: int, progress: questions.Progress | None) -> Replayed:
        """As ``questions.replay``."""
        return questions.replay(self._seen(), policies.set, self.options, limit=limit, progress=progress)

    def diff(self, old: Policies, new: Policies, limit: int, progress: questions.Progress | None) -> Differences:
        """As ``questions.diff``."""
        return questions.diff(self.material, old.set, new.set, self.options, limit=limit, progress=progress)

    def explain_flow(self, policies: Policies, flow: Mapping[str, Any]) -> Explained:
        """As ``questions.explain_flow``."""
        return questions.explain_flow(self.material, policies.set, flow, self.options)

    def explain_rule(self, policies: Policies, asked: questions.RulesAsked, limit: int) -> RuleUses:
        """As ``questions.explain_rule``."""
        return questions.explain_rule(self._seen(), policies.set, asked, self.options, limit=limit)

    def coverage(self, need: Need, limit: int) -> Covered:
        """As ``questions.coverage``."""
        return questions.coverage(self._seen(), need, limit=limit)

    def exposure(self, policies: Policies, limit: int) -> Exposure:
        """As ``questions.exposure``."""
        return questions.exposure(self.material, policies.set, self.options, limit=limit)

    def graph(self, policies: Policies, kind: GraphKind, limit: int) -> Graph:
        """As ``questions.graph``."""
        material = self._seen() if kind == "recorded" else self.material
        return questions.graph(material, policies.set, self.options, kind=kind, limit=limit)

    def generate(self, choices: Choices, limit: int) -> Generation:
        """As ``questions.generate``."""
        return questions.generate(self._seen(), choices, limit=limit)

    def _seen(self) -> Material:
        """The material, which must have flows. Raises UsageError if it has none."""
        if not len(self.material.flows):
            raise UsageError("no flows: this question is about traffic", do="name a file of flows by --flows")
        return self.material


def open_door(given: Mapping[str, Any]) -> Local:
    """The door for the options of ``source_options`` and ``reading_options``.

    Raises UsageError if options exclude one another, or an input cannot be read.
    """
    if not (given["manifests"] or given["flows"]):
        raise UsageError("no inventory and no flows", do="name manifests by --manifests, flows by --flows")
    _exclusive(("server", "token_file", "since", "until"))
    reading = Options(**{name: given[name] for name in _READING if name in given})
    return Local(read_material(given["manifests"], given["flows"], given["workload"]), reading)


def _exclusive(names: tuple[str, ...]) -> None:
    """Raises UsageError if an option that only a server understands is given beside files."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            spelled = "--" + name.replace("_", "-")
            raise UsageError(f"{spelled} is about a server, and files were named", do="give one or the other")
