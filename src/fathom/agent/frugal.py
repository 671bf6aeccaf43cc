"""Keeps the agent small: what must be settled before numpy, asyncio and grpc are imported.

Measured: OpenSSL, which asyncio and hashlib load though the agent uses neither TLS of Python nor its digests, is 5 MiB
resident; each thread of OpenBLAS has buffers; each malloc arena keeps what it freed.
"""

from __future__ import annotations

import ctypes
import os
import sys

#: mallopt(3): numbers from malloc.h.
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
#: Modules that are hidden: importing them fails, and their importers go on without (asyncio, hashlib, hmac do).
HIDDEN = ("ssl", "_ssl", "_hashlib")


def settle() -> None:
    """Hide OpenSSL, one thread for linear algebra, one malloc arena.

    What is freed is used again at the next turn, so it goes back only by ``give_back``, or when there is much of it.

    It does nothing about modules that are imported already.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in HIDDEN:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 16 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 4 << 20)


def give_back() -> None:
    """Give freed memory back to the kernel."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
