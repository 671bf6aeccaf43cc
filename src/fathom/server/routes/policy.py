"""Questions about policy on what was recorded: the functions of ``fathom.policy.questions``, each behind one path.

Policies travel as text in the body. They compute for long, so they run in threads of their own, a bounded number at
once and for a bounded time; what nobody waits for any more ends where it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request
from msgspec.structs import replace
from starlette.responses import Response

from fathom.policy import answers, asked, questions
from fathom.server import policy_examples as examples
from fathom.server.bodies import body_of
from fathom.server.desk import AtDesk, Desk
from fathom.server.documented import returns, sends_lines, takes
from fathom.server.ndjson import Lines, gone
from fathom.server.policy_work import PolicyWork

Q = TypeVar("Q", bound=asked.Asked)
router = APIRouter(prefix="/api/v1/policy", tags=["policy"])
#: The status of an answer that nobody waits for; it is never sent.
_NOBODY = 499


@router.post(
    "/evaluate",
    summary="The verdict of each recorded flow",
    response_class=Response,
    responses=sends_lines("FlowVerdict: one JSON object a line, for every flow.", examples.VERDICTS, 413),
    openapi_extra=takes(asked.PoliciesAsked, examples.POLICIES_ASKED),
)
async def evaluate(request: Request, desk: AtDesk) -> Response:
    """Every recorded flow with its verdict, and the policies and rules that decided on both sides, as they are found;
    `limit` does not count here. An answer that fails on the way is cut off, and does not end as HTTP asks for."""
    question = await body_of(request, asked.PoliciesAsked)
    work = _work(desk)

    def begin() -> tuple[bytes, Callable[[], bytes]]:
        policies, material = work.policies(question.policies), work.material(question)
        part = work.lines(questions.evaluate(material, policies, question.options))
        return part(), part

    async with AsyncExitStack() as place:
        run = await place.enter_async_context(desk.working())
        place.callback(work.leave)
        first, part = await run(begin)

        async def following() -> bytes:
            return await run(part)

        return Lines(first, following, place.pop_all())


@router.post(
    "/replay",
    summary="What policies would have denied",
    response_class=Response,
    responses=returns(answers.Replayed, "Groups that would not be allowed.", examples.REPLAYED, 413),
    openapi_extra=takes(asked.PoliciesAsked, examples.POLICIES_ASKED),
)
async def replay(request: Request, desk: AtDesk) -> Response:
    """What the policies would have denied of the recorded traffic, by workload, peer and port, with who decided and
    the rules that are absent."""

    def ask(work: PolicyWork, q: asked.PoliciesAsked) -> answers.Replayed:
        policies = work.policies(q.policies)
        return questions.replay(work.material(q), policies, q.options, limit=q.limit, progress=work.progress)

    return await _answer(request, desk, asked.PoliciesAsked, ask)


@router.post(
    "/diff",
    summary="What a change of policies does",
    response_class=Response,
    responses=returns(answers.Differences, "The differences.", examples.DIFFERENCES, 413),
    openapi_extra=takes(asked.DiffAsked, examples.DIFF_ASKED),
)
async def diff(request: Request, desk: AtDesk) -> Response:
    """What going from one set to another newly denies and allows: of the recorded traffic, and of all that the
    inventory's ends could do."""

    def ask(work: PolicyWork, q: asked.DiffAsked) -> answers.Differences:
        old, new = (work.policies(texts, empty=True) for texts in (q.old, q.new))
        return questions.diff(work.material(q), old, new, q.options, limit=q.limit, progress=work.progress)

    return await _answer(request, desk, asked.DiffAsked, ask)


@router.post(
    "/explain/flow",
    summary="Why a flow has its verdict",
    response_class=Response,
    responses=returns(answers.Explained, "The verdict, and who decided.", examples.EXPLAINED, 413),
    openapi_extra=takes(asked.FlowAsked, examples.FLOW_ASKED),
)
async def explain_flow(request: Request, desk: AtDesk) -> Response:
    """Why one flow, recorded or not, is allowed or denied; and what was recorded between the same ends."""

    def ask(work: PolicyWork, q: asked.FlowAsked) -> answers.Explained:
        return questions.explain_flow(work.material(q), work.policies(q.policies), q.flow, q.options)

    return await _answer(request, desk, asked.FlowAsked, ask)


@router.post(
    "/explain/rule",
    summary="Which traffic used a rule",
    response_class=Response,
    responses=returns(answers.RuleUses, "The rules.", examples.RULE_USES, 413),
    openapi_extra=takes(asked.RuleAsked, examples.RULE_ASKED),
)
async def explain_rule(request: Request, desk: AtDesk) -> Response:
    """Which recorded traffic matched each rule, and which rules decided nothing of it: candidates to remove."""

    def ask(work: PolicyWork, q: asked.RuleAsked) -> answers.RuleUses:
        policies = work.policies(q.policies)
        return questions.explain_rule(work.material(q), policies, q.rules, q.options, limit=q.limit)

    return await _answer(request, desk, asked.RuleAsked, ask)


@router.post(
    "/coverage",
    summary="How much was seen",
    response_class=Response,
    responses=returns(answers.Covered, "Workloads, those with too little history first.", examples.COVERED, 413),
    openapi_extra=takes(asked.CoverageAsked, examples.COVERAGE_ASKED),
)
async def coverage(request: Request, desk: AtDesk) -> Response:
    """How much of the window was observed, and which workloads have too little history for a policy."""

    def ask(work: PolicyWork, q: asked.CoverageAsked) -> answers.Covered:
        return questions.coverage(work.material(q), q.need, limit=q.limit)

    return await _answer(request, desk, asked.CoverageAsked, ask)


@router.post(
    "/exposure",
    summary="What no policy covers",
    response_class=Response,
    responses=returns(answers.Exposure, "Workloads that are open.", examples.EXPOSURE, 413),
    openapi_extra=takes(asked.PoliciesAsked, examples.POLICIES_ASKED),
)
async def exposure(request: Request, desk: AtDesk) -> Response:
    """Workloads that no policy covers, and what could reach them."""

    def ask(work: PolicyWork, q: asked.PoliciesAsked) -> answers.Exposure:
        return questions.exposure(work.material(q), work.policies(q.policies, empty=True), q.options, limit=q.limit)

    return await _answer(request, desk, asked.PoliciesAsked, ask)


@router.post(
    "/graph",
    summary="Who talks to whom, or may",
    response_class=Response,
    responses=returns(answers.Graph, "Nodes and links.", examples.GRAPH, 413),
    openapi_extra=takes(asked.GraphAsked, examples.GRAPH_ASKED),
)
async def graph(request: Request, desk: AtDesk) -> Response:
    """Who talked to whom with the verdict of the policies; or, `static`, who may talk to whom."""

    def ask(work: PolicyWork, q: asked.GraphAsked) -> answers.Graph:
        policies = work.policies(q.policies, empty=True)
        return questions.graph(work.material(q), policies, q.options, kind=q.kind, limit=q.limit)

    return await _answer(request, desk, asked.GraphAsked, ask)


@router.post(
    "/generate",
    summary="Policies from recorded traffic",
    response_class=Response,
    responses=returns(answers.Generation, "Documents with their evidence.", examples.GENERATION, 413),
    openapi_extra=takes(asked.GenerateAsked, examples.GENERATE_ASKED),
)
async def generate(request: Request, desk: AtDesk) -> Response:
    """Policies for the workloads that the recorded traffic shows, each rule with its evidence. `workload` is one more
    of `choices.only`, out of all flows; a `node` is refused: what it saw makes no whole policy."""

    def ask(work: PolicyWork, q: asked.GenerateAsked) -> answers.Generation:
        choices = questions.whole(q.choices, workload=q.workload, node=q.node)
        return questions.generate(work.material(replace(q, workload="")), choices, limit=q.limit)

    return await _answer(request, desk, asked.GenerateAsked, ask)


def _work(desk: Desk) -> PolicyWork:
    return PolicyWork(desk.store, desk.settings, desk.now_ns())


async def _answer(
    request: Request, desk: Desk, kind: type[Q], ask: Callable[[PolicyWork, Q], msgspec.Struct]
) -> Response:
    """What ``ask`` gives, as JSON; it runs in a thread, until it is done or nobody waits for it."""
    question = await body_of(request, kind)
    work = _work(desk)
    asking = asyncio.create_task(desk.work(lambda: work.encoded(ask(work, question))))
    leaving = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            return Response(status_code=_NOBODY)
        return Response(asking.result(), media_type="application/json")
    finally:
        work.leave()
        for task in (asking, leaving):
            task.cancel()
        await asyncio.gather(asking, leaving, return_exceptions=True)
