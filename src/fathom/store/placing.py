"""A file that appears in its place whole or not at all: made beside it, as ``NAME.part``, then put there.

What a killed process left behind is used again by the next; two that make the same file do not meet.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from fathom.errors import StoreError, UsageError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_TRIES = 20


class Part:
    """The file in the making; use it in ``with``. ``path`` is where it is made, empty at first; ``place`` puts it in
    its place, anything else leaves nothing behind. ``force`` replaces what is there: a link itself, not its target.

    Raises UsageError if something is there already, or another process is making it; StoreError if it cannot be
    written.
    """

    def __init__(self, target: Path, *, force: bool = False) -> None:
        self.target, self._force = target, force
        self.path = target.with_name(f"{target.name}.part")
        self.descriptor = -1

    def __enter__(self) -> Self:
        if not self._force and os.path.lexists(self.target):
            raise self._there()
        if self._force and self.target.is_dir() and not self.target.is_symlink():
            raise UsageError(f"{self.target} is a directory", affects="nothing was written", do="name a file")
        try:
            self.descriptor = self._hold()
        except OSError as error:
            raise self.unwritable(error) from error
        return self

    def _hold(self) -> int:
        """The descriptor of the empty file, which nobody else holds."""
        for _ in range(_TRIES):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o600)
            try:
                if self._mine(descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # it went while it was opened
        raise StoreError(f"cannot hold {self.path}", do="try again")

    def _mine(self, descriptor: int) -> bool:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{self.path} is there, and is no file", affects="nothing was written", do="name another")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another process is writing {self.path}",
                affects="nothing was written",
                do="wait, or name another file",
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self.path).st_ino == found.st_ino:
                if found.st_nlink > 1:  # it is in its place already, and only the end of that was missed
                    self.path.unlink()
                    return False
                os.ftruncate(descriptor, 0)
                os.fchmod(descriptor, 0o600)
                return True
        return False

    def place(self) -> None:
        """Put the file, as it is now, in its place. Raises as the class does."""
        try:
            os.fsync(self.descriptor)
            self._move()
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self.unwritable(error) from error

    def _move(self) -> None:
        if self._force:
            self.path.replace(self.target)
            return
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            raise self._there() from None
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(self.target):
                raise
            self.path.rename(self.target)

    def _there(self) -> UsageError:
        what = f"{self.target} is there already"
        return UsageError(what, affects="nothing was written", do="name another, or --force")

    def unwritable(self, error: OSError) -> StoreError:
        """The error for a file that cannot be written."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return StoreError(
            f"cannot write {self.target}: {error.strerror}",
            affects="nothing is there that was not before",
            do="free some space" if full else "name a file in a folder that can be written",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(self.path).st_ino == os.fstat(self.descriptor).st_ino:
                    self.path.unlink()
            os.close(self.descriptor)
            self.descriptor = -1
