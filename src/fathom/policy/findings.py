"""What an audit of policies finds, as plain data that engine, store and doors share."""

from __future__ import annotations

import msgspec

#: Who would be denied, or not be judged: with what is enforced, or (``alone``) by one policy.
KINDS = ("denied", "unknown", "alone")


class Count(msgspec.Struct, frozen=True):
    """Flows (an edge in an interval) and connections of one verdict.

    ``policy`` is one policy by itself, over the flows that it concerns; ``""`` is the whole set together with what is
    enforced, over all flows. ``new``: the traffic got through, and it is not what is enforced that speaks against it.
    Where a protocol has no connections, packets are counted as such.
    """

    policy: str
    verdict: str
    new: bool
    flows: int
    connections: int


class Reason(msgspec.Struct, frozen=True):
    """Flows and connections whose verdict is unknown for one reason; a flow may have several."""

    policy: str
    reason: str
    flows: int
    connections: int


class Offender(msgspec.Struct, frozen=True):
    """New denials, or new unknown verdicts, between two ends over one protocol and port; and who decided.

    Times are epoch seconds. ``policies`` select the side that decided, ``rules`` of them match (denied by isolation:
    none), as text.
    """

    policy: str
    src: str
    dst: str
    protocol: str
    port: int
    verdict: str
    flows: int
    connections: int
    first_seen: int
    last_seen: int
    policies: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """What makes two of them one."""
        return self.policy, self.src, self.dst, self.protocol, self.port, self.verdict

    @property
    def kind(self) -> str:
        """One of ``KINDS``: which bound it falls under."""
        if self.policy:
            return "alone"
        return "unknown" if self.verdict == "unknown" else "denied"


class Findings(msgspec.Struct, frozen=True):
    """All that one look at some flows found."""

    counts: tuple[Count, ...] = ()
    reasons: tuple[Reason, ...] = ()
    offenders: tuple[Offender, ...] = ()
