"""The user's own kubectl, asked for what the API server answers to one GET: within bounds of time and size.

Contexts, credential plugins, proxies and certificates are kubectl's, so whatever works in a shell works here. Nothing
but GET is ever sent, and nothing is read from standard input.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass

from fathom.cli.output import printable
from fathom.errors import AuthenticationError, FathomError, PermanentError, ServerUnavailable, UsageError

#: Bytes of one answer; seconds that the API server has for it, and that kubectl has with its credential plugin.
MOST_BYTES, REQUEST_S, PROCESS_S = 64 << 20, 60, 90
#: Bytes of standard error that are kept.
_MOST_SAID = 64 << 10
_AFFECTS = "nothing was answered: with a part of a cluster it would be about something else"
_UNREACHABLE = re.compile(
    r"Unable to connect|was refused|dial tcp|timeout|timed out|Timeout|deadline|ServiceUnavailable|TLS handshake"
)
_UNKNOWN = re.compile(r"\(Unauthorized\)|must be logged in|getting credentials|\bexpired\b(?! token)")


class Expired(FathomError):
    """The list that is being read part by part is too old for its next part: it must be read again."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the ``kubeconfig`` and the ``context`` that were named; empty: those that kubectl itself takes."""

    kubeconfig: str = ""
    context: str = ""

    def get(self, path: str) -> bytes:
        """What the API server answers to a GET of ``path``, such as ``/api/v1/pods?limit=500``.

        Raises FathomError (its kinds say why) if there is no answer, or if it is larger than ``MOST_BYTES``.
        """
        return self._run("get", "--raw", path, f"--request-timeout={REQUEST_S}s")

    def config(self) -> bytes:
        """The kubeconfig as kubectl has merged it, without secrets, in JSON."""
        return self._run("config", "view", "-o", "json")

    def _run(self, *arguments: str) -> bytes:
        command = ["kubectl", *arguments]
        if self.kubeconfig:
            command.append(f"--kubeconfig={self.kubeconfig}")
        if self.context:
            command.append(f"--context={self.context}")
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(
                f"kubectl cannot be started: {error.strerror}",
                affects="the cluster was not read",
                do="install kubectl, or name files that `kubectl get -A -o yaml` wrote elsewhere",
            ) from error
        with process:
            try:
                out, said = _read(process, " ".join(command))
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # its credential plugin too, where that has not ended
        if process.returncode:
            raise _failure(" ".join(command), said.decode(errors="replace"))
        return out


def _read(process: subprocess.Popen[bytes], command: str) -> tuple[bytes, bytes]:
    """Standard output and the begin of standard error, until the process has ended."""
    deadline = time.monotonic() + PROCESS_S
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, said = streams.values()
    with selectors.DefaultSelector() as ready:
        for stream in (process.stdout, process.stderr):
            ready.register(stream, selectors.EVENT_READ)
        while ready.get_map():
            if time.monotonic() > deadline:
                raise _late(command, said)
            over = process.poll() is not None
            waiting = ready.select(timeout=0 if over else 0.1)
            if over and not waiting:
                break  # what it started holds the pipes still
            for key, _ in waiting:
                part = key.fileobj.read1(1 << 20)  # type: ignore[union-attr]  # a pipe's reader
                if not part:
                    ready.unregister(key.fileobj)
                streams[key.fd] += part if key.fd == process.stdout.fileno() else part[: _MOST_SAID - len(said)]
            if len(out) > MOST_BYTES:
                raise PermanentError(f"`{command}` answered more than {MOST_BYTES >> 20} MiB", affects=_AFFECTS)
    try:
        process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _late(command, said) from None
    return bytes(out), bytes(said)


def _late(command: str, said: bytearray) -> ServerUnavailable:
    text = _first(said.decode(errors="replace"))
    return ServerUnavailable(
        f"`{command}` has not ended after {PROCESS_S} s" + (f"; it said: {text}" if text else ""),
        affects=_AFFECTS,
        do="run it in a terminal: it may ask for a login there",
    )


def _failure(command: str, said: str) -> FathomError:
    """What a kubectl that failed means, by what it said."""
    first = _first(said)
    what = f"`{command}` failed: {first or 'it did not say why'}"
    if "(Expired)" in said or "too old" in said:
        return Expired(what, affects=_AFFECTS, do="try again")
    if "(Forbidden)" in said:
        return PermanentError(
            f"the cluster forbids a read that is needed: {first}",
            affects="nothing was answered: with fewer policies or pods, too much would be allowed",
            do="ask for the permission that is named there (verbs get and list, in all namespaces; a ClusterRole for it"
            " is in docs/policy.md), or name files instead",
        )
    if _UNKNOWN.search(said):
        return AuthenticationError(what, affects=_AFFECTS, do="log in again, as for kubectl, and repeat this command")
    if _UNREACHABLE.search(said):
        do = "see whether `kubectl get namespaces` answers with the same context"
        return ServerUnavailable(what, affects=_AFFECTS, do=do)
    return UsageError(what, affects=_AFFECTS, do="see `kubectl config get-contexts`, and --kubeconfig and --context")


def _first(said: str) -> str:
    """The line of standard error that says most: the last that is an error, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "unable"))]
    return printable((errors or lines or [""])[-1])[:500]
