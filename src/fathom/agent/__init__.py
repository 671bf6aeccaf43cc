"""The node loop: drain, identify, reduce, send; recent events, metrics, the local API, self-limits.

Names are imported when they are asked for: ``fathom.agent.privilege`` must run before numpy starts threads, because
a thread that exists keeps its capabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathom.agent.agent import Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> Any:
    if name == "Agent":
        from fathom.agent.agent import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
