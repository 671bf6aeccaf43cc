"""Keeps a process small whose memory is counted: what it must never load, and how its allocator gives memory back.

OpenSSL is 5 MB that the agent never uses: its only encrypted connection is gRPC's, which brings its own. asyncio and
hashlib do without where they cannot import it. It refuses to touch what is imported already.
"""

from __future__ import annotations

import ctypes
import sys

_OPENSSL = ("ssl", "_ssl", "_hashlib")
#: mallopt(3): one arena for all threads; blocks of 64 KiB and more, and as much free memory at the top, go back.
_MALLOC = {-8: 1, -1: 64 << 10, -3: 64 << 10}


def spare() -> None:
    """Call it before asyncio, hashlib and numpy are imported. Without glibc the allocator stays as it is."""
    for name in _OPENSSL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None: an import of it raises ImportError
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)
