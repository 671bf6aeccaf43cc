"""Tells who started this process that it serves: the service managers' protocol, sd_notify(3).

``fathom up`` listens to its children this way, and a systemd unit of ``Type=notify`` works as it is.
"""

from __future__ import annotations

import logging
import os
import socket

#: Where to tell it: a path, or ``@`` and a name in the abstract namespace of unix(7).
VARIABLE = "NOTIFY_SOCKET"
_LOG = logging.getLogger(__name__)


def ready() -> None:
    """Send ``READY=1``; nothing where nobody asked for it. That nobody takes it is logged and changes nothing."""
    place = os.environ.get(VARIABLE)
    if not place:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
            teller.connect("\0" + place[1:] if place.startswith("@") else place)
            teller.send(b"READY=1")
    except OSError as error:
        _LOG.warning("%s=%s: cannot tell that this process is ready: %s", VARIABLE, place, error)
