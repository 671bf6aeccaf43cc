"""What a thread does for one question about policy: read the policies, take the material from the store, ask, encode.

It refuses what would take more than its bounds: too many flows, too many policies, an answer that is too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec

from fathom.policy import policysets
from fathom.policy.asked import Asked, Text
from fathom.policy.explain import FlowVerdict
from fathom.policy.material import Material, about
from fathom.policy.model import PolicySet
from fathom.server.filters import Asked as Stretch
from fathom.server.policytexts import LIMITS, accepted, in_force
from fathom.server.problems import ProblemError
from fathom.server.settings import ServerSettings
from fathom.store.interface import Store, Window
from fathom.store.material import material

#: Verdicts that are made and sent together.
_TOGETHER = 1_000


class Left(Exception):  # a signal inside this server, never seen by a client
    """Whoever asked has gone."""


class PolicyWork:
    """The work of one question; its methods are called in a thread for policy, one after the other, but ``leave``."""

    def __init__(self, store: Store, settings: ServerSettings, now_ns: int) -> None:
        self._store, self._settings, self._now_ns = store, settings, now_ns
        self._left = False

    def leave(self) -> None:
        """Whoever asked has gone: the work ends where it can."""
        self._left = True

    def material(self, asked: Asked) -> Material:
        """What the store knows of the traffic that is asked about. Raises UsageError if that makes no sense."""
        found = material(
            self._store,
            self.window(asked),
            node=asked.node,
            cluster=asked.cluster,
            most=self._settings.max_policy_flows,
        )
        return about(found, asked.workload) if asked.workload else found

    def window(self, asked: Asked) -> Window:
        """The stretch of time that is asked about. Raises UsageError if it makes no sense."""
        stretch = Stretch.model_construct(since=asked.since, until=asked.until or "now")
        return stretch.window(self._now_ns, self._settings)

    def policies(self, texts: Sequence[Text] | None, *, empty: bool = False) -> PolicySet:
        """The policies of ``texts``; where there are none given, those that are registered as enforced.

        Raises ProblemError if they are refused, too many, or none at all where they may not be ``empty``.
        """
        if texts is not None:
            found = policysets.read_texts([(item.file, item.text) for item in texts], LIMITS)
            return accepted(found, self._settings.max_policies, empty=empty)
        found = in_force(self._store.audit.sets())
        if not found.policies and not empty:
            raise ProblemError(
                422,
                "no policies were sent, and none are registered as enforced",
                do="send policies, or register those that are in force: fathom policy audit add NAME --enforced PATH",
            )
        return accepted(found, self._settings.max_policies * max(1, self._settings.audit_sets), empty=empty)

    def progress(self, share: float) -> None:
        """Raises Left if nobody waits any more."""
        del share
        if self._left:
            raise Left

    def encoded(self, answer: msgspec.Struct) -> bytes:
        """``answer`` as JSON. Raises ProblemError (422) if it is larger than the bound."""
        data = msgspec.json.encode(answer)
        if len(data) > self._settings.max_answer_bytes:
            raise ProblemError(
                422,
                f"the answer holds {len(data)} bytes, more than {self._settings.max_answer_bytes}",
                do="give a smaller limit, a shorter window, or one workload",
            )
        return data

    def lines(self, found: Iterator[FlowVerdict]) -> Callable[[], bytes]:
        """Gives the next verdicts, one JSON object a line, each time it is called; nothing after the last."""

        def part() -> bytes:
            self.progress(0.0)
            return b"".join(msgspec.json.encode(item) + b"\n" for item in islice(found, _TOGETHER))

        return part
