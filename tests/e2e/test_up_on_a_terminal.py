"""The live table on a real (pseudo) terminal: drawn, narrow and wide, ended by ``q`` and Ctrl-C, terminal as before."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import free_ports
from up_process import FATHOM

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]
_ALTERNATE_ON, _ALTERNATE_OFF = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """``fathom up`` on a terminal of ``columns`` x ``lines``; ``seen`` is all that it wrote."""

    def __init__(self, folder: Path, columns: int, lines: int) -> None:
        self.master, slave = pty.openpty()
        self.size(columns, lines)
        self.before = termios.tcgetattr(slave)
        self.seen = ""
        ports = free_ports(3)
        listeners = ("--listen", "--link", "--agent-listen")
        flags = [word for option, port in zip(listeners, ports, strict=True) for word in (option, f"127.0.0.1:{port}")]
        self.process = subprocess.Popen(
            [*FATHOM, "up", "--data-dir", str(folder / "data"), *flags],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "SUDO_UID": "", "TERM": "xterm", "FATHOM_INTERVAL_S": "1"},
        )  # fmt: skip
        self.slave = slave

    def size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def until(self, text: str) -> str:
        """Read until ``text`` comes; what was read since the last call. Fails after 30 s."""
        end, got = time.monotonic() + 30, ""
        while text not in got:
            assert time.monotonic() < end, f"{text!r} did not come in {got!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    got += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # the other side is closed: Linux says EIO
                    break
        self.seen += got
        assert text in got, f"{text!r} did not come before the end in {got!r}"
        return got

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """80 x 24."""
    made = Terminal(tmp_path, 80, 24)
    yield made
    made.close()


def plain(text: str) -> str:
    """``text`` without what steers the terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize(("keys", "status"), [(b"q", 0), (b"Q", 0), (b"\x03", 130)])
def test_q_and_ctrl_c_end_it_and_the_terminal_is_as_before(terminal: Terminal, keys: bytes, status: int) -> None:
    terminal.until("q quits")
    assert _ALTERNATE_ON in terminal.seen
    assert not termios.tcgetattr(terminal.slave)[3] & termios.ECHO, "keys are not shown on the table"
    terminal.type(keys)
    last = terminal.until(_ALTERNATE_OFF)
    assert terminal.process.wait(timeout=30) == status
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert "\x1b[?25h" in last, "the cursor is shown again"


def test_other_keys_do_nothing(terminal: Terminal) -> None:
    terminal.until("q quits")
    terminal.type(b"xyz\x1b[A\n")
    terminal.until("Fathom on")
    assert terminal.process.poll() is None


def test_it_is_drawn_again_in_another_size(terminal: Terminal) -> None:
    terminal.until("q quits")
    for columns in (60, 40, 200):
        terminal.size(columns, 20)
        picture = plain(terminal.until("Fathom on") + terminal.until("\r\n"))
        newest = picture[picture.rindex("Fathom on") :]
        assert all(len(line) <= columns for line in newest.splitlines())


def test_the_header_says_what_can_be_trusted(terminal: Terminal) -> None:
    terminal.until("coverage 100 %")
    text = plain(terminal.until("lost 0"))
    assert "window 5m" in plain(terminal.seen)
    assert "lost 0" in text
