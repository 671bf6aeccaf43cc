"""Which nodes there are and through which connection each is reached. Keeps no time and sends nothing itself.

A second stream of the same agent (node and boot) replaces the first. Two agents that claim one node name are both
served, since their batches have different ids; the conflict is told once both are seen alive at the same time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from fathom.events.batches import Clock
from fathom.link.connection import Connection
from fathom.link.hub import NodeState
from fathom.wire.messages import SpoolState

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Link:
    connection: Connection
    connected_ns: int
    heard_ns: int
    skew_ns: int = 0
    spool: SpoolState = field(default_factory=SpoolState)


@dataclass(slots=True)
class _Node:
    links: dict[str, _Link] = field(default_factory=dict)  # by boot, the newest last
    last: _Link | None = None
    batches: int = 0
    facts: int = 0
    rejected: int = 0
    conflict_told: bool = False


class Registry:
    """Nodes by name; at most ``limit``, of which the longest silent without a connection goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._nodes: dict[str, _Node] = {}
        self.connected = 0

    def enter(self, connection: Connection, now_ns: int) -> None:
        """A connection begins; ends an earlier one of the same agent."""
        node = self._nodes.setdefault(connection.agent.node, _Node())
        boot = connection.agent.boot
        if earlier := node.links.pop(boot, None):
            earlier.connection.end("replaced by a newer stream of the same agent")
            self.connected -= 1
        node.links[boot] = node.last = _Link(connection, now_ns, now_ns)
        self.connected += 1
        self._forget_silent()

    def leave(self, connection: Connection) -> None:
        """A connection ended."""
        node = self._nodes.get(connection.agent.node)
        link = node.links.get(connection.agent.boot) if node else None
        if node and link and link.connection is connection:
            del node.links[connection.agent.boot]
            self.connected -= 1
            if node.links:
                node.last = next(reversed(node.links.values()))

    def heard(self, connection: Connection, now_ns: int, clock: Clock, spool: SpoolState) -> None:
        """A hello or a heartbeat came."""
        node = self._nodes.get(connection.agent.node)
        link = node.links.get(connection.agent.boot) if node else None
        if node is None or link is None or link.connection is not connection:
            return
        link.heard_ns, link.skew_ns, link.spool = now_ns, now_ns - clock.wall_ns, spool
        if not node.conflict_told and (others := _conflict(node)):
            node.conflict_told = True
            peers = ", ".join(f"{link.connection.peer} (boot {boot})" for boot, link in node.links.items())
            _LOG.warning("%d agents claim the node name %s: %s", len(others) + 1, connection.agent.node, peers)

    def taken(self, node: str, facts: int) -> None:
        """A batch of ``node`` was acknowledged."""
        if found := self._nodes.get(node):
            found.batches += 1
            found.facts += facts

    def rejected(self, node: str) -> None:
        """A batch of ``node`` was refused for good."""
        if found := self._nodes.get(node):
            found.rejected += 1

    def connection(self, node: str) -> Connection | None:
        """The newest connection of ``node``."""
        found = self._nodes.get(node)
        return next(reversed(found.links.values())).connection if found and found.links else None

    def connections(self) -> list[Connection]:
        """All connections."""
        return [link.connection for node in self._nodes.values() for link in node.links.values()]

    def names(self) -> list[str]:
        """The nodes, by name."""
        return sorted(self._nodes)

    def states(self) -> list[NodeState]:
        """The nodes, by name."""
        return [_state(name, node, node.last) for name, node in sorted(self._nodes.items()) if node.last]

    def _forget_silent(self) -> None:
        while len(self._nodes) > self._limit:
            silent = {name: node.last for name, node in self._nodes.items() if not node.links}
            if not silent:
                return
            del self._nodes[min(silent, key=lambda name: link.heard_ns if (link := silent[name]) else 0)]


def _conflict(node: _Node) -> tuple[str, ...]:
    """Boots of older connections that were heard after the newest began: they are alive too."""
    if len(node.links) < 2:
        return ()
    *older, newest = node.links.items()
    return tuple(boot for boot, link in older if link.heard_ns > newest[1].connected_ns)


def _state(name: str, node: _Node, last: _Link) -> NodeState:
    agent = last.connection.agent
    return NodeState(
        node=name,
        boot=agent.boot,
        version=agent.version,
        features=agent.features,
        connected=bool(node.links),
        peer=last.connection.peer,
        connected_ns=last.connected_ns,
        heard_ns=last.heard_ns,
        skew_ns=last.skew_ns,
        spool=last.spool,
        conflict=_conflict(node),
        batches=node.batches,
        facts=node.facts,
        rejected=node.rejected,
    )
