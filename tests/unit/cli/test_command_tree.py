"""The tree of commands and what ``main`` makes of every way to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from fathom.cli import main as entry
from fathom.errors import FathomError, ServerUnavailable, UsageError


def ending(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> int:
    """The exit status of ``fathom version`` when the command does ``action``."""
    monkeypatch.setattr(entry.cli, "get_command", lambda *_: click.Command("version", callback=action))
    return entry.main(["version"])


def failing(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def test_every_command_says_of_itself_what_the_list_says() -> None:
    context = click.Context(entry.cli)
    for name, line in entry.COMMANDS.items():
        command = entry.cli.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(200).rstrip(".") == line.rstrip("."), name


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom fathom.cli.main import main\nassert main(['--help']) == 0\n"
        "heavy = {'numpy', 'rich', 'httpx', 'grpc', 'yaml', 'fastapi', 'msgspec'} & set(sys.modules)\n"
        "assert not heavy, heavy\nmine = [m for m in sys.modules if m.startswith('fathom.')]\n"
        "assert sorted(mine) == ['fathom.cli', 'fathom.cli.main', 'fathom.errors'], mine"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FathomError("x"), 1),
        (ServerUnavailable("x"), 1),
        (UsageError("x"), 2),
        (click.UsageError("x"), 2),
        (click.ClickException("x"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ZeroDivisionError(), 70),
    ],
)
def test_exit_status(monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int) -> None:
    assert ending(monkeypatch, failing(error)) == status


def test_success_is_zero_and_a_command_may_choose_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ending(monkeypatch, lambda: None) == 0
    assert ending(monkeypatch, lambda: 1) == 1


def test_an_error_has_three_parts_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending(monkeypatch, failing(FathomError("the disk is full", affects="new data", do="free some space")))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "fathom: the disk is full\n  affected: new data\n  to do: free some space\n"


def test_a_defect_says_so_and_prints_its_trace_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FATHOM_DEBUG", raising=False)
    ending(monkeypatch, failing(ValueError("odd")))
    said = capsys.readouterr().err
    assert said.startswith("fathom: this is a defect of Fathom: ValueError: odd (test_command_tree.py:")
    assert "Traceback" not in said
    monkeypatch.setenv("FATHOM_DEBUG", "1")
    ending(monkeypatch, failing(ValueError("odd")))
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["upp"]) == 2
    assert "upp" in capsys.readouterr().err


def test_a_reader_that_left_is_no_error() -> None:
    program = "import sys; from fathom.cli.main import main; sys.exit(main(['--help']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(("redirection", "why"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_an_error_and_no_defect(redirection: str, why: str, unbuffered: str) -> None:
    program = "import sys; from fathom.cli.main import main; sys.exit(main(['version']))"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, program],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"fathom: cannot write the output: {why}")
    assert done.stderr.count("\n") == 2


def test_an_error_of_the_system_elsewhere_stays_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ending(monkeypatch, failing(OSError(28, "No space left on device"))) == 70


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_what_the_shell_can_source(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["completion", shell]) == 0
    assert "_FATHOM_COMPLETE" in capsys.readouterr().out


def test_completion_completes_commands_and_formats() -> None:
    def complete(words: str, index: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from fathom.cli.main import main; main()"],
            env={"_FATHOM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index), "PATH": "",
                 "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert complete("fathom ", 1) == list(entry.COMMANDS)
    assert complete("fathom ver", 1) == ["version"]
    assert complete("fathom version -o ", 3) == ["text", "json", "yaml"]
