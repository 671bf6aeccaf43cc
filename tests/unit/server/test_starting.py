"""What must be true before the server starts: an address, a directory of its own, settings that agree."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.server.listening import bind, is_exposed, url_of
from fathom.server.main import check, data_directory
from fathom.server.settings import ServerSettings


@pytest.mark.parametrize("address", ["", "8600", "nonsense", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:8600"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address to listen on"):
        check(ServerSettings(listen=address))


def test_roll_ups_are_kept_at_least_as_long_as_facts() -> None:
    check(ServerSettings(retention_days=90, hours_retention_days=90))
    with pytest.raises(UsageError, match="less than retention_days"):
        check(ServerSettings(retention_days=91, hours_retention_days=90))


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", r"http://127.0.0.1:"), ("[::1]", "http://[::1]:")])
def test_a_free_port_is_taken_and_told(host: str, url: str) -> None:
    with bind(ServerSettings(listen=f"{host}:0")) as listener:
        assert url_of(listener).startswith(url)
        assert not url_of(listener).endswith(":0")


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken") as caught:
            bind(ServerSettings(listen=f"127.0.0.1:{port}"))
    assert "--listen" in caught.value.do


@pytest.mark.parametrize("address", ["192.0.2.1:0", "[2001:db8::1]:0"])
def test_an_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        bind(ServerSettings(listen=address))


@pytest.mark.parametrize(
    ("listen", "exposed"),
    [("127.0.0.1:1", False), ("localhost:1", False), ("[::1]:1", False), ("0.0.0.0:1", True), ("[::]:1", True)],
)
def test_listening_elsewhere_than_on_loopback_is_known(listen: str, exposed: bool) -> None:
    assert is_exposed(ServerSettings(listen=listen)) == exposed


def test_the_default_is_loopback() -> None:
    assert not is_exposed(ServerSettings())


def test_the_directory_is_made_private_and_held(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    with data_directory(place):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        with pytest.raises(UsageError, match=rf"another server uses .*pid {os.getpid()}"), data_directory(place):
            pytest.fail("two servers share a directory")
    with data_directory(place):
        assert (place / "server.lock").read_text() == f"{os.getpid()}\n"


def test_what_fails_inside_is_not_taken_for_a_second_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mine"), data_directory(tmp_path):
        raise UsageError("mine")


@pytest.mark.parametrize("place", ["/proc/fathom", "/dev/null/x"])
def test_a_directory_that_cannot_be_made_is_named(place: str) -> None:
    with pytest.raises(UsageError, match=f"cannot write to the data directory {place}"), data_directory(Path(place)):
        pytest.fail("it was made")


def test_a_directory_of_somebody_else_is_named(tmp_path: Path, require: Callable[[str, str], None]) -> None:
    if os.geteuid() != 0:
        require("root", "becoming another user needs root")
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.seteuid(65_534)
    try:
        with pytest.raises(UsageError, match="Permission denied"), data_directory(tmp_path / "theirs"):
            pytest.fail("it was written")
    finally:
        os.seteuid(0)


def test_a_question_may_span_what_is_kept_and_no_more() -> None:
    settings = ServerSettings()
    assert settings.longest_window_s == 7 * 86_400
    assert replace(settings, max_window_days=400).longest_window_s == 90 * 86_400
