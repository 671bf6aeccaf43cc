"""Where the questions of one command go: to a server, about what it recorded. Policies from files travel with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from fathom.cli.access import key_for
from fathom.cli.policy.inputs import REGISTERED, Policies, read_policies
from fathom.cli.policy.livecluster import HERE, Access
from fathom.client.policies import PolicyClient
from fathom.policy import asked
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
from fathom.policy.options import Options
from fathom.policy.questions import Progress, RulesAsked
from fathom.policy.thin import Need

A = TypeVar("A")


class About(TypedDict, total=False):
    """The recorded traffic that is asked about, as far as that was given."""

    since: str
    until: str
    workload: str
    node: str
    cluster: str


@dataclass(frozen=True)
class Remote:
    """Asks ``server``."""

    server: str
    token_file: str | None
    about: About
    options: Options
    access: Access = HERE

    @property
    def flows(self) -> Flows | None:
        """The server keeps them."""
        return None

    def policies(
        self, paths: Sequence[str], *, option: str = "--policies", empty: bool = False, missing: bool = True
    ) -> Policies:
        """The policies to ask about; without ``paths`` those that are registered as enforced, if they may be
        ``missing``."""
        if missing and not paths:
            return REGISTERED
        return read_policies(paths, self.access, option=option, empty=empty)

    def idle(self, policies: Policies) -> list[str]:  # noqa: ARG002
        """Nothing: a server that streams verdicts does not say."""
        return []

    def evaluate(self, policies: Policies) -> Iterator[FlowVerdict]:
        """As ``questions.evaluate``."""
        question = asked.PoliciesAsked(policies=_texts(policies), options=self.options, **self.about)
        with asyncio.Runner() as runner:
            client = self._client()
            stream = client.policy_evaluate(question)

            async def following() -> FlowVerdict | None:
                return await anext(stream, None)

            try:
                while (found := runner.run(following())) is not None:
                    yield found
            finally:
                runner.run(client.close())

    def replay(self, policies: Policies, limit: int, progress: Progress | None) -> Replayed:  # noqa: ARG002
        """As ``questions.replay``."""
        question = asked.PoliciesAsked(policies=_texts(policies), options=self.options, limit=limit, **self.about)
        return self._ask(lambda client: client.policy_replay(question))

    def diff(self, old: Policies, new: Policies, limit: int, progress: Progress | None) -> Differences:  # noqa: ARG002
        """As ``questions.diff``."""
        before, after = _texts(old), _texts(new) or []
        question = asked.DiffAsked(old=before, new=after, options=self.options, limit=limit, **self.about)
        return self._ask(lambda client: client.policy_diff(question))

    def explain_flow(self, policies: Policies, flow: Mapping[str, Any]) -> Explained:
        """As ``questions.explain_flow``."""
        question = asked.FlowAsked(policies=_texts(policies), options=self.options, flow=dict(flow), **self.about)
        return self._ask(lambda client: client.policy_explain_flow(question))

    def explain_rule(self, policies: Policies, rules: RulesAsked, limit: int) -> RuleUses:
        """As ``questions.explain_rule``."""
        question = asked.RuleAsked(
            policies=_texts(policies), options=self.options, rules=rules, limit=limit, **self.about
        )
        return self._ask(lambda client: client.policy_explain_rule(question))

    def coverage(self, need: Need, limit: int) -> Covered:
        """As ``questions.coverage``."""
        question = asked.CoverageAsked(need=need, limit=limit, **self.about)
        return self._ask(lambda client: client.policy_coverage(question))

    def exposure(self, policies: Policies, limit: int) -> Exposure:
        """As ``questions.exposure``."""
        question = asked.PoliciesAsked(policies=_texts(policies), options=self.options, limit=limit, **self.about)
        return self._ask(lambda client: client.policy_exposure(question))

    def graph(self, policies: Policies, kind: GraphKind, limit: int) -> Graph:
        """As ``questions.graph``."""
        question = asked.GraphAsked(
            policies=_texts(policies), options=self.options, kind=kind, limit=limit, **self.about
        )
        return self._ask(lambda client: client.policy_graph(question))

    def generate(self, choices: Choices, limit: int) -> Generation:
        """As ``questions.generate``."""
        question = asked.GenerateAsked(choices=choices, limit=limit, **self.about)
        return self._ask(lambda client: client.policy_generate(question))

    def _client(self) -> PolicyClient:
        return PolicyClient(self.server, key_for(self.server, self.token_file, os.environ))

    def _ask(self, question: Callable[[PolicyClient], Awaitable[A]]) -> A:
        async def run() -> A:
            async with self._client() as client:
                return await question(client)

        return asyncio.run(run())


def _texts(policies: Policies) -> list[asked.Text] | None:
    """What travels: every text with the name of its file; None where the server's own are meant."""
    return [asked.Text(file, text) for file, text in policies.texts.items()] if policies.given else None
