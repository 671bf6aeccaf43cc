"""Files that a person names, as texts: within bounds, and with the reason where one cannot be read.

``-`` is standard input. Of a directory all files are read that hold YAML or JSON by their name, below it too.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from fathom.errors import FathomError, UsageError

#: Bytes of one file, and of all files of one directory or list; files of one directory.
MOST_BYTES, MOST_TOGETHER, MOST_FILES = 64 << 20, 512 << 20, 50_000
_LONGEST_NAME = 255  # bytes of a file's name (Linux: NAME_MAX)
_ENDINGS = (".yaml", ".yml", ".json")


def read_text(file: str, most: int | None = None) -> str:
    """The text of ``file``. Raises UsageError if it cannot be read, is larger than ``most`` bytes or no text."""
    most = MOST_BYTES if most is None else most
    try:
        if file == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > most:
        raise UsageError(f"{file} is larger than {most >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: {error}") from error


def read_texts(paths: Sequence[str]) -> dict[str, str]:
    """The texts of files and of directories, by name, each file once, in the order given (in directories: sorted).

    Raises UsageError if one cannot be read, or if there is too much.
    """
    found: dict[str, str] = {}
    room = MOST_TOGETHER
    for file in (file for path in paths for file in _files(path)):
        if file in found:
            continue
        found[file] = read_text(file)
        room -= len(found[file])
        if room < 0:
            raise UsageError(f"the files together are larger than {MOST_TOGETHER >> 20} MiB", affects=f"{file} and on")
    return found


def _files(path: str) -> Iterator[str]:
    """The file ``path`` itself, or those of the directory ``path``."""
    if path == "-" or not os.path.isdir(path):  # noqa: PTH112 - the text stays as it was given
        yield path
        return
    count = 0
    for folder, folders, names in os.walk(path, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(_ENDINGS) and not name.startswith("."):
                count += 1
                if count > MOST_FILES:
                    raise UsageError(
                        f"more than {MOST_FILES} files below {path}", do="name the directories that matter"
                    )
                file = os.path.join(folder, name)  # noqa: PTH118
                if os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113 - reading it could wait
                    raise UsageError(f"{file} is no file", do="name the files that matter")
                yield file


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def write_text(file: Path, text: str) -> None:
    """Write ``file``, and the directories above it where there are none: whole, or it stays as it was.

    A link is followed; what is no regular file (a pipe, a terminal) is written to. Raises FathomError if that fails.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.parts[:2] in (("/", "dev"), ("/", "proc")) or (file.exists() and not file.is_file()):
            file.write_text(text)
        else:
            _replace(file.resolve(), text)
    except OSError as error:
        raise FathomError(f"cannot write {file}: {error.strerror}", affects="it is as it was before") from error


def _replace(file: Path, text: str) -> None:
    """Write beside ``file``, under a short name that no command reads, and take its place."""
    making = file.parent / f".fathom-{secrets.token_hex(8)}"
    try:
        with making.open("x") as stream:
            if file.exists():
                os.fchmod(stream.fileno(), stat.S_IMODE(file.stat().st_mode))
            stream.write(text)
        making.replace(file)
    except BaseException:
        making.unlink(missing_ok=True)
        raise


def file_name(name: str, ending: str) -> str:
    """``NAME.ENDING``; where that is longer than file systems allow (255 bytes), the begin of the name and a hash."""
    whole = f"{name}.{ending}"
    if len(whole.encode()) <= _LONGEST_NAME:
        return whole
    told_apart = blake2b(name.encode(), digest_size=5).hexdigest()
    kept = name.encode()[: _LONGEST_NAME - len(ending.encode()) - 12].decode(errors="ignore")
    return f"{kept.rstrip('-.')}-{told_apart}.{ending}"


def others(folder: Path, written: set[Path]) -> tuple[list[str], bool]:
    """Files below ``folder`` that commands would read with it and that are not among ``written``, sorted; and whether
    that is all of them. Directories that cannot be read are passed over."""
    found: list[str] = []
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(above, name)
            if name.endswith(_ENDINGS) and not name.startswith(".") and file not in written:
                if len(found) == MOST_FILES:
                    return found, False
                found.append(str(file))
    return sorted(found), True
