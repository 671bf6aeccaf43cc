"""Audited policies, asked over REST: see ``fathom.client.Client``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from fathom.client.asking import Asking, decoded, segment
from fathom.server.answers import StreamLoss
from fathom.server.audit_answers import (
    AuditAnswer,
    AuditAsked,
    AuditDenial,
    AuditDocuments,
    AuditOffenders,
    Audits,
)

#: What a set denies with what is enforced, what its policies deny each by itself, or both.
Scope = Literal["together", "alone", "all"]
#: What a stream of denials holds.
DenialItem = AuditDenial | StreamLoss
_PATH = "/policy/audit"


class AuditQuestions(Asking):
    """What can be asked about audited policies. Each raises as ``Client`` says; UsageError also for a set that is not
    there."""

    async def audits(self) -> Audits:
        """All registered sets."""
        return await self._get(_PATH, Audits, {})

    async def register_audit(self, name: str, documents: str, *, enforced: bool = False) -> AuditAnswer:
        """Register policies (``documents``: YAML or JSON text) as ``name``, or replace the set of that name."""
        return await self._post(_PATH, AuditAnswer, AuditAsked(name, documents, enforced))

    async def audit(self, name: str, *, need: str = "24h") -> AuditAnswer:
        """One set; ``need`` is how long it must have been audited before nothing speaks against enforcing it."""
        return await self._get(f"{_PATH}/{segment(name)}", AuditAnswer, {"need": need})

    async def remove_audit(self, name: str) -> None:
        """Forget a set."""
        await self._ask("DELETE", f"{_PATH}/{segment(name)}", {})

    async def audit_offenders(self, name: str, *, scope: Scope = "together", limit: int = 100) -> AuditOffenders:
        """The evidence of a set."""
        asked = {"scope": scope, "limit": limit}
        return await self._get(f"{_PATH}/{segment(name)}/offenders", AuditOffenders, asked)

    async def audit_documents(self, name: str) -> str:
        """The documents of a set, as they were registered."""
        return (await self._get(f"{_PATH}/{segment(name)}/documents", AuditDocuments, {})).documents

    async def audit_stream(
        self, *, audit: str = "", scope: Scope = "together"
    ) -> AsyncIterator[AuditDenial | StreamLoss]:
        """New denials as they are found, and what this reader missed; ends when the server ends it."""
        async for kind, _, data in self._messages(f"{_PATH}/stream", {"audit": audit, "scope": scope}):
            if kind == "message":
                yield decoded(data, AuditDenial)
            elif kind == "loss":
                yield decoded(data, StreamLoss)
