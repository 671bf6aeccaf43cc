"""Who called, and where that user's data lies: under sudo it is the user, not root, who must be able to use it after.

Files in a user's folder are made and opened *as that user* (``acting_as``), so that a link planted there gives root
nothing to overwrite. It refuses to guess a home for a user that the system does not know.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fathom.errors import UsageError

#: Where root's data lies.
SYSTEM_DATA = Path("/var/lib/fathom")


@dataclass(frozen=True, slots=True)
class Caller:
    """A user: the one who called sudo, else the one who runs this process."""

    uid: int
    gid: int
    name: str
    home: Path
    groups: tuple[int, ...]

    @property
    def data_dir(self) -> Path:
        """The default data directory of ``fathom up`` and the place where the local key is looked for."""
        return SYSTEM_DATA if self.uid == 0 else self.home / ".local/share/fathom"


def caller(env: Mapping[str, str]) -> Caller:
    """The user behind this process: ``SUDO_UID`` of ``env`` when root was reached by sudo.

    Raises UsageError if the system has no such user.
    """
    uid = os.geteuid()
    if uid == 0 and env.get("SUDO_UID", "").isascii() and env.get("SUDO_UID", "").isdigit():
        uid = int(env["SUDO_UID"])
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        raise UsageError(f"user {uid} is not known on this machine", do="run as a user that has an account") from error
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Caller(uid, entry.pw_gid, entry.pw_name, Path(entry.pw_dir), groups)


@contextmanager
def acting_as(who: Caller) -> Iterator[None]:
    """Touch files as ``who`` for the length of a ``with`` block; does nothing unless this process is root.

    Process-wide: for a process that has one thread at that moment.
    """
    if os.geteuid() != 0 or who.uid == 0:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    os.setgroups(who.groups)
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
