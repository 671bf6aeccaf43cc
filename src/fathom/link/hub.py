"""What the server's other parts may ask of the link: who is connected, questions, live events. Types and no network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, Self

import msgspec

from fathom.agent.questions import Answer, EventFilter, Question
from fathom.wire.messages import SpoolState


class NodeState(msgspec.Struct, frozen=True):
    """One node as the link knows it. Times are epoch nanoseconds of the server's clock.

    ``skew_ns`` is the server's clock minus the node's at the last heartbeat, transit time included. ``conflict`` names
    the boots of other agents that are connected under the same node name at this time: somebody must rename one.
    ``batches`` and ``facts`` were acknowledged, ``rejected`` batches refused for good, since the server's start.
    """

    node: str
    boot: str
    version: str
    features: tuple[str, ...]
    connected: bool
    peer: str
    connected_ns: int
    heard_ns: int
    skew_ns: int
    spool: SpoolState
    conflict: tuple[str, ...] = ()
    batches: int = 0
    facts: int = 0
    rejected: int = 0


class Answers(msgspec.Struct, frozen=True):
    """What was answered, by node, and why the others did not answer."""

    answers: dict[str, Answer]
    missing: dict[str, str]


class NodeEvents(msgspec.Struct, frozen=True):
    """Live events of one node, oldest first. ``dropped`` were left out before them, on the node or here. ``error``:
    this node sends no more, and why."""

    node: str
    events: list[dict[str, Any]]
    dropped: int = 0
    error: str = ""


class LiveEvents(Protocol):
    """Live events of all nodes, those that connect later too. Enter it, iterate over it, leave it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *error: object) -> None: ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> NodeEvents: ...


class Hub(Protocol):
    """The link, seen from the server."""

    def nodes(self) -> list[NodeState]:
        """All nodes that connected since the server's start, by name."""
        ...

    async def ask(self, node: str, question: Question, timeout_s: float = 5.0) -> Answer:
        """The answer of one node. Raises NodeUnavailable if it is not connected, refuses, or is late."""
        ...

    async def ask_all(self, question: Question, timeout_s: float = 5.0, expected: Iterable[str] = ()) -> Answers:
        """The answers of all nodes known here and of those ``expected``; who does not answer is named."""
        ...

    def subscribe(self, wanted: EventFilter) -> LiveEvents:
        """Live events that pass ``wanted``."""
        ...
