"""The whole exception tree of Fathom, so that a caller can see at a glance what can go wrong and what to retry.

::

    FathomError
    ├── TemporaryError            trying again may help
    │   ├── ServerUnavailable     the server did not answer
    │   ├── NodeUnavailable       a node's agent is not connected or did not answer
    │   ├── EdgeMissing           facts of an edge that the store was never told
    │   └── StoreBusy             the store could not be written just now (full disk, lock)
    └── PermanentError            trying again will not help until somebody acts
        ├── UsageError            a value that a person gave is wrong
        ├── PrivilegeError        the process lacks root or a capability
        ├── KernelError           the kernel refused something
        │   ├── FeatureMissing    this kernel cannot do it at all
        │   └── VerifierError     the verifier rejected a program
        ├── WireError             bytes from another process make no sense
        ├── AuthenticationError   a token is missing or wrong
        └── StoreError            the store cannot be used
            ├── StoreDamaged      a file of it is damaged
            └── StoreNewer        it was written by a newer Fathom

A message for a person has three parts: what happened, what is affected, what to do. Only ``fathom.cli.main`` prints
and exits.
"""

from __future__ import annotations


class FathomError(Exception):
    """Base of all errors that Fathom raises on purpose.

    ``what`` happened, what it ``affects``, and what to ``do`` about it; the last two may be empty.
    """

    def __init__(self, what: str, *, affects: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.affects = affects
        self.do = do

    def __str__(self) -> str:
        parts = [self.what]
        if self.affects:
            parts.append(f"affected: {self.affects}")
        if self.do:
            parts.append(f"to do: {self.do}")
        return "\n  ".join(parts)


class TemporaryError(FathomError):
    """Trying again may help."""


class ServerUnavailable(TemporaryError):
    """The server did not answer."""


class NodeUnavailable(TemporaryError):
    """The agent of ``node`` is not connected or did not answer; ``why`` says which."""

    def __init__(self, node: str, why: str) -> None:
        super().__init__(f"node {node}: {why}", affects="what is asked of that node")
        self.node = node
        self.why = why


class EdgeMissing(TemporaryError):
    """Facts of an edge that the store was never told; sending them again with all their edges helps."""


class StoreBusy(TemporaryError):
    """The store could not be written just now; the batch must be kept and sent again."""


class PermanentError(FathomError):
    """Trying again will not help until somebody acts."""


class UsageError(PermanentError):
    """A value that a person gave is wrong."""


class PrivilegeError(PermanentError):
    """The process lacks root or a capability."""


class KernelError(PermanentError):
    """The kernel refused something; ``errno`` is the positive error number, 0 if there was none."""

    def __init__(self, what: str, *, errno: int = 0, affects: str = "", do: str = "") -> None:
        super().__init__(what, affects=affects, do=do)
        self.errno = errno


class FeatureMissing(KernelError):
    """This kernel cannot do ``feature`` at all; ``minimum`` names the first kernel that can, where known."""

    def __init__(self, feature: str, *, minimum: str = "", errno: int = 0, affects: str = "", do: str = "") -> None:
        first = f" (first in Linux {minimum})" if minimum else ""
        super().__init__(f"this kernel has no {feature}{first}", errno=errno, affects=affects, do=do)
        self.feature = feature
        self.minimum = minimum


class VerifierError(KernelError):
    """The verifier rejected ``program``; the message holds its last meaningful line, ``log_path`` the whole log."""

    def __init__(self, program: str, line: str, *, log_path: str = "", errno: int = 0) -> None:
        super().__init__(
            f"the kernel's verifier rejected program {program}: {line}",
            errno=errno,
            do=f"send the whole log, {log_path}" if log_path else "",
        )
        self.program = program
        self.line = line
        self.log_path = log_path


class WireError(PermanentError):
    """Bytes from another process make no sense."""


class AuthenticationError(PermanentError):
    """A token is missing or wrong."""


class StoreError(PermanentError):
    """The store cannot be used."""


class StoreDamaged(StoreError):
    """A file of the store is damaged."""


class StoreNewer(StoreError):
    """The store was written by a newer Fathom."""
