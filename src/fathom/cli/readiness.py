"""How a supervisor hears that its child is ready: a socket of sd_notify(3), on which only that child is believed.

Asking the child's port instead would take the answer of whoever else listens there.
"""

from __future__ import annotations

import socket
import struct

#: ``struct ucred`` of unix(7): pid, uid, gid.
_UCRED = struct.Struct("=iII")


class Readiness:
    """The socket, in the abstract namespace: it has no file, and ends with this process."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")
        self._told: set[int] = set()

    @property
    def address(self) -> str:
        """What the child finds in ``NOTIFY_SOCKET``."""
        name: bytes = self._socket.getsockname()
        return "@" + name[1:].decode()

    def told_by(self, pid: int) -> bool:
        """Whether process ``pid`` has said ``READY=1``. Who sent a message is the kernel's word (SCM_CREDENTIALS)."""
        while True:
            try:
                text, control, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_UCRED.size))
            except BlockingIOError:
                break
            for level, kind, data in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and b"READY=1" in text.split(b"\n"):
                    self._told = {_UCRED.unpack(data[: _UCRED.size])[0]}
        return pid in self._told

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()
