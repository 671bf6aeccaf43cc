"""Policies that somebody sends as text: read within bounds, refused with every reason, and read once."""

from __future__ import annotations

from functools import lru_cache

from fathom.policy import policysets
from fathom.policy.documents import Limits
from fathom.policy.model import PolicySet
from fathom.server.problems import ProblemError
from fathom.store.audits import AuditSets

#: Bounds of one text; the body that holds it has a bound of its own.
LIMITS = Limits(values=500_000, documents=20_000)
_MOST_ERRORS = 50


@lru_cache(maxsize=64)
def parsed(name: str, documents: str) -> PolicySet:
    """The policies of a text, with all that is wrong in it; ``name`` stands in places instead of a file's."""
    return policysets.read_texts([(name, documents)], LIMITS)


def accepted(found: PolicySet, most: int, *, empty: bool = False) -> PolicySet:
    """``found``, if it makes sense: no document is refused, at most ``most`` policies, and one at least unless it may
    be ``empty``. Raises ProblemError (422) that names what is wrong."""
    if found.refused:
        errors = [str(problem) for problem in found.refused[:_MOST_ERRORS]]
        more = len(found.refused) - len(errors)
        what = f"{len(found.refused)} documents are refused: {errors[0]}"
        raise ProblemError(
            422,
            what,
            affects="nothing was taken, and nothing answered",
            do="correct or remove them",
            errors=[*errors, f"and {more} more"] if more else errors,
        )
    if not found.policies and not empty:
        raise ProblemError(
            422, "the documents hold no policy", do="send NetworkPolicy, CiliumNetworkPolicy or the like"
        )
    if len(found.policies) > most:
        raise ProblemError(
            422, f"the documents hold {len(found.policies)} policies, more than {most}", do="send them in parts"
        )
    return found


def in_force(sets: AuditSets) -> PolicySet:
    """All policies that are registered as enforced; of equally named ones the last, by the sets' names."""
    read = [parsed(item.name, item.documents) for item in sets.sets if item.enforced]
    policies = {policy.title: policy for found in read for policy in found.policies}
    return PolicySet(tuple(policies.values()), tuple(problem for found in read for problem in found.problems))


def not_understood(policies: PolicySet) -> list[str]:
    """What makes verdicts unknown, with its place; the first of them."""
    found = [str(problem) for problem in policies.problems if problem.severity == "not-understood"]
    more = len(found) - _MOST_ERRORS
    return [*found[:_MOST_ERRORS], f"and {more} more"] if more > 0 else found
