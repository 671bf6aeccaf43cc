"""What is asked of a server about policy: one body for each question of ``questions``, as plain types.

Times are text as everywhere in REST: a duration before now (``24h``) or RFC 3339. An empty text means "any".
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from fathom.policy.answers import GraphKind
from fathom.policy.generate import Choices
from fathom.policy.options import Options
from fathom.policy.questions import LIMIT, MOST, RulesAsked
from fathom.policy.thin import Need

Rows = Annotated[int, Meta(ge=1, le=MOST, description="rows of each list of the answer at most")]
Name = Annotated[str, Meta(max_length=4_096)]


class Text(Struct, frozen=True, forbid_unknown_fields=True):
    """Policies as YAML (several in one text) or JSON; ``file`` is how places in it are named."""

    file: Name
    text: str


class Asked(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The recorded traffic that is asked about: of ``since`` to ``until`` (default: until now), of one workload (at
    either end), as one node saw it, of one cluster."""

    since: Name = "24h"
    until: Name = ""
    workload: Name = ""
    node: Name = ""
    cluster: Name = ""
    limit: Rows = LIMIT


class PoliciesAsked(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question about one set: evaluate, replay, exposure. ``policies`` null: those that are registered as enforced.
    ``options``: how to read what the API leaves open."""

    policies: list[Text] | None = None
    options: Options = field(default_factory=Options)


class DiffAsked(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two sets; ``old`` null: the policies that are registered as enforced."""

    new: list[Text]
    old: list[Text] | None = None
    options: Options = field(default_factory=Options)


class FlowAsked(PoliciesAsked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why one flow (its fields as in JSON lines) has its verdict."""

    flow: dict[str, Any]


class RuleAsked(PoliciesAsked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which traffic used each of some rules."""

    rules: RulesAsked = RulesAsked()


class CoverageAsked(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much was seen, and what is enough."""

    need: Need = Need()


class GraphAsked(PoliciesAsked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who talks to whom, or who may."""

    kind: GraphKind = "recorded"


class GenerateAsked(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Policies from recorded traffic: all of it, whatever ``workload`` they are for; a ``node`` is refused."""

    choices: Choices = field(default_factory=Choices)
