from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from fathom import notify
from fathom.cli.readiness import Readiness

TELLS = "from fathom.notify import ready; ready()"


@pytest.fixture
def readiness():
    listening = Readiness()
    yield listening
    listening.close()


def tell(readiness: Readiness) -> int:
    """A process that says it is ready; its pid."""
    env = {**os.environ, "NOTIFY_SOCKET": readiness.address, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", TELLS], env=env) as process:
        assert process.wait() == 0
    return process.pid


def test_a_process_that_says_it_is_ready_is_ready(readiness: Readiness) -> None:
    pid = tell(readiness)
    assert readiness.told_by(pid)
    assert readiness.told_by(pid), "once said it stays"


def test_what_another_process_says_is_not_believed(readiness: Readiness) -> None:
    first = tell(readiness)
    second = tell(readiness)
    assert not readiness.told_by(os.getpid())
    assert readiness.told_by(second)
    assert not readiness.told_by(first), "that one has been replaced"


@pytest.mark.parametrize("text", [b"STATUS=loading", b"READY=0", b"NOT READY=1", b"", b"x" * 5000])
def test_other_words_are_not_that(readiness: Readiness, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.connect("\0" + readiness.address[1:])
        teller.send(text)
        assert not readiness.told_by(os.getpid())
        teller.send(b"STATUS=serving\nREADY=1")
    assert readiness.told_by(os.getpid())


def test_a_path_works_too_and_nobody_asking_is_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify.ready()
        assert manager.recv(100) == b"READY=1"


def test_that_nobody_takes_it_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notify.ready()
    assert "cannot tell that this process is ready" in caplog.text
