"""From what went wrong on the way to a server to Fathom's own errors, with the server's words kept."""

from __future__ import annotations

import httpx
import msgspec

from fathom.errors import AuthenticationError, FathomError, PermanentError, ServerUnavailable, UsageError
from fathom.server.answers import Problem


def unreachable(server: str, error: httpx.HTTPError) -> ServerUnavailable:
    """No answer came."""
    if isinstance(error, httpx.TimeoutException):
        return ServerUnavailable(f"the server at {server} did not answer in time", do="ask for less, or ask again")
    what = str(error) or type(error).__name__
    return ServerUnavailable(
        f"no server answers at {server}: {what}",
        affects="nothing was asked",
        do="start `fathom up`, or name the server by --server or FATHOM_SERVER",
    )


def error_of(response: httpx.Response) -> FathomError:
    """The error that an answer other than 200 stands for."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return PermanentError(
            f"{response.url.host}:{response.url.port} answers {response.status_code}, and not as Fathom does",
            do="check that --server names a Fathom server",
        )
    what = problem.what or problem.detail or problem.title
    kind: type[FathomError] = PermanentError
    if problem.status in (401, 403):
        kind = AuthenticationError
    elif problem.status in (429, 503, 504):
        kind = ServerUnavailable
    elif 400 <= problem.status < 500:
        kind = UsageError
    elif problem.instance:
        what = f"{what} ({problem.instance})"
    return kind(what, affects=problem.affects, do=problem.do)
