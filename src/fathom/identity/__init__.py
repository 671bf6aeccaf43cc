"""Who it was: from what the kernel knows (cgroup, pid, comm) to a workload. Local files only, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathom.identity.identities import Identities

__all__ = ["Identities"]


def __getattr__(name: str) -> Any:
    if name == "Identities":
        from fathom.identity.identities import Identities

        return Identities
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
