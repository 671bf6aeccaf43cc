"""A recording from a store or a server: whole, in its place, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fathom.store.opening import open_store
from fathom.store.sqlite.newfile import NewRecording

from .conftest import Run

pytestmark = pytest.mark.usefixtures("example")
HOUR = "2026-01-24T00:00:00Z", "2026-01-24T01:00:00Z"
FATHOM = (sys.executable, "-c", "import sys; from fathom.cli.main import main; sys.exit(main())")


def listed(folder: Path | str = ".") -> set[str]:
    return {path.name for path in Path(folder).iterdir()} - {"manifests", "policies", "flows.jsonl", "prove.sh"}


def replayed(run: Run, *recording: object) -> object:
    got = run("policy", "replay", "--policies", "policies", *recording, "-o", "json")
    assert got.status == 1, got.err
    return json.loads(got.out)


def test_from_a_store_while_it_is_written(run: Run, url: str) -> None:
    got = run("record", "export", "week.fathom", "--store", url)
    assert (got.status, got.err) == (0, "")
    assert listed() == {"week.fathom"}
    lines = dict(line.split(None, 1) for line in got.out.partition("\n\n")[0].splitlines())
    assert lines["window"].startswith("2026-01-24T00:00:00Z to 2026-01-24T01:00:00Z (1h)")
    assert lines["edges"] == "3 of 2 workloads"
    assert "window 1h · coverage 83.3 % · lost 0\n  gap: node-1 from 2026-01-24T00:30:00Z" in got.out
    assert run("record", "info", "week.fathom").out == got.out


def test_from_a_server_it_is_the_same(run: Run, url: str, server: str, tmp_path: Path) -> None:
    assert run("record", "export", "one.fathom", "--store", url).status == 0
    got = run("record", "export", "two.fathom", "--since", "1h", "--server", server)
    assert (got.status, got.err) == (0, "")
    assert listed() == {"one.fathom", "two.fathom"}
    assert list((tmp_path / "data/recordings").iterdir()) == []
    first, second = (replayed(run, "--recording", name) for name in ("one.fathom", "two.fathom"))
    assert first == second
    asked = run("policy", "replay", "--policies", "policies", "--since", "1h", "-o", "json")
    assert json.loads(asked.out) == first


def test_info_as_a_document(run: Run, url: str) -> None:
    run("record", "export", "week.fathom", "--store", url)
    got = run("record", "info", "week.fathom", "-o", "json")
    told = json.loads(got.out)
    assert (told["since"], told["until"]) == HOUR
    assert (told["edges"], told["workloads"], told["interval_s"], told["schema"]) == (3, 2, 60, 3)
    assert (told["facts"], told["sums"], told["endpoints"], told["syscall_sets"]) == (0, 3, 15, 0)
    assert [node["node"] for node in told["nodes"]] == ["node-1"]
    assert told["size"] == Path("week.fathom").stat().st_size
    assert told["coverage"]["share"] == pytest.approx(5 / 6)
    assert len(told["digest"]) == 64
    assert yaml.safe_load(run("record", "info", "week.fathom", "-o", "yaml").out) == told


def test_a_part_of_a_store(run: Run, url: str) -> None:
    run("record", "export", "a.fathom", "--store", url, "--since", "20m")
    told = json.loads(run("record", "info", "a.fathom", "-o", "json").out)
    assert (told["since"], told["until"]) == ("2026-01-24T00:40:00Z", "2026-01-24T01:00:00Z")
    assert told["facts"] == 3


@pytest.mark.parametrize("asked", [("--since", "9999999999d"), ("--since", "0001-01-01T00:00:00Z", "--until", HOUR[1])])
def test_a_huge_window_of_a_store_is_all_of_it(run: Run, url: str, asked: tuple[str, ...]) -> None:
    assert run("record", "export", "a.fathom", "--store", url, *asked).status == 0
    told = json.loads(run("record", "info", "a.fathom", "-o", "json").out)
    assert (told["since"], told["until"]) == HOUR


@pytest.mark.parametrize("asked", ["8d", "9999999999d", "0001-01-01T00:00:00Z"])
@pytest.mark.usefixtures("server")
def test_a_huge_window_of_a_server_is_refused(run: Run, asked: str) -> None:
    got = run("record", "export", "a.fathom", "--since", asked)
    assert got.status == 2
    assert listed() == set()


def test_an_empty_window_and_an_empty_store(run: Run, url: str, tmp_path: Path) -> None:
    got = run("record", "export", "a.fathom", "--store", url, "--since", "2027-01-01T00:00:00Z")
    assert (got.status, got.out) == (2, "")
    assert "the window is empty" in got.err
    assert "the store holds 2026-01-24T00:00:00Z" in got.err
    open_store(f"sqlite://{tmp_path}/empty").close()
    got = run("record", "export", "a.fathom", "--store", f"sqlite://{tmp_path}/empty")
    assert (got.status, got.out) == (1, "")
    assert "nothing was recorded in this store" in got.err
    assert listed() == set()


@pytest.mark.usefixtures("server")
def test_what_is_there_is_kept_unless_it_is_said(run: Run, url: str) -> None:
    Path("a.fathom").write_text("mine")
    for more in (("--store", url), ("--since", "1h")):
        got = run("record", "export", "a.fathom", *more)
        assert got.status == 2
        assert "is there already" in got.err
        assert Path("a.fathom").read_text() == "mine"
        assert run("record", "export", "a.fathom", *more, "--force").status == 0
        assert run("record", "info", "a.fathom").status == 0
        Path("a.fathom").write_text("mine")
    assert listed() == {"a.fathom"}


def test_a_link_is_replaced_and_not_followed(run: Run, url: str) -> None:
    Path("theirs").write_text("theirs")
    for name, target in (("a.fathom", "theirs"), ("b.fathom", "nowhere")):
        Path(name).symlink_to(target)
        assert run("record", "export", name, "--store", url).status == 2
        assert run("record", "export", name, "--store", url, "--force").status == 0
        assert not Path(name).is_symlink()
    Path("c.fathom.part").symlink_to("theirs")
    got = run("record", "export", "c.fathom", "--store", url)
    assert got.status == 1
    assert "cannot write c.fathom" in got.err
    assert Path("theirs").read_text() == "theirs"


@pytest.mark.parametrize("name", ["-", "", ".", "..", "new/", "/"])
def test_what_names_no_file_is_refused(run: Run, url: str, name: str) -> None:
    got = run("record", "export", name, "--store", url)
    assert got.status == 2
    assert "Traceback" not in got.err
    assert listed() == set()


@pytest.mark.parametrize("name", ["absent/a.fathom", "/proc/a.fathom", "flows.jsonl/a.fathom", "x" * 252])
def test_where_nothing_can_be_written(run: Run, url: str, server: str, name: str) -> None:
    for more in (("--store", url), ("--server", server, "--since", "1h")):
        got = run("record", "export", name, *more)
        assert (got.status, got.out) == (1, "")
        assert "cannot write" in got.err
        assert listed() == set()


def test_a_directory_is_not_replaced(run: Run, url: str) -> None:
    Path("folder").mkdir()
    got = run("record", "export", "folder", "--store", url, "--force")
    assert got.status == 2
    assert "is a directory" in got.err


@pytest.mark.parametrize("name", ["a b'\"?#%&.fathom", "é\n\t.fathom", os.fsdecode(b"\xff\xfe.fathom"), "-x.fathom"])
def test_any_name_of_a_file(run: Run, url: str, server: str, name: str) -> None:
    got = run("record", "export", "--store", url, "--", name)
    assert got.status == 0, got.err
    assert run("record", "export", "--server", server, "--since", "1h", "--force", "--", name).status == 0
    assert run("record", "info", "--", name).status == 0
    assert run("record", "info", "-o", "json", "--", name).status == 0
    assert run("policy", "replay", "--policies", "policies", f"--recording={name}").status == 1
    assert listed() == {name}


def test_a_disk_that_is_full(url: str) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
    program = (FATHOM[0], "-c", limited + FATHOM[2])
    done = subprocess.run(
        [*program, "record", "export", "a.fathom", "--store", url],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot write a.fathom" in done.stderr
    assert "Traceback" not in done.stderr
    assert listed() == set()


def test_what_a_killed_process_left_is_used_again_and_what_another_makes_is_not(run: Run, url: str) -> None:
    Path("a.fathom.part").write_bytes(b"half" * 100_000)
    assert run("record", "export", "a.fathom", "--store", url).status == 0
    assert listed() == {"a.fathom"}
    with Path("b.fathom.part").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        got = run("record", "export", "b.fathom", "--store", url)
        assert got.status == 2
        assert "another process is writing b.fathom.part" in got.err
    assert listed() == {"a.fathom", "b.fathom.part"}


def test_ctrl_c_leaves_nothing_behind(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(self: NewRecording, *_: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        text = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000000) SELECT SUM(x) FROM n"
        with self.writing() as connection:
            connection.execute(text).fetchall()
        raise AssertionError("it was not interrupted")

    monkeypatch.setattr(NewRecording, "finish", interrupted)
    got = run("record", "export", "a.fathom", "--store", url)
    assert (got.status, got.out, got.err) == (130, "", "")
    assert listed() == set()
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("server")
def test_a_wrong_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_TOKEN", "another")
    got = run("record", "export", "a.fathom", "--since", "1h")
    assert (got.status, got.out) == (1, "")
    assert "the key was refused" in got.err
    assert listed() == set()


def test_no_server(run: Run) -> None:
    got = run("record", "export", "a.fathom", "--server", "http://127.0.0.1:1")
    assert got.status == 1
    assert "no server answers" in got.err
    assert listed() == set()


def test_a_server_and_a_store(run: Run, url: str) -> None:
    got = run("record", "export", "a.fathom", "--store", url, "--server", "http://127.0.0.1:1")
    assert got.status == 2
    assert "--server is about a server" in got.err


@contextlib.contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """A server that says ``answer`` to one question, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut", "was cut off after"),
        ("short", "is no whole recording"),
        ("changed", "is no whole recording"),
        ("other", "is no whole recording"),
        ("chunks", "was cut off after"),
        ("huge", "bytes are free|are free"),
    ],
)
def test_what_is_not_whole_is_not_kept(run: Run, url: str, how: str, words: str) -> None:
    assert run("record", "export", "good.fathom", "--store", url).status == 0
    data = Path("good.fathom").read_bytes()
    length = {"huge": 10**18 - 1}.get(how, len(data))
    sent = {"cut": data[:-1], "short": data[:-4096], "changed": data[:9_000] + b"X" + data[9_001:], "other": b"hello"}
    body = sent.get(how, data)
    if how in ("short", "other"):
        length = len(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    if how == "chunks":
        head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(data):x}\r\n".encode()
    with saying(head + body) as server:
        got = run("record", "export", "a.fathom", "--server", server)
    assert (got.status, got.out) == (1, "")
    assert any(word in got.err for word in words.split("|")), got.err
    assert listed() == {"good.fathom"}


COMMANDS = (
    ("record", "info"),
    ("record", "import", "new.fathom"),
    ("policy", "evaluate", "--policies", "policies", "--recording"),
    ("policy", "replay", "--policies", "policies", "--recording"),
    ("policy", "diff", "--old", "policies", "--new", "policies", "--recording"),
    ("policy", "generate", "--recording"),
    ("policy", "coverage", "--recording"),
    ("policy", "exposure", "--policies", "policies", "--recording"),
    ("policy", "graph", "--recording"),
    ("policy", "explain", "flow", "shop/Deployment/web", "shop/StatefulSet/db", "TCP/5432", "--policies", "policies",
     "--recording"),
    ("policy", "explain", "rule", "--policies", "policies", "--recording"),
    ("seccomp", "generate", "--recording"),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command[:3]) for command in COMMANDS])
def test_every_command_refuses_what_is_damaged_newer_or_something_else(
    run: Run, url: str, command: tuple[str, ...]
) -> None:
    run("record", "export", "good.fathom", "--store", url)
    data = Path("good.fathom").read_bytes()
    for bad, words in (
        (data[:9_000] + b"X" + data[9_001:], "it was changed since it was taken"),
        (data[:-1], "bytes of"),
        (data[:60] + (99).to_bytes(4, "big") + data[64:], "written by a newer Fathom (its schema is version 99"),
        (b"hello", "it is something else"),
        (b"", "it is empty"),
    ):
        Path("bad.fathom").write_bytes(bad)
        got = run(*command, "bad.fathom")
        assert got.status in (1, 2), got
        assert got.status == 2 or command[1] not in ("info", "replay", "diff")
        assert got.out == ""
        assert got.err.startswith("fathom: bad.fathom ")
        assert words in got.err
        assert "to do: " in got.err
        assert Path("bad.fathom").read_bytes() == bad
    assert listed() == {"good.fathom", "bad.fathom"}
