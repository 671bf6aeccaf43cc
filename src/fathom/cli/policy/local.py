"""Where the questions of one command go: to the functions of ``fathom.policy``, on the files that were named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathom.cli.policy.inputs import NONE, Policies, read_policies
from fathom.cli.policy.livecluster import HERE, Access
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
from fathom.policy.explain import FlowVerdict
from fathom.policy.flows import Flows
from fathom.policy.generate import Choices
from fathom.policy.material import Material
from fathom.policy.options import Options
from fathom.policy.thin import Need


@dataclass(frozen=True)
class Local:
    """Asks the functions themselves."""

    material: Material
    options: Options
    access: Access = HERE

    @property
    def flows(self) -> Flows | None:
        """The flows that answers number."""
        return self.material.flows

    def policies(
        self, paths: Sequence[str], *, option: str = "--policies", empty: bool = False, missing: bool = False
    ) -> Policies:
        """The policies to ask about (see ``read_policies``); without ``paths`` none, if they may be ``missing``."""
        return NONE if missing and not paths else read_policies(paths, self.access, option=option, empty=empty)

    def idle(self, policies: Policies) -> list[str]:
        """As ``questions.idle``."""
        return questions.idle(self.material, policies.set, self.options)

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
            raise UsageError(
                "no flows: this question is about traffic",
                do="name a recording by --recording, or flows by --flows; of a recording, see that what --since, "
                "--until and --node choose has some",
            )
        return self.material
