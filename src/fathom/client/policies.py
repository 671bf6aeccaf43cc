"""Questions about policy, asked over REST: the same as ``fathom.policy.questions``, about what the server recorded.

Apart from ``Client``, since its answers bring numpy with them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from fathom.client.asking import Asking, decoded
from fathom.policy import asked
from fathom.policy.answers import Covered, Differences, Explained, Exposure, Generation, Graph, Replayed, RuleUses
from fathom.policy.explain import FlowVerdict

A = TypeVar("A")
_PATH = "/policy"
#: Seconds to wait for an answer: a long window takes the server long.
_PATIENCE_S = 300.0


class PolicyClient(Asking):
    """A client of ``server`` (a URL) that shows ``key``. Use it in ``async with``.

    Every question raises as those of ``Client`` do; UsageError also where a document is refused.
    """

    async def policy_evaluate(self, question: asked.PoliciesAsked) -> AsyncIterator[FlowVerdict]:
        """The verdict of each recorded flow, as they come."""
        async for line in self._lines(f"{_PATH}/evaluate", question, _PATIENCE_S):
            yield decoded(line, FlowVerdict)

    async def policy_replay(self, question: asked.PoliciesAsked) -> Replayed:
        """What the policies would have denied."""
        return await self._question("replay", Replayed, question)

    async def policy_diff(self, question: asked.DiffAsked) -> Differences:
        """What a change of policies does."""
        return await self._question("diff", Differences, question)

    async def policy_explain_flow(self, question: asked.FlowAsked) -> Explained:
        """Why a flow is allowed or denied."""
        return await self._question("explain/flow", Explained, question)

    async def policy_explain_rule(self, question: asked.RuleAsked) -> RuleUses:
        """Which traffic used a rule."""
        return await self._question("explain/rule", RuleUses, question)

    async def policy_coverage(self, question: asked.CoverageAsked) -> Covered:
        """How much was seen."""
        return await self._question("coverage", Covered, question)

    async def policy_exposure(self, question: asked.PoliciesAsked) -> Exposure:
        """What no policy covers."""
        return await self._question("exposure", Exposure, question)

    async def policy_graph(self, question: asked.GraphAsked) -> Graph:
        """Who talks to whom, or who may."""
        return await self._question("graph", Graph, question)

    async def policy_generate(self, question: asked.GenerateAsked) -> Generation:
        """Policies from recorded traffic."""
        return await self._question("generate", Generation, question)

    async def _question(self, name: str, kind: type[A], question: asked.Asked) -> A:
        return await self._post(f"{_PATH}/{name}", kind, question, _PATIENCE_S)
