"""What REST takes and answers about audited policies, as plain types; see ``fathom.server.answers``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fathom.server.answers import Answer, Count, Time

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="lower case letters, digits and -",
        examples=["web"],
    ),
]
Title = Annotated[str, Meta(description="kind and name of a policy", examples=["NetworkPolicy shop/web"])]
Verdict = Annotated[str, Meta(description="allowed, denied-ingress, denied-egress, denied-both, unknown")]
Flows = Annotated[int, Meta(ge=0, description="edges in one interval each")]
Connections = Annotated[int, Meta(ge=0, description="connections, or packets where there are none")]


class AuditAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """A set to be registered. documents: policies as YAML (several in one text) or JSON. enforced: they are in force
    already, and audited sets are judged together with them."""

    name: Name
    documents: Annotated[str, Meta(min_length=1)]
    enforced: bool = False


class Audit(Struct, frozen=True, kw_only=True):
    """A registered set. since: from when on batches are judged; denied and unknown count flows that pass today and
    would not, or may not, with this set in force. missed: facts that were not judged. seen_until: end of the latest
    interval that was judged."""

    name: Name
    enforced: bool
    policies: list[Title]
    not_understood: Annotated[list[str], Meta(description="parts that make verdicts unknown, with their place")]
    added: Time
    since: Time
    flows: Flows
    denied: Flows
    unknown: Flows
    facts: Count
    missed: Count
    seen_until: Time | None


class Audits(Answer[Audit], frozen=True, kw_only=True):
    """All registered sets. waiting: facts that are still to be judged."""

    waiting: Count


class AuditVerdict(Struct, frozen=True):
    """How many flows have a verdict. new: the traffic passes today, and what is enforced does not give this verdict."""

    verdict: Verdict
    new: bool
    flows: Flows
    connections: Connections


class AuditReason(Struct, frozen=True):
    """Why verdicts are unknown; a flow may have several reasons."""

    reason: str
    flows: Flows
    connections: Connections


class AuditedPolicy(Struct, frozen=True, kw_only=True):
    """One policy by itself, over the flows that it concerns. What it denies here, another may allow."""

    policy: Title
    verdicts: list[AuditVerdict]
    reasons: list[AuditReason]


class AuditAnswer(Answer[AuditedPolicy], frozen=True, kw_only=True):
    """One set, and each of its policies by itself. verdicts and reasons are of the set together with what is enforced,
    over all flows. objections speak against enforcing it; none: it may be promoted."""

    audit: Audit
    verdicts: list[AuditVerdict]
    reasons: list[AuditReason]
    objections: list[str]
    waiting: Count


class AuditOffender(Struct, frozen=True, kw_only=True):
    """Traffic that passes today and would be denied, or could not be judged. policy: by this one alone; "": by the set
    together with what is enforced. policies and rules decided."""

    policy: str
    src: Annotated[str, Meta(description="a workload, a node, a name or an address", examples=["shop/Deployment/web"])]
    dst: Annotated[str, Meta(description="the same")]
    protocol: str
    port: Annotated[int, Meta(ge=0, le=65535)]
    verdict: Verdict
    flows: Flows
    connections: Connections
    first_seen: Time
    last_seen: Time
    policies: list[Title]
    rules: list[str]
    reasons: list[str]
    assumptions: list[str]


class AuditOffenders(Answer[AuditOffender], frozen=True, kw_only=True):
    """The evidence of one set: of each kind at most so many rows as the store has room for. omitted: rows that the
    limit of this answer cut; left_out: flows of offenders for which the store had no room."""

    omitted: Count
    left_out: Flows


class AuditDocuments(Struct, frozen=True):
    """The documents of a set, as they were registered."""

    name: Name
    documents: str


class AuditDenial(Struct, frozen=True, kw_only=True):
    """Sent in the stream: what was judged just now (time). Fields as in AuditOffender; counts are of this turn."""

    time: Time
    audit: Name
    offender: AuditOffender
